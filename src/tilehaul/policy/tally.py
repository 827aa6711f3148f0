"""Counting what a job's requests did: counters and a histogram of times."""

from bisect import bisect_left
from dataclasses import dataclass, field

# Bucket bounds from 0.1 ms to about 1,000 s, each 5 % above the last: a percentile read from them is
# at most 5 % too high.
_GROWTH = 1.05
_BOUNDS_S: tuple[float, ...] = tuple(0.0001 * _GROWTH**step for step in range(331))


class Histogram:
    """Times in seconds, kept as counts per bucket: constant memory however many are added."""

    __slots__ = ("_counts", "count", "total_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self.count = 0
        self.total_s = 0.0

    def add(self, value_s: float) -> None:
        self._counts[bisect_left(_BOUNDS_S, value_s)] += 1
        self.count += 1
        self.total_s += value_s

    def percentile_s(self, share: float) -> float:
        """The time that `share` (0 to 1) of the values do not exceed, up to 5 % high; 0.0 when empty."""
        if self.count == 0:
            return 0.0
        rank = share * self.count
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank and count:
                return _BOUNDS_S[min(index, len(_BOUNDS_S) - 1)]
        return _BOUNDS_S[-1]

    def mean_s(self) -> float:
        """Mean of all values; 0.0 when empty."""
        return self.total_s / self.count if self.count else 0.0


@dataclass(slots=True)
class Tally:
    """What the requests of one job came to.

    `requests`: attempts sent. `retried`: attempts that followed a failed one. `pushed_back`: answers that
    asked for less. `push_back_s`: seconds lanes were held. `causes`: failed attempts by cause.
    `fetches`: seconds from sending to the last byte, of attempts that ended well.
    """

    requests: int = 0
    retried: int = 0
    pushed_back: int = 0
    push_back_s: float = 0.0
    causes: dict[str, int] = field(default_factory=dict)
    fetches: Histogram = field(default_factory=Histogram)

    def failed(self, cause: str) -> None:
        self.causes[cause] = self.causes.get(cause, 0) + 1
