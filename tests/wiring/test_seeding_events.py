"""The stream of a real job, end to end: what it tells, to whom, and what a bad reader does to it."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

import tilehaul
from tilehaul.cli.main import main
from tilehaul.errors import ConfigError
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.correlation import JOB_ID
from tilehaul.wiring import reading

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(4))


def dying() -> MockThread:
    """A server that refuses about a third of the tiles for good."""
    return MockThread(MockSettings(seed=5, faults=Faults(errors={400: 0.3})))


async def test_every_event_names_the_job_and_every_dead_tile_is_told(tmp_path: Path) -> None:
    events: list = []
    options = tilehaul.SeedOptions(job_id="nightly-1", max_failures=tilehaul.FailureLimit(count=999))
    with dying() as server:
        store = str(tmp_path / "a.mbtiles")
        report = await tilehaul.seed(server.template, store, AREA, options=options, watch=events.append)
    assert {event.job_id for event in events} == {"nightly-1"} == {report.job_id}
    assert isinstance(events[0], tilehaul.JobStarted)
    assert events[-1] == report
    dead = [event for event in events if isinstance(event, tilehaul.TileDead)]
    assert len(dead) == report.dead > 0
    assert len({event.tile_id for event in dead}) == len(dead)
    assert {(event.cause, event.cause_class, event.attempts) for event in dead} == {("http_400", "client", 1)}
    assert report.causes == {"client": report.dead}
    assert JOB_ID.get() == ""


async def test_two_jobs_have_two_names(tmp_path: Path) -> None:
    with MockThread() as server:
        jobs = [tilehaul.seed(server.template, str(tmp_path / f"{n}.mbtiles"), AREA) for n in range(2)]
        names = {report.job_id for report in await asyncio.gather(*jobs)}
    assert len(names) == 2
    assert all(len(name) == 8 and int(name, 16) >= 0 for name in names)


async def test_callback_that_raises_ends_the_job_and_the_next_run_goes_on(tmp_path: Path) -> None:
    store = str(tmp_path / "a.mbtiles")

    def watch(event: tilehaul.JobStarted) -> None:
        raise ZeroDivisionError

    with MockThread() as server:
        with pytest.raises(ZeroDivisionError):
            await tilehaul.seed(server.template, store, AREA, watch=watch)
        report = await tilehaul.seed(server.template, store, AREA)
        assert (report.state, report.done) == ("complete", AREA.count())
        assert server.stats().requests == AREA.count()


async def test_callback_that_blocks_for_ever_does_not_hold_up_the_job(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "LAST_WORDS_S", 0.05)
    go_on = threading.Event()
    try:
        with MockThread() as server:
            store = str(tmp_path / "a.mbtiles")
            watch = lambda event: go_on.wait()  # noqa: E731 - it waits, whatever it is told
            report = await tilehaul.seed(server.template, store, AREA, watch=watch)
        assert (report.state, report.done) == ("complete", AREA.count())
    finally:
        go_on.set()


async def test_mailbox_is_read_elsewhere(tmp_path: Path) -> None:
    mailbox = tilehaul.Mailbox()
    with MockThread() as server:
        store = str(tmp_path / "a.mbtiles")
        report = await tilehaul.seed(server.template, store, AREA, watch=mailbox)
    events = list(iter(mailbox.take, None))
    assert isinstance(events[0], tilehaul.JobStarted)
    assert events[-1] == report


@pytest.mark.parametrize("name", ["a b", "x" * 65, "a/b", "ä", "a\n"])
def test_job_id_that_could_harm_a_log_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="job_id"):
        tilehaul.SeedOptions(job_id=name)


def test_json_lines_name_event_job_and_tile(capsys, tmp_path: Path) -> None:
    with dying() as server:
        arguments = ["seed", server.template, str(tmp_path / "a.mbtiles"), "-z", "0-3", "--json"]
        assert main([*arguments, "--max-failures", "999"]) == 3
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({event["job_id"] for event in events}) == 1
    dead = [event["tile_id"] for event in events if event["event"] == "tile.dead"]
    assert len(dead) == events[-1]["dead"]
    assert all(tile.count("/") == 2 for tile in dead)
    assert events[-1]["causes"] == {"client": len(dead)}


def test_log_of_a_job_in_json_on_standard_error(log_kept, tmp_path: Path, capfd, monkeypatch) -> None:
    """Asked for by the environment; every line is JSON, and the job's own lines name it."""
    monkeypatch.setenv("TILEHAUL_LOG", "debug,json")
    with MockThread() as server:
        assert main(["seed", server.template, str(tmp_path / "a.mbtiles"), "-z", "0-2", "--quiet"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    events = [line for line in lines if "event" in line]
    assert [events[0]["event"], events[-1]["event"]] == ["job.started", "job.report"]
    assert len({line["job_id"] for line in events}) == 1
