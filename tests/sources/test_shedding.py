"""Refused at once is better than in vain after half a minute."""

import asyncio

import pytest

from doubles.tiles import FakeSource, every_tile
from tilehaul.errors import BusyError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.lane_stats import LaneFigures, Percentiles
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.sources.shedding import ALWAYS_ASKED, LOOK_S, SheddingSource


class Hands:
    """Time moved by the test."""

    time_s = 50.0

    def now_s(self):
        return self.time_s


class Upstream(FakeSource):
    """Answers when it is let; shows a lane with two permits that needs a second for each answer."""

    def __init__(self, clock):
        super().__init__()
        self.go = asyncio.Event()
        self.clock = clock
        self.waiting = self.looks = 0
        self.shown = 1

    async def get(self, tile_id):
        self.waiting += 1
        try:
            await self.go.wait()
        finally:
            self.waiting -= 1
        return await super().get(tile_id)

    def lanes(self):
        self.looks += 1
        figures = LaneFigures(answered=9, total=Percentiles(1000.0, 2000.0, 3000.0))
        depth = max(0, self.waiting - 2)
        lane = LaneSnapshot("x", "tile", 2, min(self.waiting, 2), depth, recent=figures)
        return (lane,) * self.shown


@pytest.fixture
def upstream():
    return Upstream(Hands())


def shedding(upstream, deadline_s):
    return SheddingSource(
        upstream, lanes=upstream.lanes, far=True, deadline_s=deadline_s, clock=upstream.clock
    )


async def asked(source, count):
    tasks = [asyncio.create_task(source.get(TileId(9, x, 0))) for x in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_no_more_wait_than_can_be_served_by_the_deadline(upstream):
    """Two permits, a second each: 2 under way and 20 in the queue are served within ten seconds."""
    source = shedding(upstream, 10.0)
    tasks = await asked(source, 1000)
    refused = [task.exception() for task in tasks if task.done()]
    assert upstream.waiting == 1000 - len(refused) == 2 + 20 + 1
    assert {type(error) for error in refused} == {BusyError}
    assert all(10.0 < error.retry_after_s <= 11.0 for error in refused)
    # One look for all of them: it is not a cheap one.
    assert upstream.looks == 1
    upstream.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(upstream.asked) == 23


async def test_room_again_when_the_queue_has_gone(upstream):
    source = shedding(upstream, 10.0)
    tasks = await asked(source, 100)
    upstream.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await source.get(TileId(3, 4, 2)) == every_tile(TileId(3, 4, 2))


async def test_a_few_are_asked_whatever_the_lane_says(upstream):
    """However slow it was: somebody has to find out that it has become quick."""
    source = shedding(upstream, 0.001)
    tasks = await asked(source, 100)
    assert upstream.waiting == ALWAYS_ASKED
    upstream.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_lane_is_looked_at_again(upstream):
    """What others have put into the same lane is seen a second later."""
    source = shedding(upstream, 10.0)
    tasks = await asked(source, ALWAYS_ASKED + 1)
    assert upstream.looks == 1
    upstream.waiting += 500
    tasks += await asked(source, 1)
    assert not any(task.done() for task in tasks)
    upstream.clock.time_s += LOOK_S
    (late,) = await asked(source, 1)
    assert late.exception().retry_after_s > 250
    upstream.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("shown", "served"), [(0, 1000), (2, 2 * 22 + 1)])
async def test_no_lane_has_no_queue_and_of_several_the_shortest_counts(upstream, shown, served):
    """An archive's tiles have none; two hosts share what comes."""
    upstream.shown = shown
    source = shedding(upstream, 10.0)
    tasks = await asked(source, 1000)
    assert upstream.waiting == pytest.approx(served, abs=10)
    upstream.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
