"""The same jobs for synchronous callers: scripts, add-ons, notebooks.

Everything runs on the one asynchronous engine, in a thread with a loop of its own; so these calls also
work inside a program whose own loop runs (a notebook), and from several threads at once. No signal handler
is installed, nothing is printed, and no thread is left when a call has returned or raised.

    import tilehaul.blocking as tilehaul

    with tilehaul.open("https://host/{z}/{x}/{y}.png") as source:
        tile = source.get(TileId(3, 4, 2))

A program never hangs on a call at its end. When the main thread has ended while another of its threads still
waits here, that call is ended as if interrupted; what is left is closed by `atexit`, which takes 2 s at most.
"""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import aclosing, contextmanager
from typing import Generic, TypeVar

from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.errors import ConfigError, TimedOutError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.mailbox import Mailbox
from tilehaul.jobs.stop import Stop
from tilehaul.net.loop_thread import LoopThread
from tilehaul.policy.health import Health, judge_health
from tilehaul.ports.events import SeedReport, Watch
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter
from tilehaul.ports.tile import FailedTile, NoTile, Tile
from tilehaul.wiring.copying import copy as copy_async
from tilehaul.wiring.missing import missing as missing_async
from tilehaul.wiring.opened import OpenedSource
from tilehaul.wiring.places import open_source
from tilehaul.wiring.retrying import dead_letters as dead_letters_async
from tilehaul.wiring.retrying import retry as retry_async
from tilehaul.wiring.seeding import SeedOptions
from tilehaul.wiring.seeding import seed as seed_async
from tilehaul.wiring.streaming import stream as stream_async

# How often a caller's `cancel` is looked at: a person does not notice a tenth of a second.
CANCEL_LOOK_S = 0.1
# Items of an iterator that are read ahead, and the bytes of the tiles among them.
PAGE_ITEMS_MAX = 256
PAGE_BYTES_MAX = 8 * 1024 * 1024

T = TypeVar("T")
# Begins a job that tells the watch and heeds the stop.
Start = Callable[[Watch, Stop], Awaitable[SeedReport]]


class BlockingSource:
    """A source whose `get` waits. Made by `open`; usable from several threads."""

    def __init__(self, source: OpenedSource, thread: LoopThread) -> None:
        self._source = source
        self._thread = thread

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    def get(self, tile_id: TileId) -> Tile | NoTile:
        """One tile, or the statement that there is none.

        Raises as `TileSource.get`, and:
            PlanError: The source is closed.
            UnreachableError: It was closed, or the program ended, before the answer came (cause `closed`).
        """
        return self._thread.run(self._get(tile_id))

    async def _get(self, tile_id: TileId) -> Tile | NoTile:
        return await self._source.get(tile_id)

    def lanes(self) -> tuple[LaneSnapshot, ...]:
        """The lanes to the origin as they are now. Raises PlanError when the source is closed."""
        return self._thread.run(self._lanes())

    def health(self) -> Health:
        """`healthy`, or `degraded` with reasons in words. Raises as `lanes`."""
        return judge_health(self.lanes())

    async def _lanes(self) -> tuple[LaneSnapshot, ...]:
        return self._source.lanes()


@contextmanager
def open(location: str, *, sending: Sending = SENDING_DEFAULT) -> Iterator[BlockingSource]:  # noqa: A001
    """Open a location for reading, as `tilehaul.open`, for synchronous callers."""
    with LoopThread() as thread:
        yield BlockingSource(thread.enter(open_source(location, sending=sending)), thread)


def stream(
    source: str, tiles: Iterable[TileId], *, sending: Sending = SENDING_DEFAULT
) -> Iterator[Tile | NoTile | FailedTile]:
    """As `tilehaul.stream`: what became of each tile, in the order in which it is known.

    `tiles` is read a little ahead, in a thread that is not the caller's. Ends like any iterator: leave the
    loop, and every request is ended and no thread is left.
    """
    return _iterated(stream_async(source, tiles, sending=sending))


def missing(store: str, area: Area) -> Iterator[TileId]:
    """As `tilehaul.missing`: the tiles that a seed of the area into this store would ask for.

    The store is opened with the first `next`, and closed when the iterator ends or is dropped.
    """
    return _iterated(missing_async(store, area))


def seed(
    source: str,
    store: str,
    area: Area,
    *,
    options: SeedOptions | None = None,
    progress: Watch | None = None,
    cancel: threading.Event | None = None,
    timeout: float | None = None,
) -> SeedReport:
    """Seed as `tilehaul.seed`, and wait for the end.

    Args:
        source, store, area, options: As `tilehaul.seed`.
        progress: Called with every event, in the thread that called `seed`. The job never waits for it: a
            slow one gets the newest `Progress` instead of each, and loses what has become old (`Mailbox`);
            never the first event, nor the report, which is the last. When it raises, the job is ended as
            if interrupted and the exception passes on.
        cancel: Set it from any thread, or from `progress`, to end the job; what was fetched is kept, the
            report says `interrupted`. Set before the call: nothing is asked for.
        timeout: Seconds, > 0, after which the job is ended as if cancelled.

    Raises:
        ConfigError: The timeout is not positive.
        TimedOutError: The timeout came first. What was fetched is kept.
        UnreachableError: The program is ending (cause `closed`). What was fetched is kept.
        Else as `tilehaul.seed`.
    """

    def start(watch: Watch, stop: Stop) -> Awaitable[SeedReport]:
        return seed_async(source, store, area, options=options, watch=watch, stop=stop)

    return _watched(start, progress=progress, cancel=cancel, timeout=timeout)


def copy(
    source: str,
    store: str,
    *,
    within: Area | None = None,
    tiles_of: str | None = None,
    update: bool = False,
    delete: bool = False,
    options: SeedOptions | None = None,
    progress: Watch | None = None,
    cancel: threading.Event | None = None,
    timeout: float | None = None,
) -> SeedReport:
    """Copy what an archive holds as `tilehaul.copy`, and wait for the end.

    `progress`, `cancel` and `timeout` are as for `seed`. Raises as `tilehaul.copy`, and as `seed`.
    """

    def start(watch: Watch, stop: Stop) -> Awaitable[SeedReport]:
        return copy_async(
            source,
            store,
            within=within,
            tiles_of=tiles_of,
            update=update,
            delete=delete,
            options=options,
            watch=watch,
            stop=stop,
        )

    return _watched(start, progress=progress, cancel=cancel, timeout=timeout)


def retry(
    archive: str,
    source: str,
    *,
    causes: Collection[str] = (),
    options: SeedOptions | None = None,
    progress: Watch | None = None,
    cancel: threading.Event | None = None,
    timeout: float | None = None,
) -> SeedReport:
    """Ask again for dead tiles as `tilehaul.retry`, and wait for the end.

    Args:
        archive, source, causes, options: As `tilehaul.retry`.
        progress, cancel, timeout: As `seed`. What was not asked for yet is still dead.

    Raises as `tilehaul.retry`, and as `seed`.
    """

    def start(watch: Watch, stop: Stop) -> Awaitable[SeedReport]:
        return retry_async(archive, source, causes=causes, options=options, watch=watch, stop=stop)

    return _watched(start, progress=progress, cancel=cancel, timeout=timeout)


def dead_letters(archive: str, *, causes: Collection[str] = ()) -> Iterator[DeadLetter]:
    """As `tilehaul.dead_letters`: what an archive's jobs have given up on, in tile order.

    The archive is opened with the first `next`, and closed when the iterator ends or is dropped.
    """
    return _iterated(dead_letters_async(archive, causes=causes))


def _watched(
    start: Start, *, progress: Watch | None, cancel: threading.Event | None, timeout: float | None
) -> SeedReport:
    """A job run to its end on a thread of its own: see `seed`."""
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise ConfigError(f"timeout: {timeout} is no positive number of seconds")
    with LoopThread() as thread:
        letters = Mailbox()
        # Also without a callback: an event a second lets Ctrl-C in where waiting keeps it out (Windows).
        call = thread.start(_stoppable(start, letters, cancel, timeout))
        call.when_done(letters.close)
        try:
            while (event := letters.take()) is not None:
                if progress is not None:
                    progress(event)
        except BaseException:
            call.end()
            raise
        return call.result()


async def _stoppable(
    start: Start, watch: Watch, cancel: threading.Event | None, timeout: float | None
) -> SeedReport:
    stop = Stop()
    if cancel is not None and cancel.is_set():
        stop.cancel()
    looking = None if cancel is None else asyncio.create_task(_look(cancel, stop))
    expired = False

    def expire() -> None:
        nonlocal expired
        # A job that was asked to end before has not run into the timeout.
        expired = stop.level == 0
        stop.cancel()

    timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, expire)
    try:
        report = await start(watch, stop)
    finally:
        if looking is not None:
            looking.cancel()
        if timer is not None:
            timer.cancel()
    if report.state == "interrupted" and expired:
        raise TimedOutError(
            f"the job was ended after {timeout:g} s with {report.pending:,} tiles pending;"
            " run it again to go on",
            phase="total",
        )
    return report


async def _look(cancel: threading.Event, stop: Stop) -> None:
    while not cancel.is_set():  # noqa: ASYNC110 - set from another thread, where asyncio.Event is no use
        await asyncio.sleep(CANCEL_LOOK_S)
    stop.cancel()


def _iterated(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """The items for a `for` loop without await. Nothing begins before the first is asked for."""
    with LoopThread() as thread:
        pages = _Pages(thread.enter(aclosing(items)))
        reading = thread.start(pages.fill())
        while page := thread.run(pages.take()):
            yield from page
        reading.result()


class _Pages(Generic[T]):
    """Reads an iterator ahead, so that one hand-over between threads serves for all that has come."""

    def __init__(self, items: AsyncIterator[T]) -> None:
        self._items = items
        self._page: list[T] = []
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Event()

    async def fill(self) -> None:
        try:
            async for item in self._items:
                self._page.append(item)
                self._bytes += len(item.body) if isinstance(item, Tile) else 0
                self._changed.set()
                while len(self._page) >= PAGE_ITEMS_MAX or self._bytes >= PAGE_BYTES_MAX:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            self._ended = True
            self._changed.set()

    async def take(self) -> list[T]:
        """All that has come; waits for something. Empty at the end."""
        while not self._page and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        page, self._page, self._bytes = self._page, [], 0
        self._changed.set()
        return page
