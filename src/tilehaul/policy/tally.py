"""Counting what a job's requests did: counters and a histogram of times."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

# Bucket bounds from 0.1 ms to about 1,000 s, each 5 % above the last: a percentile read from them is
# at most 5 % too high.
_GROWTH = 1.05
_BOUNDS_S: tuple[float, ...] = tuple(0.0001 * _GROWTH**step for step in range(331))
# Values that wait to be sorted into their buckets together: 0.3 us each instead of 0.5.
_FRESH_MAX = 512


class Histogram:
    """Times in seconds, kept as counts per bucket: bounded memory however many are added."""

    __slots__ = ("_count", "_counts", "_fresh", "_total_s")

    def __init__(self) -> None:
        # Only buckets that are not empty: a lane's times seldom fill more than thirty.
        self._counts: dict[int, int] = {}
        self._fresh: list[float] = []
        self._count = 0
        self._total_s = 0.0

    def add(self, value_s: float) -> None:
        fresh = self._fresh
        fresh.append(value_s)
        if len(fresh) >= _FRESH_MAX:
            self.settle()

    def settle(self) -> None:
        """Sort in what was added. Every question does it by itself; before a rest it saves memory."""
        fresh = self._fresh
        fresh.sort()
        self._count += len(fresh)
        self._total_s += sum(fresh)
        begin = 0
        while begin < len(fresh):
            bucket = bisect_left(_BOUNDS_S, fresh[begin])
            beyond = bucket == len(_BOUNDS_S)
            end = len(fresh) if beyond else bisect_right(fresh, _BOUNDS_S[bucket], begin)
            self._counts[bucket] = self._counts.get(bucket, 0) + end - begin
            begin = end
        fresh.clear()

    def take_in(self, other: "Histogram") -> None:
        """Add all that `other` holds."""
        other.settle()
        self._count += other._count  # noqa: SLF001 - own class
        self._total_s += other._total_s  # noqa: SLF001
        for bucket, count in other._counts.items():  # noqa: SLF001
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    @property
    def count(self) -> int:
        return self._count + len(self._fresh)

    def percentile_s(self, share: float) -> float:
        """The time that `share` (0 to 1) of the values do not exceed, up to 5 % high; 0.0 when empty."""
        self.settle()
        rank = share * self._count
        seen = 0
        last = -1
        for bucket in sorted(self._counts):
            if seen >= rank and last >= 0:
                break
            seen += self._counts[bucket]
            last = min(bucket, len(_BOUNDS_S) - 1)
        return _BOUNDS_S[last] if last >= 0 else 0.0

    def mean_s(self) -> float:
        """Mean of all values; 0.0 when empty."""
        self.settle()
        return self._total_s / self._count if self._count else 0.0


@dataclass(slots=True)
class Tally:
    """What the requests of one job came to.

    `requests`: attempts sent. `retried`: attempts that followed a failed one. `pushed_back`: answers that
    asked for less. `push_back_s`: seconds lanes were held. `causes`: failed attempts by cause.
    `fetches`: seconds from sending to the last byte, of attempts that ended well.
    `deleted`: tiles taken out of the store because the source does not have them; `strangers`: such ones that
    stayed, because no job of ours wrote them.
    """

    requests: int = 0
    retried: int = 0
    pushed_back: int = 0
    push_back_s: float = 0.0
    causes: dict[str, int] = field(default_factory=dict)
    fetches: Histogram = field(default_factory=Histogram)
    deleted: int = 0
    strangers: int = 0

    def failed(self, cause: str) -> None:
        self.causes[cause] = self.causes.get(cause, 0) + 1
