"""The lanes of several openings: who sends to one upstream shares one lane, whoever asks."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from tilehaul.errors import PlanError
from tilehaul.net.lane import Lane
from tilehaul.net.lane_settings import LaneSettings, LaneTools
from tilehaul.policy.providers import Provider, Providers
from tilehaul.policy.rate import Rate
from tilehaul.ports.clock import Clock
from tilehaul.ports.wire import Request

# A service that is given ever new hosts must not grow for ever.
LANES_MAX = 10_000


class LanePool:
    """A lane for each scheme, host, port and class, made when it is first asked for.

    Senders that share a pool share its lanes: one limit, one gate, one breaker, one budget for all of them.
    The first to come makes a lane, with its settings and tools: see to it that all mean the same.
    `held`: see `LaneTools`.
    """

    def __init__(self, held: Callable[[str, float], None] | None = None) -> None:
        self._held = held
        # That of the lanes.
        self._clock: Clock | None = None
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._rates: dict[str, Rate | None] = {}

    def lane_of(
        self, request: Request, settings: LaneSettings, tools: LaneTools, providers: Providers
    ) -> Lane:
        """The request's lane. What `providers` say of its host lowers what `settings` allow.

        Raises PlanError when there would be more than LANES_MAX.
        """
        key = lane_key(request)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                raise PlanError(f"more than {LANES_MAX} upstream hosts in one run")
            host = key[0].rpartition("@")[2].rpartition("//")[2]
            name = f"{host} ({request.lane_class})"
            self._clock = tools.clock
            provider = providers.of(request.url)
            within = settings.within(provider, request.lane_class).of_this_process(request.lane_class)
            rate = self._rate_of(provider, within)
            lane = self._lanes[key] = Lane(
                name, request.lane_class, within, replace(tools, held=self._held), rate
            )
        return lane

    def hold(self, name: str, delay_s: float) -> None:
        """An upstream has asked another process of ours to wait so long: the lanes of that name, if there are
        any, wait as well.
        """
        for lane in self._lanes.values():
            if lane.name == name and self._clock is not None:
                now_s = self._clock.now_s()
                lane.gate.hold(now_s, delay_s, 0.0)
                lane.refuse_if_held(now_s)
                lane.look(now_s)

    async def aclose(self) -> None:
        """End the lanes' timers. Nobody may send any more."""
        for lane in self._lanes.values():
            await lane.aclose()

    def _rate_of(self, provider: Provider | None, settings: LaneSettings) -> Rate | None:
        """A provider's rate is for all of its hosts together (`a.`, `b.`, `c.tiles.example.com`)."""
        if provider is None or provider.rate_per_s is None:
            return settings.new_rate()
        rate = self._rates[provider.host] = self._rates.get(provider.host) or settings.new_rate()
        return rate


# Spellings of origins remembered: a template with subdomains has a handful.
ORIGINS_KEPT = 1024
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def lane_key(request: Request) -> tuple[str, str]:
    """Scheme, host and port of the address, and the class; a full parse costs ten times as much.

    One upstream has one key, however its address is spelled: `HTTP://User@Host:80` is `http://host`.
    """
    url = request.url
    end = url.find("/", 8)
    origin = url if end < 0 else url[:end]
    # A template may put its query straight behind the host.
    if "?" in origin or "#" in origin:
        origin = origin.partition("?")[0].partition("#")[0]
    return _normal(origin), request.lane_class


@lru_cache(maxsize=ORIGINS_KEPT)
def _normal(origin: str) -> str:
    scheme, _, authority = origin.partition("://")
    scheme = scheme.lower()
    host = authority.rpartition("@")[2].lower().rstrip(".")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}"
