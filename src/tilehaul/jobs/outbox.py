"""Between the workers and the one writer: bounded by count and by bytes."""

import asyncio

from tilehaul.ports.store import Outcome
from tilehaul.ports.tile import Tile

MIB = 1024 * 1024
# A commit is made at whichever comes first (`contracts`, Jobs).
COMMIT_TILES = 500
COMMIT_BYTES = 16 * MIB
COMMIT_S = 0.25
# What may wait for the writer. Beyond it workers wait: back-pressure from the disk to the network.
WAITING_TILES_MAX = 4 * COMMIT_TILES
WAITING_BYTES_MAX = 64 * MIB


class Outbox:
    """Outcomes on their way to the disk. One taker."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._bytes = 0
        self._closed = False
        self._full_batch = asyncio.Event()
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, outcome: Outcome) -> None:
        """Hand over one outcome; waits while too much is waiting already."""
        while not self._room.is_set():
            await self._room.wait()
        self._outcomes.append(outcome)
        self._bytes += len(outcome.body) if isinstance(outcome, Tile) else 0
        self._something.set()
        if len(self._outcomes) >= COMMIT_TILES or self._bytes >= COMMIT_BYTES:
            self._full_batch.set()
        if len(self._outcomes) >= WAITING_TILES_MAX or self._bytes >= WAITING_BYTES_MAX:
            self._room.clear()

    def close(self) -> None:
        """No more will be put."""
        self._closed = True
        self._something.set()
        self._full_batch.set()

    async def take(self) -> list[Outcome]:
        """The next batch: at once when one is full, else what has come COMMIT_S after the first.

        Empty only when the outbox is closed and drained.
        """
        await self._something.wait()
        if not self._full_batch.is_set():
            try:
                async with asyncio.timeout(COMMIT_S):
                    await self._full_batch.wait()
            except TimeoutError:
                pass
        batch = self._outcomes
        self._outcomes = []
        self._bytes = 0
        self._room.set()
        if not self._closed:
            self._something.clear()
            self._full_batch.clear()
        return batch
