"""Lanes: the limit is never passed, the gate holds everybody."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import ScriptedWire, answer
from tilehaul.errors import ThrottledError
from tilehaul.net.lane import Lane
from tilehaul.net.lane_settings import LaneSettings, LaneTools
from tilehaul.net.laned import LanedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import LaneChanged, LaneHeld
from tilehaul.ports.wire import Request, Response, Sender

A = Request("http://a.test/1/2/3.png")


def laned(inner: Sender, clock: VirtualClock, *, limit: int = 4, held: list | None = None) -> LanedSender:
    return LanedSender(
        inner,
        LaneSettings(limit, adaptive=False),
        clock=clock,
        luck=lambda: 0.0,
        tally=Tally(),
        tell=None if held is None else lambda event: _hold(held, event),
    )


def fixed_lane(clock: VirtualClock, limit: int) -> Lane:
    settings = LaneSettings(limit, adaptive=False)
    return Lane("x", "tile", settings, LaneTools(clock, lambda: 0.0, Tally()))


def _hold(held: list, event: LaneHeld | LaneChanged) -> None:
    if isinstance(event, LaneHeld):
        held.append((event.lane, event.delay_s))


class SlowWire:
    """Answers after a second of virtual time; records the most at once, by host, and when each was sent."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.sent_s: list[float] = []

    async def send(self, request: Request) -> Response:
        host = request.url.split("/")[2]
        self.sent_s.append(self.clock.now_s())
        self.now[host] = self.now.get(host, 0) + 1
        self.most[host] = max(self.most.get(host, 0), self.now[host])
        try:
            await self.clock.sleep(1.0)
        finally:
            self.now[host] -= 1
        return answer()


async def test_limit_holds_per_host_and_hosts_do_not_share_it() -> None:
    """Two lanes of four: eight at once, never five on one."""
    clock = VirtualClock()
    wire = SlowWire(clock)
    sender = laned(wire, clock)
    urls = [f"http://{host}.test/{n}" for n in range(20) for host in "ab"]
    await in_virtual_time(clock, asyncio.gather(*(sender.send(Request(url)) for url in urls)))
    assert wire.most == {"a.test": 4, "b.test": 4}
    assert clock.now_s() == pytest.approx(1005.0)


async def test_retry_after_holds_the_whole_lane() -> None:
    """After one push-back nothing is sent in that lane until the gate opens."""
    clock = VirtualClock()
    held: list = []
    wire = ScriptedWire(steps=[ThrottledError("x", retry_after_s=30.0)])
    sender = laned(wire, clock, held=held)
    with pytest.raises(ThrottledError):
        await sender.send(A)
    begun_s = clock.now_s()
    await in_virtual_time(clock, asyncio.gather(*(sender.send(A) for _ in range(10))))
    assert clock.now_s() - begun_s == pytest.approx(30.0)
    assert len(wire.requests) == 11
    assert held == [("a.test (tile)", 30.0)]


async def test_other_lanes_go_on_while_one_is_held() -> None:
    clock = VirtualClock()
    wire = ScriptedWire(steps=[ThrottledError("x", retry_after_s=30.0)])
    sender = laned(wire, clock)
    with pytest.raises(ThrottledError):
        await sender.send(A)
    await sender.send(Request("http://b.test/1"))
    assert clock.slept == []


async def test_lane_held_for_longer_than_anyone_waits_answers_at_once() -> None:
    """One Retry-After of an hour must not hang a service that waits five seconds for a tile."""
    clock = VirtualClock()
    wire = ScriptedWire(steps=[ThrottledError("x", retry_after_s=3600.0)])
    sender = LanedSender(wire, LaneSettings(4, wait_s_max=5.0), clock=clock, luck=lambda: 0.0, tally=Tally())
    for _ in range(3):
        with pytest.raises(ThrottledError) as caught:
            await sender.send(A)
    assert caught.value.retry_after_s == pytest.approx(3600.0)
    assert len(wire.requests) == 1
    assert clock.slept == []
    clock.advance(3600.0)
    await sender.send(A)


@pytest.mark.parametrize("rest", ["/1/2/3.png", "?z=1&x=2&y=3", "?u=http://b.test/1", "#x", "", "/?a=1"])
async def test_lane_is_the_origin_whatever_follows_it(rest: str) -> None:
    """A query straight behind the host makes no lane of its own, and names none."""
    clock = VirtualClock()
    sender = laned(ScriptedWire(), clock)
    await sender.send(Request(f"http://a.test:8001{rest}"))
    assert list(sender._lanes) == [("http://a.test:8001", "tile")]
    assert sender._lanes["http://a.test:8001", "tile"].name == "a.test:8001 (tile)"


async def test_hold_that_grows_while_waiting_is_waited_for() -> None:
    """Those who wait look again when they wake."""
    clock = VirtualClock()
    lane = fixed_lane(clock, 2)
    lane.gate.hold(clock.now_s(), 10.0, 0.0)
    wire = SlowWire(clock)
    sender = laned(wire, clock)
    sender._lanes["http://a.test", "tile"] = lane
    task = asyncio.ensure_future(sender.send(A))
    await asyncio.sleep(0)
    lane.gate.hold(clock.now_s() + 5.0, 20.0, 0.0)
    await clock.run(task)
    assert wire.sent_s == [1025.0]


async def test_cancelled_waiters_neither_lose_nor_keep_permits() -> None:
    """After any cancellation the lane is as empty as before."""
    clock = VirtualClock()
    sender = laned(SlowWire(clock), clock, limit=2)
    tasks = [asyncio.ensure_future(sender.send(A)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await in_virtual_time(clock, asyncio.gather(*tasks, return_exceptions=True))
    assert [task.cancelled() for task in tasks] == [True, False] * 5
    assert sender._lanes["http://a.test", "tile"].in_flight == 0


@given(st.lists(st.sampled_from(["enter", "leave", "cancel"]), max_size=60), st.integers(1, 4))
def test_lane_against_a_counting_model(steps: list[str], limit: int) -> None:
    """Permits out never pass the limit; whoever may enter, has."""

    async def play() -> None:
        lane = fixed_lane(VirtualClock(), limit)
        inside: list[asyncio.Task] = []
        waiting: list[asyncio.Task] = []

        async def settle() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            for task in list(waiting):
                if task.done():
                    waiting.remove(task)
                    if not task.cancelled():
                        inside.append(task)

        for step in steps:
            if step == "enter":
                waiting.append(asyncio.ensure_future(lane.enter()))
            elif step == "leave" and inside:
                inside.pop()
                lane.leave()
            elif step == "cancel" and waiting:
                waiting[0].cancel()
            await settle()
            assert len(inside) == lane.in_flight <= limit
            assert not waiting or len(inside) == limit
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(play())
