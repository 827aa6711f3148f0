"""What the tile route counts, for one layer."""

from collections import Counter, deque
from dataclasses import dataclass
from math import ceil

# Enough for a steady 99th percentile (ten samples above it), small enough to sort on each poll.
FETCH_SAMPLES_MAX = 1_024


@dataclass(frozen=True, slots=True)
class StatsFigures:
    """A moment's figures; times in milliseconds, over the last `FETCH_SAMPLES_MAX` fetches.

    `requests` = `hits` + `misses`. `coalesced` askers shared the fetch of another. `fetches` have
    ended with an answer, `fetches_failed` with an error, `in_flight` have not ended.
    `stale` answers, hits and misses, were past their freshness because the origin failed.
    `errors` counts error replies by cause. Percentiles are 0.0 before the first fetch.
    """

    requests: int
    hits: int
    misses: int
    stale: int
    hit_rate_percent: float
    coalesced: int
    fetches: int
    fetches_failed: int
    in_flight: int
    in_flight_max: int
    fetch_avg_ms: float
    fetch_p50_ms: float
    fetch_p95_ms: float
    fetch_p99_ms: float
    errors: dict[str, int]


class TileStats:
    """Counts since the service started. Fields may be added to from the hot path directly.

    Is a `FetchWatch` (see `sources/coalesced.py`): it is told of every fetch. `fetch_ms` are the times of the
    last `samples_max` of them.
    """

    __slots__ = (
        "coalesced",
        "errors",
        "fetch_ms",
        "fetch_total_s",
        "fetches",
        "fetches_failed",
        "hits",
        "in_flight",
        "in_flight_max",
        "misses",
        "stale",
    )

    def __init__(self, samples_max: int = FETCH_SAMPLES_MAX) -> None:
        self.hits = 0
        self.misses = 0
        self.stale = 0
        self.coalesced = 0
        self.fetches = 0
        self.fetches_failed = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self.errors: Counter[str] = Counter()
        self.fetch_total_s = 0.0
        self.fetch_ms: deque[float] = deque(maxlen=samples_max)

    def joined(self) -> None:
        self.coalesced += 1

    def started(self) -> None:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def answered(self, elapsed_s: float) -> None:
        self.in_flight -= 1
        self.fetches += 1
        self.fetch_total_s += elapsed_s
        self.fetch_ms.append(elapsed_s * 1000.0)

    def failed(self, elapsed_s: float) -> None:
        self.in_flight -= 1
        self.fetches_failed += 1
        # A failure's time belongs to the percentiles: an origin that times out is a slow origin.
        self.fetch_total_s += elapsed_s
        self.fetch_ms.append(elapsed_s * 1000.0)

    def abandoned(self) -> None:
        self.in_flight -= 1

    def figures(self) -> StatsFigures:
        return figures_of([self])


def figures_of(stats: list[TileStats]) -> StatsFigures:
    """The figures of several layers together.

    `in_flight_max` is then the sum of the layers' maxima, an upper bound of the true one.
    """
    samples_ms = sorted(ms for one in stats for ms in one.fetch_ms)
    hits = sum(one.hits for one in stats)
    misses = sum(one.misses for one in stats)
    errors: Counter[str] = Counter()
    for one in stats:
        errors.update(one.errors)
    return StatsFigures(
        requests=hits + misses,
        hits=hits,
        misses=misses,
        stale=sum(one.stale for one in stats),
        hit_rate_percent=round(100.0 * hits / (hits + misses), 2) if hits + misses else 0.0,
        coalesced=sum(one.coalesced for one in stats),
        fetches=sum(one.fetches for one in stats),
        fetches_failed=sum(one.fetches_failed for one in stats),
        in_flight=sum(one.in_flight for one in stats),
        in_flight_max=sum(one.in_flight_max for one in stats),
        fetch_avg_ms=round(sum(samples_ms) / len(samples_ms), 3) if samples_ms else 0.0,
        fetch_p50_ms=percentile_ms(samples_ms, 50),
        fetch_p95_ms=percentile_ms(samples_ms, 95),
        fetch_p99_ms=percentile_ms(samples_ms, 99),
        errors=dict(errors.most_common()),
    )


def percentile_ms(samples_ms: list[float], percent: int) -> float:
    """Nearest-rank percentile of ascending samples, 0.0 of none; `percent` in 1..100."""
    if not samples_ms:
        return 0.0
    return round(samples_ms[ceil(len(samples_ms) * percent / 100) - 1], 3)
