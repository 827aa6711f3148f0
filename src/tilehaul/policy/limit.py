"""How many attempts may be under way at once in a lane.

`AdaptiveLimit` finds the number itself, from three signs (`docs/decisions/0004-adaptive-limit.md`):

* **push-back** cuts it, at most once per reaction time of the upstream;
* **time to first byte**: the median of a window against the median of an idle upstream (the base). Many
  servers queue instead of rejecting, and then time is the only sign there is;
* **yield**: growth that makes the upstream slower and brings no more answers is taken back.

It grows only while it is used, and never on account of errors, however fast they come.

Nothing here knows the time or draws luck: both are arguments. Times are seconds on one monotonic clock.
"""

from math import inf, sqrt
from typing import Protocol

from tilehaul.errors import ConfigError
from tilehaul.policy.limit_rule import LIMIT_MAX, LimitRule
from tilehaul.policy.median import median_and_error

# A window's median needs no more samples than this; beyond it every second one is dropped.
SAMPLES_MAX = 2048


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
        "_first_s",
        "_grown",
        "_hold",
        "_level",
        "_opened_s",
        "_peak",
        "_probe_s",
        "_pushed_back",
        "_rule",
        "_samples",
        "_saved",
        "_slowed",
        "_stride",
        "_threshold",
        "_tiles_came",
        "_ttfbs_s",
        "_wary_from",
        "_wary_until_s",
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
        # The same, on account of time and yield alone: what is left of it when push-back is taken back.
        self._slowed = inf
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
        self._first_s = -inf
        # What the last growth has to beat (level, answers per second); windows to hold still; above which
        # level, and until when, the lane grows in small steps.
        self._grown: tuple[float, float] | None = None
        self._hold = 0
        self._wary_from = 0.0
        self._wary_until_s = -inf
        self._tiles_came = False

    @property
    def probing(self) -> bool:
        return self._saved is not None

    @property
    def level(self) -> float:
        """The limit before it is rounded down; while probing, the one it will return to."""
        return self._level if self._saved is None else self._saved

    def on_success(
        self, now_s: float, ttfb_s: float, in_flight: int, luck: float, *, is_tile: bool = True
    ) -> bool:
        """An attempt was answered well. Closes the window when it is full. True: `limit` changed.

        Args:
            now_s: When the answer ended.
            ttfb_s: From sending to the response's headers, >= 0: independent of the body's size.
            in_flight: Attempts under way in the lane, this one included.
            luck: A number in [0, 1): spreads the probes of many clients.
            is_tile: The answer brought a tile. "There is none" and "not modified" often come from another
                place, much sooner: they do not say how fast a tile comes.
        """
        if is_tile and not self._tiles_came:
            # All that was learned so far is how fast this upstream says no, and how many of those it can say.
            self._tiles_came = True
            if self._samples or self.base_s is not None:
                self.base_s = self._grown = None
                self._set(min(self._level, float(self._rule.start)))
                self._begin_window(now_s - ttfb_s)
        elif not is_tile and self._tiles_came:
            if self.base_s is None or self._saved is not None:
                return False
            ttfb_s = max(ttfb_s, self.base_s)
        self._peak = max(self._peak, in_flight)
        sent_s = now_s - ttfb_s
        if self._opened_s == -inf:
            self._opened_s = sent_s
        # What was sent before the window opened tells of the limit there was then. Without this a slow
        # upstream is judged by its old queue, and the limit swings.
        if sent_s < self._opened_s:
            return False
        if self._samples == 0:
            self._first_s = now_s
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
        self._grown = None
        self._be_wary(self.level, now_s + self._rule.wary_pushed_s)
        if self._saved is not None:
            # The lane already goes slower than that; the cut is of the level it will return to.
            self._saved = self._threshold = max(1.0, self._saved * self._rule.cut)
            self._set(min(self._level, self._saved))
        else:
            self._set(self._level * self._rule.cut)
            self._threshold = self._level
        return self.limit != before

    def take_back(self, level: float) -> None:
        """Push-back was no sign of load: at least `level` again, and growth as if it had not been."""
        self._threshold = self._slowed
        self._wary_until_s = -inf
        self._grown = None
        if self._saved is not None:
            self._saved = max(self._saved, level)
        else:
            self._set(max(self._level, level))

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
        p50_s, error = median_and_error(self._ttfbs_s)
        failed = self._failed >= rule.failed_share * (self._samples + self._failed)
        peak, pushed_back, rate_per_s = self._peak, self._pushed_back, self._rate_per_s(now_s)
        self._begin_window(now_s)
        if self._saved is not None:
            self._end_probe(now_s, p50_s * (1.0 + error), self._saved, luck)
            return
        # The doubt goes in favour of the upstream's health, both here and below: the least of many uncertain
        # medians is too small, and a lane that took noise for a queue would never grow.
        if self.base_s is None:
            self._plan_probe(now_s, luck)
        self.base_s = min(inf if self.base_s is None else self.base_s, p50_s * (1.0 + error))
        p50_s /= 1.0 + error
        if pushed_back:
            return
        if now_s >= self._probe_s:
            self._saved = self._level
            self._grown = None
            self._set(self._level * rule.probe_share)
            return
        if peak < self.limit / 2:
            self._grown = None
            return
        gradient = min(1.0, rule.tolerance * self.base_s / p50_s) if p50_s > 0.0 else 1.0
        # At most a quarter less a window: halfway to half.
        lower = self._level * (0.5 + 0.5 * max(0.5, gradient))
        back = self._judge_growth(rate_per_s * (1.0 + error), crowded=p50_s > rule.room * self.base_s)
        if back is not None:
            self._be_wary(self._level, max(self._wary_until_s, now_s + rule.wary_unpaid_s))
            self._shrink(min(lower, back))
            self._hold = rule.hold_windows
        elif gradient < 1.0:
            self._shrink(lower)
        elif self._hold > 0:
            self._hold -= 1
        elif not failed:
            self._grow(now_s, rate_per_s)

    def _rate_per_s(self, now_s: float) -> float:
        """Answers a second in this window, 0.0 when there are too few to tell."""
        span_s = now_s - self._first_s
        if self._samples < self._rule.window_samples or span_s <= 0.0:
            return 0.0
        return (self._samples - 1) / span_s

    def _judge_growth(self, rate_per_s: float, *, crowded: bool) -> float | None:
        """The level to return to when the last growth was in vain; None while there is nothing to say."""
        if self._grown is None or int(self._grown[0]) == self.limit:
            return None
        (level, before_per_s), self._grown = self._grown, None
        if not crowded or rate_per_s == 0.0:
            return None
        wanted_per_s = before_per_s * (1.0 + self._rule.pay_share * (self._level / level - 1.0))
        return level if rate_per_s < wanted_per_s else None

    def _shrink(self, level: float) -> None:
        self._grown = None
        self._set(level)
        self._threshold = self._slowed = self._level

    def _grow(self, now_s: float, rate_per_s: float) -> None:
        rule = self._rule
        if self._grown is None and rule.pay_share > 0.0:
            self._grown = (self._level, rate_per_s)
        if self._level < self._threshold:
            self._set(self._level * rule.slow_start)
            return
        step = max(1.0, sqrt(self._level) / 2.0)
        if now_s < self._wary_until_s and self._level > self._wary_from:
            step *= rule.wary_share if now_s < self._cut_s + rule.wary_pushed_s else rule.wary_vain_share
        self._set(self._level + step)

    def _be_wary(self, level: float, until_s: float) -> None:
        self._wary_from = self._rule.wary_near * level
        self._wary_until_s = until_s

    def _end_probe(self, now_s: float, base_s: float, level: float, luck: float) -> None:
        self.base_s = base_s
        self._saved = None
        self._set(level)
        self._plan_probe(now_s, luck)

    def _plan_probe(self, now_s: float, luck: float) -> None:
        rule = self._rule
        self._probe_s = now_s + rule.probe_every_s * (1.0 + rule.probe_spread * (2.0 * luck - 1.0))

    def _set(self, level: float) -> None:
        self._level = max(1.0, min(level, float(self._rule.most)))
        self.limit = int(self._level)
