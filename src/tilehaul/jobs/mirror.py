"""A copy that is a mirror: what the source does not have leaves the store, once all else is there."""

from asyncio import gather
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from tilehaul.errors import FuseError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.compare import body_of
from tilehaul.jobs.stop import CANCEL, Stop
from tilehaul.policy.tally import Tally
from tilehaul.ports.store import DeadLetter, Deleted, JobCounts, JobKey, JobStore, Outcome, State, TileArchive

# Tiles looked up, and deleted, at once.
PAGE_TILES = 500


async def extra_tiles(
    source: TileArchive, kept: TileArchive, wanted: Callable[[TileId], bool]
) -> AsyncIterator[list[TileId]]:
    """The wanted tiles that `kept` has and `source` has not, a page at a time; pages may be empty.

    One that the source lists and cannot read is not missing there. Raises DataError when `kept` cannot be
    walked to its end, or the source not be asked; StorageError.
    """
    page: list[TileId] = []
    async for tile_id in kept.tile_ids():
        if wanted(tile_id):
            page.append(tile_id)
            if len(page) == PAGE_TILES:
                yield await _lacking(source, page)
                page = []
    yield await _lacking(source, page)


async def _lacking(source: TileArchive, page: Sequence[TileId]) -> list[TileId]:
    if not page:
        return []
    states = await source.states(page)
    # A journal may know nothing of a tile, or that its newest version died, while bytes are there.
    doubtful = [tile_id for tile_id, state in zip(page, states, strict=True) if state != "done"]
    bodies = await gather(*(body_of(source, tile_id) for tile_id in doubtful))
    return [tile_id for tile_id, body in zip(doubtful, bodies, strict=True) if body is None]


class MirroringStore(JobStore):
    """A store that deletes what the source does not have when its job ends whole, and not before.

    Each page is durable before the next. A job that is cut short between two stays open: its next run
    deletes the rest.

    Args:
        store: The store, also as an archive.
        source: Where the job's tiles are; only read.
        wanted: Whether a tile is within what the job is about.
        tally: Told how many were deleted, and how many left because no job of ours wrote them.
        stop: Ends the deleting when it is cancelled.
    """

    def __init__(
        self,
        store: JobStore,
        kept: TileArchive,
        source: TileArchive,
        wanted: Callable[[TileId], bool],
        tally: Tally,
        stop: Stop | None = None,
    ) -> None:
        self._store = store
        self._kept = kept
        self._source = source
        self._wanted = wanted
        self._tally = tally
        self._stop = stop or Stop()

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        return await self._store.begin(job, force_source=force_source)

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        return await self._store.settled(tile_ids)

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        await self._store.commit(outcomes)

    def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        return self._store.dead_letters(causes=causes)

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        """See `JobStore.finish`. Raises FuseError when it is stopped while it deletes."""
        if complete:
            async for page in extra_tiles(self._source, self._kept, self._wanted):
                await self._delete(page)
            await self._forget_letters()
        await self._store.finish(complete=complete, counts=counts)

    async def _delete(self, page: Sequence[TileId]) -> None:
        if not page:
            return
        if self._stop.level >= CANCEL:
            raise FuseError(
                f"stopped after {self._tally.deleted:,} tiles were deleted that the source does not have;"
                " run it again for the rest"
            )
        states = await self._store.settled(page)
        # A folder or a bucket may hold files of others, which the store would not touch.
        ours = [tile_id for tile_id, state in zip(page, states, strict=True) if state is not None]
        await self._forget(ours)
        self._tally.deleted += len(ours)
        self._tally.strangers += len(page) - len(ours)

    async def _forget_letters(self) -> None:
        """Dead letters of tiles that the source does not have: nobody will ask for them again."""
        page: list[TileId] = []
        async for letter in self._store.dead_letters():
            if self._wanted(letter.tile_id):
                page.append(letter.tile_id)
            if len(page) == PAGE_TILES:
                await self._forget(await _lacking(self._source, page))
                page = []
        await self._forget(await _lacking(self._source, page))

    async def _forget(self, tile_ids: Sequence[TileId]) -> None:
        if tile_ids:
            await self._store.commit(list(map(Deleted, tile_ids)))

    async def close(self) -> None:
        await self._store.close()
