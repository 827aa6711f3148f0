"""The feed over a source that gives batches: the same ends, few questions, nothing lost between."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from doubles.clock import VirtualClock, in_virtual_time
from doubles.tiles import FakeSource, FakeStore, every_tile
from tilehaul.errors import DataError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.feed import BATCH_WORKERS_MAX
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.jobs.seed import SeedPlan, seed
from tilehaul.jobs.stop import Stop
from tilehaul.policy.budget import BudgetRule, RetryBudget
from tilehaul.policy.fuse import FailureLimit
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import SeedReport
from tilehaul.ports.source import BATCH_TILES, TileError
from tilehaul.ports.store import DeadLetter, JobKey
from tilehaul.ports.tile import NoTile, Tile

IDS = [TileId(12, n // 50, n % 50) for n in range(1000)]
SICK = IDS[70]


@dataclass
class FakeBatches(FakeSource):
    """Answers at most `most` of a batch; notes how many were asked for at once."""

    most: int = BATCH_TILES
    batches: list[int] = field(default_factory=list)

    async def get_batch(self, tile_ids: Sequence[TileId]) -> Sequence[Tile | NoTile | TileError]:
        self.batches.append(len(tile_ids))
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        answers: list[Any] = [self.answer(tile_id) for tile_id in tile_ids[: self.most]]
        for answer in answers:
            if isinstance(answer, StorageError):
                raise answer
        return answers


async def moved(
    source: FakeSource, store: FakeStore, *, stop: Stop | None = None, retrying: Retrying | None = None
) -> SeedReport:
    clock = VirtualClock()
    plan = SeedPlan(IDS, len(IDS), JobKey("s", "S", "a", len(IDS)), max_failures=FailureLimit(count=500))
    job = seed(Origin(source, retrying), store, plan, tally=Tally(), clock=clock, stop=stop)
    report = await in_virtual_time(clock, job)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return report


@pytest.mark.parametrize("most", [1, 7, BATCH_TILES])
async def test_all_come_once_in_few_questions(most: int) -> None:
    """What a batch leaves out is asked for again, not lost; never more batches at once than allowed."""
    source, store = FakeBatches(most=most), FakeStore()
    report = await moved(source, store)
    assert (report.state, report.done, source.asked) == ("complete", len(IDS), [])
    assert set(store.outcomes) == set(IDS)
    assert sum(store.commits) == len(IDS)
    assert source.under_way_max <= BATCH_WORKERS_MAX
    assert max(source.batches) == BATCH_TILES
    assert len(source.batches) <= len(IDS) / most + 8


async def test_one_that_fails_is_one_dead_letter() -> None:
    def answer(tile_id: TileId) -> Tile | NoTile | Exception:
        if tile_id == SICK:
            return DataError("cut short", cause="truncated", url="here")
        return NoTile(tile_id) if tile_id.y == 9 else every_tile(tile_id)

    store = FakeStore()
    report = await moved(FakeBatches(answer), store)
    assert (report.state, report.done, report.absent, report.dead) == ("dead_letters", 979, 20, 1)
    letter = store.outcomes[SICK]
    assert isinstance(letter, DeadLetter)
    assert (letter.cause, letter.attempts, letter.url) == ("truncated", 1, "here")


async def test_error_of_the_archive_ends_the_job() -> None:
    """What came before is kept; a run again asks only for the rest."""
    store = FakeStore()
    disk = FakeBatches(lambda one: StorageError("disk") if one == IDS[900] else every_tile(one))
    with pytest.raises(StorageError, match="disk"):
        await moved(disk, store)
    kept = set(store.outcomes)
    source = FakeBatches()
    report = await moved(source, store)
    assert kept
    assert (report.state, report.skipped, report.done) == ("complete", len(kept), len(IDS))
    assert set(store.outcomes) == set(IDS)
    assert sum(source.batches) == len(IDS) - len(kept)


@pytest.mark.parametrize("way", ["drain", "cancel"])
async def test_stop_ends_within_the_batches_under_way(way: str) -> None:
    stop = Stop()

    def answer(tile_id: TileId) -> Tile:
        if tile_id == IDS[200]:
            stop.drain()
            if way == "cancel":
                stop.cancel()
        return every_tile(tile_id)

    source, store = FakeBatches(answer), FakeStore()
    report = await moved(source, store, stop=stop)
    assert report.state == "interrupted"
    assert len(source.batches) <= 2 + BATCH_WORKERS_MAX
    assert report.done == len(store.outcomes) == len(IDS) - report.pending


async def test_what_is_tried_again_is_asked_for_one_by_one() -> None:
    """A batch has no place for a second attempt at one of its tiles."""
    budget = RetryBudget(BudgetRule(tokens_max=1e9))
    source, store = FakeBatches(), FakeStore()
    await moved(source, store, retrying=Retrying(RetryRule(), lambda: 0.5, lambda _: budget))
    assert (source.batches, len(source.asked)) == ([], len(IDS))
