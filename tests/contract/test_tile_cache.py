"""Every cache of the service passes these: what is kept is found as long as it is of use, no longer."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import UNKEPT, Freshness
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.disk_cache import DiskCache
from tilehaul.stores.memory_cache import MemoryCache

HERE = TileId(20, 1, 0)
TILE = Tile(HERE, b"picture", "image/png", freshness=Freshness(10.0, 0.0, 5.0, 30.0, '"a"', "then", "me"))


class Kept:
    """One cache with a clock that the test sets."""

    def __init__(self, kind, folder):
        self.time_s = 1000.0
        self.kind = kind
        if kind == "memory":
            self.cache = MemoryCache(10_000_000, now_s=lambda: self.time_s)
        else:
            self.cache = DiskCache(folder, 10_000_000, wall_s=lambda: self.time_s)

    async def __aenter__(self):
        if self.kind == "disk":
            await self.cache.open()
        return self

    async def __aexit__(self, *_):
        if self.kind == "disk":
            await self.cache.aclose()

    async def settle(self):
        """Let what is on its way to the disk arrive."""
        if self.kind == "disk":
            await self.cache.sizes()

    async def forget(self, layer, wanted):
        forgotten = self.cache.forget(layer, wanted)
        return forgotten if self.kind == "memory" else await forgotten


@pytest.fixture(params=["memory", "disk"])
async def kept(request, tmp_path):
    async with Kept(request.param, tmp_path) as kept:
        yield kept


@pytest.mark.parametrize("settled", [False, True])
async def test_tile_is_found_with_its_age(kept, settled):
    """At once, and once it is where it is kept."""
    kept.cache.keep("a", TILE)
    if settled:
        await kept.settle()
        kept.time_s += 4.0
    found = await kept.cache.find("a", HERE)
    assert found == replace(TILE, place=kept.kind)
    assert found.freshness == TILE.freshness._replace(age_s=4.0 if settled else 0.0)
    assert await kept.cache.find("b", HERE) is None
    assert await kept.cache.find("a", TileId(20, 2, 0)) is None


async def test_absence_is_found_until_its_lifetime_ends(kept):
    kept.cache.keep("a", NoTile(HERE, "http_404", freshness=Freshness(10.0)))
    await kept.settle()
    kept.time_s += 9.9
    assert await kept.cache.find("a", HERE) == NoTile(HERE, "http_404", kept.kind)
    kept.time_s += 0.1
    assert await kept.cache.find("a", HERE) is None


async def test_stale_tile_is_found_as_long_as_it_is_of_use(kept):
    kept.cache.keep("a", replace(TILE, freshness=Freshness(10.0, stale_s=30.0)))
    await kept.settle()
    kept.time_s += 39.9
    assert (await kept.cache.find("a", HERE)).freshness.left_s == pytest.approx(-29.9)
    kept.time_s += 0.2
    assert await kept.cache.find("a", HERE) is None


@pytest.mark.parametrize("freshness", [None, UNKEPT])
async def test_what_may_not_be_kept_is_not_and_takes_its_elder_along(kept, freshness):
    kept.cache.keep("a", TILE)
    await kept.settle()
    kept.cache.keep("a", replace(TILE, freshness=freshness))
    await kept.settle()
    assert await kept.cache.find("a", HERE) is None
    assert kept.cache.stats().tiles == 0


async def test_wanted_tiles_are_forgotten_and_no_others(kept):
    for layer, x in (("a", 1), ("a", 2), ("b", 1)):
        kept.cache.keep(layer, replace(TILE, tile_id=TileId(20, x, 0)))
    await kept.settle()
    assert await kept.forget("a", lambda tile_id: tile_id.x == 1) == 1
    left = [await kept.cache.find(layer, TileId(20, x, 0)) for layer, x in (("a", 1), ("a", 2), ("b", 1))]
    assert [found is not None for found in left] == [False, True, True]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("keep"), st.integers(0, 3), st.sampled_from([0.0, 3.0, 50.0]), st.binary(max_size=9)
        ),
        st.tuples(st.just("absent"), st.integers(0, 3), st.sampled_from([3.0, 50.0])),
        st.tuples(st.just("find"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.integers(1, 4)),
        st.tuples(st.just("settle")),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", ["memory", "disk"])
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_any_sequence_is_that_of_a_dictionary(kind, steps, tmp_path_factory):
    """With room for all: the last answer kept of a tile, while it is of use."""

    async def run():
        async with Kept(kind, tmp_path_factory.mktemp("cache")) as kept:
            model = {}
            for step, *of in steps:
                if step == "wait":
                    # The time of what is on its way stands still, for a moment that is shorter than this.
                    await kept.settle()
                    kept.time_s += of[0]
                elif step == "settle":
                    await kept.settle()
                elif step == "find":
                    answer, until_s = model.get(of[0], (None, 0.0))
                    found = await kept.cache.find("a", TileId(20, of[0], 0))
                    assert found == (answer if kept.time_s < until_s else None)
                else:
                    tile_id, freshness = TileId(20, of[0], 0), Freshness(of[1])
                    answer = NoTile(tile_id, "x", kind, freshness)
                    if step == "keep":
                        answer = Tile(tile_id, of[2], "image/png", kind, freshness)
                    kept.cache.keep("a", answer)
                    model[of[0]] = (answer, kept.time_s + of[1])

    asyncio.run(run())
