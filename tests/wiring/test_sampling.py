"""A sample of a job's tiles: which are drawn, what is asked for, what came."""

from collections import Counter
from contextlib import asynccontextmanager
from itertools import islice
from random import Random

import pytest

from doubles.clock import VirtualClock, in_virtual_time
from doubles.tiles import FakeSource, every_tile
from tilehaul.config.sending import Sending
from tilehaul.errors import BrokenError, FuseError, PlanError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Origin
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, RateLimit
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.policy.estimate import Sampled, estimate
from tilehaul.policy.providers import Provider, Providers
from tilehaul.ports.events import LaneHeld, Progress
from tilehaul.ports.tile import NoTile
from tilehaul.wiring import sampling
from tilehaul.wiring.sampling import drawn, sample

WORLD = Area.from_bbox(-180, -85, 180, 85, range(4))


def test_every_tile_is_as_likely_as_any_other():
    """Drawn from an area of overlapping boxes, without walking it; none twice, and again the same."""
    area = Area.from_boxes([(0, 0, 30, 30), (10, 10, 60, 40), (-170, -20, -160, -10)], [4, 5])
    by_zoom = area.count_by_zoom()
    seen: Counter[TileId] = Counter()
    luck = Random(1)
    for _ in range(2000):
        tiles = drawn(area, by_zoom, {4: 1, 5: 4}, luck)
        assert len(set(tiles)) == 5
        seen.update(tiles)
    assert set(seen) == set(area)
    for zoom, share in ((4, 1), (5, 4)):
        wanted = 2000 * share / by_zoom[zoom]
        # Five standard deviations.
        assert all(abs(seen[tile] - wanted) < 5 * wanted**0.5 for tile in seen if tile.z == zoom)
    assert drawn(area, by_zoom, {5: 9}, Random("a")) == drawn(area, by_zoom, {5: 9}, Random("a"))


def test_continents_at_zoom_30_are_drawn_from_at_once():
    """By arithmetic, also where a walk would take a year."""
    area = Area.from_boxes([(-120, -30, 60, 70), (50, -40, 170, 0)], [30])
    tiles = drawn(area, area.count_by_zoom(), {30: 50}, Random(1))
    assert all(tile in area for tile in tiles)
    assert len({tile.x >> 27 for tile in tiles}) > 4


async def test_what_was_asked_for_is_what_is_told():
    """One request a tile; sizes and absences are those of the tiles asked for, and the estimate is theirs."""
    tiles = drawn(WORLD, WORLD.count_by_zoom(), {2: 16, 3: 30}, Random(1))
    with MockThread(MockSettings(tiles="painted", absence=Absence(share=0.3))) as server:
        came = await sample(server.template, tiles, sending=Sending())
        assert server.stats().requests == came.requests == 46 == came.answered
        asked = {tile: server.requests_of(tile) for tile in WORLD}
        assert {tile for tile, count in asked.items() if count} == set(tiles)
        sizes = {
            tile: 0 if server.is_absent(tile) else len(server.body_of(tile)) for tile in WORLD if tile.z == 2
        }
    absent = sum(not size for size in sizes.values())
    assert 0 < absent < 16
    assert Counter(came.zooms[2].sizes_bytes) == Counter(sizes.values())
    assert (came.zooms[2].absent, came.failed, came.per_request) == (absent, 0, 1)
    told = estimate({2: 16}, {2: came.zooms[2]})
    assert (told.bytes, told.bytes_margin, told.present) == (sum(sizes.values()), 0.0, 16 - absent)
    assert (came.in_flight_max, came.rate_bound_per_s) == (32, None)
    assert came.fetch_s > 0
    assert came.elapsed_s > 0


async def test_a_failed_request_is_tried_again_as_in_a_job():
    """One answer in five is 500: every tile still comes, by more requests, and nothing is told as failed."""
    with MockThread(MockSettings(seed=3, faults=Faults(errors={500: 0.2}))) as server:
        came = await sample(server.template, list(islice(WORLD, 21)), sending=Sending(retries=9))
        requests = server.stats().requests
    assert (came.answered, came.failed) == (21, 0)
    assert came.requests == requests > 21


async def test_bounds_of_user_and_provider_are_told():
    """The lower of them, and how many may be under way."""
    rules = Providers([Provider("127.0.0.1", rate_per_s=500.0, in_flight_max=3)])
    with MockThread() as server:
        came = await sample(server.template, list(islice(WORLD, 5)), sending=Sending(providers=rules))
        assert (came.rate_bound_per_s, came.in_flight_max) == (500.0, 3)
        slower = Sending(providers=rules, rate_limit=200.0, concurrency=2)
        came = await sample(server.template, list(islice(WORLD, 5)), sending=slower)
        assert (came.rate_bound_per_s, came.in_flight_max) == (200.0, 2)


async def test_a_provider_that_forbids_it_is_asked_nothing():
    """A sample is a small bulk download, and refused like a large one."""
    rules = Providers([Provider("127.0.0.1", bulk=False, reason="it is mine")])
    with MockThread() as server:
        with pytest.raises(PlanError, match="it is mine"):
            await sample(server.template, list(islice(WORLD, 5)), sending=Sending(providers=rules))
        assert server.stats().requests == 0


async def test_elapsed_time_and_failures_are_exact(monkeypatch):
    """A source of 100 ms a tile: three of ten fail, two are absent; the time is from first to last."""
    clock = VirtualClock()

    def answer(tile_id: TileId):
        clock.advance(0.1)
        if tile_id.x < 3:
            return BrokenError(f"{tile_id} is broken")
        return NoTile(tile_id, "http_404") if tile_id.x < 5 else every_tile(tile_id)

    opened = []

    @asynccontextmanager
    async def open_fake(location, *, sending, tally, tell=None):
        opened.append(location)
        clock.advance(7.0)
        yield Origin(FakeSource(answer))

    monkeypatch.setattr(sampling, "open_origin", open_fake)
    tiles = [TileId(4, number, 0) for number in range(10)]
    told: list[Progress] = []
    asking = sample("tiles/", tiles, sending=Sending(), watch=told.append, clock=clock)
    came = await in_virtual_time(clock, asking)
    assert len(told) == 10
    last = told[-1]
    assert (last.done, last.absent, last.dead, last.planned, last.bytes) == (5, 2, 3, 10, 50)
    assert (last.elapsed_s, last.rate_per_s) == (pytest.approx(1.0), pytest.approx(7.0))
    assert came.elapsed_s == pytest.approx(1.0)
    assert came.zooms == {4: Sampled((0, 0, 10, 10, 10, 10, 10), absent=2, failed=3)}
    assert (came.in_flight, came.in_flight_max, came.rate_bound_per_s, came.fetch_s) == (0, 0, None, 0.0)
    with pytest.raises(FuseError, match="no tile of the sample came, 3 failed, the first because"):
        await in_virtual_time(clock, sample("tiles/", tiles[:3], sending=Sending(), clock=clock))
    assert opened == ["tiles/", "tiles/"]


async def test_push_back_is_waited_for_and_told():
    """A 429 holds the lane as it would a job's, costs no attempt, and whoever watches hears of it."""
    told = []
    faults = Faults(rate_limit=RateLimit(8.0, 15))
    with MockThread(MockSettings(faults=faults)) as server:
        came = await sample(
            server.template, list(islice(WORLD, 21)), sending=Sending(retries=0), watch=told.append
        )
        assert server.stats().requests == came.requests > 21
    assert (came.answered, came.failed) == (21, 0)
    assert any(isinstance(event, LaneHeld) for event in told)


async def test_tiles_that_share_a_picture_are_reckoned_with():
    """A WMS is asked for the pictures of 4 x 4 tiles: the job will ask for so many fewer."""
    wms_of = pytest.importorskip("doubles.wms")
    with wms_of.FakeWms() as wms:
        tiles = [TileId(3, 0, 0), TileId(3, 1, 1), TileId(3, 7, 7)]
        came = await sample(wms.location(), tiles, sending=Sending())
        assert len(wms.maps) == 2
        # The capabilities are a request as well.
        assert (came.answered, came.requests, came.moved, came.per_request) == (3, 3, 3, 16)
        tiles = [TileId(3, x, y) for x in range(4) for y in range(4)]
        came = await sample(wms.location(), tiles, sending=Sending())
    assert (came.answered, came.moved) == (16, 2)
