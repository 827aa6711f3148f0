"""Other people's limits, for comparison in the simulator only.

Written from the published rules (`resilience` 1.1), not from their code, with the defaults that the
projects document. They are `policy.limit.Limit`s. `most` replaces their own maximum, so that all are
compared under one.
"""

from math import ceil, log10


class AimdLimit:
    """Netflix concurrency-limits, `AIMDLimit`: 0.9 times on a drop or an answer above 5 s; +1 per answer
    while at least half of the limit is in use.
    """

    def __init__(self, *, most: int, start: int = 20, cut: float = 0.9, slow_s: float = 5.0) -> None:
        self.limit = min(start, most)
        self._most = most
        self._cut = cut
        self._slow_s = slow_s

    def on_success(self, now_s: float, ttfb_s: float, in_flight: int, luck: float) -> bool:  # noqa: ARG002
        if ttfb_s > self._slow_s:
            return self.on_push_back(now_s)
        if 2 * in_flight < self.limit or self.limit == self._most:
            return False
        self.limit += 1
        return True

    def on_push_back(self, now_s: float) -> bool:  # noqa: ARG002
        before = self.limit
        self.limit = max(1, int(self.limit * self._cut))
        return self.limit != before

    def on_failure(self, now_s: float) -> bool:
        return self.on_push_back(now_s)


class VegasLimit:
    """Netflix concurrency-limits, `VegasLimit`: estimates its queue from the least time seen, and steps by
    log10 of the limit. The least time is taken anew every 30 x limit x U(0.5, 1) answers.
    """

    def __init__(self, *, most: int, start: int = 20) -> None:
        self._level = float(min(start, most))
        self._most = most
        self._least_s = 0.0
        self._until_probe = 30.0 * self._level

    @property
    def limit(self) -> int:
        return int(self._level)

    def on_success(self, now_s: float, ttfb_s: float, in_flight: int, luck: float) -> bool:  # noqa: ARG002
        self._until_probe -= 1.0
        if self._until_probe <= 0.0:
            self._until_probe = 30.0 * self._level * (0.5 + 0.5 * luck)
            self._least_s = ttfb_s
            return False
        if self._least_s == 0.0 or ttfb_s < self._least_s:
            self._least_s = ttfb_s
            return False
        if 2 * in_flight < self._level:
            return False
        step = max(1.0, log10(self._level))
        queue = ceil(self._level * (1.0 - self._least_s / ttfb_s))
        if queue <= step:
            return self._set(self._level + 6.0 * step)
        if queue < 3.0 * step:
            return self._set(self._level + step)
        if queue > 6.0 * step:
            return self._set(self._level - step)
        return False

    def on_push_back(self, now_s: float) -> bool:  # noqa: ARG002
        return self._set(self._level - max(1.0, log10(self._level)))

    def on_failure(self, now_s: float) -> bool:
        return self.on_push_back(now_s)

    def _set(self, level: float) -> bool:
        before = self.limit
        self._level = max(1.0, min(level, float(self._most)))
        return self.limit != before


class Gradient2Limit:
    """Netflix concurrency-limits, `Gradient2Limit` behind `WindowedLimit`: the mean of a window (1 s, 10
    answers) against a long average (600 windows); blind to drops.
    """

    LONG_WINDOW = 600
    LONG_WARM_UP = 10

    def __init__(self, *, most: int, start: int = 20, least: int = 1) -> None:
        self._level = float(min(start, most))
        self._least = float(least)
        self._most = float(most)
        self._long_s = 0.0
        self._windows = 0
        self._opened_s = 0.0
        self._sum_s = 0.0
        self._count = 0
        self._peak = 0

    @property
    def limit(self) -> int:
        return int(self._level)

    def on_success(self, now_s: float, ttfb_s: float, in_flight: int, luck: float) -> bool:  # noqa: ARG002
        self._sum_s += ttfb_s
        self._count += 1
        self._peak = max(self._peak, in_flight)
        if now_s - self._opened_s < 1.0 or self._count < 10:
            return False
        short_s = self._sum_s / self._count
        peak = self._peak
        self._opened_s, self._sum_s, self._count, self._peak = now_s, 0.0, 0, 0
        self._windows += 1
        if self._windows <= self.LONG_WARM_UP:
            self._long_s += (short_s - self._long_s) / self._windows
        else:
            self._long_s += (short_s - self._long_s) * 2.0 / (self.LONG_WINDOW + 1)
        if self._long_s > 2.0 * short_s:
            self._long_s *= 0.95
        if 2 * peak < self._level:
            return False
        before = self.limit
        gradient = max(0.5, min(1.0, 1.5 * self._long_s / short_s))
        level = 0.8 * self._level + 0.2 * (self._level * gradient + 4.0)
        self._level = max(self._least, min(level, self._most))
        return self.limit != before

    def on_push_back(self, now_s: float) -> bool:  # noqa: ARG002
        return False

    def on_failure(self, now_s: float) -> bool:  # noqa: ARG002
        return False
