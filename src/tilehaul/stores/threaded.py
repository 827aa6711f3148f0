"""A store whose work blocks, made asynchronous: one thread writes, another reads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Protocol, TypeVar

from tilehaul.errors import DataError, PlanError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import BATCH_BYTES, SourceInfo, TileError
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey, Outcome, State, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.worker_thread import WorkerThread

T = TypeVar("T")

# Items handed over at a time when walking a store.
WALK_ITEMS = 2048


class BlockingWriter(Protocol):
    """The writing half; every call is made on one thread. Errors as in `ports.store.JobStore`."""

    def begin(self, job: JobKey, *, force_source: bool) -> JobCounts | None: ...

    def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]: ...

    def commit(self, outcomes: Sequence[Outcome]) -> None: ...

    def finish(self, *, complete: bool, counts: JobCounts | None) -> None: ...

    def seal(self) -> None:
        """Leave nothing beside the store that a reader would need. No read of ours is under way."""
        ...

    def close(self) -> None: ...


class BlockingReader(Protocol):
    """The reading half; opens by itself when first asked, and again after `release`."""

    def get(self, tile_id: TileId) -> Tile | NoTile: ...

    def one_look(self) -> AbstractContextManager[None]:
        """Every `get` within it sees the archive as it was at the first, which makes them cheap."""
        ...

    def tile_ids(self) -> Iterator[TileId]: ...

    def dead_letters(self, causes: Collection[str] = ()) -> Iterator[DeadLetter]: ...

    def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]: ...

    def has_completed(self, area_identity: str) -> bool: ...

    def describe(self) -> StoreInfo: ...

    def source_info(self) -> SourceInfo: ...

    def release(self) -> None: ...


class ThreadedStore:
    """`JobStore` and `TileArchive` over a blocking writer and reader.

    A batch is one hand-off to the writing thread. Reading has its own thread, so that an answer
    never waits for a commit. Both threads start when first needed. A cancelled call may still take
    effect, whole; nothing is half done.
    """

    def __init__(
        self, writer: BlockingWriter, make_reader: Callable[[], BlockingReader], *, name: str
    ) -> None:
        self._writer = writer
        self._make_reader = make_reader
        self._reader = make_reader()
        self._write_thread = WorkerThread(f"{name}-write")
        self._read_thread = WorkerThread(f"{name}-read")
        self._begun = False

    # Writing

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        """See `JobStore.begin`. Takes the writer's lock, which `close` gives back.

        Raises:
            PlanError: Another source's or grid's store, or not ours, without `force_source`; another
                tilehaul is writing it.
            DataError: The store is damaged (`corrupt_archive`).
            StorageError: The disk refused.
        """
        self._begun = True
        return await self._write_thread.run(lambda: self._writer.begin(job, force_source=force_source))

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        self._check_begun()
        return await self._write_thread.run(self._writer.settled, tile_ids)

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        """See `JobStore.commit`: one transaction.

        A dead letter for a tile that is kept already (an overwrite that failed) leaves the old bytes
        readable; an absence removes them.
        """
        self._check_begun()
        if outcomes:
            await self._write_thread.run(self._writer.commit, outcomes)

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        self._check_begun()
        await self._write_thread.run(lambda: self._writer.finish(complete=complete, counts=counts))
        await self._seal()

    async def _seal(self) -> None:
        # On the reading thread, so that no read of ours opens the file again meanwhile; the writing
        # thread is idle, its caller waits here.
        def seal() -> None:
            self._reader.release()
            self._writer.seal()

        await self._read_thread.run(seal)

    async def close(self) -> None:
        """Fold up and let go, also when a write failed before.

        A cancelled close is carried out to its end before it says so, however often it is cancelled: the
        loop may close next, and the lock would stay taken for as long as the program runs.
        """
        closing = asyncio.ensure_future(self._close())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.wait({closing})
            except asyncio.CancelledError as error:
                cancelled = error
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def _close(self) -> None:
        try:
            if self._read_thread.is_running:
                await self._read_thread.run(self._reader.release)
            if self._begun:
                self._begun = False
                await self._write_thread.run(self._writer.close)
        finally:
            await self._read_thread.stop()
            await self._write_thread.stop()

    def _check_begun(self) -> None:
        if not self._begun:
            raise PlanError("a store is written only between begin and close")

    # Reading

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The tile, `place="store"`, or NoTile with the cause `not_stored`."""
        return await self._read_thread.run(self._reader.get, tile_id)

    async def get_batch(
        self, tile_ids: Sequence[TileId], check: Callable[[Tile], Tile]
    ) -> Sequence[Tile | NoTile | TileError]:
        return await self._read_thread.run(self._get_batch, tile_ids, check)

    def _get_batch(
        self, tile_ids: Sequence[TileId], check: Callable[[Tile], Tile]
    ) -> list[Tile | NoTile | TileError]:
        answers: list[Tile | NoTile | TileError] = []
        size_bytes = 0
        with self._reader.one_look():
            for tile_id in tile_ids:
                try:
                    answer = self._reader.get(tile_id)
                    if isinstance(answer, Tile):
                        answer = check(answer)
                        size_bytes += len(answer.body)
                except (TransferError, DataError) as error:
                    answers.append(error)
                    continue
                answers.append(answer)
                if size_bytes >= BATCH_BYTES:
                    break
        return answers

    def tile_ids(self) -> AsyncIterator[TileId]:
        """Every tile kept, zoom by zoom and column by column, without holding up writers or reads."""
        return self._walk(self._reader.tile_ids)

    def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        """See `JobStore.dead_letters`; also without `begin`."""
        return self._walk(lambda: self._reader.dead_letters(causes))

    async def _walk(self, start: Callable[[], Iterable[T]]) -> AsyncIterator[T]:
        items = await self._read_thread.run(lambda: iter(start()))
        while page := await self._read_thread.run(lambda: list(islice(items, WALK_ITEMS))):
            for item in page:
                yield item

    async def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        return await self._read_thread.run(self._reader.states, tile_ids)

    async def has_completed(self, area_identity: str) -> bool:
        return await self._read_thread.run(self._reader.has_completed, area_identity)

    async def describe(self) -> StoreInfo:
        """Counts the whole store, on a thread and a connection of its own."""
        reader = self._make_reader()

        def describe() -> StoreInfo:
            try:
                return reader.describe()
            finally:
                reader.release()

        return await asyncio.to_thread(describe)

    async def source_info(self) -> SourceInfo:
        return await self._read_thread.run(self._reader.source_info)
