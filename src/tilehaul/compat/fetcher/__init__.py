"""Tiles with asyncio, as the older fetcher had them: the same names over the one engine.

    async with TileClientPool() as client:
        tile = await fetch_tile(client, 5, 17, 11)

Tiles come from TILE_BASE_URL, or from the `base_url` a pool is given. New programs do better with
`tilehaul.open` and `tilehaul.stream`.
"""

from tilehaul.compat.fetcher.benchmark import benchmark
from tilehaul.compat.fetcher.breaker import CircuitBreaker
from tilehaul.compat.fetcher.client import NoTileError, TileClientPool
from tilehaul.compat.fetcher.config import TileFetcherConfig
from tilehaul.compat.fetcher.fetching import (
    fetch_tile,
    fetch_tiles_concurrently,
    fetch_tiles_sequential,
)
from tilehaul.compat.fetcher.health import TileServiceHealth
from tilehaul.compat.fetcher.rate_limiter import AdaptiveRateLimiter
from tilehaul.compat.fetcher.streaming import (
    TileData,
    bounded_tile_stream,
    fetch_tile_batch,
    stream_tiles_to_disk,
)

__all__ = [
    "AdaptiveRateLimiter",
    "CircuitBreaker",
    "NoTileError",
    "TileClientPool",
    "TileData",
    "TileFetcherConfig",
    "TileServiceHealth",
    "benchmark",
    "bounded_tile_stream",
    "fetch_tile",
    "fetch_tile_batch",
    "fetch_tiles_concurrently",
    "fetch_tiles_sequential",
    "stream_tiles_to_disk",
]
