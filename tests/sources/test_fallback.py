"""Several sources in order, and one narrowed to what its operator named."""

import asyncio
from dataclasses import dataclass, field, replace
from math import inf

import pytest

from doubles.tiles import FakeSource, every_tile
from tilehaul.errors import BrokenError, BusyError, DataError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources import fallback
from tilehaul.sources.background import Background
from tilehaul.sources.bounded import BoundedSource
from tilehaul.sources.fallback import HANGS_MIN, FallbackSource

T = TileId(3, 4, 2)


def in_order(*sources: TileSource) -> FallbackSource:
    return FallbackSource(sources, background=Background())


def absent(tile_id: TileId) -> NoTile:
    return NoTile(tile_id, "http_404")


def broken(_tile_id: TileId) -> BrokenError:
    return BrokenError("away")


def damaged(_tile_id: TileId) -> DataError:
    return DataError("x", cause="truncated")


def left_alone(_tile_id: TileId) -> BusyError:
    return BusyError("its breaker is open")


async def test_first_that_has_the_tile_answers_and_the_rest_is_not_asked() -> None:
    first, second = FakeSource(), FakeSource()
    assert await in_order(first, second).get(T) == every_tile(T)
    assert second.asked == []


@pytest.mark.parametrize(
    "failing",
    [absent, broken, damaged, left_alone],
)
async def test_next_is_asked_when_one_has_none_or_fails(failing) -> None:
    """The answer says that it came from a fallback."""
    answer = await in_order(FakeSource(failing), FakeSource()).get(T)
    assert isinstance(answer, Tile)
    assert answer.place == "fallback"


async def test_absent_only_when_all_say_so() -> None:
    """A tile that one source could not answer must not be taken for absent."""
    assert await in_order(FakeSource(absent), FakeSource(absent)).get(T) == absent(T)
    for pair in ((absent, broken), (broken, absent)):
        with pytest.raises(BrokenError):
            await in_order(FakeSource(pair[0]), FakeSource(pair[1])).get(T)


def test_info_covers_what_any_source_has() -> None:
    """An archive of zoom 0-5 before a service of 0-18: the map may ask for 18."""
    near = SourceInfo("a", "a", zoom_min=0, zoom_max=5, bounds_deg=(0, 0, 10, 10), attribution="(c) a")
    far = SourceInfo("b", "b", zoom_min=2, zoom_max=18, bounds_deg=(-20, -5, 5, 40))
    info = in_order(FakeSource(info=near), FakeSource(info=far)).info
    assert info == replace(near, zoom_max=18, bounds_deg=(-20, -5, 10, 40))


async def test_bounded_source_is_not_asked_outside() -> None:
    origin = FakeSource()
    info = replace(origin.info, zoom_min=2, zoom_max=3, bounds_deg=(0.0, 0.0, 90.0, 80.0))
    source = BoundedSource(origin, info)
    assert await source.get(T) == every_tile(T)
    for outside in (TileId(1, 1, 0), TileId(4, 8, 4), TileId(3, 0, 2), TileId(3, 4, 7)):
        assert await source.get(outside) == NoTile(outside, "out_of_range")
    assert origin.asked == [T]


@dataclass
class Hanging:
    """A source that answers when it is told to."""

    info: SourceInfo = field(default_factory=lambda: SourceInfo(name="hanging", identity="hanging"))
    doors: "list[asyncio.Future[Tile | NoTile]]" = field(default_factory=list)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        self.doors.append(asyncio.get_running_loop().create_future())
        return await self.doors[-1]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "PATIENCE_S", 0.01)
    monkeypatch.setattr(fallback, "PROBE_S", inf)


@pytest.mark.usefixtures("_impatient")
async def test_a_source_that_hangs_keeps_nobody_from_the_next() -> None:
    """The first few wait a little; then it is passed by, until it answers. What it was asked goes on."""
    hanging, local = Hanging(), FakeSource()
    background = Background()
    source = FallbackSource((hanging, local), background=background)
    for _ in range(HANGS_MIN + 5):
        answer = await source.get(T)
        assert isinstance(answer, Tile)
        assert (answer.place, answer.freshness is not None) == ("fallback", True)
    assert (len(hanging.doors), background.running) == (HANGS_MIN, HANGS_MIN)
    assert len(local.asked) == HANGS_MIN + 5
    # A tile that nobody else has is asked of it all the same.
    local.answer = absent
    only_there = asyncio.create_task(source.get(T))
    await asyncio.sleep(0.03)
    assert len(hanging.doors) == HANGS_MIN + 1
    hanging.doors[-1].set_result(every_tile(T))
    assert await only_there == every_tile(T)
    local.answer = every_tile
    # One answers: it is asked first again.
    hanging.doors[0].set_result(every_tile(T))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking = asyncio.create_task(source.get(T))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    hanging.doors[-1].set_result(every_tile(T))
    assert await asking == every_tile(T)
    assert len(local.asked) == HANGS_MIN + 6
    # The others fail: they are overdue no more, and nobody hears of it.
    for door in hanging.doors[1:HANGS_MIN]:
        door.set_exception(BrokenError("away"))
    while background.running:
        await asyncio.sleep(0)


@pytest.mark.usefixtures("_impatient")
async def test_what_only_a_slow_source_can_say_is_waited_for() -> None:
    """A tile the next has not; an absence and a failure too. Also of one that is passed by."""
    for end, given in (
        (every_tile(T), every_tile(T)),
        (absent(T), absent(T)),
        (BrokenError("away"), BrokenError),
    ):
        hanging = Hanging()
        source = in_order(hanging, FakeSource(absent))
        for overdue in range(HANGS_MIN + 1):
            asking = asyncio.create_task(source.get(T))
            await asyncio.sleep(0.03)
            assert len(hanging.doors) == overdue + 1
            assert not asking.done()
            if overdue < HANGS_MIN:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                assert hanging.doors[-1].cancelled()
        door = hanging.doors[-1]
        door.set_exception(end) if isinstance(end, Exception) else door.set_result(end)
        if isinstance(given, type):
            with pytest.raises(given):
                await asking
        else:
            assert await asking == given


@pytest.mark.usefixtures("_impatient")
async def test_who_leaves_takes_the_question_along() -> None:
    """Nobody asked for it any more, so no lane need learn of it."""
    hanging, background = Hanging(), Background()
    source = FallbackSource((hanging, Hanging()), background=background)
    asking = asyncio.create_task(source.get(T))
    await asyncio.sleep(0.03)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert hanging.doors[0].cancelled()
    assert background.running == 0


async def test_one_that_is_passed_by_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question now and then that nobody waits for; a failing one says nothing new."""
    monkeypatch.setattr(fallback, "PATIENCE_S", 0.01)
    monkeypatch.setattr(fallback, "PROBE_S", 0.0)
    hanging, local, background = Hanging(), FakeSource(), Background()
    source = FallbackSource((hanging, local), background=background)
    for _ in range(HANGS_MIN):
        await source.get(T)
    for ends in (BrokenError("away"), every_tile(T)):
        assert isinstance(await source.get(T), Tile)
        await asyncio.sleep(0)
        probe = hanging.doors[-1]
        if isinstance(ends, Exception):
            probe.set_exception(ends)
        else:
            probe.set_result(ends)
        while background.running > HANGS_MIN:
            await asyncio.sleep(0)
    assert len(hanging.doors) == HANGS_MIN + 2
    asking = asyncio.create_task(source.get(T))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    hanging.doors[-1].set_result(every_tile(T))
    assert await asking == every_tile(T)
    assert len(local.asked) == HANGS_MIN + 2
    await background.aclose()
