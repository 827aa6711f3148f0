"""The same jobs for synchronous callers: scripts, add-ons, notebooks.

Everything runs on the one asynchronous engine, in a thread with a loop of its own; so these calls also
work inside a program whose own loop runs (a notebook), and from several threads at once.

    import tilehaul.blocking as tilehaul

    with tilehaul.open("https://host/{z}/{x}/{y}.png") as source:
        tile = source.get(TileId(3, 4, 2))
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.errors import TimedOutError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.stop import Stop
from tilehaul.net.loop_thread import LoopThread
from tilehaul.ports.events import SeedReport, Watch
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.wiring.places import open_source
from tilehaul.wiring.seeding import SeedOptions
from tilehaul.wiring.seeding import seed as seed_async

# How often a caller's `cancel` is looked at: a person does not notice a tenth of a second.
CANCEL_LOOK_S = 0.1


class BlockingSource:
    """A source whose `get` waits. Made by `open`; usable from several threads."""

    def __init__(self, source: TileSource, thread: LoopThread) -> None:
        self._source = source
        self._thread = thread

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    def get(self, tile_id: TileId) -> Tile | NoTile:
        """One tile, or the statement that there is none. Raises as `TileSource.get`."""
        return self._thread.run(self._get(tile_id))

    async def _get(self, tile_id: TileId) -> Tile | NoTile:
        return await self._source.get(tile_id)


@contextmanager
def open(location: str, *, sending: Sending = SENDING_DEFAULT) -> Iterator[BlockingSource]:  # noqa: A001
    """Open a location for reading, as `tilehaul.open`, for synchronous callers."""
    thread = LoopThread()
    try:
        manager = open_source(location, sending=sending)
        source = thread.run(_entered(manager))
        try:
            yield BlockingSource(source, thread)
        finally:
            thread.run(_left(manager))
    finally:
        thread.close()


async def _entered(manager: Any) -> TileSource:
    source: TileSource = await manager.__aenter__()
    return source


async def _left(manager: Any) -> None:
    await manager.__aexit__(None, None, None)


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
        progress: Called with every event, in the seed's own thread; must return quickly.
        cancel: Set it from any thread to end the job; what was fetched is kept, the report says
            `interrupted`.
        timeout: Seconds after which the job is ended as if cancelled.

    Raises:
        TimedOutError: The timeout came first. What was fetched is kept.
        Else as `tilehaul.seed`.
    """
    thread = LoopThread()
    try:
        return thread.run(_seed(source, store, area, options, progress, cancel, timeout))
    finally:
        thread.close()


async def _seed(
    source: str,
    store: str,
    area: Area,
    options: SeedOptions | None,
    progress: Watch | None,
    cancel: threading.Event | None,
    timeout: float | None,
) -> SeedReport:
    stop = Stop()
    looking = asyncio.create_task(_look(cancel, stop)) if cancel is not None else None
    timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, stop.cancel)
    try:
        report = await seed_async(source, store, area, options=options, watch=progress, stop=stop)
    finally:
        if looking is not None:
            looking.cancel()
        if timer is not None:
            timer.cancel()
    if report.state == "interrupted" and timeout is not None and not (cancel is not None and cancel.is_set()):
        raise TimedOutError(
            f"the seed was ended after {timeout:g} s with {report.pending:,} tiles pending;"
            " run it again to go on",
            phase="total",
        )
    return report


async def _look(cancel: threading.Event, stop: Stop) -> None:
    while not cancel.is_set():  # noqa: ASYNC110 - set from another thread, where asyncio.Event is no use
        await asyncio.sleep(CANCEL_LOOK_S)
    stop.cancel()
