"""Scenarios 7 and 8: an upstream that is silent, or comes and goes. (9 to 12: tests/net/test_lane.py.)"""

import asyncio
from pathlib import Path

import pytest
from trial import ONE_TILE, Trial
from virtual import VirtualTrial

import tilehaul
from doubles.wire import answer
from tilehaul.errors import TimedOutError, UnreachableError
from tilehaul.lab.fault_proxy import FaultProxy
from tilehaul.lab.link_faults import LinkPlan
from tilehaul.lab.mock import MockServer
from tilehaul.ports.events import Event, LaneHeld

ZOOMS_0_TO_5 = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(6))
ZOOMS_0_TO_6 = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(7))


async def test_07_blackhole(tmp_path: Path) -> None:
    """Accepted, never answered: the job ends and says so, every tile pending; another one goes on as ever."""
    async with MockServer() as server, FaultProxy(server.base_url, LinkPlan.of("black_hole")) as proxy:
        swallowed = Trial(server, tmp_path / "hole", template=proxy.url_of(server.template))
        unhurt = Trial(server, tmp_path / "well", ZOOMS_0_TO_5)
        stopped, complete = await asyncio.gather(
            swallowed.seed(timeout_s=0.1, max_wait_s=1.0, retries=1000), unhurt.seed()
        )
        assert complete.state == "complete"
        assert swallowed.error is not None
        assert "the origin is away" in str(swallowed.error)
        assert (stopped.state, stopped.pending) == ("stopped", 85)
        assert unhurt.requests == 1365
        # Eight at once, a tenth of a second each, for a second: until the breaker opens, or the job ends.
        assert 8 <= proxy.stats().connections <= 8 * 11
        await proxy.use(LinkPlan())
        await swallowed.resumed(stopped)


@pytest.mark.usefixtures("quick_backoff")
async def test_07_blackhole_of_some_connections(tmp_path: Path) -> None:
    """Each costs its time and one attempt; the origin is asked no more than once for each tile."""
    plan = LinkPlan.of("black_hole@1-4")
    async with MockServer() as server, FaultProxy(server.base_url, plan) as proxy:
        trial = Trial(server, tmp_path, template=proxy.url_of(server.template))
        report = await trial.seed(timeout_s=0.1)
        assert report.state == "complete"
        assert (trial.requests, report.retried) == (85, 4)
        await trial.resumed(report)


async def test_07_blackhole_names_the_phase(tmp_path: Path) -> None:
    """The dead letter says which limit was passed."""
    async with MockServer() as server, FaultProxy(server.base_url, LinkPlan.of("black_hole=0")) as proxy:
        trial = Trial(server, tmp_path, ONE_TILE, proxy.url_of(server.template))
        report = await trial.seed(timeout_s=0.1, retries=1)
        assert trial.requests == 2
        assert trial.letters() == [("timeout_first_byte", 2, b"")]
        await proxy.use(LinkPlan())
        await trial.resumed(report)


async def test_07_blackhole_opens_the_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes of silence after twenty good seconds: left alone within one; nothing lost."""
    left_alone_s: list[float] = []

    def step(sent_s: float):
        return TimedOutError("x", phase="first_byte") if 20.0 <= sent_s < 140.0 else answer()

    def watch(event: Event) -> None:
        if isinstance(event, LaneHeld):
            left_alone_s.append(trial.elapsed_s())

    trial = VirtualTrial(monkeypatch, step, ttfb_s=1.0)
    report = await trial.seed(ZOOMS_0_TO_5, watch=watch, concurrency=8, retries=12)
    assert report.state == "complete"
    assert 20.0 < left_alone_s[0] <= 80.0
    in_vain = [sent_s for sent_s in trial.wire.sent_s if 20.0 <= sent_s < 140.0]
    assert report.requests == len(trial.wire.sent_s) == 1365 + len(in_vain)
    # From then on one probe now and then.
    assert len([sent_s for sent_s in in_vain if sent_s > left_alone_s[0]]) <= 10


async def test_08_flap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds up, five down, in virtual time: nothing is lost, and few requests are for nothing."""

    def step(sent_s: float):
        return answer() if sent_s % 10.0 < 5.0 else UnreachableError("x", cause="connect")

    trial = VirtualTrial(monkeypatch, step)
    report = await trial.seed(ZOOMS_0_TO_6, concurrency=8, retries=12)
    assert report.state == "complete"
    assert report.requests == len(trial.wire.sent_s) <= 1.3 * report.planned
