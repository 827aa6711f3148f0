"""A TCP proxy that harms the connections it carries, for tests and by hand.

    async with FaultProxy(server.base_url, LinkPlan.of("reset=500@10%", seed=1)) as proxy:
        ...  # proxy.url_of(server.template), proxy.stats()

Bytes are passed on as they are: TLS goes through, and the Host header is the client's.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Final, Self, cast
from urllib.parse import urlsplit, urlunsplit

from tilehaul.errors import ConfigError
from tilehaul.lab.link_faults import End, Fate, LinkPlan
from tilehaul.net.addresses import host_port_of

PIECE_BYTES: Final = 64 * 1024
# On their way down in one connection; beyond it the upstream is not read.
PIECES_MAX: Final = 16
CONNECTIONS_MAX: Final = 4096
BACKLOG: Final = 1024
# A throttled connection is written to this often, unless single bytes are slower than that.
DRIP_S: Final = 0.02
# Bytes before a reset need to leave first: a reset throws away what is not sent yet.
RESET_AFTER_S: Final = 0.005
# A client that was told the end has this long to say its own.
FAREWELL_S_MAX: Final = 2.0
# Close at once with RST instead of FIN (Linux socket(7), SO_LINGER).
LINGER_NONE: Final = struct.pack("ii", 1, 0)


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
        self.connections = self.bytes_up = self.bytes_down = 0
        self.by_fault: Counter[str] = Counter()
        self.now_s = now_s
        self._begun_s = now_s()
        self._server: asyncio.Server | None = None
        self._door: asyncio.Task[None] | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await self._listen()
        self.port = int(self._server.sockets[0].getsockname()[1])
        await self.use(self.plan)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, cut every connection."""
        del kind, error, trace
        await self._stop_door()
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def use(self, plan: LinkPlan) -> None:
        """Another plan, whose time begins now; open connections meet it with what they say next."""
        await self._stop_door()
        self.plan, self._begun_s = plan, self.now_s()
        wait_s = await self._set_door()
        if wait_s < inf:
            self._door = asyncio.create_task(self._keep_door(wait_s))

    def url_of(self, url: str) -> str:
        """An address of the upstream, as a client of the proxy writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return urlunsplit(urlsplit(url)._replace(netloc=f"{host}:{self.port}"))

    def stats(self) -> ProxyStats:
        """The counters now."""
        by_fault = dict(sorted(self.by_fault.items()))
        return ProxyStats(self.connections, len(self._links), self.bytes_up, self.bytes_down, by_fault)

    def elapsed_s(self) -> float:
        """Since the plan began."""
        return self.now_s() - self._begun_s

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(
                self._accept, self.host, self.port, backlog=BACKLOG, limit=PIECE_BYTES
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {self.host}:{self.port}: {error}") from error

    async def _set_door(self) -> float:
        """Listen or not, as the plan says now. Seconds until it may say something else."""
        elapsed_s = self.elapsed_s()
        if self.plan.refuses(elapsed_s):
            if self._server is not None:
                self._server.close()
            self._server = None
        elif self._server is None:
            self._server = await self._listen()
        return self.plan.next_edge_s(elapsed_s) - elapsed_s

    async def _keep_door(self, wait_s: float) -> None:
        while wait_s < inf:
            await asyncio.sleep(wait_s)
            wait_s = await self._set_door()

    async def _stop_door(self) -> None:
        """Raises what ended it early."""
        door, self._door = self._door, None
        if door is not None:
            door.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await door

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._links) >= CONNECTIONS_MAX:
            self.by_fault["connections_full"] += 1
            writer.transport.abort()
            return
        self.connections += 1
        link = asyncio.get_running_loop().create_task(_Link(self, self.connections, reader, writer).run())
        self._links.add(link)
        link.add_done_callback(self._links.discard)


class _Link:
    """One connection: up at once, down as the fate of the moment says.

    Its methods answer with how it ends for the client: `cut` is an ordinary end too.
    """

    def __init__(
        self, proxy: FaultProxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._number = number
        self._reader, self._writer = reader, writer
        self._down = 0
        # When it is due, and the bytes: none at the upstream's end, None at its reset.
        self._coming: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(PIECES_MAX)

    async def run(self) -> None:
        """Carry until one side ends or a fault does."""
        end: End = "cut"
        try:
            end = self._end_at_once() or await self._carry()
            while end == "black_hole" and await self._reader.read(PIECE_BYTES):
                pass
        except OSError:
            pass  # the client did not wait for the end of the silence
        finally:
            await self._close(reset=end == "reset")

    def _fate(self) -> Fate:
        proxy = self._proxy
        return proxy.plan.fate(self._number, proxy.elapsed_s())

    def _end_at_once(self) -> End | None:
        fate = self._fate()
        return None if fate.end is None or fate.end_bytes is not None else self._struck(fate.end)

    def _struck(self, end: End) -> End:
        self._proxy.by_fault[end] += 1
        return end

    async def _carry(self) -> End:
        try:
            upstream, up = await asyncio.open_connection(*self._proxy.upstream, limit=PIECE_BYTES)
        except OSError:
            self._proxy.by_fault["upstream_away"] += 1
            return "cut"
        fetching = asyncio.create_task(self._fetch(upstream))
        upwards = asyncio.create_task(self._pass_up(up))
        downwards = asyncio.create_task(self._pass_down())
        try:
            await asyncio.wait({upwards, downwards}, return_when=asyncio.FIRST_COMPLETED)
            return downwards.result() if downwards.done() else upwards.result()
        finally:
            for task in (fetching, upwards, downwards):
                task.cancel()
            await asyncio.gather(fetching, upwards, downwards, return_exceptions=True)
            # At once, so that the upstream sees a client that is gone.
            up.transport.abort()

    async def _pass_up(self, up: asyncio.StreamWriter) -> End:
        try:
            while piece := await self._reader.read(PIECE_BYTES):
                if (end := self._end_at_once()) is not None:
                    return end
                up.write(piece)
                self._proxy.bytes_up += len(piece)
                await up.drain()
        except OSError:
            return "reset"
        return "cut"

    async def _fetch(self, upstream: asyncio.StreamReader) -> None:
        """Take what comes from the upstream as it comes, so that a delay is one of time and not of pieces."""
        piece: bytes | None = b""
        while True:
            try:
                piece = await upstream.read(PIECE_BYTES)
            except OSError:
                piece = None
            await self._coming.put((self._proxy.now_s() + self._fate().delay_s, piece))
            if not piece:
                return

    async def _pass_down(self) -> End:
        try:
            while True:
                due_s, piece = await self._coming.get()
                wait_s = due_s - self._proxy.now_s()
                if wait_s > 0.0:
                    await asyncio.sleep(wait_s)
                if not piece:
                    return "reset" if piece is None else "cut"
                end = await self._hand_on(piece)
                if end is not None:
                    return end
        except OSError:
            return "cut"  # the client is gone

    async def _hand_on(self, piece: bytes) -> End | None:
        """Write a piece as slowly, and as much of it, as may be."""
        at = 0
        while True:
            fate = self._fate()
            size = len(piece) - at
            if fate.end is not None:
                left = (fate.end_bytes or 0) - self._down
                if left <= 0:
                    return self._struck(fate.end)
                size = min(size, left)
            if size == 0:
                return None
            if fate.bytes_per_s < inf:
                size = min(size, max(int(fate.bytes_per_s * DRIP_S), 1))
            self._writer.write(piece[at : at + size])
            await self._writer.drain()
            at += size
            self._down += size
            self._proxy.bytes_down += size
            if fate.bytes_per_s < inf:
                await asyncio.sleep(size / fate.bytes_per_s)

    async def _close(self, *, reset: bool) -> None:
        transport = self._writer.transport
        if not reset:
            try:
                # What the client still says is heard out: closing a socket with unread bytes sends a RST.
                async with asyncio.timeout(FAREWELL_S_MAX):
                    self._writer.write_eof()
                    while await self._reader.read(PIECE_BYTES):
                        pass
            except OSError:
                pass  # TimeoutError is one: the client takes its time
            finally:
                transport.close()
            return
        try:
            await asyncio.sleep(RESET_AFTER_S)
        finally:
            # A socket that is gone already needs no reset.
            with contextlib.suppress(OSError):
                opened = cast("socket.socket", transport.get_extra_info("socket"))
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            transport.abort()
