"""Several sources in order, and one narrowed to what its operator named."""

from dataclasses import replace

import pytest

from doubles.tiles import FakeSource, every_tile
from tilehaul.errors import BrokenError, BusyError, DataError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.bounded import BoundedSource
from tilehaul.sources.fallback import FallbackSource

T = TileId(3, 4, 2)


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
    assert await FallbackSource((first, second)).get(T) == every_tile(T)
    assert second.asked == []


@pytest.mark.parametrize(
    "failing",
    [absent, broken, damaged, left_alone],
)
async def test_next_is_asked_when_one_has_none_or_fails(failing) -> None:
    """The answer says that it came from a fallback."""
    answer = await FallbackSource((FakeSource(failing), FakeSource())).get(T)
    assert isinstance(answer, Tile)
    assert answer.place == "fallback"


async def test_absent_only_when_all_say_so() -> None:
    """A tile that one source could not answer must not be taken for absent."""
    assert await FallbackSource((FakeSource(absent), FakeSource(absent))).get(T) == absent(T)
    for pair in ((absent, broken), (broken, absent)):
        with pytest.raises(BrokenError):
            await FallbackSource((FakeSource(pair[0]), FakeSource(pair[1]))).get(T)


def test_info_covers_what_any_source_has() -> None:
    """An archive of zoom 0-5 before a service of 0-18: the map may ask for 18."""
    near = SourceInfo("a", "a", zoom_min=0, zoom_max=5, bounds_deg=(0, 0, 10, 10), attribution="(c) a")
    far = SourceInfo("b", "b", zoom_min=2, zoom_max=18, bounds_deg=(-20, -5, 5, 40))
    info = FallbackSource((FakeSource(info=near), FakeSource(info=far))).info
    assert info == replace(near, zoom_max=18, bounds_deg=(-20, -5, 10, 40))


async def test_bounded_source_is_not_asked_outside() -> None:
    origin = FakeSource()
    info = replace(origin.info, zoom_min=2, zoom_max=3, bounds_deg=(0.0, 0.0, 90.0, 80.0))
    source = BoundedSource(origin, info)
    assert await source.get(T) == every_tile(T)
    for outside in (TileId(1, 1, 0), TileId(4, 8, 4), TileId(3, 0, 2), TileId(3, 4, 7)):
        assert await source.get(outside) == NoTile(outside, "out_of_range")
    assert origin.asked == [T]
