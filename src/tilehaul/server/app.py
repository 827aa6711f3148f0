"""The service: one ASGI application, and the server that listens for it."""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tilehaul.errors import ConfigError, StorageError
from tilehaul.jobs.layer import Layer
from tilehaul.ports.clock import Clock
from tilehaul.ports.lane import ProcessFigures
from tilehaul.ports.store import CacheStats
from tilehaul.server.admin import Admin, Forget
from tilehaul.server.connections import OpenConnections, backlog_of, connections_max_of, files_max
from tilehaul.server.early_hits import EarlyHits, HotCache
from tilehaul.server.listener import listen
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.page_files import read_page_files
from tilehaul.server.protocol import bound_protocol
from tilehaul.server.reply import to_response
from tilehaul.server.routes import Routes
from tilehaul.server.tile_routes import TILES_WAITING_MAX, TileRoutes
from tilehaul.wiring.running_jobs import RunningJobs

log = logging.getLogger(__name__)

HOST_DEFAULT = "127.0.0.1"
PORT_DEFAULT = 8080
# Somebody looking at a map pans every few seconds; half a minute spares most of the new connections.
KEEP_ALIVE_S = 30
# Long enough for a tile on its way from a slow origin, short enough for a service manager's patience.
DRAIN_S = 10.0
TICK_S = 1.0
# How often a stopping server looks whether the last connection has gone.
DRAIN_LOOK_S = 0.01
# What is cut at the end of the patience has this long to notice it.
CUT_S = 0.5


def _random_id() -> str:
    return secrets.token_hex(8)


class Service:
    """The ASGI application. Made by `make_app`."""

    def __init__(self, routes: Routes, early_hits: EarlyHits | None) -> None:
        self.early_hits = early_hits
        self.new_request_id = routes.new_request_id
        self._routes = routes

        async def refused(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class only
            return to_response(routes.refused(error, request), request)

        self._app = Starlette(routes=routes.table(), exception_handlers={HTTPException: refused})
        # An address with one slash more or less is another address: no redirects that cost a round trip.
        self._app.router.redirect_slashes = False

    @property
    def tiles_waiting(self) -> int:
        """Tile requests that wait for an answer now, those answered from memory left out."""
        return self._routes.tiles.tiles_waiting

    def drain(self) -> None:
        """From now on `/health/ready` says no, so that a balancer sends nobody here."""
        self._routes.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def make_app(
    layers: Sequence[Layer],
    cache: HotCache | None,
    *,
    clock: Clock,
    public_url: str = "",
    own_hosts: Iterable[str] = (),
    tiles_waiting_max: int = TILES_WAITING_MAX,
    checks: Mapping[str, Callable[[], bool]] | None = None,
    process: Callable[[], ProcessFigures] | None = None,
    disk: Callable[[], CacheStats | None] | None = None,
    jobs: RunningJobs | None = None,
    admin_key: str = "",
    forget: Forget | None = None,
    new_request_id: Callable[[], str] = _random_id,
) -> Service:
    """The service over `layers`.

    Args:
        cache: The memory cache the layers' sources keep their answers in; its hits are answered
            before routing. None: no cache, nothing is answered early.
        clock: The one the layers' `CachedSource`s have.
        public_url: Address under which clients reach the service, for absolute URLs.
        own_hosts: Host names that may appear in absolute URLs when there is no `public_url`.
        tiles_waiting_max: Tile requests that may wait at once, > 0; one more gets 503.
        checks: Named conditions of `/health/ready`.
        process, disk: Asked for what `/api/stats` tells of the process, and of the cache on disk.
        jobs: Those that clients may start; whoever made them closes them. None: nobody may.
        admin_key, forget: See `Admin`.
        new_request_id: Names a request that brought no X-Request-Id.

    Raises:
        ConfigError: Two layers of one name, or a setting is wrong.
    """
    by_name: dict[str, Layer] = {}
    for layer in layers:
        if layer.name in by_name:
            raise ConfigError(f"layers.{layer.name}: there are two layers of this name")
        by_name[layer.name] = layer
    if tiles_waiting_max < 1:
        raise ConfigError("tiles_waiting_max must be at least 1")
    own = OwnHosts(public_url, frozenset(host.lower() for host in own_hosts))
    routes = Routes(
        tiles=TileRoutes(
            by_name, cache, own, Admin(own, admin_key, forget), tiles_waiting_max=tiles_waiting_max
        ),
        clock=clock,
        own_hosts=own,
        pages=read_page_files(),
        new_request_id=new_request_id,
        checks=dict(checks or {}),
        started_s=clock.now_s(),
        process=process,
        disk=disk,
        jobs=jobs,
    )
    early = EarlyHits(by_name, cache, clock.now_s, new_request_id) if cache is not None else None
    return Service(routes, early)


class _Uvicorn(uvicorn.Server):
    """uvicorn inside a loop that is not its own: no signal handlers, and it says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it should end. This one is told, and wakes
        # once a second only for the Date header (tick 0 renews it).
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leave.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own waits a tenth of a second whether somebody is there or not, and when its
        # patience ends leaves the connections of clients that do not read open.
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if not await self._all_gone(self.config.timeout_graceful_shutdown or 0):
            log.warning("%d requests were cut when the service stopped", len(state.tasks))
            # A request whose client is gone ends by itself, quietly; what does not is cancelled.
            for connection in list(state.connections):
                connection.transport.abort()
            if not await self._all_gone(CUT_S):
                for task in state.tasks:
                    task.cancel()
                await self._all_gone(CUT_S)
        for server in self.servers:
            await server.wait_closed()

    async def _all_gone(self, wait_s: float) -> bool:
        state = self.server_state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn's sets tell nobody
                    await asyncio.sleep(DRAIN_LOOK_S)
        return not state.connections and not state.tasks

    def end(self) -> None:
        self.should_exit = True
        self.leave.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """Listens on one address for one `Service`, inside the running loop.

    Args:
        port: 0 takes a free one.
        keep_alive_s: An idle connection is closed after this.
        drain_s: `stop` gives requests on their way this long.
        connections_max: Open at once, >= 1; see `OpenConnections`. None: as many as `CONNECTIONS_MAX`
            and the limit on this process's open files allow.

    Raises:
        ConfigError: `connections_max` is below 1.
    """

    def __init__(
        self,
        app: Service,
        *,
        host: str = HOST_DEFAULT,
        port: int = PORT_DEFAULT,
        keep_alive_s: int = KEEP_ALIVE_S,
        drain_s: float = DRAIN_S,
        connections_max: int | None = None,
    ) -> None:
        if connections_max is not None and connections_max < 1:
            raise ConfigError(f"connections_max: {connections_max} is below 1")
        files = files_max()
        doors = OpenConnections(connections_max or connections_max_of(files))
        self._backlog = backlog_of(doors.connections_max, files)
        self._app = app
        self._host = host
        self._port = port
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=bound_protocol(app.early_hits, doors=doors, new_request_id=app.new_request_id),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                headers=[("server", "tilehaul")],
                backlog=self._backlog,
                timeout_keep_alive=keep_alive_s,
                timeout_graceful_shutdown=ceil(drain_s),
            )
        )
        self._running: asyncio.Task[None] | None = None
        self._address: tuple[str, int] | None = None

    @property
    def url(self) -> str:
        """`http://host:port` of a started server."""
        if self._address is None:
            raise RuntimeError("the server has not been started")
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> tuple[str, int]:
        """Listen. Returns the address and port really taken.

        Raises:
            ConfigError: The port is in use or not allowed, or the host is not of this machine.
        """
        listener = listen(self._host, self._port, self._backlog)
        self._address = listener.getsockname()[:2]
        self._running = asyncio.create_task(self._uvicorn.serve(sockets=[listener]))
        up = asyncio.create_task(self._uvicorn.up.wait())
        try:
            await asyncio.wait((up, self._running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._running.done():
            await self._running
            raise StorageError("the server ended while it was starting")
        return self._address

    async def wait(self) -> None:
        """Until the server has ended; raises what ended it."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def stop(self) -> None:
        """Take no new connection, let requests on their way end (at most `drain_s`), close. Safe twice."""
        self._app.drain()
        self._uvicorn.end()
        if self._running is not None:
            await self._running

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
