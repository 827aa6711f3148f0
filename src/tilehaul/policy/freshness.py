"""How long an answer of a source may be given again without asking."""

from dataclasses import dataclass

from tilehaul.errors import BusyError, ConfigError, ThrottledError, TilehaulError
from tilehaul.policy.retry import is_transient

# An hour is what most tile servers announce (titiler and others); imagery changes in days.
TILE_FRESH_S = 3600.0
# Short, so that a tile which appears at the origin is seen soon; long enough that a sparse layer
# does not ask for each of its holes on every pan of the map.
ABSENT_FRESH_S = 300.0
# Absences learned together (one pan of a map) must not all expire in the same second.
ABSENT_SPREAD_SHARE = 0.1
# Longest time past its freshness that a tile stands in for an origin that fails (stale-if-error, RFC 5861,
# section 4). A day outlasts most outages, and a map a day old is better than none.
STALE_S_MAX = 86_400.0


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """Lifetimes in seconds; 0 means: do not keep.

    `absent_spread_share`, in [0, 1), widens an absence's lifetime to both sides by luck.
    """

    tile_s: float = TILE_FRESH_S
    absent_s: float = ABSENT_FRESH_S
    absent_spread_share: float = ABSENT_SPREAD_SHARE

    def __post_init__(self) -> None:
        if not (self.tile_s >= 0.0 and self.absent_s >= 0.0):
            raise ConfigError("a lifetime of cached tiles must be 0 seconds or more")
        if not 0.0 <= self.absent_spread_share < 1.0:
            raise ConfigError("absent_spread_share must be at least 0 and below 1")

    def fresh_s(self, *, absent: bool, luck: float) -> float:
        """Seconds an answer stays fresh.

        Args:
            absent: The source said that there is no such tile.
            luck: A number in [0, 1); 0.5 is the middle of the spread.
        """
        if not absent:
            return self.tile_s
        return self.absent_s * (1.0 + self.absent_spread_share * (2.0 * luck - 1.0))


def allows_stale(error: TilehaulError) -> bool:
    """Whether a tile past its freshness may stand in for what could not be had.

    It may where the origin, or a limit of ours, fails for a while. An origin that says no (DeniedError,
    RefusedError) is heard.
    """
    return isinstance(error, BusyError | ThrottledError) or is_transient(error)


def was_asked(error: TilehaulError) -> bool:
    """Whether a request went out before this error: not when its lane let none through."""
    if isinstance(error, ThrottledError) and error.cause == "held":
        return error.attempts > 1
    return not isinstance(error, BusyError)
