"""Fill a cache of one's own with tiles of one's own map service."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol

from tilehaul.compat.threads.workers import Workers

# A tile as the cache and the service count it; handed through, never looked into.
Place = tuple[int, int, int]

# As a seed commits (`contracts`, Jobs): after so many tiles, bytes or seconds, whichever is first.
PUT_TILES_MAX = 500
PUT_BYTES_MAX = 16 * 1024 * 1024
PUT_S_MAX = 0.25
# The cache is asked about so many tiles at a time.
PAGE_TILES = 1000
# How often `cancel` is looked at while nothing comes.
CANCEL_LOOK_S = 0.1
# Given to each thread in advance, so that none waits for the cache to be written.
TASKS_PER_THREAD = 2
ERRORS_KEPT_MAX = 1000
TILE_S = 30.0
# The older program asked no service with more.
THREADS_MAX = 5


class TileService(Protocol):
    """What has tiles: the bytes of one, or None when there is none; raises when it cannot say."""

    def tile_request(self, col: int, row: int, zoom: int, /) -> bytes | None: ...


class TileCache(Protocol):
    """What keeps them. Called in the thread that called `seed_tiles` and in no other."""

    def list_missing_tiles(self, tiles: Sequence[Place], /) -> Collection[Place]: ...

    def put_tiles(self, tiles: Sequence[tuple[int, int, int, bytes]], /) -> object: ...


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What became of the tiles: each is one of present, stored, absent, failed, pending.

    `present` were in the cache before, `stored` were put, `absent` does the service not have, `failed`
    raised; `pending` were not settled because of `cancel`. `errors` has the first ERRORS_KEPT_MAX failures.
    A tile that failed is missing from the cache: the next run asks for it again.
    """

    total: int
    present: int
    stored: int
    absent: int
    failed: int
    errors: tuple[tuple[Place, BaseException], ...]

    @property
    def pending(self) -> int:
        return self.total - self.present - self.stored - self.absent - self.failed


def seed_tiles(
    source: TileService | Callable[[int, int, int], bytes | None],
    cache: TileCache,
    tiles: Collection[Place],
    nb_thread: int = 5,
    progress: Callable[[int, int], object] | None = None,
    cancel: threading.Event | None = None,
    *,
    timeout: float = TILE_S,
) -> SeedResult:
    """Ask the source for the tiles that the cache lacks, in threads, and put them as they come.

    Memory is bounded: at most PUT_TILES_MAX tiles or PUT_BYTES_MAX bytes wait to be put, beside those under
    way. A slow cache holds the threads up. Run it again to go on: what is in the cache is not asked for.

    Args:
        source: Has `tile_request(col, row, zoom)`, or is a function of these three. Called in threads. A URL
            template is better served by `tilehaul.blocking.seed`.
        cache: Has `list_missing_tiles` and `put_tiles`, or `listMissingTiles` and `putTiles`.
        tiles: (col, row, zoom) each; anything with a length that can be walked once.
        nb_thread: Threads, >= 1. More than THREADS_MAX are THREADS_MAX, as in the older program.
        progress: Called in this thread as `progress(settled, total)`; a tile is settled when it is in the
            cache, absent or failed. If it raises, what has come is put and the exception passes on.
        cancel: Set it from any thread; what has come is put, the rest is pending. A request under way cannot
            be stopped from here: its answer is dropped.
        timeout: Seconds one tile may take, > 0: see `CancellableThreadPool`.

    Raises:
        ValueError: A number out of range; a tile that is not three things.
        TypeError: A source or cache without the methods.
        What the cache or `progress` raised. No thread is begun any more then.
    """
    if nb_thread < 1:
        raise ValueError(f"nb_thread must be 1 or more, not {nb_thread}")
    if not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout must be above 0 seconds, not {timeout}")
    try:
        total = len(tiles)
    except TypeError as error:
        raise TypeError(f"tiles: a {type(tiles).__name__} has no length: give a list") from error
    job = _Seeding(_requester(source), cache, total, min(nb_thread, THREADS_MAX), timeout, progress, cancel)
    return job.run(iter(tiles))


def _requester(source: Any) -> Callable[..., bytes | None]:
    found = getattr(source, "tile_request", None) or (source if callable(source) else None)
    if found is None:
        raise TypeError(f"source: {type(source).__name__} has no tile_request(col, row, zoom)")
    requester: Callable[..., bytes | None] = found
    return requester


def _method(cache: object, name: str, old_name: str) -> Callable[..., Any]:
    found = getattr(cache, name, None) or getattr(cache, old_name, None)
    if found is None:
        raise TypeError(f"cache: {type(cache).__name__} has no {name}")
    method: Callable[..., Any] = found
    return method


class _Seeding:
    """One run: threads fetch, this thread alone writes."""

    def __init__(
        self,
        request: Callable[..., bytes | None],
        cache: TileCache,
        total: int,
        threads: int,
        tile_s: float,
        progress: Callable[[int, int], object] | None,
        cancel: threading.Event | None,
    ) -> None:
        self._request = request
        self._list_missing = _method(cache, "list_missing_tiles", "listMissingTiles")
        self._put = _method(cache, "put_tiles", "putTiles")
        self._progress = progress
        self._cancel = cancel
        self._workers = Workers(threads, tile_s)
        self._ahead = threads * TASKS_PER_THREAD
        self._under_way: dict[Future[bytes | None], Place] = {}
        self._batch: list[tuple[int, int, int, bytes]] = []
        self._batch_bytes = 0
        self._batch_s = 0.0
        self._total = total
        self._present = self._stored = self._absent = self._failed = 0
        self._told = 0
        self._errors: list[tuple[Place, BaseException]] = []

    def run(self, tiles: Iterator[Place]) -> SeedResult:
        try:
            self._fetch(self._missing(tiles))
        finally:
            self._workers.cancel()
            # Nothing that was fetched is thrown away because somebody's callback failed.
            self._flush()
        self._tell()
        return SeedResult(
            self._total, self._present, self._stored, self._absent, self._failed, tuple(self._errors)
        )

    def _fetch(self, missing: Iterator[Place]) -> None:
        while not (self._cancel is not None and self._cancel.is_set()):
            while len(self._under_way) < self._ahead and (place := next(missing, None)) is not None:
                self._under_way[self._workers.submit(partial(self._request, *place))] = place
            if not self._under_way:
                return
            future = self._workers.next_done(self._wait_s())
            if future is not None:
                self._settle(future)
            if self._is_due():
                self._flush()
            self._tell()
        while (future := self._workers.next_done(0.0)) is not None:
            self._settle(future)

    def _missing(self, tiles: Iterator[Place]) -> Iterator[Place]:
        """What the cache lacks, a page at a time."""
        while page := list(islice(tiles, PAGE_TILES)):
            for tile in page:
                if len(tile) != 3:
                    raise ValueError(f"{tile!r} is not a tile: (col, row, zoom)")
            missing = self._list_missing(page)
            self._present += len(page) - len(missing)
            yield from missing

    def _settle(self, future: Future[bytes | None]) -> None:
        place = self._under_way.pop(future)
        error = future.exception()
        data = None if error is not None else future.result()
        if data is not None and not isinstance(data, bytes | bytearray | memoryview):
            error = TypeError(f"the source answered {type(data).__name__} for {place}, not bytes or None")
        if error is not None:
            self._failed += 1
            if len(self._errors) < ERRORS_KEPT_MAX:
                self._errors.append((place, error))
        elif data is None:
            self._absent += 1
        else:
            if not self._batch:
                self._batch_s = time.monotonic()
            self._batch.append((*place, data))
            self._batch_bytes += len(data)

    def _is_due(self) -> bool:
        return bool(self._batch) and (
            len(self._batch) >= PUT_TILES_MAX
            or self._batch_bytes >= PUT_BYTES_MAX
            or time.monotonic() - self._batch_s >= PUT_S_MAX
        )

    def _wait_s(self) -> float | None:
        waits_s = [] if self._cancel is None else [CANCEL_LOOK_S]
        if self._batch:
            waits_s.append(max(0.0, self._batch_s + PUT_S_MAX - time.monotonic()))
        return min(waits_s, default=None)

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._put(batch)
            self._stored += len(batch)

    def _tell(self) -> None:
        """Only what is in the cache counts: a tile that was fetched may still be lost."""
        settled = self._present + self._stored + self._absent + self._failed
        if self._progress is not None and settled != self._told:
            self._told = settled
            self._progress(settled, self._total)
