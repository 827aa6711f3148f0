"""One question for many askers, and every way it can end."""

import asyncio
import gc

import pytest

from tilehaul.errors import BrokenError, BusyError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.coalesced import CoalescedSource
from tilehaul.sources.timed import TimedSource

HERE = TileId(3, 1, 2)
THERE = TileId(3, 1, 3)


class StillClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def wall_s(self) -> float:
        return 0.0

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("nobody should wait here")


class HeldOrigin:
    """An origin that answers when it is told what."""

    info = SourceInfo(name="held", identity="held")

    def __init__(self) -> None:
        self.asked: list[TileId] = []
        self.cancelled = 0
        self.doors: list[asyncio.Future[Tile | NoTile]] = []

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        self.asked.append(tile_id)
        door: asyncio.Future[Tile | NoTile] = asyncio.get_running_loop().create_future()
        self.doors.append(door)
        try:
            return await door
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Watch:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.times: list[float] = []

    def joined(self) -> None:
        self.told.append("joined")

    def started(self) -> None:
        self.told.append("started")

    def answered(self, elapsed_s: float) -> None:
        self.told.append("answered")
        self.times.append(elapsed_s)

    def failed(self, elapsed_s: float) -> None:
        self.told.append("failed")
        self.times.append(elapsed_s)

    def abandoned(self) -> None:
        self.told.append("abandoned")


@pytest.fixture
def origin():
    return HeldOrigin()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def source(origin, watch, clock):
    return CoalescedSource(TimedSource(origin, clock=clock, watch=watch), joined=watch.joined)


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ask(source, tile_id=HERE, askers=1):
    return [asyncio.create_task(source.get(tile_id)) for _ in range(askers)]


TILE = Tile(HERE, b"picture", "image/png")


async def test_hundred_askers_are_one_question(source, origin, watch, clock):
    """A hundred askers of one tile cost one request and get one and the same answer."""
    askers = ask(source, askers=100)
    await turns()
    assert origin.asked == [HERE]
    clock.time_s = 0.25
    origin.doors[0].set_result(TILE)
    answers = await asyncio.gather(*askers)
    assert all(answer is TILE for answer in answers)
    assert sorted(watch.told) == ["answered", *["joined"] * 99, "started"]
    assert watch.times == [0.25]
    assert source.in_flight == 0


async def test_different_tiles_are_different_questions(source, origin):
    """Only askers of the same tile share."""
    askers = ask(source, HERE) + ask(source, THERE)
    await turns()
    assert sorted(origin.asked) == [HERE, THERE]
    origin.doors[origin.asked.index(HERE)].set_result(TILE)
    origin.doors[origin.asked.index(THERE)].set_result(NoTile(THERE))
    assert await asyncio.gather(*askers) == [TILE, NoTile(THERE)]


async def test_error_reaches_all_present_and_nobody_later(source, origin, watch):
    """Ten who wait get the error; the next asker starts anew and gets an answer."""
    askers = ask(source, askers=10)
    await turns()
    error = BrokenError("the origin failed", cause="http_500")
    origin.doors[0].set_exception(error)
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert results == [error] * 10
    assert watch.told.count("failed") == 1
    later = ask(source)
    await turns()
    assert len(origin.asked) == 2
    origin.doors[1].set_result(TILE)
    assert await later[0] is TILE


async def test_leaving_asker_disturbs_nobody(source, origin):
    """The first asker, who started the fetch, leaves: the others still get the tile of that fetch."""
    first, *others = ask(source, askers=3)
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    origin.doors[0].set_result(TILE)
    assert await asyncio.gather(*others) == [TILE, TILE]
    assert origin.cancelled == 0
    assert len(origin.asked) == 1


async def test_last_leaver_cancels_the_fetch(source, origin, watch):
    """Nobody waits any more: the origin's fetch is cancelled, and a new asker starts a new one at once."""
    askers = ask(source, askers=2)
    await turns()
    for asker in askers:
        asker.cancel()
    assert all(
        isinstance(end, asyncio.CancelledError)
        for end in await asyncio.gather(*askers, return_exceptions=True)
    )
    fresh = ask(source)
    await turns()
    assert origin.cancelled == 1
    assert len(origin.asked) == 2
    assert source.in_flight == 1
    origin.doors[1].set_result(TILE)
    assert await fresh[0] is TILE
    assert watch.told.count("abandoned") == 1


async def test_waiter_with_a_deadline_leaves_alone(source, origin):
    """A timeout around one asker ends that one only, with its own TimeoutError."""

    async def hurried() -> Tile | NoTile:
        async with asyncio.timeout(0.001):
            return await source.get(HERE)

    patient = ask(source)[0]
    with pytest.raises(TimeoutError):
        await hurried()
    origin.doors[0].set_result(TILE)
    assert await patient is TILE


async def test_origin_that_gives_up_by_cancellation_answers_all(source, origin):
    """An origin cancelled from within does not look like the asker's own cancellation."""
    askers = ask(source, askers=3)
    await turns()
    origin.doors[0].cancel()
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert all(isinstance(result, BusyError) for result in results)


async def test_defect_of_the_origin_reaches_all(source, origin, watch):
    """An error that is none of ours is passed on too, and is no longer counted as on its way."""
    askers = ask(source, askers=2)
    await turns()
    origin.doors[0].set_exception(ZeroDivisionError())
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    assert watch.told.count("abandoned") == 1


async def test_close_answers_all_and_leaves_no_task(source, origin):
    """aclose ends every fetch, tells its askers, and takes no more questions."""
    before = len(asyncio.all_tasks())
    askers = ask(source, HERE, 2) + ask(source, THERE)
    await turns()
    await source.aclose()
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert all(isinstance(result, BusyError) for result in results)
    assert origin.cancelled == 2
    assert len(asyncio.all_tasks()) == before
    with pytest.raises(BusyError):
        await source.get(HERE)


async def test_error_nobody_waits_for_is_not_reported_as_lost(source, origin, caplog):
    """All askers leave in the turn in which the origin fails: no 'never retrieved' in the log."""
    asker = ask(source)[0]
    await turns()
    origin.doors[0].set_exception(BrokenError("failed"))
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    await turns()
    gc.collect()
    assert not caplog.records


async def test_works_without_a_watch(origin):
    """The watch is optional."""
    source = CoalescedSource(origin)
    asker = ask(source)[0]
    await turns()
    origin.doors[0].set_result(TILE)
    assert await asker is TILE
    assert source.info is origin.info
