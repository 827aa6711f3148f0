"""Tiles from synchronous code with threads, progress and cancellation, as map add-ons do it.

    from tilehaul.compat.threads import CancellableThreadPool, download_tile_safe

    pool = CancellableThreadPool(max_workers=5, timeout=30)
    for url in urls:
        pool.submit_task(download_tile_safe, url, "my-addon/1.0 (me@example.com)")
    results, errors = pool.wait_completion(callback_progress=print)

Whoever only wants an area in a file does better with `tilehaul.blocking.seed`.
"""

from tilehaul.compat.threads.bounded_queue import BoundedQueue
from tilehaul.compat.threads.download import close_connections, download_tile, download_tile_safe
from tilehaul.compat.threads.pool import CancellableThreadPool
from tilehaul.compat.threads.seeding import SeedResult, seed_tiles
from tilehaul.compat.threads.time_limit import run_with_timeout

__all__ = [
    "BoundedQueue",
    "CancellableThreadPool",
    "SeedResult",
    "close_connections",
    "download_tile",
    "download_tile_safe",
    "run_with_timeout",
    "seed_tiles",
]
