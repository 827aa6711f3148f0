"""Tiles of a bucket from synchronous code, with a cache in memory, as web applications do it.

    from tilehaul.compat.r2_tiles import R2TileCache

    tile_cache = R2TileCache(max_cache_size=500, thread_workers=50)
    tiles = tile_cache.fetch_tiles_parallel_sync([(1, 0, 0, 0, "jpg"), (1, 1, 2, 3, "jpg")])

Whoever only wants to put tiles in front of people does better with `tilehaul serve`.
"""

from tilehaul.compat.r2_tiles.cache import R2TileCache

__all__ = ["R2TileCache"]
