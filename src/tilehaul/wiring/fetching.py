"""Single fetches, each with its own patience, over connections and lanes that all of them share."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf

from tilehaul.codec.safe_url import redact
from tilehaul.config.sending import Sending, check_patience, timeouts_of
from tilehaul.errors import ConfigError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.net.addresses import host_port_of
from tilehaul.net.clock import SystemClock
from tilehaul.net.lane_pool import LANES_MAX
from tilehaul.net.laned import LanedSender
from tilehaul.net.manners import check_named
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request, Response, Signing
from tilehaul.sources.xyz import XyzOpener
from tilehaul.wiring.senders import allowed_hosts, open_laned

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one fetch is tried.

    Args:
        timeout_s: As `Sending.timeout_s`.
        retries: Attempts after the first, >= 0.
        delay_s_first: Ceiling of the wait before the second attempt, >= 0; it doubles from attempt to
            attempt, and the wait is drawn evenly below it (unless `growth` and `jitter` say otherwise).
        delay_s_max: The ceiling never exceeds this, >= 0.
        wait_s_max: Longest wait in all for an upstream that pushes back, >= 0.
        growth, jitter: As `RetryRule`.

    Raises:
        ConfigError: A number out of range.
    """

    timeout_s: float = 10.0
    retries: int = 2
    delay_s_first: float = 0.2
    delay_s_max: float = 2.0
    wait_s_max: float = 60.0
    growth: float = 2.0
    jitter: float = 1.0

    def __post_init__(self) -> None:
        check_patience("timeout", self.timeout_s)
        if self.retries < 0:
            raise ConfigError(f"retries must be 0 or more, not {self.retries}")
        for seconds in (self.delay_s_first, self.delay_s_max, self.wait_s_max):
            if not 0.0 <= seconds < inf:
                raise ConfigError(f"waits must be 0 seconds or more, not {seconds}")
        if not (1.0 <= self.growth <= 4.0 and 0.0 <= self.jitter <= 1.0):
            raise ConfigError("growth of waits must be 1 to 4, and their jitter 0 to 1")

    def rule(self) -> RetryRule:
        """The same for one fetch."""
        return RetryRule(
            attempts_max=self.retries + 1,
            delay_s_first=self.delay_s_first,
            delay_s_max=self.delay_s_max,
            wait_s_max=self.wait_s_max,
            growth=self.growth,
            jitter=self.jitter,
        )


class Fetcher:
    """Made by `open_fetcher`. Fetches share connections, lanes, guard and tally.

    Addresses given here come from the program that calls, so they may be private; where they redirect to
    may not. At most LANES_MAX hosts.
    """

    def __init__(
        self, laned: LanedSender, sending: Sending, allowed: set[str], tally: Tally, clock: Clock
    ) -> None:
        self._laned = laned
        self._sending = sending
        self._allowed = allowed
        self._clock = clock
        self.tally = tally

    async def get(
        self,
        url: str,
        patience: Patience,
        *,
        headers: Headers = (),
        contact: str = "",
        lane_class: str = "tile",
    ) -> Response:
        """One tile by its address. `contact`: named in `headers`, besides the one of the sending.

        Returns:
            A verified response: a tile (200, 206), or the statement that there is none (404, 410, 204).

        Raises:
            ConfigError: Not an http or https address.
            PlanError: More than LANES_MAX hosts; or the host asks every client for a contact.
            TransferError, DataError, BusyError: It did not come; TransferError and DataError tell `attempts`.
        """
        self._allow((url,), contact or self._sending.contact)
        return await _PatientSender(self, patience).send(Request(url, headers=headers, lane_class=lane_class))

    async def tile(self, source_of: XyzOpener, tile_id: TileId, patience: Patience) -> Tile | NoTile:
        """One tile of a service. Raises as `get`."""
        self._allow(source_of.typed_urls, self._sending.contact)
        return await source_of(_PatientSender(self, patience)).get(tile_id)

    def lanes(self) -> tuple[LaneSnapshot, ...]:
        """The lanes as they are now."""
        return self._laned.snapshots()

    async def send(self, request: Request, patience: Patience) -> Response:
        retried = RetriedSender(self._laned, patience.rule(), self._clock, random.random, self.tally)
        return await retried.send(request._replace(timeouts=timeouts_of(patience.timeout_s)))

    def _allow(self, urls: Sequence[str], contact: str) -> None:
        check_named(urls, self._sending.rules(), contact=contact)
        for url in urls:
            host = host_port_of(url)
            if host not in self._allowed:
                if len(self._allowed) >= LANES_MAX:
                    raise PlanError(f"more than {LANES_MAX} upstream hosts in one run: {redact(url)}")
                self._allowed.add(host)


@dataclass(frozen=True, slots=True)
class _PatientSender:
    """A sender for one fetch."""

    fetcher: Fetcher
    patience: Patience

    async def send(self, request: Request) -> Response:
        return await self.fetcher.send(request, self.patience)


@asynccontextmanager
async def open_fetcher(
    sending: Sending,
    *,
    connections_max: int | None = None,
    pause: bool = False,
    signing: Signing | None = None,
    start: int | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Fetcher]:
    """Open connections for single fetches.

    Args:
        sending: Its retries and timeouts are not used: every fetch brings its own `Patience`.
        connections_max: Connections to all hosts together; None: enough for one lane at its limit.
        pause: While a host that fails is left alone, a fetch waits; else it raises BusyError.
        signing: See `open_laned`: every request is signed, so only a bucket's addresses may be asked for.
        start: What a lane's limit begins with; None: as its class says.
        clock: On which a fetch waits between its attempts; None: the real one.

    Raises:
        ConfigError: A setting is wrong.
    """
    allowed = allowed_hosts(sending, ())
    tally = Tally()
    async with open_laned(
        sending,
        allowed,
        tally=tally,
        connections_max=connections_max,
        pause=pause,
        signing=signing,
        start=start,
    ) as laned:
        yield Fetcher(laned, sending, allowed, tally, clock or SystemClock())
