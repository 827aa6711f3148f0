"""What a provider permits lowers what the user asks of its lanes; nothing raises it. In virtual time."""

import asyncio

import pytest

from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import answer
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.policy.providers import Provider, Providers
from tilehaul.policy.tally import Tally
from tilehaul.ports.wire import Request, Response

KNOWN = Providers(
    [
        Provider("slow.test", rate_per_s=0.2, in_flight_max=1),
        Provider("narrow.test", in_flight_max=2),
        Provider("free.test", bulk=False),
    ]
)


class TimedWire:
    """Answers after `takes_s` of virtual time; records when each request was sent and the most at once."""

    def __init__(self, clock: VirtualClock, takes_s: float) -> None:
        self.clock = clock
        self.takes_s = takes_s
        self.sent_s: list[float] = []
        self.now = self.most = 0

    async def send(self, request: Request) -> Response:
        self.sent_s.append(round(self.clock.now_s() - 1000.0, 3))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.clock.sleep(self.takes_s)
        finally:
            self.now -= 1
        return answer()


async def sent(
    hosts: list[str], *, rate_per_s: float | None = None, limit: int = 8, takes_s: float = 0.1
) -> TimedWire:
    """Send one request to each host at once, and more than one to those named more than once."""
    clock = VirtualClock()
    wire = TimedWire(clock, takes_s)
    settings = LaneSettings(limit, adaptive=False, rate_per_s=rate_per_s)
    sender = LanedSender(wire, settings, clock=clock, luck=lambda: 0.0, tally=Tally(), providers=KNOWN)
    requests = [Request(f"http://{host}/{number}") for number, host in enumerate(hosts)]
    await in_virtual_time(clock, asyncio.gather(*map(sender.send, requests)))
    await sender.aclose()
    return wire


async def test_providers_rate_holds_without_one_of_the_users() -> None:
    wire = await sent(["slow.test"] * 4)
    assert wire.sent_s == pytest.approx([0, 5, 10, 15], abs=0.01)


@pytest.mark.parametrize(("asked", "step_s"), [(100.0, 5.0), (0.2, 5.0), (0.1, 10.0)])
async def test_users_rate_may_lower_a_providers_and_never_raises_it(asked: float, step_s: float) -> None:
    wire = await sent(["slow.test"] * 3, rate_per_s=asked)
    assert wire.sent_s == pytest.approx([0, step_s, 2 * step_s], abs=0.01)


async def test_subdomains_keep_one_rate_together() -> None:
    """A template with {s} sends to three hosts; to the provider they are one."""
    wire = await sent(["a.slow.test", "b.slow.test", "c.slow.test", "slow.test:8080"])
    assert wire.sent_s == pytest.approx([0, 5, 10, 15], abs=0.01)


@pytest.mark.parametrize(("limit", "most"), [(8, 2), (2, 2), (1, 1)])
async def test_providers_most_at_once_lowers_the_limit(limit: int, most: int) -> None:
    wire = await sent(["narrow.test"] * 6, limit=limit, takes_s=1.0)
    assert wire.most == most


@pytest.mark.parametrize("host", ["other.test", "free.test"])
async def test_other_hosts_have_what_the_user_asked_for(host: str) -> None:
    wire = await sent([host] * 8, takes_s=1.0)
    assert (wire.most, wire.sent_s) == (8, [0] * 8)


def test_settings_within_a_provider_keep_all_else() -> None:
    settings = LaneSettings(8, wait_s_max=7.0, adaptive=False, rate_per_s=3.0, pause=False)
    assert settings.within(None, "tile") is settings
    within = settings.within(Provider("h", rate_per_s=5.0, in_flight_max=100), "tile")
    assert within == settings


@pytest.mark.parametrize(
    ("lane_class", "in_flight_max", "most"), [("wms", 100, 8), ("wms", 3, 3), ("cdn", 100, 100)]
)
def test_provider_lowers_the_maximum_of_a_class_and_never_raises_it(
    lane_class: str, in_flight_max: int, most: int
) -> None:
    within = LaneSettings().within(Provider("h", in_flight_max=in_flight_max), lane_class)
    assert within.most(lane_class) == most


def test_provider_without_a_number_leaves_the_maximum_to_the_class() -> None:
    assert LaneSettings().within(Provider("h", rate_per_s=1.0), "cdn") == LaneSettings(rate_per_s=1.0)
