"""What the cache counts, from any thread."""

import threading
from collections import Counter

from tilehaul.jobs.tile_stats import StatsFigures, TileStats


class Book:
    """`TileStats` behind a lock, and what the old statistics have besides."""

    def __init__(self) -> None:
        self._stats = TileStats()
        self._lock = threading.Lock()
        self._others: Counter[str] = Counter()

    def looked(self, *, hit: bool) -> None:
        with self._lock:
            if hit:
                self._stats.hits += 1
            else:
                self._stats.misses += 1

    def joined(self) -> None:
        with self._lock:
            self._stats.joined()

    def started(self) -> None:
        with self._lock:
            self._stats.started()

    def answered(self, elapsed_s: float) -> None:
        with self._lock:
            self._stats.answered(elapsed_s)

    def failed(self, elapsed_s: float, cause: str) -> None:
        with self._lock:
            self._stats.failed(elapsed_s)
            self._stats.errors[cause] += 1

    def abandoned(self) -> None:
        with self._lock:
            self._stats.abandoned()

    def count(self, what: str) -> None:
        """One more of `prefetched` or `from_local`."""
        with self._lock:
            self._others[what] += 1

    def figures(self) -> tuple[StatsFigures, Counter[str]]:
        with self._lock:
            return self._stats.figures(), Counter(self._others)

    def after_fork(self) -> None:
        """A new lock (see `KeptTiles.unlock`); the parent's fetches are not ours."""
        self._lock = threading.Lock()
        self._stats.in_flight = 0
