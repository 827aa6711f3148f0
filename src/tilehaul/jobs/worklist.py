"""The lazy work list of a job: planned tiles that are not settled yet."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from itertools import islice

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobStore, State

# Tiles looked up in the journal at once.
CHUNK_TILES = 1000


# For each tile, in order, whether the store has the source's bytes of it already.
Unchanged = Callable[[Sequence[TileId]], Awaitable[Sequence[bool]]]
# For each tile, in order, whether it is to be moved again although it is done.
Stale = Callable[[Sequence[TileId]], Awaitable[Sequence[bool]]]


class WorkList:
    """Pending tiles in the area's order, a chunk at a time.

    `skipped` counts by state the tiles that are settled: by an earlier run, or dropped by a person. Dead
    ones are handed out again: running a job again is one way to ask for another try. So are absent ones when
    `listed`: the source itself says now that it has them.
    """

    def __init__(
        self,
        tiles: Iterable[TileId] | AsyncIterable[TileId],
        store: JobStore,
        *,
        overwrite: bool,
        unchanged: Unchanged | None = None,
        stale: Stale | None = None,
        listed: bool = False,
    ) -> None:
        self._listed = listed
        self._stale = stale
        self._unchanged = unchanged
        self._tiles = tiles
        self._store = store
        self._overwrite = overwrite
        self.skipped: dict[State, int] = {"done": 0, "absent": 0, "dropped": 0}

    async def chunks(self) -> AsyncGenerator[Sequence[TileId], None]:
        """Chunks of at most CHUNK_TILES, some of them empty. Raises PlanError: see `each_tile`."""
        looking: asyncio.Future[list[TileId]] | None = None
        ended: Exception | None = None
        chunks = _chunks(self._tiles)
        try:
            while ended is None:
                before, looking = looking, None
                try:
                    chunk = await anext(chunks)
                    # The store looks while the next tiles are walked to.
                    looking = asyncio.ensure_future(self._wanted(chunk))
                    await asyncio.sleep(0)
                except Exception as error:  # noqa: BLE001 - the caller's own; what came before it goes first
                    ended = error
                if before is not None:
                    yield await before
        finally:
            if looking is not None:
                looking.cancel()
        if not isinstance(ended, StopAsyncIteration):
            raise ended

    async def _wanted(self, chunk: list[TileId]) -> list[TileId]:
        if self._unchanged is not None:
            return await self._changed(chunk, self._unchanged)
        return chunk if self._overwrite else await self._pending(chunk)

    async def _changed(self, chunk: list[TileId], unchanged: Unchanged) -> list[TileId]:
        states = await self._store.settled(chunk)
        # One that died over the bytes that are kept is moved, so that its letter goes.
        pairs = zip(await unchanged(chunk), states, strict=True)
        same = [is_same and state != "dead" for is_same, state in pairs]
        self.skipped["done"] += sum(same)
        return [tile_id for tile_id, is_same in zip(chunk, same, strict=True) if not is_same]

    async def _pending(self, chunk: list[TileId]) -> list[TileId]:
        states = await self._store.settled(chunk)
        if self._stale is None and states.count("done") == len(chunk):
            self.skipped["done"] += len(chunk)
            return []
        old = [False] * len(chunk) if self._stale is None else await self._stale(chunk)
        pending: list[TileId] = []
        for tile_id, state, is_old in zip(chunk, states, old, strict=True):
            again = (is_old and state == "done") or (self._listed and state == "absent")
            if state is not None and state in self.skipped and not again:
                self.skipped[state] += 1
            else:
                pending.append(tile_id)
        return pending


async def _chunks(tiles: Iterable[TileId] | AsyncIterable[TileId]) -> AsyncIterator[list[TileId]]:
    """The tiles, CHUNK_TILES at a time. Raises PlanError: see `each_tile`."""
    if isinstance(tiles, AsyncIterable):
        chunk: list[TileId] = []
        async for tile_id in tiles:
            chunk.append(tile_id)
            if len(chunk) == CHUNK_TILES:
                yield chunk
                chunk = []
        yield chunk
        return
    rest, before = iter(tiles), 0
    while chunk := list(islice(rest, CHUNK_TILES)):
        # Looked at together: one by one it costs as much as making them.
        if set(map(type, chunk)) != {TileId}:
            for number, item in enumerate(chunk, start=before + 1):
                checked_tile(item, number)
        before += len(chunk)
        yield chunk


def each_tile(items: Iterable[object]) -> Iterator[TileId]:
    """The items as they come. Raises PlanError at the first that is not a TileId."""
    for number, item in enumerate(items, start=1):
        yield checked_tile(item, number)


def checked_tile(item: object, number: int) -> TileId:
    """The item, when it is a TileId. Raises PlanError, which says where in the work it stands."""
    if isinstance(item, TileId):
        return item
    raise PlanError(f"item {number} of the work is no TileId: {repr(item)[:40]}")
