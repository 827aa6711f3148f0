"""The log: its form, what it never says, and how it is asked for."""

import io
import json
import logging
import threading

import pytest

from tilehaul.cli.logs import LogSettings, set_up_log, wanted_log
from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.event_log import log_event, log_service_event
from tilehaul.ports.correlation import JOB_ID, REQUEST_ID
from tilehaul.ports.events import JobStarted, LaneChanged, LaneHeld, Progress, TileDead

log = logging.getLogger("tilehaul.test")


@pytest.fixture
def stream(log_kept) -> io.StringIO:
    """Where the log goes."""
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_line_has_its_fields_and_its_ids(stream) -> None:
    set_up_log(LogSettings("info", as_json=True), stream)
    JOB_ID.set("job-7")
    REQUEST_ID.set("req-9")
    try:
        log.info("said %s", "it", extra={"facts": {"lane": "a.test (tile)", "limit": 3, "level": "no"}})
    finally:
        JOB_ID.set("")
        REQUEST_ID.set("")
    [line] = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "tilehaul.test",
        "message": "said it",
        "job_id": "job-7",
        "request_id": "req-9",
        "lane": "a.test (tile)",
        "limit": 3,
    }


def test_ids_follow_into_other_threads_by_the_event_only(stream) -> None:
    """A line without job or request has neither field; an event brings its job's id itself."""
    set_up_log(LogSettings("info", as_json=True), stream)
    started = JobStarted("seed", 85, "http://a.test/", "a.mbtiles", "job-8")
    thread = threading.Thread(target=lambda: (log.info("alone"), log_event(started)))
    thread.start()
    thread.join()
    alone, told = lines(stream)
    assert "job_id" not in alone
    assert "request_id" not in alone
    assert (told["job_id"], told["event"], told["planned"]) == ("job-8", "job.started", 85)


def test_tile_as_a_requests_name_is_for_debug_only(stream) -> None:
    set_up_log(LogSettings("debug", as_json=True), stream)
    named = REQUEST_ID.set(TileId(14, 8531, 5765))
    try:
        log.warning("above")
        log.debug("below")
    finally:
        REQUEST_ID.reset(named)
    above, below = lines(stream)
    assert "8531" not in json.dumps(above)
    assert below["request_id"] == "14/8531/5765"


def test_plain_line_is_one_line(stream) -> None:
    set_up_log(LogSettings("warning"), stream)
    named = REQUEST_ID.set("req-1")
    try:
        log.warning("two\nlines\r%s", "end")
    finally:
        REQUEST_ID.reset(named)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("WARNING tilehaul.test: two\\nlines\\rend [req-1]\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_masked_in_messages_facts_and_tracebacks(stream, as_json) -> None:
    set_up_log(LogSettings("debug", as_json=as_json), stream)
    secret = "http://me:sesame1@a.test/?token=sesame2&api_key=sesame3"
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed: %s", secret, extra={"facts": {"url": secret, "all": [{"url": secret}]}})
    assert "a.test" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "sesame" not in stream.getvalue()


def test_numbers_that_json_has_not_become_null(stream) -> None:
    set_up_log(LogSettings("info", as_json=True), stream)
    log.info("x", extra={"facts": {"pace": float("inf"), "tile": TileId(1, 2, 3)}})
    [line] = lines(stream)
    assert line["pace"] is None
    assert line["tile"]


def test_level_is_of_our_own_lines_only(stream) -> None:
    set_up_log(LogSettings("debug"), stream)
    logging.getLogger("other.library").info("chatter")
    logging.getLogger("other.library").warning("trouble")
    log.debug("ours")
    assert [line.rsplit(": ", 1)[1] for line in stream.getvalue().splitlines()] == ["trouble", "ours"]


@pytest.mark.parametrize(
    ("told", "level", "as_json", "expected"),
    [
        ("", None, False, LogSettings("warning", as_json=False)),
        ("", "debug", False, LogSettings("debug", as_json=False)),
        ("", None, True, LogSettings("info", as_json=True)),
        ("debug", None, False, LogSettings("debug", as_json=False)),
        ("json", None, False, LogSettings("info", as_json=True)),
        (" Debug , JSON ", None, False, LogSettings("debug", as_json=True)),
        ("debug,json", "warning", False, LogSettings("warning", as_json=True)),
    ],
)
def test_flags_come_before_the_environment(told, level, as_json, expected) -> None:
    assert wanted_log(told, level=level, as_json=as_json) == expected


def test_word_that_is_no_level_is_refused() -> None:
    with pytest.raises(ConfigError, match='TILEHAUL_LOG: "loud" is not debug, info, warning or json'):
        wanted_log("loud", level=None, as_json=False)


HELD = LaneHeld("a.test (tile)", 3.0)
PARKED = LaneHeld("a.test (tile)", 3600.0, "parked")


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (JobStarted("seed", 5, "a", "b"), "info"),
        (Progress(1, 0, 0, 0, 0, 0, 5, 9, 1.0, 1.0), "debug"),
        (HELD, "info"),
        (PARKED, "info"),
        (LaneChanged("a.test (tile)", "limit", 4, "open", "closed", 2.5), "debug"),
        (TileDead(TileId(9, 8, 7), "http_500", "server", 6), "debug"),
    ],
)
def test_event_is_one_line_of_its_level(stream, event, level) -> None:
    set_up_log(LogSettings("debug", as_json=True), stream)
    log_event(event)
    [line] = lines(stream)
    assert line["level"] == level
    assert line["event"]
    assert level == "debug" or "9/8/7" not in json.dumps(line)


def test_lane_in_trouble_is_a_warning_where_no_job_tells_of_it(stream) -> None:
    set_up_log(LogSettings("debug", as_json=True), stream)
    for event in (HELD, PARKED, LaneChanged("a.test (tile)", "gate", 4, "held", "closed")):
        log_service_event(event)
    assert [line["level"] for line in lines(stream)] == ["info", "warning", "debug"]
