"""The synchronous face: from plain code, inside a running loop, from several threads, and cancelled."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tilehaul
from tilehaul import blocking
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import JobStarted, Progress, SeedReport

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


@pytest.mark.parametrize("ending", ["cancel", "deadline"])
def test_what_ends_the_job_before_the_timeout_is_no_timeout(tmp_path: Path, ending: str) -> None:
    cancel = threading.Event()
    if ending == "cancel":
        cancel.set()
    with MockThread(SLOW) as server:
        options = tilehaul.SeedOptions(
            sending=tilehaul.Sending(concurrency=1), deadline_s=0.1 if ending == "deadline" else None
        )
        store = str(tmp_path / "a.mbtiles")
        report = blocking.seed(server.template, store, AREA, options=options, cancel=cancel, timeout=60)
    assert report.state == "interrupted"


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


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """What `work(0)`, `work(1)` ... gave, each in a thread of its own: a value or the error."""
    outcomes: list[object] = [None] * count

    def run(number: int) -> None:
        try:
            outcomes[number] = work(number)
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_eight_threads_seed_into_eight_archives(tmp_path: Path) -> None:
    with MockThread() as server:
        stores = [str(tmp_path / f"{number}.mbtiles") for number in range(8)]
        reports = in_threads(8, lambda number: blocking.seed(server.template, stores[number], AREA))
        assert [report.state for report in reports if isinstance(report, SeedReport)] == ["complete"] * 8
        assert server.stats().requests == 8 * AREA.count()
        for store in stores:
            with blocking.open(store) as source:
                tile = source.get(tilehaul.TileId(3, 4, 2))
                assert isinstance(tile, tilehaul.Tile)
                assert tile.body == server.body_of("3/4/2")
    assert threads_of_ours() == []


def test_two_threads_cannot_seed_into_one_archive(tmp_path: Path) -> None:
    """One does the work, the other is told who is at it, and asks for nothing."""
    store = str(tmp_path / "a.mbtiles")
    with MockThread(SLOW) as server:
        outcomes = in_threads(2, lambda _: blocking.seed(server.template, store, AREA))
        assert server.stats().requests == AREA.count()
    assert [outcome.state for outcome in outcomes if isinstance(outcome, SeedReport)] == ["complete"]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, tilehaul.PlanError)]
    assert ["another tilehaul is writing" in str(refusal) for refusal in refusals] == [True]


def test_progress_is_told_in_the_callers_thread(tmp_path: Path) -> None:
    """Add-ons may touch their window from one thread only."""
    told_in: set[str] = set()
    with MockThread() as server:
        blocking.seed(
            server.template,
            str(tmp_path / "a.mbtiles"),
            AREA,
            progress=lambda _: told_in.add(threading.current_thread().name),
        )
    assert told_in == {threading.current_thread().name}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_progress_that_raises_ends_the_job_which_can_go_on(
    tmp_path: Path, error: type[BaseException]
) -> None:
    store = str(tmp_path / "a.mbtiles")

    def fail(event: object) -> None:
        if isinstance(event, Progress) and event.done > 10:
            raise error("mine")

    with MockThread(SLOW) as server:
        options = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=4))
        with pytest.raises(error, match="mine"):
            blocking.seed(server.template, store, AREA, options=options, progress=fail)
        assert threads_of_ours() == []
        server.set_faults(Faults())
        again = blocking.seed(server.template, store, AREA)
        assert again.state == "complete"
        assert again.skipped > 10
        assert again.requests == AREA.count() - again.skipped


def test_progress_that_blocks_delays_events_only(tmp_path: Path) -> None:
    """The job ends while the callback still holds its first event; the last event is the report."""
    events: list[object] = []
    with MockThread() as server:

        def hold(event: object) -> None:
            events.append(event)
            while server.stats().requests < AREA.count():
                time.sleep(0.002)

        report = blocking.seed(server.template, str(tmp_path / "a.mbtiles"), AREA, progress=hold)
    assert report.state == "complete"
    assert isinstance(events[0], JobStarted)
    assert events[-1] == report


def test_cancelled_before_it_began_asks_for_nothing(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    store = str(tmp_path / "a.mbtiles")
    with MockThread() as server:
        report = blocking.seed(server.template, store, AREA, cancel=cancel)
        assert (report.state, report.pending, report.requests) == ("interrupted", AREA.count(), 0)
        assert server.stats().requests == 0
        cancel.set()  # twice, and of a job that has ended: nothing happens
        assert blocking.seed(server.template, store, AREA).state == "complete"


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
def test_timeout_that_is_none_is_refused(tmp_path: Path, timeout: float) -> None:
    store = tmp_path / "a.mbtiles"
    with pytest.raises(tilehaul.ConfigError, match="timeout"):
        blocking.seed("http://127.0.0.1:9/{z}/{x}/{y}.png", str(store), AREA, timeout=timeout)
    assert not store.exists()


def test_source_is_closed_when_its_block_raises_or_is_dropped() -> None:
    with MockThread() as server:
        with pytest.raises(ZeroDivisionError), blocking.open(server.template) as source:
            raise ZeroDivisionError
        assert threads_of_ours() == []
        source = blocking.open(server.template).__enter__()
        gc.collect()
        assert threads_of_ours() == []
        with pytest.raises(tilehaul.PlanError, match="closed"):
            source.get(tilehaul.TileId(0, 0, 0))


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no such signals there")
def test_signal_handlers_stay_the_callers_own(tmp_path: Path) -> None:
    """A host program (Blender, a notebook) has its own."""
    kinds = [signal.SIGINT, signal.SIGTERM]
    seen: list[object] = []

    def look(_event: object) -> None:
        seen.append([signal.getsignal(kind) for kind in kinds])

    before = [signal.getsignal(kind) for kind in kinds]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    with MockThread() as server:
        blocking.seed(server.template, str(tmp_path / "a.mbtiles"), AREA, progress=look)
        in_threads(
            1, lambda _: blocking.seed(server.template, str(tmp_path / "b.mbtiles"), AREA, progress=look)
        )
    assert seen
    assert all(handlers == before for handlers in seen)
    assert signal.set_wakeup_fd(wakeup) == wakeup


def test_dead_tiles_are_listed_and_asked_for_again(tmp_path: Path) -> None:
    """As many requests as letters; what a cancel leaves out is still dead; no thread is left."""
    store = str(tmp_path / "a.mbtiles")
    once = tilehaul.SeedOptions(sending=tilehaul.Sending(concurrency=2, retries=0))
    with MockThread(MockSettings(seed=3, faults=Faults(errors={500: 0.2, 403: 0.1}))) as server:
        report = blocking.seed(server.template, store, AREA, options=once)
        letters = list(blocking.dead_letters(store))
        assert len(letters) == report.dead > 10
        refused = list(blocking.dead_letters(store, causes=["client"]))
        assert refused == [letter for letter in letters if letter.cause == "http_403"] != []
        with pytest.raises(tilehaul.PlanError, match="timeout"):
            list(blocking.dead_letters(store, causes=["timeuot"]))
        server.set_faults(Faults())
        before = server.stats().requests
        cancel = threading.Event()
        cancel.set()
        assert blocking.retry(store, server.template, cancel=cancel).state == "interrupted"
        assert list(blocking.dead_letters(store)) == letters
        events: list[object] = []
        again = blocking.retry(store, server.template, causes=["http_403"], progress=events.append)
        assert (again.state, again.done, events[-1]) == ("complete", len(refused), again)
        assert blocking.retry(store, server.template).done == len(letters) - len(refused)
        assert server.stats().requests - before == len(letters)
        assert list(blocking.dead_letters(store)) == []
    assert threads_of_ours() == []
