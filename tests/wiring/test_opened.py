"""What an opened source says of its lanes; the lanes of a job's report; what both leave in the log."""

import logging
from pathlib import Path

import tilehaul
from tilehaul import blocking
from tilehaul.lab.faults import Faults, RateLimit
from tilehaul.lab.mock import MockServer, MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.policy.health import HEALTHY
from tilehaul.ports.events import LaneHeld

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, range(4))
FAILING = MockSettings(seed=5, faults=Faults(errors={400: 0.4}))


async def test_opened_source_tells_its_lanes_its_health_and_its_connections() -> None:
    async with MockServer(FAILING) as server, tilehaul.open(server.template) as source:
        assert (source.lanes(), source.health(), source.connections()) == ((), HEALTHY, 0)
        failed = 0
        for tile_id in AREA:
            try:
                await source.get(tile_id)
            except tilehaul.RefusedError:
                failed += 1
        [lane] = source.lanes()
        assert (lane.name, lane.requests) == (f"127.0.0.1:{server.port} (tile)", 85)
        assert (lane.recent.failed, lane.causes) == (failed, {"client": failed})
        assert 0.0 < lane.recent.ttfb.p50_ms <= lane.recent.ttfb.p99_ms
        health = source.health()
        assert health.status == "degraded"
        assert f"({failed} of 85, most of them client)" in health.reasons[0]
        assert source.connections() == 1


def test_archive_has_no_lanes_and_is_healthy(tmp_path: Path) -> None:
    store = str(tmp_path / "a.mbtiles")
    with MockThread() as server:
        blocking.seed(server.template, store, AREA)
    with blocking.open(store) as source:
        source.get(tilehaul.TileId(0, 0, 0))
        assert (source.lanes(), source.health()) == ((), HEALTHY)


def test_blocking_source_tells_the_same() -> None:
    with MockThread() as server, blocking.open(server.template) as source:
        for tile_id in AREA:
            source.get(tile_id)
        [lane] = source.lanes()
        assert (lane.requests, lane.recent.answered, source.health()) == (85, 85, HEALTHY)


async def test_report_has_the_lanes_and_the_health_of_the_end(tmp_path: Path) -> None:
    options = tilehaul.SeedOptions(max_failures=tilehaul.FailureLimit(count=999))
    async with MockServer(FAILING) as server:
        report = await tilehaul.seed(server.template, str(tmp_path / "a.mbtiles"), AREA, options=options)
    [lane] = report.lanes
    assert lane.requests == report.requests == 85
    assert lane.causes == report.causes == {"client": report.dead}
    assert report.health.status == "degraded"


async def test_job_and_log_are_told_of_holds_and_changes_under_one_name(tmp_path: Path, caplog) -> None:
    events: list = []
    area = tilehaul.Area.from_tiles(list(AREA)[:7])
    with caplog.at_level(logging.DEBUG, "tilehaul"):
        async with MockServer(
            MockSettings(faults=Faults(rate_limit=RateLimit(per_s=3.0, burst=5)))
        ) as server:
            store = str(tmp_path / "a.mbtiles")
            report = await tilehaul.seed(server.template, store, area, watch=events.append)
    assert report.state == "complete"
    assert report.pushed_back > 0
    held = [event for event in events if isinstance(event, LaneHeld)]
    changed = [event for event in events if isinstance(event, tilehaul.LaneChanged)]
    assert held
    assert {"held", "open"} <= {event.gate for event in changed}
    assert {event.job_id for event in held + changed} == {report.job_id}
    names = [record.facts["event"] for record in caplog.records if "event" in getattr(record, "facts", {})]
    assert (names.count("lane.held"), names.count("lane.changed")) == (len(held), len(changed))
    attempts = [record for record in caplog.records if record.getMessage().startswith("an attempt failed")]
    assert len(attempts) == report.pushed_back
