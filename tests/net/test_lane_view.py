"""What is told of a lane: changes as they happen, state and statistics when asked; in virtual time."""

import asyncio
import logging

import pytest

from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import ScriptedWire, answer
from tilehaul.errors import BrokenError, DataError, DeniedError, RefusedError, ThrottledError, TimedOutError
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.policy.health import judge_health
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import LaneChanged, LaneHeld
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.wire import Request, Response

A = Request("http://me:sesame@a.test:8080/1?token=sesame")


class Watched:
    """A laned sender over a scripted wire, and all that it tells."""

    def __init__(self, *steps: object, **settings: object) -> None:
        self.clock = VirtualClock()
        self.wire = ScriptedWire(steps=list(steps))  # type: ignore[arg-type]
        self.told: list[LaneHeld | LaneChanged] = []
        self.sender = LanedSender(
            self.wire,
            LaneSettings(**{"adaptive": False, "limit": 4, **settings}),  # type: ignore[arg-type]
            clock=self.clock,
            luck=lambda: 0.0,
            tally=Tally(),
            tell=self.told.append,
        )

    async def send(self, times: int = 1) -> list[object]:
        async def one() -> object:
            return (await asyncio.gather(self.sender.send(A), return_exceptions=True))[0]

        return [await in_virtual_time(self.clock, one()) for _ in range(times)]

    def now(self) -> LaneSnapshot:
        [lane] = self.sender.snapshots()
        return lane

    def changes(self) -> list[tuple[str, str, str]]:
        """What changed, and gate and breaker then."""
        told = [event for event in self.told if isinstance(event, LaneChanged)]
        return [(event.what, event.gate, event.breaker) for event in told]


def broken() -> BrokenError:
    return BrokenError("http://a.test/1 failed", cause="http_500", url="http://***@a.test/1")


async def test_lane_that_was_not_used_is_not_there() -> None:
    assert Watched().sender.snapshots() == ()


async def test_snapshot_of_a_quiet_lane() -> None:
    rig = Watched(rate_per_s=5.0)
    await rig.send(3)
    lane = rig.now()
    assert (lane.name, lane.lane_class, lane.limit) == ("a.test:8080 (tile)", "tile", 4)
    assert (lane.gate, lane.gate_wait_s, lane.breaker, lane.breaker_since_s) == ("open", 0.0, "closed", 0.0)
    assert (lane.pace_per_s, lane.rate_per_s, lane.budget_left) == (None, 5.0, 100.0)
    assert (lane.requests, lane.causes, lane.recent.answered) == (3, {}, 3)
    # The wire says 10 and 20 ms.
    assert 10.0 <= lane.recent.ttfb.p50_ms <= 10.5
    assert 20.0 <= lane.recent.total.p99_ms <= 21.0
    assert rig.told == []


async def test_every_way_to_fail_is_counted_once_under_its_class() -> None:
    rig = Watched(
        ThrottledError("x", cause="http_429", retry_after_s=1.0),
        broken(),
        TimedOutError("x", phase="idle"),
        DeniedError("x", cause="http_403"),
        RefusedError("x", cause="http_400"),
        RefusedError("x", cause="refused_address"),
        DataError("x", cause="truncated"),
        ZeroDivisionError(),
        answer(404),
        answer(),
    )
    await rig.send(10)
    lane = rig.now()
    assert lane.causes == {"rate_limit": 1, "server": 1, "timeout": 1, "client": 2, "body": 1}
    assert (lane.requests, lane.recent.answered, lane.recent.failed) == (8, 2, 5)
    assert lane.recent.failure_share == 5 / 7
    assert lane.recent.causes == lane.causes


async def test_gate_is_told_when_it_closes_and_when_the_next_attempt_finds_it_open() -> None:
    rig = Watched(ThrottledError("x", retry_after_s=30.0))
    await rig.send()
    lane = rig.now()
    assert (lane.gate, lane.gate_wait_s, lane.gate_reason) == ("held", 30.0, "")
    assert rig.changes() == [("gate", "held", "closed")]
    await rig.send()
    assert rig.changes() == [("gate", "held", "closed"), ("gate", "open", "closed")]
    await rig.send(5)
    assert len(rig.changes()) == 2
    assert rig.now().gate == "open"


async def test_parked_lane_says_why_and_is_no_longer_healthy() -> None:
    rig = Watched(ThrottledError("x", retry_after_s=7200.0), wait_s_max=1e9)
    await rig.send()
    lane = rig.now()
    assert lane.gate == "parked"
    assert "2 h" in lane.gate_reason
    assert judge_health([lane]).reasons == (f"a.test:8080 (tile): {lane.gate_reason}",)


async def test_breaker_is_told_as_it_opens_is_tried_and_closes() -> None:
    """Luck 0: the first pause is 1 s. Three good probes close it."""
    rig = Watched(answer(), *[broken() for _ in range(25)])
    await rig.send(20)
    assert rig.changes() == [("breaker", "open", "open")]
    rig.clock.advance(0.25)
    lane = rig.now()
    assert (lane.breaker, lane.breaker_since_s, lane.breaker_wait_s) == ("open", 0.25, 0.75)
    assert any(
        "breaker open since" in word and "tried again" in word for word in judge_health([lane]).reasons
    )
    rig.wire.steps.clear()
    await rig.send(3)
    assert rig.changes()[1:] == [("breaker", "open", "half_open"), ("breaker", "open", "closed")]
    assert rig.now().breaker_since_s == 0.0


async def test_limit_is_told_as_it_grows() -> None:
    rig = Watched(adaptive=True, limit=32)

    class Slow:
        async def send(self, request: Request) -> Response:
            await rig.clock.sleep(0.05)
            return answer()._replace(ttfb_s=0.05)

    async def work() -> None:
        while rig.clock.now_s() < 1004.0:
            await rig.sender.send(A)

    rig.sender._inner = Slow()
    await in_virtual_time(rig.clock, asyncio.gather(*(work() for _ in range(32))))
    told = [event for event in rig.told if isinstance(event, LaneChanged)]
    limits = [event.limit for event in told]
    assert {event.what for event in told} == {"limit"}
    assert limits == sorted(set(limits))
    assert limits[-1] == rig.now().limit > 4


async def test_who_waits_is_the_depth_of_the_queue() -> None:
    rig = Watched(limit=2)
    gate = asyncio.Event()

    class Waiting:
        async def send(self, request: Request) -> Response:
            await gate.wait()
            return answer()

    rig.sender._inner = Waiting()
    sends = [asyncio.create_task(rig.sender.send(A)) for _ in range(7)]
    await asyncio.sleep(0)
    lane = rig.now()
    assert (lane.in_flight, lane.queue_depth) == (2, 5)
    gate.set()
    await asyncio.gather(*sends)
    assert (rig.now().in_flight, rig.now().queue_depth) == (0, 0)


async def test_failed_attempt_is_a_line_at_debug_without_secrets(caplog) -> None:
    rig = Watched(broken(), broken())
    with caplog.at_level(logging.INFO, "tilehaul"):
        await rig.send()
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "tilehaul"):
        await rig.send()
    [record] = caplog.records
    facts = {"lane": "a.test:8080 (tile)", "cause": "http_500", "cause_class": "server"}
    assert record.facts == {**facts, "url": "http://***@a.test/1"}
    assert "sesame" not in record.getMessage() + repr(record.facts)


@pytest.mark.parametrize("tell", [None, lambda event: None])
async def test_nobody_need_listen(tell) -> None:
    rig = Watched(ThrottledError("x", retry_after_s=1.0))
    rig.sender._tools = type(rig.sender._tools)(rig.clock, lambda: 0.0, Tally(), tell)
    assert isinstance((await rig.send())[0], ThrottledError)
    assert rig.now().gate == "held"
