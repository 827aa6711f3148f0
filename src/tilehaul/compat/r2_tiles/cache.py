"""The old tile cache's names."""

import logging
import os
import time
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tilehaul.compat.r2_tiles.batch import Asked, Batch, begin, ended
from tilehaul.compat.r2_tiles.book import Book
from tilehaul.compat.r2_tiles.engine import Engine, awaited
from tilehaul.compat.r2_tiles.hauler import RETRIES, Setup, patience_of
from tilehaul.compat.r2_tiles.memory import AheadQueue, KeptTiles
from tilehaul.compat.r2_tiles.place import key_of, neighbours_of, place_of, wanted_of
from tilehaul.errors import ConfigError
from tilehaul.policy.limit_rule import LIMIT_MAX
from tilehaul.ports.clock import Clock

log = logging.getLogger(__name__)

MAX_CACHE_SIZE_DEFAULT = 500
THREAD_WORKERS_DEFAULT = 50
TIMEOUT_DEFAULT = 10
FORMAT_DEFAULT = "jpg"
# The eight neighbours of a tile.
TILES_AHEAD_DEFAULT = 8


class R2TileCache:
    """Tiles of a bucket, fetched together and kept in memory. For any number of threads at once.

    The first fetch starts one thread, in which the engine runs; it ends with `close`, with this object, or
    with the program. There are no `thread_workers` threads: the number is how many fetches are under way at
    once, to all hosts together. Each host has a lane, whose limit finds itself up to that number (where the
    tiles are, it begins there); Retry-After and the breaker hold for all callers.

    Args:
        max_cache_size: Tiles kept in memory, >= 0; their bytes are bounded too (`memory.BYTES_MAX`).
        thread_workers: Fetches under way at once, in 1..LIMIT_MAX.
        location: Where the tiles are: `https://host/tiles`, `r2://bucket/tiles` or `s3://bucket/tiles`, below
            which they are called `dataset/z/x/y.format`; or a template with {dataset}, {z}, {x}, {y}, {fmt}.
            A bucket's keys are those of `AWS_*`, its account that of R2_ACCOUNT_ID. None: R2_PUBLIC_URL with
            `/tiles` behind it, as before.
        local_storage: Folder with the same names, asked for what the server does not have or does not give.
        contact: Who to write to, for the User-Agent; None: TILEHAUL_CONTACT.
        clock: On which a fetch waits between its attempts; None: the real one.

    Raises:
        ValueError: A number out of range.
        ConfigError, PlanError: The location is none, or an account or key is missing.
    """

    def __init__(
        self,
        max_cache_size: int = MAX_CACHE_SIZE_DEFAULT,
        thread_workers: int = THREAD_WORKERS_DEFAULT,
        *,
        location: str | None = None,
        local_storage: str | Path | None = None,
        contact: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if max_cache_size < 0:
            raise ValueError(f"max_cache_size must be 0 or more, not {max_cache_size}")
        if not 1 <= thread_workers <= LIMIT_MAX:
            raise ValueError(f"thread_workers must be within 1..{LIMIT_MAX}, not {thread_workers}")
        self._setup = Setup(
            place_of(location, os.environ),
            None if local_storage is None else Path(local_storage),
            thread_workers,
            os.environ.get("TILEHAUL_CONTACT", "") if contact is None else contact,
            clock,
        )
        self._kept = KeptTiles(max_cache_size)
        self._book = Book()
        self._ahead = AheadQueue()
        self._engine = Engine(self._setup, self._kept, self._book, self._ahead)

    @property
    def enabled(self) -> bool:
        """Whether there is a server to ask."""
        return self._setup.place is not None

    @property
    def max_cache_size(self) -> int:
        return self._kept.tiles_max

    @property
    def thread_workers(self) -> int:
        return self._setup.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and the connections; fetches under way elsewhere end with UnreachableError.

        What is kept can still be looked at. Nobody has to call this: the end of the program does.
        """
        self._engine.close()

    # Names

    def get_tile_key(self, dataset: object, z: int, x: int, y: int, format: str = FORMAT_DEFAULT) -> str:  # noqa: A002 - the old name
        """What answers and cache call a tile: `dataset/z/x/y.format`."""
        return key_of(dataset, z, x, y, format)

    def get_tile_url(
        self,
        dataset: object,
        z: int,
        x: int,
        y: int,
        format: str = FORMAT_DEFAULT,  # noqa: A002 - the old name
    ) -> str | None:
        """A tile's address, for `fetch_tile_sync`; None without a server. Raises PlanError: no tile."""
        place = self._setup.place
        return None if place is None else place.url_of(wanted_of(dataset, z, x, y, format))

    # Memory

    def get_cached_tile(
        self,
        dataset: object,
        z: int,
        x: int,
        y: int,
        format: str = FORMAT_DEFAULT,  # noqa: A002 - the old name
    ) -> bytes | None:
        """The tile, if it is kept. Never waits; counted as a hit or a miss."""
        body = self._kept.find(key_of(dataset, z, x, y, format))
        self._book.looked(hit=body is not None)
        return body

    def cache_tile(
        self,
        dataset: object,
        z: int,
        x: int,
        y: int,
        data: bytes,
        format: str = FORMAT_DEFAULT,  # noqa: A002 - the old name
    ) -> None:
        """Keep a tile, in place of an older one. Nothing is kept of no bytes."""
        if data:
            self._kept.keep(key_of(dataset, z, x, y, format), bytes(data))

    # Fetching

    def fetch_tile_sync(
        self, url: str | None, timeout: float = TIMEOUT_DEFAULT, retry: int = RETRIES
    ) -> bytes | None:
        """Fetch one tile, verified; asks the server always, and keeps nothing (see `cache_tile`).

        Who asks for the same address meanwhile shares the fetch. The address may be on a private network;
        where it redirects to may not. One in the private bucket is signed.

        Args:
            url: http or https. None or empty: there is nothing to fetch.
            timeout: Seconds, > 0. An attempt without progress for so long is ended, and so is the whole call
                after one timeout for each attempt and the waits between them.
            retry: Attempts after the first, >= 0: 0.3, 0.9, 2.7 s after the one before. A server that asks
                for fewer requests costs none, and is waited for `timeout` seconds at most.

        Returns:
            The tile. None: there is none, or it did not come; the log and `get_cache_stats` say which.

        Raises:
            ValueError: `timeout` or `retry` out of range.
            PlanError: This is closed, or the tiles' host asks every client for a contact.
            UnreachableError: It was closed before the answer came.
        """
        patience = patience_of(timeout, retry)
        if not url:
            return None
        begun_s = time.monotonic()
        engine = self._engine.opened()
        found = engine.thread.run(engine.hauler.fetch(url, patience))
        if found.origin == "failed":
            log.warning(
                "a tile did not come: %s",
                found.advice or found.cause,
                extra={"facts": {"cause": found.cause}},
            )
        else:
            log.debug("fetched a tile in %.2f s: %s", time.monotonic() - begun_s, found.origin)
        return found.body

    def fetch_tiles_parallel_sync(self, tiles: Iterable[Asked]) -> dict[str, bytes | None]:
        """Many tiles at once: from memory, else from the server, else from local storage.

        Args:
            tiles: (dataset, z, x, y, format) each; one that is named twice is fetched once.

        Returns:
            For each key, `dataset/z/x/y.format`, in the order of the question: the tile, or None when there
            is none, it did not come, or there cannot be such a tile. One that fails never fails the rest.

        Raises:
            ConfigError: There is neither a server nor local storage to ask.
            ValueError: Not five values each.
            PlanError, UnreachableError: As `fetch_tile_sync`.
        """
        batch = self._begun(tiles)
        found = {}
        if batch.missing:
            engine = self._engine.opened()
            found = engine.thread.run(engine.hauler.tiles(batch.missing))
        return ended(batch, found, self._setup.workers)

    async def fetch_tiles_parallel(self, tiles: Iterable[Asked]) -> dict[str, bytes | None]:
        """As `fetch_tiles_parallel_sync`, for a caller in an event loop, which goes on meanwhile. Deprecated:
        `tilehaul.open` is for such programs.
        """
        warnings.warn(
            "fetch_tiles_parallel is deprecated: use fetch_tiles_parallel_sync in a thread, or tilehaul.open",
            DeprecationWarning,
            stacklevel=2,
        )
        batch = self._begun(tiles)
        found = {}
        if batch.missing:
            engine = self._engine.opened()
            found = await awaited(engine.thread.start(engine.hauler.tiles(batch.missing)))
        return ended(batch, found, self._setup.workers)

    def queue_prefetch(
        self,
        dataset: object,
        current_z: int,
        current_x: int,
        current_y: int,
        tiles_ahead: int = TILES_AHEAD_DEFAULT,
        format: str = FORMAT_DEFAULT,  # noqa: A002 - as its neighbours
    ) -> None:
        """Have the `tiles_ahead` nearest neighbours of a tile fetched into memory. Does not wait.

        One is begun only while less than half of what may be under way at once is, so whoever asks goes
        first; and none while the server asks for fewer requests or fails. What is fetched by then counts
        among the fetches of `get_cache_stats`. At most AHEAD_MAX tiles wait; the oldest are forgotten.

        Raises:
            ValueError: `tiles_ahead` is negative.
            PlanError: No tile, or this is closed. ConfigError: There is no server to ask.
        """
        if tiles_ahead < 0:
            raise ValueError(f"tiles_ahead must be 0 or more, not {tiles_ahead}")
        if not self.enabled:
            raise ConfigError(_NOWHERE)
        centre = wanted_of(dataset, current_z, current_x, current_y, format)
        self._ahead.add(islice(neighbours_of(centre), tiles_ahead))
        if len(self._ahead):
            engine = self._engine.opened()
            engine.thread.start(engine.hauler.look_ahead())

    def get_cache_stats(self) -> dict[str, Any]:
        """The figures of `tilehaul serve` (`/api/tiles/{layer}/cache-stats`) and a few more.

        Times in milliseconds, over the last 1,024 fetches; `hit_rate` in percent, a number.
        `thread_workers`: fetches that may be under way at once. `errors`: failed fetches by cause.
        """
        figures, others = self._book.figures()
        tiles, size_bytes = self._kept.size()
        return {
            "enabled": self.enabled,
            "cache_size": tiles,
            "cache_max": self._kept.tiles_max,
            "cache_bytes": size_bytes,
            "cache_bytes_max": self._kept.bytes_max,
            "total_requests": figures.requests,
            "cache_hits": figures.hits,
            "cache_misses": figures.misses,
            "hit_rate": figures.hit_rate_percent,
            "coalesced": figures.coalesced,
            "thread_workers": self._setup.workers,
            "avg_fetch_time_ms": figures.fetch_avg_ms,
            "p50_fetch_ms": figures.fetch_p50_ms,
            "p95_fetch_ms": figures.fetch_p95_ms,
            "p99_fetch_ms": figures.fetch_p99_ms,
            "current_concurrent_fetches": figures.in_flight,
            "max_concurrent_fetches": figures.in_flight_max,
            "fetches": figures.fetches,
            "fetches_failed": figures.fetches_failed,
            "errors": figures.errors,
            "from_local": others["from_local"],
            "prefetched": others["prefetched"],
            "prefetch_queue": len(self._ahead),
        }

    def _begun(self, tiles: Iterable[Asked]) -> Batch:
        if not self.enabled and self._setup.local is None:
            raise ConfigError(_NOWHERE)
        return begin(tiles, self._kept, self._book)


_NOWHERE = (
    "no place to fetch from: set R2_PUBLIC_URL, or give location='https://host/tiles' or 'r2://bucket/tiles'"
)
