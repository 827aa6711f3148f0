"""What a job does with tiles that its lane does not let through: none is lost, none is sent too late."""

import asyncio
from pathlib import Path

import pytest

import tilehaul
from tilehaul.errors import FuseError
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import Event, SeedReport

ZOOMS_0_TO_3 = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))


def options(**sending: object) -> tilehaul.SeedOptions:
    return tilehaul.SeedOptions(sending=tilehaul.Sending(**sending))  # type: ignore[arg-type]


async def test_an_origin_that_is_down_from_the_start_kills_no_tile(tmp_path: Path) -> None:
    """The job ends soon, and every tile is still to be asked for: nobody has tried it often enough."""
    store = str(tmp_path / "world.mbtiles")
    told: list[Event] = []
    with MockThread(MockSettings(faults=Faults(shares={"close_before": 1.0}))) as server:
        with pytest.raises(FuseError, match="has answered nothing yet"):
            await tilehaul.seed(server.template, store, ZOOMS_0_TO_3, options=options(), watch=told.append)
        report = told[-1]
        assert isinstance(report, SeedReport)
        assert (report.dead, report.pending) == (0, 85)
        assert report.requests == server.stats().requests
        assert report.retried <= report.requests
        server.set_faults(Faults())
        again = await tilehaul.seed(server.template, store, ZOOMS_0_TO_3)
    assert (again.state, again.done, again.skipped) == ("complete", 85, 0)


async def test_a_stream_from_an_origin_that_is_down_ends_with_its_reason() -> None:
    """The iterator is not used up by tiles that nobody asked for."""
    answers: list[object] = []

    async def read(template: str) -> None:
        async for answer in tilehaul.stream(template, ZOOMS_0_TO_3):
            answers.append(answer)

    with MockThread(MockSettings(faults=Faults(shares={"close_before": 1.0}))) as server:
        with pytest.raises(FuseError, match="has answered nothing yet"):
            await read(server.template)
        assert 0 < server.stats().requests < 85
    assert answers == []


@pytest.mark.parametrize("rate_limit", [None, 20.0])
async def test_a_job_that_is_asked_to_end_sends_nothing_more(
    tmp_path: Path, rate_limit: float | None
) -> None:
    """Only what was sent is waited for, not what waits for a permit or for its turn."""
    stop = tilehaul.Stop()
    faults = Faults(latency=Latency(200.0))
    with MockThread(MockSettings(faults=faults)) as server:
        seeding = asyncio.create_task(
            tilehaul.seed(
                server.template,
                str(tmp_path / "world.mbtiles"),
                ZOOMS_0_TO_3,
                options=options(concurrency=4, adaptive=False, rate_limit=rate_limit),
                stop=stop,
            )
        )
        while server.stats().requests < 8:
            await asyncio.sleep(0.01)
        stop.drain()
        await asyncio.sleep(0)
        at_stop = server.stats().requests
        report = await seeding
        # One may have been on its way to the server.
        assert server.stats().requests <= at_stop + 1
    assert report.state == "interrupted"
    assert report.done == report.requests
    assert report.done + report.pending == 85
