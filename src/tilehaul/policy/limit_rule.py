"""Settings of a lane's limit, by lane class."""

from dataclasses import dataclass

from tilehaul.errors import ConfigError

# A hard ceiling for any lane: each attempt is an open connection, and 1,024 descriptors are a usual limit.
LIMIT_MAX = 1000
# What a limit that stays as it is is, where nobody says how large.
FIXED_DEFAULT = 32


@dataclass(frozen=True, slots=True)
class LimitRule:
    """Settings of an adaptive limit; the defaults are those of class `tile` (`resilience` 1.3 and (a)).

    Args:
        start: The limit before anything is known, in [1, most].
        most: Never above this, in [1, LIMIT_MAX]: the class's own, or the user's cap (`-c`).
        window_s: A window lasts at least this long: shorter ones follow noise.
        window_samples: ... and has at least min(this, twice the limit) successes.
        tolerance: The median may be this many times the base before the limit shrinks. 1.5 lets half of
            a service time be spent queueing, which keeps every server of the upstream busy.
        cut: What push-back leaves of the limit (0.7 as CUBIC's beta, RFC 9438 4.6).
        slow_start: Growth per window until the first sign of trouble.
        probe_every_s: The base is measured anew this often, +-`probe_spread`.
        probe_share: During such a measurement this share of the limit is used, so that the lane's own
            queue at the upstream is empty.
        failed_share: A window in which this share of the outcomes failed does not grow the limit.
        pay_share: Growth by a factor 1 + g must bring 1 + this * g times as many answers a second, if time
            to first byte is above `room` times the base; else it is taken back, and nothing is tried for
            `hold_windows` windows. Judged only on windows of `window_samples` successes. 0: never.
        wary_share, wary_vain_share: What remains of a step of growth while the lane is wary: the first for
            `wary_pushed_s` after push-back, the second for `wary_unpaid_s` after growth in vain; both only
            above `wary_near` times the level at which it happened.

    The rows from `pay_share` on are not in `resilience`: decision 0004 says why, with figures.
    """

    start: int = 4
    most: int = 32
    window_s: float = 1.0
    window_samples: int = 20
    tolerance: float = 1.5
    cut: float = 0.7
    slow_start: float = 1.5
    probe_every_s: float = 60.0
    probe_spread: float = 0.15
    probe_share: float = 0.25
    failed_share: float = 0.1
    pay_share: float = 0.6
    room: float = 1.1
    hold_windows: int = 5
    wary_share: float = 0.1
    wary_vain_share: float = 0.25
    wary_near: float = 0.75
    wary_pushed_s: float = 60.0
    wary_unpaid_s: float = 15.0

    def __post_init__(self) -> None:
        if not 1 <= self.most <= LIMIT_MAX:
            raise ConfigError(f"a lane's limit must be 1 to {LIMIT_MAX}, not {self.most}")
        if not 1 <= self.start <= self.most:
            raise ConfigError(f"a lane must start between 1 and its limit {self.most}, not at {self.start}")
        if not (self.window_s > 0.0 and self.window_samples >= 1 and self.probe_every_s > 0.0):
            raise ConfigError("window and probe interval of a limit must be above 0")
        if not (self.tolerance >= 1.0 and self.slow_start >= 1.0 and self.room >= 1.0):
            raise ConfigError("tolerance, slow start and room of a limit must be 1 or more")
        for share in (self.cut, self.probe_share, self.failed_share, self.wary_share, self.wary_vain_share):
            if not 0.0 < share <= 1.0:
                raise ConfigError("cut and shares of a limit must be above 0 and at most 1")
        if not (0.0 <= self.probe_spread < 1.0 and 0.0 <= self.pay_share <= 1.0 and self.hold_windows >= 0):
            raise ConfigError("probe spread, pay share and windows to hold of a limit must be 0 or more")
        if not (0.0 <= self.wary_near <= 1.0 and self.wary_pushed_s >= 0.0 and self.wary_unpaid_s >= 0.0):
            raise ConfigError("the wariness of a limit must be 0 or more")


# (start, most) by lane class (`resilience` (a)): GeoServer works best at twice its cores; buckets answer
# SlowDown to what ramps up fast; a CDN has no queue worth the name.
CLASS_LIMITS: dict[str, tuple[int, int]] = {
    "wms": (2, 8),
    "tile": (4, 32),
    "cdn": (8, 128),
    "s3-read": (16, 128),
    "s3-write": (8, 64),
}


def limit_rule(lane_class: str, *, cap: int | None = None, start: int | None = None) -> LimitRule:
    """The rule for a lane class; an unknown class is treated as `tile`.

    Args:
        lane_class: A key of CLASS_LIMITS.
        cap: The user's own maximum, which wins in both directions; None: the class's.
        start: The user's own beginning, no more than the maximum; None: the class's.

    Raises:
        ConfigError: `cap` is not in [1, LIMIT_MAX], or `start` is less than 1.
    """
    most = lane_most(lane_class, cap=cap)
    first = _of_class(lane_class)[0] if start is None else start
    return LimitRule(start=min(first, most), most=most)


def lane_most(lane_class: str, *, cap: int | None = None, adaptive: bool = True) -> int:
    """How many attempts may ever be under way at once in a lane of this class.

    Args:
        lane_class: As for `limit_rule`.
        cap: The user's own maximum, which wins; None: none was given.
        adaptive: The limit finds itself, up to the class's maximum. False: without a `cap` FIXED_DEFAULT.
    """
    if cap is not None:
        return cap
    return _of_class(lane_class)[1] if adaptive else FIXED_DEFAULT


def _of_class(lane_class: str) -> tuple[int, int]:
    return CLASS_LIMITS.get(lane_class, CLASS_LIMITS["tile"])
