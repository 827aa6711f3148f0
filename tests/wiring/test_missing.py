"""Which tiles a store lacks: exactly those that a seed would ask for."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilehaul
from tilehaul import blocking
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.wiring import missing as module

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(5))
STORES = ["a.mbtiles", "tiles"]
FAST = tilehaul.SeedOptions(durability="fast")
ONCE = dataclasses.replace(
    FAST, sending=tilehaul.Sending(retries=0), max_failures=tilehaul.FailureLimit(share=1.0)
)


@pytest.fixture
def server() -> Iterator[MockThread]:
    """A fifth of the tiles fail: fewer than open a breaker."""
    with MockThread(MockSettings(seed=7, faults=Faults(errors={500: 0.2}))) as server:
        yield server


@pytest.mark.parametrize("name", STORES)
async def test_missing_tiles_are_those_the_next_seed_asks_for(
    tmp_path: Path, server: MockThread, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKED_UP", 50)
    store = str(tmp_path / name)
    report = await tilehaul.seed(server.template, store, AREA, options=ONCE)
    assert 40 < report.dead < AREA.count() - 50
    lacking = [tile_id async for tile_id in tilehaul.missing(store, AREA)]
    assert len(lacking) == report.dead
    assert lacking == [tile_id for tile_id in AREA if tile_id in set(lacking)]
    server.set_faults(Faults())
    before = {tile_id: server.requests_of(tile_id) for tile_id in AREA}
    assert (await tilehaul.seed(server.template, store, AREA, options=FAST)).state == "complete"
    asked = [tile_id for tile_id in AREA if server.requests_of(tile_id) > before[tile_id]]
    assert asked == lacking
    assert [tile_id async for tile_id in tilehaul.missing(store, AREA)] == []


@pytest.mark.parametrize("name", STORES)
def test_complete_job_lacks_nothing_although_some_tiles_do_not_exist(tmp_path: Path, name: str) -> None:
    with MockThread(MockSettings(absence=Absence(share=0.3))) as server:
        store = str(tmp_path / name)
        area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
        report = blocking.seed(server.template, store, area, options=FAST)
        assert report.absent > 0
        assert list(blocking.missing(store, area)) == []
        requests = server.stats().requests
        lacking = list(blocking.missing(store, AREA))
        assert blocking.seed(server.template, store, AREA, options=FAST).requests == len(lacking)
        assert server.stats().requests == requests + len(lacking)


def test_missing_walks_lazily_and_lets_go(tmp_path: Path, server: MockThread) -> None:
    """Of an area that would fill the memory, the first tile; then the store is free again."""
    store = str(tmp_path / "a.mbtiles")
    blocking.seed(server.template, store, AREA, options=ONCE)
    world = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(20))
    lacking = blocking.missing(store, world)
    assert next(lacking) in world
    del lacking
    server.set_faults(Faults())
    assert blocking.seed(server.template, store, AREA, options=FAST).state == "complete"


def test_missing_of_no_store_says_so(tmp_path: Path) -> None:
    """A mistyped name is not a store that lacks everything."""
    with pytest.raises(tilehaul.PlanError, match="no such"):
        list(blocking.missing(str(tmp_path / "alps.mbtiles"), AREA))
    with pytest.raises(tilehaul.PlanError, match="tile service"):
        list(blocking.missing("https://host/{z}/{x}/{y}.png", AREA))
