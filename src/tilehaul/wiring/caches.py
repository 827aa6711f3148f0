"""The caches of a service, and what stands between a layer's origin and who asks it."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from tilehaul.config.load import parse_size
from tilehaul.config.settings import CacheSettings, LayerSettings
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.net.clock import SystemClock
from tilehaul.policy.freshness import TILE_FRESH_S, FreshnessRule
from tilehaul.ports.clock import Clock
from tilehaul.ports.lane import Lanes
from tilehaul.ports.origin import AskableSource
from tilehaul.ports.source import TileSource
from tilehaul.ports.store import CacheStats, TileCache
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.background import Background
from tilehaul.sources.cached import CachedSource
from tilehaul.sources.coalesced import CoalescedSource, Flights
from tilehaul.sources.prefetching import PrefetchingSource
from tilehaul.sources.revalidated import RevalidatedSource
from tilehaul.sources.timed import TimedSource
from tilehaul.stores.disk_cache import DiskCache
from tilehaul.stores.memory_cache import MemoryCache


@dataclass(frozen=True, slots=True)
class Caches:
    """One of each for all layers.

    `forgotten_s`: when tiles of a layer were last forgotten, by `clock`.
    """

    memory: MemoryCache
    disk: DiskCache | None
    clock: Clock
    forgotten_s: dict[str, float] = field(default_factory=dict)

    def disk_stats(self) -> CacheStats | None:
        """Counts of the cache on disk; None when there is none."""
        return None if self.disk is None else self.disk.stats()

    async def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int:
        """Drop the tiles of a layer that are `wanted` from all caches.

        Returns the greater of both numbers: most tiles are in both. Raises StorageError.
        """
        self.forgotten_s[layer] = self.clock.now_s()
        in_memory = self.memory.forget(layer, wanted)
        on_disk = 0 if self.disk is None else await self.disk.forget(layer, wanted)
        return max(in_memory, on_disk)


@asynccontextmanager
async def open_caches(settings: CacheSettings) -> AsyncIterator[Caches]:
    """Raises StorageError: the disk cache's folder refuses; ConfigError: a size is none."""
    clock = SystemClock()
    memory = MemoryCache(parse_size(settings.memory, "cache.memory"), now_s=clock.now_s)
    async with AsyncExitStack() as stack:
        disk = None
        if settings.disk is not None:
            disk = DiskCache(
                Path(settings.path), parse_size(settings.disk, "cache.disk"), wall_s=clock.wall_s
            )
            stack.push_async_callback(disk.aclose)
            await disk.open()
        yield Caches(memory, disk, clock)


class LayerCaching:
    """How one layer uses the caches. Whoever made it closes its `background`.

    Args:
        far: Whether any of its sources is another machine's: what lies on this one's disks is not copied
            to them again.
    """

    def __init__(self, name: str, layer: LayerSettings, caches: Caches, *, far: bool) -> None:
        self._name = name
        self._caches = caches
        # The layer's own: tiles of an origin that hangs must not take the place of others'.
        self.background = Background()
        self.rule = FreshnessRule(
            tile_s=TILE_FRESH_S if layer.max_age is None else float(layer.max_age),
            revalidate_s=layer.stale_while_revalidate,
            stale_s=layer.stale_if_error,
            overrides=layer.max_age is not None,
        )
        # From the origin to who asks.
        self._tiers: list[TileCache] = []
        # Made with `in_front`, where there is a cache.
        self.flights: Flights[TileId, Tile | NoTile] | None = None
        if layer.cache == "all" and far and caches.disk is not None:
            self._tiers.append(caches.disk)
        if layer.cache != "none":
            self._tiers.append(caches.memory)

    def heeding(self, source: TileSource) -> TileSource:
        """The source, asked only for what has changed where it is one over HTTP."""
        if not isinstance(source, AskableSource):
            return source
        return RevalidatedSource(
            source,
            known=self._known,
            rule=self.rule,
            clock=self._caches.clock,
            forgotten_s=self._forgotten_s,
        )

    def _forgotten_s(self) -> float:
        return self._caches.forgotten_s.get(self._name, -inf)

    def in_front(self, origin: TileSource, stats: TileStats, stack: AsyncExitStack) -> TileSource:
        """The origin behind the layer's caches, asked once for all who ask for the same tile."""
        source: TileSource = TimedSource(origin, clock=SystemClock(), watch=stats)
        for cache in self._tiers[:-1]:
            source = self._cached(source, cache)
        if not self._tiers:
            coalesced = CoalescedSource(source, joined=stats.joined)
            stack.push_async_callback(coalesced.aclose)
            return coalesced
        self.flights = Flights[TileId, Tile | NoTile](joined=stats.joined, forgotten_s=self._forgotten_s)
        stack.push_async_callback(self.flights.aclose)
        return self._cached(source, self._tiers[-1], self.flights)

    def ahead(self, source: TileSource, ring: int, lanes: Lanes) -> TileSource:
        """The source, which fetches neighbours of what is asked for."""
        return PrefetchingSource(
            source, ring=ring, lanes=lanes, background=self.background, clock=SystemClock()
        )

    def _cached(
        self, origin: TileSource, cache: TileCache, flights: Flights[TileId, Tile | NoTile] | None = None
    ) -> CachedSource:
        return CachedSource(
            origin,
            cache=cache,
            layer=self._name,
            rule=self.rule,
            luck=random.random,
            background=self.background,
            flights=flights,
            forgotten_s=self._forgotten_s,
        )

    async def _known(self, tile_id: TileId) -> Tile | NoTile | None:
        for cache in reversed(self._tiers):
            if (known := await cache.look(self._name, tile_id)) is not None:
                return known
        return None
