"""How many attempts may be under way at once in a lane.

`AdaptiveLimit` finds the number itself, from three signs (`docs/decisions/0004-adaptive-limit.md`):

* **push-back** cuts it, at most once per reaction time of the upstream;
* **time to first byte**: the median of a window against the median of an idle upstream (the base). Many
  servers queue instead of rejecting, and then time is the only sign there is;
* **use**: it grows only while it is used, and never on account of errors, however fast they come.

Nothing here knows the time or draws luck: both are arguments. Times are seconds on one monotonic clock.
"""

from dataclasses import dataclass
from math import inf, sqrt
from typing import Protocol

from tilehaul.errors import ConfigError

# A window's median needs no more samples than this; beyond it every second one is dropped.
SAMPLES_MAX = 2048
# A hard ceiling for any lane: each attempt is an open connection, and 1,024 descriptors are a usual limit.
LIMIT_MAX = 1000


class Limit(Protocol):
    """What a lane asks of a limit. `limit` is the number of attempts allowed at once, >= 1.

    `on_success` takes the time the answer ended, its time to first byte, the attempts under way
    (the ended one included) and a luck in [0, 1). All three answer whether `limit` changed. Outcomes
    that say nothing of the upstream (cancelled, local disk) are not reported at all.
    """

    @property
    def limit(self) -> int: ...

    def on_success(self, now_s: float, ttfb_s: float, in_flight: int, luck: float) -> bool: ...

    def on_push_back(self, now_s: float) -> bool: ...

    def on_failure(self, now_s: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class LimitRule:
    """Settings of an adaptive limit; the defaults are those of class `tile` (`resilience` 1.3 and (a)).

    Args:
        start: The limit before anything is known, in [1, most].
        most: Never above this, in [1, LIMIT_MAX]. The user's cap (`-c`) ends here.
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

    def __post_init__(self) -> None:
        if not 1 <= self.most <= LIMIT_MAX:
            raise ConfigError(f"a lane's limit must be 1 to {LIMIT_MAX}, not {self.most}")
        if not 1 <= self.start <= self.most:
            raise ConfigError(f"a lane must start between 1 and its limit {self.most}, not at {self.start}")
        if not (self.window_s > 0.0 and self.window_samples >= 1 and self.probe_every_s > 0.0):
            raise ConfigError("window and probe interval of a limit must be above 0")
        if not (self.tolerance >= 1.0 and self.slow_start >= 1.0):
            raise ConfigError("tolerance and slow start of a limit must be 1 or more")
        for share in (self.cut, self.probe_share, self.failed_share):
            if not 0.0 < share <= 1.0:
                raise ConfigError("cut, probe share and failed share of a limit must be above 0, at most 1")
        if not 0.0 <= self.probe_spread < 1.0:
            raise ConfigError("the spread of a limit's probes must be at least 0 and below 1")


# (start, most) by lane class (`resilience` (a)): GeoServer works best at twice its cores; buckets answer
# SlowDown to what ramps up fast; a CDN has no queue worth the name.
CLASS_LIMITS: dict[str, tuple[int, int]] = {
    "wms": (2, 8),
    "tile": (4, 32),
    "cdn": (8, 128),
    "s3-read": (16, 128),
    "s3-write": (8, 64),
}


def limit_rule(lane_class: str, *, cap: int | None = None) -> LimitRule:
    """The rule for a lane class; an unknown class is treated as `tile`.

    Args:
        lane_class: A key of CLASS_LIMITS.
        cap: The user's own maximum, which wins in both directions; None: the class's.

    Raises:
        ConfigError: `cap` is not in [1, LIMIT_MAX].
    """
    start, most = CLASS_LIMITS.get(lane_class, CLASS_LIMITS["tile"])
    if cap is not None:
        most = cap
        start = max(1, min(start, cap))
    return LimitRule(start=start, most=most)


class FixedLimit:
    """The same number always: for lanes whose owner knows better."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        """Raises ConfigError when `limit` is not in [1, LIMIT_MAX]."""
        if not 1 <= limit <= LIMIT_MAX:
            raise ConfigError(f"a lane's limit must be 1 to {LIMIT_MAX}, not {limit}")
        self._limit = limit

    @property
    def limit(self) -> int:
        return self._limit

    def on_success(self, now_s: float, ttfb_s: float, in_flight: int, luck: float) -> bool:  # noqa: ARG002
        return False

    def on_push_back(self, now_s: float) -> bool:  # noqa: ARG002
        return False

    def on_failure(self, now_s: float) -> bool:  # noqa: ARG002
        return False


class AdaptiveLimit:
    """The limit that finds itself. See the head of this file.

    `base_s` is the median time to first byte of the upstream when this lane does not make it queue,
    None before the first window has closed. `probing` is true while it is measured anew.
    """

    __slots__ = (
        "_cut_s",
        "_failed",
        "_level",
        "_opened_s",
        "_peak",
        "_probe_s",
        "_pushed_back",
        "_rule",
        "_samples",
        "_saved",
        "_stride",
        "_threshold",
        "_ttfbs_s",
        "base_s",
        "limit",
    )

    def __init__(self, rule: LimitRule) -> None:
        self._rule = rule
        self.limit = rule.start
        self.base_s: float | None = None
        # The limit before it is rounded down, the level slow start ends at, the level to return to.
        self._level = float(rule.start)
        self._threshold = inf
        self._saved: float | None = None
        self._probe_s = inf
        self._cut_s = -inf
        # The window: since when, its samples (every `stride`-th kept), what else happened in it.
        self._opened_s = -inf
        self._ttfbs_s: list[float] = []
        self._samples = 0
        self._stride = 1
        self._failed = 0
        self._peak = 0
        self._pushed_back = False

    @property
    def probing(self) -> bool:
        return self._saved is not None

    def on_success(self, now_s: float, ttfb_s: float, in_flight: int, luck: float) -> bool:
        """An attempt was answered well. Closes the window when it is full. True: `limit` changed.

        Args:
            now_s: When the answer ended.
            ttfb_s: From sending to the response's headers, >= 0: independent of the body's size.
            in_flight: Attempts under way in the lane, this one included.
            luck: A number in [0, 1): spreads the probes of many clients.
        """
        self._peak = max(self._peak, in_flight)
        sent_s = now_s - ttfb_s
        if self._opened_s == -inf:
            self._opened_s = sent_s
        # What was sent before the window opened tells of the limit there was then. Without this a slow
        # upstream is judged by its old queue, and the limit swings.
        if sent_s < self._opened_s:
            return False
        self._samples += 1
        if self._samples % self._stride == 0:
            self._ttfbs_s.append(ttfb_s)
            if len(self._ttfbs_s) >= SAMPLES_MAX:
                del self._ttfbs_s[::2]
                self._stride *= 2
        wanted = min(self._rule.window_samples, 2 * self.limit)
        if self._samples < wanted or now_s - self._opened_s < self._rule.window_s:
            return False
        before = self.limit
        self._close_window(now_s, luck)
        return self.limit != before

    def on_push_back(self, now_s: float) -> bool:
        """The upstream asked for less. Cuts once per max(window, twice the base): a volley is one sign."""
        self._pushed_back = True
        if now_s - self._cut_s < max(self._rule.window_s, 2.0 * (self.base_s or 0.0)):
            return False
        self._cut_s = now_s
        before = self.limit
        if self._saved is not None:
            # The lane already goes slower than that; the cut is of the level it will return to.
            self._saved = self._threshold = max(1.0, self._saved * self._rule.cut)
            self._set(min(self._level, self._saved))
        else:
            self._set(self._level * self._rule.cut)
            self._threshold = self._level
        return self.limit != before

    def on_failure(self, now_s: float) -> bool:  # noqa: ARG002
        """An attempt failed. Never raises the limit; many failures in a window keep it from growing."""
        self._failed += 1
        return False

    def _begin_window(self, now_s: float) -> None:
        self._opened_s = now_s
        self._ttfbs_s = []
        self._samples = 0
        self._stride = 1
        self._failed = 0
        self._peak = 0
        self._pushed_back = False

    def _close_window(self, now_s: float, luck: float) -> None:
        rule = self._rule
        self._ttfbs_s.sort()
        p50_s = self._ttfbs_s[len(self._ttfbs_s) // 2]
        failed = self._failed >= rule.failed_share * (self._samples + self._failed)
        peak, pushed_back = self._peak, self._pushed_back
        self._begin_window(now_s)
        if self._saved is not None:
            self._end_probe(now_s, p50_s, luck)
            return
        if self.base_s is None:
            self.base_s = p50_s
            self._plan_probe(now_s, luck)
        self.base_s = min(self.base_s, p50_s)
        if pushed_back:
            return
        if now_s >= self._probe_s:
            self._saved = self._level
            self._set(self._level * rule.probe_share)
            return
        if peak < self.limit / 2:
            return
        self._follow(p50_s, self.base_s, may_grow=not failed)

    def _follow(self, p50_s: float, base_s: float, *, may_grow: bool) -> None:
        """One step of the gradient."""
        rule = self._rule
        gradient = 1.0 if p50_s <= 0.0 else max(0.5, min(1.0, rule.tolerance * base_s / p50_s))
        if gradient < 1.0:
            self._set(self._level * (0.5 + 0.5 * gradient))
            self._threshold = self._level
        elif may_grow and self._level < self._threshold:
            self._set(self._level * rule.slow_start)
        elif may_grow:
            self._set(self._level + max(1.0, sqrt(self._level) / 2.0))

    def _end_probe(self, now_s: float, p50_s: float, luck: float) -> None:
        self.base_s = p50_s
        level = self._level if self._saved is None else self._saved
        self._saved = None
        self._set(level)
        self._plan_probe(now_s, luck)

    def _plan_probe(self, now_s: float, luck: float) -> None:
        rule = self._rule
        self._probe_s = now_s + rule.probe_every_s * (1.0 + rule.probe_spread * (2.0 * luck - 1.0))

    def _set(self, level: float) -> None:
        self._level = max(1.0, min(level, float(self._rule.most)))
        self.limit = int(self._level)
