"""A TCP proxy that harms the connections it carries, for tests and by hand.

    async with FaultProxy(server.base_url, LinkPlan.of("reset=500@10%", seed=1)) as proxy:
        ...  # proxy.url_of(server.template), proxy.stats()

Bytes are passed on as they are: TLS goes through, and the Host header is the client's.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from tilehaul.errors import ConfigError
from tilehaul.lab.fault_link import Link, LinkTally, reset_at_close
from tilehaul.lab.link_faults import Fate, LinkPlan
from tilehaul.net.addresses import host_port_of

CONNECTIONS_MAX: Final = 4096
BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class ProxyStats:
    """What went through since the proxy was opened.

    `connections` were accepted, `open` are so now. Bytes up are the clients', down the upstream's, as
    handed on. `by_fault` counts connections by what became of them: `cut`, `reset`, `black_hole`,
    `upstream_away` (it could not be reached: closed), `connections_full` (over CONNECTIONS_MAX: reset).
    """

    connections: int = 0
    open: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    by_fault: dict[str, int] = field(default_factory=dict)


class FaultProxy:
    """Listens on `host` and `port` (0: any free one) for clients of one upstream. One loop owns it.

    Args:
        upstream: Where to: `http://host:port`, what follows is kept for `url_of`.
        plan: What goes wrong. `use` changes it.
        now_s: Monotonic seconds.

    Raises (on entry):
        ConfigError: The upstream is no http(s) address; the port is in use.
    """

    def __init__(
        self,
        upstream: str,
        plan: LinkPlan | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        host_port_of(upstream)
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        self.plan = plan or LinkPlan()
        self.host, self.port = host, port
        self._tally = LinkTally()
        self._now_s = now_s
        self._begun_s = now_s()
        self._listener: socket.socket | None = None
        self._door: asyncio.Task[None] | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._listen()
        await self.use(self.plan)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, cut every connection."""
        del kind, error, trace
        try:
            await self._stop_door()
        finally:
            self._shut()
            for link in self._links:
                link.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)
            # Sockets are closed in the loop's next rounds.
            for _ in range(3):
                await asyncio.sleep(0)

    async def use(self, plan: LinkPlan) -> None:
        """Another plan, whose time begins now; open connections meet it with what they say next."""
        await self._stop_door()
        self.plan, self._begun_s = plan, self._now_s()
        wait_s = self._set_door()
        if wait_s < inf:
            self._door = self._loop.create_task(self._keep_door(wait_s))

    def url_of(self, url: str) -> str:
        """An address of the upstream, as a client of the proxy writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return urlunsplit(urlsplit(url)._replace(netloc=f"{host}:{self.port}"))

    def stats(self) -> ProxyStats:
        """The counters now."""
        tally, by_fault = self._tally, dict(sorted(self._tally.by_fault.items()))
        return ProxyStats(tally.connections, len(self._links), tally.bytes_up, tally.bytes_down, by_fault)

    def elapsed_s(self) -> float:
        """Since the plan began."""
        return self._now_s() - self._begun_s

    def _listen(self) -> None:
        # Not asyncio's server: closing that in the moment of an accept leaves a socket behind.
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listener = socket.create_server((self.host, self.port), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {self.host}:{self.port}: {error}") from error
        listener.setblocking(False)
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    def _shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.remove_reader(listener)
            listener.close()

    def _set_door(self) -> float:
        """Listen or not, as the plan says now. Seconds until it may say something else."""
        elapsed_s = self.elapsed_s()
        if self.plan.refuses(elapsed_s):
            self._shut()
        elif self._listener is None:
            self._listen()
        return self.plan.next_edge_s(elapsed_s) - elapsed_s

    async def _keep_door(self, wait_s: float) -> None:
        while wait_s < inf:
            await asyncio.sleep(wait_s)
            wait_s = self._set_door()

    async def _stop_door(self) -> None:
        """Raises what ended it early."""
        door, self._door = self._door, None
        if door is not None:
            door.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await door

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # the client is gone already
        client.setblocking(False)
        if len(self._links) >= CONNECTIONS_MAX:
            self._tally.by_fault["connections_full"] += 1
            reset_at_close(client)
            client.close()
            return
        self._tally.connections += 1
        number = self._tally.connections

        def fate() -> Fate:
            return self.plan.fate(number, self.elapsed_s())

        link = self._loop.create_task(Link(self.upstream, fate, self._tally, self._now_s).run(client))
        self._links.add(link)

        def ended(link: asyncio.Task[None]) -> None:
            self._links.discard(link)
            client.close()  # where it was cancelled before it began

        link.add_done_callback(ended)
