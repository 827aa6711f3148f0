"""How long an answer of a source may be given again without asking."""

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from tilehaul.errors import BusyError, ConfigError, ThrottledError, TilehaulError
from tilehaul.policy.retry import is_transient

# An hour is what most tile servers announce (titiler and others); imagery changes in days.
TILE_FRESH_S = 3600.0
# Short, so that a tile which appears at the origin is seen soon; long enough that a sparse layer
# does not ask for each of its holes on every pan of the map.
ABSENT_FRESH_S = 300.0
# Absences learned together (one pan of a map) must not all expire in the same second.
ABSENT_SPREAD_SHARE = 0.1
# Past its freshness a tile is given for this long while it is asked for again (stale-while-revalidate,
# RFC 5861, section 3): nobody waits for the origin, and what is shown is a minute behind at most.
REVALIDATE_S = 60.0
# Past its freshness a tile stands in for an origin that fails for this long (stale-if-error, section 4).
# A week outlasts an outage over a weekend and the holiday after it, and an old map is better than none.
STALE_S = 604_800.0
# An origin that has not answered by then is waited for no longer where a stale tile may stand in. Most answer
# within a second; its own timeout (30 s) is longer than anybody looks at a grey square.
PATIENCE_S = 3.0
# A tile whose origin gave it a name to ask by is kept for this long past its freshness, also where it may not
# be given any more: "not modified" costs a hundredth of the tile.
VALIDATED_S = 604_800.0


class Freshness(NamedTuple):
    """How long one answer is good. Seconds, >= 0.

    Fresh until it is `fresh_s` old; it is `age_s` old now. For `revalidate_s` past that it is given while it
    is asked for again, for `stale_s` while its origin fails. `etag` and `last_modified` are what the origin
    calls it by, and `source` whose words they are (`SourceInfo.identity`).
    """

    fresh_s: float
    age_s: float = 0.0
    revalidate_s: float = 0.0
    stale_s: float = 0.0
    etag: str = ""
    last_modified: str = ""
    source: str = ""

    @property
    def left_s(self) -> float:
        """Seconds it stays fresh, negative past that."""
        return self.fresh_s - self.age_s

    @property
    def kept_s(self) -> float:
        """Seconds from now on that it is of any use."""
        validated_s = VALIDATED_S if self.etag or self.last_modified else 0.0
        return self.left_s + max(self.revalidate_s, self.stale_s, validated_s)


class ToldLifetime(Protocol):
    """What an origin's headers said (`codec.cache_control.Lifetime`)."""

    @property
    def keep(self) -> bool: ...
    @property
    def fresh_s(self) -> float | None: ...
    @property
    def age_s(self) -> float: ...
    @property
    def revalidate_s(self) -> float | None: ...
    @property
    def stale_s(self) -> float | None: ...
    @property
    def etag(self) -> str: ...
    @property
    def last_modified(self) -> str: ...


# Of an answer that must not be kept.
UNKEPT = Freshness(0.0)


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """Lifetimes in seconds; 0 means: do not keep, or not past its freshness.

    What is not fresh at all is not given without asking first, so nothing is renewed behind anybody's back.
    `tile_s`, `revalidate_s` and `stale_s` hold where the origin says nothing of its own; with `overrides`
    `tile_s` holds whatever it says. `absent_spread_share`, in [0, 1), widens an absence's lifetime to both
    sides by luck.
    """

    tile_s: float = TILE_FRESH_S
    absent_s: float = ABSENT_FRESH_S
    absent_spread_share: float = ABSENT_SPREAD_SHARE
    revalidate_s: float = REVALIDATE_S
    stale_s: float = STALE_S
    overrides: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        lifetimes = (self.tile_s, self.absent_s, self.revalidate_s, self.stale_s)
        if not all(0.0 <= lifetime_s < inf for lifetime_s in lifetimes):
            raise ConfigError("a lifetime of cached tiles must be 0 seconds or more")
        if not 0.0 <= self.absent_spread_share < 1.0:
            raise ConfigError("absent_spread_share must be at least 0 and below 1")

    def tile(self) -> Freshness:
        """Of a tile whose origin says nothing of its lifetime."""
        return Freshness(self.tile_s, 0.0, self.revalidate_s if self.tile_s else 0.0, self.stale_s)

    def absence(self, luck: float) -> Freshness:
        """Of "there is no such tile". Never given past its freshness: it may be there now.

        Args:
            luck: A number in [0, 1); 0.5 is the middle of the spread.
        """
        return Freshness(self.absent_s * (1.0 + self.absent_spread_share * (2.0 * luck - 1.0)))

    def told(self, told: ToldLifetime, source: str) -> Freshness:
        """Of a tile whose origin said this of it.

        Args:
            source: The source's identity.
        """
        if self.overrides:
            fresh_s, age_s = self.tile_s, 0.0
        elif not told.keep:
            return UNKEPT
        elif told.fresh_s is None:
            fresh_s, age_s = self.tile_s, 0.0
        else:
            fresh_s, age_s = told.fresh_s, told.age_s
        revalidate_s = self.revalidate_s if told.revalidate_s is None else told.revalidate_s
        if not fresh_s:
            revalidate_s = 0.0
        stale_s = self.stale_s if told.stale_s is None else told.stale_s
        return Freshness(fresh_s, age_s, revalidate_s, stale_s, told.etag, told.last_modified, source)


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
