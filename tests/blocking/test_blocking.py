"""The synchronous face: from plain code, inside a running loop, from several threads, and cancelled."""

import asyncio
import threading
from pathlib import Path

import pytest

import tilehaul
from tilehaul import blocking
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import SeedReport

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
SLOW = MockSettings(faults=Faults(latency=Latency(ms=20)))


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tilehaul")]


def test_tile_is_read_by_plain_code() -> None:
    with MockThread() as server, blocking.open(server.template) as source:
        tile = source.get(tilehaul.TileId(3, 4, 2))
        assert isinstance(tile, tilehaul.Tile)
        assert tile.body == server.body_of("3/4/2")
        assert isinstance(source.get(tilehaul.TileId(3, 9, 2)), tilehaul.NoTile)
    assert threads_of_ours() == []


async def test_it_works_inside_a_program_whose_own_loop_runs(tmp_path: Path) -> None:
    """A notebook's cell: a loop runs in this very thread."""
    assert asyncio.get_running_loop().is_running()
    with MockThread() as server:
        report = blocking.seed(server.template, str(tmp_path / "a.mbtiles"), AREA)
        with blocking.open(str(tmp_path / "a.mbtiles")) as source:
            assert isinstance(source.get(tilehaul.TileId(0, 0, 0)), tilehaul.Tile)
    assert report.state == "complete"


def test_one_source_serves_several_threads() -> None:
    with MockThread() as server, blocking.open(server.template) as source:
        found: list[object] = []

        def read(zoom: int) -> None:
            found.append(source.get(tilehaul.TileId(zoom, 0, 0)))

        readers = [threading.Thread(target=read, args=(zoom,)) for zoom in range(12)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert len([tile for tile in found if isinstance(tile, tilehaul.Tile)]) == 12


def test_progress_is_told_and_ends_in_the_report(tmp_path: Path) -> None:
    events: list[object] = []
    with MockThread() as server:
        report = blocking.seed(server.template, str(tmp_path / "a.mbtiles"), AREA, progress=events.append)
    assert events[-1] == report
    assert isinstance(report, SeedReport)


def test_cancel_from_another_thread_keeps_what_came_and_leaves_no_thread(tmp_path: Path) -> None:
    cancel = threading.Event()
    store = str(tmp_path / "a.mbtiles")
    with MockThread(SLOW) as server:
        options = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=2))
        timer = threading.Timer(0.3, cancel.set)
        timer.start()
        report = blocking.seed(server.template, store, AREA, options=options, cancel=cancel)
        timer.join()
        assert report.state == "interrupted"
        assert 0 < report.done < 85
        assert threads_of_ours() == []
        server.set_faults(Faults())
        again = blocking.seed(server.template, store, AREA)
        assert (again.state, again.skipped) == ("complete", report.done)


def test_timeout_is_an_error_and_keeps_what_came(tmp_path: Path) -> None:
    store = str(tmp_path / "a.mbtiles")
    with MockThread(SLOW) as server:
        options = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=2))
        with pytest.raises(tilehaul.TimedOutError, match="again"):
            blocking.seed(server.template, store, AREA, options=options, timeout=0.3)
    assert threads_of_ours() == []


def test_error_reaches_the_caller(tmp_path: Path) -> None:
    with pytest.raises(tilehaul.PlanError, match="prohibits"):
        blocking.seed("https://tile.openstreetmap.org/{z}/{x}/{y}.png", str(tmp_path / "a.mbtiles"), AREA)
    with pytest.raises(tilehaul.PlanError), blocking.open(str(tmp_path / "none.mbtiles")):
        pass
    assert threads_of_ours() == []


def test_source_that_is_closed_says_so() -> None:
    with MockThread() as server, blocking.open(server.template) as source:
        pass
    with pytest.raises(tilehaul.PlanError, match="closed"):
        source.get(tilehaul.TileId(0, 0, 0))
