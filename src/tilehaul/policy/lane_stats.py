"""What a lane's attempts came to of late: times, failures, causes.

A ring of slots, each a part of the window; the oldest is dropped when a new one begins. So what is told
covers between 29/30 of the window and the whole of it, at constant cost and in bounded memory, whatever the
number of attempts: a slot holds the buckets of two histograms that are not empty (`policy/tally.py`:
percentiles are at most 5 % high), 190 kB for a lane that is never idle. An answer costs 0.8 us.

| outcome | counted as |
|---|---|
| an answer: a tile, "none", "not modified" | answered, with its times |
| push-back | cause `rate_limit`; no failure, for nothing is lost by it |
| anything else that went wrong | failed, with its cause |
| neutral (cancelled by us, refused by us before it was sent) | not at all |
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from tilehaul.errors import ConfigError
from tilehaul.policy.causes import CAUSE_CLASSES, CauseClass
from tilehaul.policy.tally import Histogram

# What people mean by "now" when they look at a service (and the window of the older programs).
WINDOW_S = 300.0
SLOTS = 30


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Times in milliseconds that 50, 95 and 99 % of the values do not exceed, up to 5 % high; 0.0 of none."""

    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


NO_TIMES = Percentiles()


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """What the attempts that ended in the last `window_s` seconds came to.

    `failure_share` is failed / (answered + failed), in [0, 1]: push-back is in neither. `causes` counts
    push-back and failures by class, without zeros. `ttfb` is the time from sending to the headers, `total` to
    the last byte, both of answers only.
    """

    window_s: float = WINDOW_S
    answered: int = 0
    failed: int = 0
    failure_share: float = 0.0
    causes: dict[CauseClass, int] = field(default_factory=dict)
    ttfb: Percentiles = NO_TIMES
    total: Percentiles = NO_TIMES


class LaneStats:
    """Counts of one lane. Time is an argument: seconds on one monotonic clock, never going back.

    `requests` and `causes` count since the lane was made, `recent` tells of the window.
    """

    __slots__ = ("_slot", "_slot_s", "_slots", "_until_s", "causes", "requests", "window_s")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        """Raises ConfigError when `window_s` is not above 0."""
        if not 0.0 < window_s < inf:
            raise ConfigError(f"the window of the statistics must be above 0 seconds, not {window_s}")
        self.window_s = window_s
        self.requests = 0
        self.causes: dict[CauseClass, int] = {}
        self._slot_s = window_s / SLOTS
        self._slot = _Slot(0)
        self._slots: deque[_Slot] = deque(maxlen=SLOTS)
        self._until_s = -inf

    def on_answer(self, now_s: float, ttfb_s: float, total_s: float) -> None:
        """An attempt was answered; times in seconds, >= 0."""
        if now_s >= self._until_s:
            self._turn(now_s)
        self.requests += 1
        slot = self._slot
        slot.ttfb.add(ttfb_s)
        slot.total.add(total_s)

    def on_failure(self, now_s: float, cause: CauseClass) -> None:
        """An attempt failed, or was pushed back (`rate_limit`)."""
        if now_s >= self._until_s:
            self._turn(now_s)
        self.requests += 1
        self.causes[cause] = self.causes.get(cause, 0) + 1
        causes = self._slot.causes
        causes[cause] = causes.get(cause, 0) + 1

    def recent(self, now_s: float) -> LaneFigures:
        """The figures of the window that ends now."""
        oldest = int(now_s / self._slot_s) - SLOTS
        ttfb, total = Histogram(), Histogram()
        counted = dict.fromkeys(CAUSE_CLASSES, 0)
        for slot in self._slots:
            if slot.number > oldest:
                ttfb.take_in(slot.ttfb)
                total.take_in(slot.total)
                for cause, count in slot.causes.items():
                    counted[cause] += count
        causes = {cause: count for cause, count in counted.items() if count}
        failed = sum(causes.values()) - causes.get("rate_limit", 0)
        ended = total.count + failed
        return LaneFigures(
            window_s=self.window_s,
            answered=total.count,
            failed=failed,
            failure_share=failed / ended if ended else 0.0,
            causes=causes,
            ttfb=_percentiles(ttfb),
            total=_percentiles(total),
        )

    def _turn(self, now_s: float) -> None:
        """Begin the slot of the present."""
        self._slot.ttfb.settle()
        self._slot.total.settle()
        number = int(now_s / self._slot_s)
        self._slot = _Slot(number)
        self._slots.append(self._slot)
        self._until_s = (number + 1) * self._slot_s


class _Slot:
    """The attempts that ended in one part of the window, the `number`-th since time began."""

    __slots__ = ("causes", "number", "total", "ttfb")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ttfb = Histogram()
        self.total = Histogram()
        self.causes: dict[CauseClass, int] = {}


def _percentiles(times: Histogram) -> Percentiles:
    p50_s, p95_s, p99_s = (times.percentile_s(share) for share in (0.50, 0.95, 0.99))
    return Percentiles(p50_s * 1000.0, p95_s * 1000.0, p99_s * 1000.0)
