"""A source and a job store in memory, with failures on request."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field

from tilehaul.errors import StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.causes import is_among
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, Dropped, JobCounts, JobKey, Outcome, State
from tilehaul.ports.tile import NoTile, Tile

Answer = Callable[[TileId], Tile | NoTile | Exception]


def body_of(tile_id: TileId) -> bytes:
    return f"tile {tile_id}".encode()


def every_tile(tile_id: TileId) -> Tile:
    return Tile(tile_id, body_of(tile_id), "image/png")


@dataclass
class FakeSource:
    """Answers by a function of the address; counts what it was asked."""

    answer: Answer = every_tile
    asked: list[TileId] = field(default_factory=list)
    info: SourceInfo = field(default_factory=lambda: SourceInfo(name="fake", identity="fake-1"))
    under_way: int = 0
    under_way_max: int = 0

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        self.asked.append(tile_id)
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            await asyncio.sleep(0)
            result = self.answer(tile_id)
        finally:
            self.under_way -= 1
        if isinstance(result, Exception):
            raise result
        return result


@dataclass
class FakeStore:
    """A job store that remembers; `fail_at_commit` makes the n-th commit (from 1) raise StorageError."""

    outcomes: dict[TileId, Outcome] = field(default_factory=dict)
    commits: list[int] = field(default_factory=list)
    complete_jobs: dict[str, JobCounts] = field(default_factory=dict)
    finished: list[bool] = field(default_factory=list)
    fail_at_commit: int = 0
    job: JobKey | None = None

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        self.job = job
        return self.complete_jobs.get(job.area_identity)

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        await asyncio.sleep(0)
        return [self._state(self.outcomes.get(tile_id)) for tile_id in tile_ids]

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        await asyncio.sleep(0)
        if len(self.commits) + 1 == self.fail_at_commit:
            raise StorageError("out.mbtiles: no space left on device")
        self.commits.append(len(outcomes))
        for outcome in outcomes:
            self.outcomes[outcome.tile_id] = outcome

    async def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        for outcome in list(self.outcomes.values()):
            if isinstance(outcome, DeadLetter) and is_among(outcome.cause, causes):
                yield outcome

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        self.finished.append(complete)
        if complete and self.job is not None:
            self.complete_jobs[self.job.area_identity] = counts or JobCounts(self.job.planned, 0)

    async def close(self) -> None:
        pass

    @staticmethod
    def _state(outcome: Outcome | None) -> State | None:
        if outcome is None:
            return None
        if isinstance(outcome, Tile):
            return "done"
        if isinstance(outcome, Dropped):
            return "dropped"
        return "absent" if isinstance(outcome, NoTile) else "dead"
