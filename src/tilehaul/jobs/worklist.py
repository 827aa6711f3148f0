"""The lazy work list of a job: planned tiles that are not settled yet."""

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobStore, State

# Tiles looked up in the journal at once. Two chunks are held at most: the work list's whole memory.
CHUNK_TILES = 1000


class WorkList:
    """Hands out pending tiles in the area's order; many workers pull from one list.

    `skipped` counts by state the tiles that are settled: by an earlier run, or dropped by a person. Dead
    ones are handed out again: running a job again is one way to ask for another try.
    """

    def __init__(self, tiles: Iterator[TileId], store: JobStore, *, overwrite: bool) -> None:
        self._tiles = tiles
        self._store = store
        self._overwrite = overwrite
        self._ready: deque[TileId] = deque()
        self._refill = asyncio.Lock()
        self._next: asyncio.Task[list[TileId] | None] | None = None
        self._ended = False
        self.skipped: dict[State, int] = {"done": 0, "absent": 0, "dropped": 0}

    async def take(self) -> TileId | None:
        """The next pending tile, or None when there are no more."""
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._ended:
                return None
            async with self._refill:
                if not self._ready and not self._ended:
                    await self._fill()

    async def close(self) -> None:
        """End the look-ahead. Nothing is handed out afterwards."""
        self._ended = True
        self._ready.clear()
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)

    async def _fill(self) -> None:
        if self._next is None:
            self._next = asyncio.create_task(self._load())
        chunk = await asyncio.shield(self._next)
        if chunk is None:
            self._ended = True
            self._next = None
            return
        # Looked up while the workers are busy with this chunk, so that they never wait for the journal.
        self._next = asyncio.create_task(self._load())
        self._ready.extend(chunk)

    async def _load(self) -> list[TileId] | None:
        """Pending tiles of the next chunk; None at the end of the area."""
        chunk = list(islice(self._tiles, CHUNK_TILES))
        if not chunk:
            return None
        if self._overwrite:
            return chunk
        states = await self._store.settled(chunk)
        pending: list[TileId] = []
        for tile_id, state in zip(chunk, states, strict=True):
            if state is not None and state in self.skipped:
                self.skipped[state] += 1
            else:
                pending.append(tile_id)
        return pending
