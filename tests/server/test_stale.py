"""An origin that dies after its tiles were seen: they are given past their freshness."""

import pytest

from doubles.clock import VirtualClock
from doubles.wire import PNG, ScriptedWire, answer
from tilehaul.errors import BrokenError, BusyError
from tilehaul.jobs.layer import Layer
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.breaker import BREAKER_SERVING
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.policy.tally import Tally
from tilehaul.sources.background import Background
from tilehaul.sources.cached import CachedSource
from tilehaul.sources.coalesced import CoalescedSource
from tilehaul.sources.xyz import XyzSource

AT = "/api/tiles/osm/3/1/2.png"
NEVER_SEEN = "/api/tiles/osm/3/4/4.png"


@pytest.fixture
async def laned(service):
    """A layer `osm` behind a lane as a service has it, over a scripted wire and the service's clock."""
    clock = VirtualClock()
    wire, tally = ScriptedWire(), Tally()
    sender = LanedSender(
        VerifiedSender(wire, clock, tally),
        LaneSettings(pause=False, adaptive=False),
        clock=clock,
        luck=lambda: 0.5,
        tally=tally,
    )
    service.clock = clock
    source = CachedSource(
        CoalescedSource(XyzSource.opener("http://origin.test/{z}/{x}/{y}.png")(sender)),
        cache=service.cache,
        layer="osm",
        rule=FreshnessRule(),
        luck=lambda: 0.5,
        background=Background(),
    )
    service.layers["osm"] = Layer("osm", source)
    yield wire
    await sender.aclose()


async def test_origin_that_dies_after_warming(service, laned, listen):
    """Stale while it fails and the breaker is open; 503 for what was never seen; fresh once it is back."""
    line = await (await listen(service))()
    assert (await line.ask(AT)).headers["cache-status"] == "tilehaul; fwd=miss; stored; ttl=3600"
    laned.then = answer(500)
    # Within its freshness nobody is asked.
    service.clock.advance(3599.0)
    assert (await line.ask(AT)).headers["cache-status"] == "tilehaul; hit; ttl=1"
    assert len(laned.requests) == 1

    service.clock.advance(76.0)
    for _ in range(BREAKER_SERVING.calls_min):
        failing = await line.ask(AT)
        assert (failing.status, failing.body) == (200, PNG)
        assert failing.headers["cache-status"] == "tilehaul; fwd=stale; ttl=-75"
    # The breaker has opened: no request more.
    sent = len(laned.requests)
    assert sent == 1 + BREAKER_SERVING.calls_min
    for _ in range(3):
        stale = await line.ask(AT)
        assert (stale.status, stale.body) == (200, PNG)
        assert stale.headers["cache-status"] == "tilehaul; hit; ttl=-75"
        assert stale.headers["cache-control"] == "public, max-age=10"
        assert stale.headers["x-tile-source"] == "memory"
        assert "age" not in stale.headers
    same = await line.ask(AT, headers=[("If-None-Match", stale.headers["etag"])])
    assert (same.status, same.headers["cache-control"]) == (304, "public, max-age=10")
    never = await line.ask(NEVER_SEEN)
    assert (never.status, never.json()["cause"]) == (503, "busy")
    assert int(never.headers["retry-after"]) >= 1
    assert len(laned.requests) == sent
    stats = service.layers["osm"].stats.figures()
    assert (stats.stale, stats.hits, stats.misses) == (14, 1 + 4, 1 + 10 + 1)
    assert (await line.ask("/api/tiles/osm/cache-stats")).json()["cache_stale"] == 14

    laned.then = answer()
    service.clock.advance(10.0)
    back = await line.ask(AT)
    assert back.headers["cache-status"] == "tilehaul; fwd=miss; stored; ttl=3600"
    assert back.headers["cache-control"] == "public, max-age=3600"
    assert (await line.ask(AT)).headers["cache-status"] == "tilehaul; hit; ttl=3600"
    assert len(laned.requests) == sent + 1


async def test_early_hits_leave_stale_tiles_alone(service, listen):
    """An entry past its freshness goes the usual way, so that the origin is asked first."""
    source = service.layer()
    source.put("3/1/2", b"old")
    line = await (await listen(service))()
    await line.ask(AT)
    service.clock.time_s += 3600.0
    source.put("3/1/2", b"new")
    assert (await line.ask(AT)).body == b"new"
    assert len(source.asked) == 2


async def test_stale_answer_is_shorter_lived_than_its_layer(service):
    """A layer whose tiles clients keep for 4 s does not let them keep stale ones for 10."""
    source = service.layer(max_age_s=4)
    source.put("3/1/2")
    await service.ask(AT)
    service.clock.time_s += 3600.0
    source.fail("3/1/2", BusyError("left alone"))
    assert (await service.ask(AT)).headers["cache-control"] == "public, max-age=4"


async def test_absence_past_its_freshness_is_not_told(service):
    """What was missing may be there now: the failure is told instead."""
    source = service.layer()
    assert (await service.ask(AT)).status == 404
    service.clock.time_s += 301.0
    source.fail("3/1/2", BrokenError("failed"))
    assert (await service.ask(AT)).status == 502
