"""A disk that is slow: the source waits for it, and what waits between them is bounded."""

import asyncio
from collections.abc import Sequence

import pytest

from doubles.tiles import FakeSource, FakeStore
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs import outbox
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.seed import SeedPlan, seed
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import SeedReport
from tilehaul.ports.store import JobKey, Outcome
from tilehaul.ports.tile import Tile

WORKERS = 8
# Rounds of the loop in which nobody asks the source: then it waits for the disk.
STILL = 50


class SlowStore(FakeStore):
    """A commit takes as long as anything else goes on; `ahead`: by how many tiles the source was."""

    def __init__(self, source: FakeSource) -> None:
        super().__init__()
        self.source = source
        self.ahead: list[int] = []

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        still = asked = 0
        while still < STILL:
            await asyncio.sleep(0)
            still = still + 1 if len(self.source.asked) == asked else 0
            asked = len(self.source.asked)
        self.ahead.append(asked - len(self.outcomes))
        await super().commit(outcomes)


@pytest.mark.parametrize(
    ("tile_bytes", "limit"),
    [(100, outbox.WAITING_TILES_MAX), (outbox.MIB, outbox.WAITING_BYTES_MAX // outbox.MIB)],
)
async def test_57_disk_slow(tile_bytes: int, limit: int) -> None:
    """The bound of tiles, or of bytes where tiles are large, is what waits and what is being written."""
    body = bytes(tile_bytes)
    planned = [TileId(20, number, 0) for number in range(5 * limit)]
    source = FakeSource(lambda tile_id: Tile(tile_id, body, "image/png"))
    store = SlowStore(source)
    plan = SeedPlan(planned, len(planned), JobKey("s", "S", "a", len(planned)), workers=WORKERS)
    report = await seed(Origin(source), store, plan, tally=Tally(), clock=SystemClock())
    assert isinstance(report, SeedReport)
    assert (report.state, report.done, len(source.asked)) == ("complete", len(planned), len(planned))
    # What waits, what is written, and a tile with each worker: the source is that far ahead and no more.
    assert limit < max(store.ahead) <= 2 * (limit + WORKERS)
