"""Neighbours are fetched ahead, within their share and behind those who ask."""

import asyncio
from types import SimpleNamespace

import pytest

from tilehaul.errors import BrokenError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.background import Background
from tilehaul.sources.prefetching import PREFETCH_SHARE, WISHED_MAX, PrefetchingSource

HERE = TileId(5, 10, 10)


class Origin:
    """Answers everything as if just fetched, unless told otherwise; `hold` keeps neighbours back."""

    info = SourceInfo(name="o", identity="o", zoom_max=6)

    def __init__(self):
        self.asked = []
        self.kept = set()
        self.hold = None
        self.fails = False

    async def get(self, tile_id):
        self.asked.append(tile_id)
        if tile_id in self.kept:
            return Tile(tile_id, b"x", "image/png", "memory")
        if self.fails:
            raise BrokenError("x")
        if self.hold is not None and tile_id != HERE:
            await self.hold.wait()
        self.kept.add(tile_id)
        return Tile(tile_id, b"x", "image/png")


class Clock:
    def __init__(self):
        self.time_s = 100.0

    def now_s(self):
        return self.time_s


@pytest.fixture
def parts():
    origin, clock, background = Origin(), Clock(), Background()
    limit = SimpleNamespace(limit=80.0)
    source = PrefetchingSource(origin, ring=1, lanes=lambda: (limit,), background=background, clock=clock)
    return SimpleNamespace(origin=origin, clock=clock, background=background, limit=limit, source=source)


async def settle(parts):
    while parts.background.running:
        await asyncio.sleep(0)


def around(tile_id):
    return {TileId(tile_id.z, tile_id.x + dx, tile_id.y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)}


async def test_the_eight_around_come_along_once(parts):
    await parts.source.get(HERE)
    await settle(parts)
    assert set(parts.origin.asked) == around(HERE)
    assert len(parts.origin.asked) == 9


async def test_hit_brings_nothing(parts):
    parts.origin.kept.add(HERE)
    await parts.source.get(HERE)
    assert (parts.background.running, parts.origin.asked) == (0, [HERE])


async def test_nobody_waits_for_neighbours_nor_hears_of_them(parts):
    parts.origin.hold = asyncio.Event()
    assert isinstance(await parts.source.get(HERE), Tile)
    parts.origin.fails = True
    parts.origin.hold.set()
    await settle(parts)
    with pytest.raises(BrokenError):
        await parts.source.get(TileId(5, 20, 20))


@pytest.mark.parametrize(("limit", "most"), [(16, 4), (8, 2), (3, 0), (100, 8)])
async def test_never_more_than_their_share(parts, limit, most):
    parts.limit.limit = float(limit)
    parts.origin.hold = asyncio.Event()
    await parts.source.get(HERE)
    await asyncio.sleep(0)
    assert parts.background.running == most <= max(limit * PREFETCH_SHARE, 0)
    parts.origin.hold.set()
    await settle(parts)
    # The rest had to wait, and came.
    assert set(parts.origin.asked) == (around(HERE) if most else {HERE})


async def test_of_what_waits_the_oldest_goes(parts):
    """Who looked there has moved on."""
    parts.limit.limit = 4.0
    parts.origin.hold = asyncio.Event()
    parts.origin.kept.clear()
    views = [TileId(6, 3 * number + 1, 1) for number in range(20)]
    for view in views:
        parts.source._fetch_around(view)
    await asyncio.sleep(0)
    assert parts.background.running == 1
    parts.origin.hold.set()
    await settle(parts)
    assert len(parts.origin.asked) == 1 + WISHED_MAX
    assert around(views[-1]) - {views[-1]} <= set(parts.origin.asked)


async def test_those_who_ask_come_first(parts):
    """While others keep the lanes busy no neighbour is fetched."""
    parts.limit.limit = 8.0
    parts.origin.hold = asyncio.Event()
    busy = [asyncio.create_task(parts.source.get(TileId(6, x, 0))) for x in range(7)]
    await asyncio.sleep(0)
    await parts.source.get(HERE)
    assert parts.background.running == 0
    parts.origin.hold.set()
    await asyncio.gather(*busy)
    await settle(parts)
    assert around(HERE) <= set(parts.origin.asked)


async def test_limit_is_looked_at_again(parts):
    parts.limit.limit = 0.0
    await parts.source.get(HERE)
    assert parts.background.running == 0
    parts.limit.limit = 80.0
    await parts.source.get(TileId(5, 20, 20))
    assert parts.background.running == 0
    parts.clock.time_s += 1.0
    await parts.source.get(TileId(5, 20, 25))
    # A quarter of eighty, of three times eight.
    assert parts.background.running == 20
    await settle(parts)


@pytest.mark.parametrize(
    ("tile_id", "neighbours"),
    [
        (TileId(0, 0, 0), set()),
        (TileId(1, 0, 0), {TileId(1, 1, 0), TileId(1, 0, 1), TileId(1, 1, 1)}),
        # Round the world, not over its edge.
        (
            TileId(5, 0, 0),
            {TileId(5, 31, 0), TileId(5, 1, 0), TileId(5, 31, 1), TileId(5, 0, 1), TileId(5, 1, 1)},
        ),
    ],
)
async def test_neighbours_are_of_the_grid(parts, tile_id, neighbours):
    await parts.source.get(tile_id)
    await settle(parts)
    assert set(parts.origin.asked) == {tile_id} | neighbours


async def test_absence_brings_nothing(parts):
    """Beside the edge of what is there is not where people go next."""

    async def absent(tile_id):
        return NoTile(tile_id)

    parts.origin.get = absent
    await parts.source.get(HERE)
    assert parts.background.running == 0
