"""Dead letters: collected to be tried again by `jobs.seed`, or dropped."""

from array import array
from collections.abc import Callable, Collection, Iterator

from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.outbox import COMMIT_TILES
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, Dropped, JobKey, JobStore, Outcome


class DeadTiles:
    """The tiles of dead letters as they are now: 8 bytes each, in the order of the letters."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    @classmethod
    async def of(cls, store: JobStore, causes: Collection[str] = ()) -> "DeadTiles":
        """Those whose cause or class is among `causes`; all when there are none. StorageError, DataError."""
        tiles = cls()
        async for letter in store.dead_letters(causes=causes):
            tiles._numbers.append(letter.tile_id.pmtiles_id)
        return tiles

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[TileId]:
        return map(TileId.from_pmtiles_id, self._numbers)


def replay_key(info: SourceInfo, planned: int) -> JobKey:
    """The key of a job that takes `planned` dead tiles from the source `info` tells of.

    It has no area and no metadata: what a store says of itself stays as it is.
    """
    return JobKey(info.identity, info.name, area_identity="", planned=planned, replay=True)


async def drop(
    store: JobStore, causes: Collection[str] = (), *, told: Callable[[DeadLetter], None] | None = None
) -> int:
    """Do without the tiles of these dead letters, until a seed overwrites them. Sends nothing.

    The store no longer waits for them: a job for which nothing else is open is complete, and says how
    many of its tiles were dropped.

    Args:
        store: Open, and nobody's: it is taken for writing, not closed.
        causes: As `JobStore.dead_letters`.
        told: Called with each letter once its end is durable.

    Returns:
        How many were dropped.

    Raises:
        PlanError: Not made by tilehaul, or another one is writing it.
        StorageError: The disk refused; what was told is dropped.
    """
    # Whose tiles they were matters only to who brings new ones.
    await store.begin(JobKey("", "", "", 0, replay=True), force_source=True)
    dropped = 0
    batch: list[DeadLetter] = []

    async def commit() -> None:
        nonlocal dropped
        outcomes: list[Outcome] = [Dropped(letter.tile_id) for letter in batch]
        await store.commit(outcomes)
        for letter in batch:
            if told is not None:
                told(letter)
        dropped += len(batch)
        batch.clear()

    async for letter in store.dead_letters(causes=causes):
        batch.append(letter)
        if len(batch) >= COMMIT_TILES:
            await commit()
    if batch:
        await commit()
    await store.finish(complete=True)
    return dropped
