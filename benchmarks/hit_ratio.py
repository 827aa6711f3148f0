"""Which tiles a cache should keep: LRU, SIEVE and S3-FIFO on a log of people who look at maps.

    python benchmarks/hit_ratio.py [--requests 1000000] [--write]

The log is `viewers.py`'s, without and with a scan (a fifth of the requests). Each cache is bounded by
bytes: 1, 5 and 20 % of those of all different tiles in the log. SIEVE is the service's own memory cache
(`stores/memory_cache.py`), its overhead left out of the bound for all alike; LRU and S3-FIFO are plain:
S3-FIFO (Yang et al., SOSP 2023) with a tenth for newcomers, two bits of use, and a ghost list as long as
the main queue. Hits are of requests, after the first tenth of them.
"""

import argparse
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import tables
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.tile import Tile as KeptTile
from tilehaul.stores.memory_cache import ENTRY_OVERHEAD_BYTES, MemoryCache
from viewers import Tile, Viewers, size_of

SHARES = (0.01, 0.05, 0.20)
WARM = 0.1
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


class Cache(Protocol):
    def ask(self, tile: Tile, size: int) -> bool: ...


class Lru:
    """The one asked for longest ago goes."""

    def __init__(self, bytes_max: int) -> None:
        self._max, self._bytes = bytes_max, 0
        self._kept: OrderedDict[Tile, int] = OrderedDict()

    def ask(self, tile: Tile, size: int) -> bool:
        if tile in self._kept:
            self._kept.move_to_end(tile)
            return True
        self._kept[tile] = size
        self._bytes += size
        while self._bytes > self._max:
            self._bytes -= self._kept.popitem(last=False)[1]
        return False


class S3Fifo:
    """Newcomers prove themselves in a small queue; who was asked for again moves to the main one."""

    def __init__(self, bytes_max: int) -> None:
        self._small_max, self._main_max = bytes_max // 10, bytes_max - bytes_max // 10
        self._small: deque[Tile] = deque()
        self._main: deque[Tile] = deque()
        self._ghost: OrderedDict[Tile, None] = OrderedDict()
        self._kept: dict[Tile, list[int]] = {}
        self._small_bytes = self._main_bytes = 0

    def ask(self, tile: Tile, size: int) -> bool:
        entry = self._kept.get(tile)
        if entry is not None:
            entry[1] = min(entry[1] + 1, 3)
            return True
        if tile in self._ghost:
            del self._ghost[tile]
            self._to_main(tile, size)
        else:
            self._small.append(tile)
            self._small_bytes += size
        self._kept[tile] = [size, 0]
        while self._small_bytes + self._main_bytes > self._small_max + self._main_max:
            self._evict()
        return False

    def _to_main(self, tile: Tile, size: int) -> None:
        self._main.append(tile)
        self._main_bytes += size

    def _evict(self) -> None:
        if self._small and (self._small_bytes > self._small_max or not self._main):
            tile = self._small.popleft()
            size, used = self._kept[tile]
            self._small_bytes -= size
            if used > 0:
                self._kept[tile][1] = 0
                self._to_main(tile, size)
                return
            del self._kept[tile]
            self._ghost[tile] = None
            while len(self._ghost) > max(len(self._main), 1):
                self._ghost.popitem(last=False)
            return
        tile = self._main.popleft()
        size, used = self._kept[tile]
        if used > 0:
            self._kept[tile][1] = used - 1
            self._main.append(tile)
            return
        self._main_bytes -= size
        del self._kept[tile]


class Body(bytes):
    """Bytes that say how long they are without being so."""

    size: int

    def __len__(self) -> int:
        return self.size


class Sieve:
    """The service's own cache."""

    def __init__(self, bytes_max: int) -> None:
        self._cache = MemoryCache(bytes_max, now_s=lambda: 0.0)

    def ask(self, tile: Tile, size: int) -> bool:
        tile_id = TileId(*tile)
        entry = self._cache.entry(("a", *tile), 0.0)
        if entry is not None:
            self._cache.hit(entry)
            return True
        body = Body()
        body.size = max(size - ENTRY_OVERHEAD_BYTES, 0)
        self._cache.keep("a", KeptTile(tile_id, body, "image/png", freshness=Freshness(1e9)))
        return False


CACHES: dict[str, Callable[[int], Cache]] = {"LRU": Lru, "SIEVE": Sieve, "S3-FIFO": S3Fifo}


def ratio(cache: Cache, log: Sequence[Tile], sizes: dict[Tile, int]) -> tuple[float, float]:
    """Hits in percent after warming, and microseconds a request."""
    warm = int(len(log) * WARM)
    for tile in log[:warm]:
        cache.ask(tile, sizes[tile])
    began_s = time.process_time()
    hits = sum(cache.ask(tile, sizes[tile]) for tile in log[warm:])
    cost_us = (time.process_time() - began_s) / (len(log) - warm) * 1e6
    return 100.0 * hits / (len(log) - warm), cost_us


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    rows = []
    for name, scan_share in (("people", 0.0), ("people and a scan", 0.2)):
        log = list(islice(Viewers(options.seed, scan_share=scan_share), options.requests))
        sizes = {tile: size_of(tile) for tile in set(log)}
        in_all = sum(sizes.values())
        for share in SHARES:
            found = {kind: ratio(make(int(in_all * share)), log, sizes) for kind, make in CACHES.items()}
            size = f"{share:.0%} ({in_all * share / 1e6:,.0f} MB)"
            rows.append([name, size, *(f"{hits:.1f}" for hits, _ in found.values())])
        costs = ", ".join(f"{kind} {cost:.1f}" for kind, (_, cost) in found.items())
        print(f"{name}: {len(log):,} requests, {len(sizes):,} different tiles; us a request: {costs}")
    text = tables.table(["log", "cache", *(f"{kind}, % hits" for kind in CACHES)], rows)
    print(text)
    if options.write:
        tables.write_block(PAGE, "hit-ratio", text)


if __name__ == "__main__":
    main()
