"""The service: one ASGI application, and the server that listens for it."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from tilehaul.jobs.batch import DEADLINE_S
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import Reply
from tilehaul.policy.keyring import ApiKey
from tilehaul.ports.clock import Clock
from tilehaul.ports.lane import ProcessFigures
from tilehaul.ports.store import CacheStats
from tilehaul.server.admin import Admin, Forget
from tilehaul.server.boarding import Boarding
from tilehaul.server.callers import Callers
from tilehaul.server.connections import OpenConnections, backlog_of, connections_max_of, files_max
from tilehaul.server.cors import Cors
from tilehaul.server.early_hits import EarlyHits, HotCache
from tilehaul.server.figures import Figures, Others
from tilehaul.server.listener import listen, url_at
from tilehaul.server.meter import TURNED_AWAY, Meter
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.page_files import read_page_files
from tilehaul.server.protocol import bound_protocol
from tilehaul.server.quiet_uvicorn import DRAIN_S, QuietUvicorn
from tilehaul.server.readiness import Check, Readiness
from tilehaul.server.reply import to_response
from tilehaul.server.routes import Routes
from tilehaul.server.tile_routes import TileRoutes
from tilehaul.server.waiting_room import TILES_WAITING_MAX, WaitingRoom
from tilehaul.wiring.running_jobs import RunningJobs

HOST_DEFAULT = "127.0.0.1"
PORT_DEFAULT = 8080
# Somebody looking at a map pans every few seconds; half a minute spares most of the new connections.
KEEP_ALIVE_S = 30


# The address of a tile, and what its parts are: see `TileRoutes.entries`.
TILES = "/api/tiles/"
TILE_PARTS = ("layer", "z", "x", "file")


def _random_id() -> str:
    return secrets.token_hex(8)


class Service:
    """The ASGI application. Made by `make_app`."""

    def __init__(
        self, routes: Routes, early_hits: EarlyHits | None, boarding: Boarding | None, meter: Meter | None
    ) -> None:
        self.early_hits = early_hits
        self.boarding = boarding
        self.meter = meter
        self.new_request_id = routes.new_request_id
        self._routes = routes

        async def refused(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class only
            return routes.response(routes.refused(error, request), request)

        self._tile = routes.door(routes.tiles.tile)
        self._app = Starlette(routes=routes.table(), exception_handlers={HTTPException: refused})
        # An address with one slash more or less is another address: no redirects that cost a round trip.
        self._app.router.redirect_slashes = False

    @property
    def figures(self) -> Figures:
        """What the service tells of itself."""
        return self._routes.tiles.figures

    @property
    def tiles_waiting(self) -> int:
        """Tile requests that wait for an answer now, those answered from memory left out."""
        return self._routes.tiles.room.total

    def drain(self) -> None:
        """From now on `/health/ready` says no, so that a balancer sends nobody here."""
        self._routes.readiness.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turned_away: Reply | None = scope.get("state", {}).get(TURNED_AWAY)
        if turned_away is not None:
            await to_response(turned_away, Request(scope))(scope, receive, send)
            return
        if scope["path"].startswith(TILES) and scope["method"] in ("GET", "HEAD"):
            # Before the framework's routing, which costs as much as all the rest of a tile.
            parts = scope["path"][len(TILES) :].split("/")
            if len(parts) == len(TILE_PARTS) and all(parts):
                scope["path_params"] = dict(zip(TILE_PARTS, parts, strict=True))
                await (await self._tile(Request(scope, receive)))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def make_app(
    layers: Sequence[Layer],
    cache: HotCache | None,
    *,
    clock: Clock,
    public_url: str = "",
    own_hosts: Iterable[str] = (),
    tiles_waiting_max: int = TILES_WAITING_MAX,
    deadline_s: float = DEADLINE_S,
    checks: Mapping[str, Check] | None = None,
    process: Callable[[], ProcessFigures] | None = None,
    disk: Callable[[], CacheStats | None] | None = None,
    jobs: RunningJobs | None = None,
    admin_key: str = "",
    keys: Iterable[ApiKey] = (),
    meter: Meter | None = None,
    cors: Cors | None = None,
    forget: Forget | None = None,
    others: Others | None = None,
    started_s: float | None = None,
    new_request_id: Callable[[], str] = _random_id,
) -> Service:
    """The service over `layers`.

    Args:
        cache: The memory cache the layers' sources keep their answers in; its hits are answered
            before routing. None: no cache, nothing is answered early.
        clock: The one the layers' `CachedSource`s have.
        public_url: Address under which clients reach the service, for absolute URLs.
        own_hosts: Host names that may appear in absolute URLs when there is no `public_url`.
        tiles_waiting_max: Tile requests that may wait for one layer at once, > 0: see `WaitingRoom`.
        deadline_s: A tile, or what is left of a batch, that has not come by then is 504.
        checks: Named conditions of `/health/ready`.
        process, disk: Asked for what `/api/stats` tells of the process, and of the cache on disk.
        jobs: Those that clients may start; whoever made them closes them. None: nobody may.
        admin_key, forget: See `Admin`. The admin's key opens every layer.
        keys: Those that open private layers.
        cors: Which pages may read answers; None: all.
        meter: Holds each client to its limit, in the server's own hands; None: none has one.
        others: The other processes of the service; None: there are none.
        started_s: When the service began, on `clock`; None: now.
        new_request_id: Names a request that brought no X-Request-Id.

    Raises:
        ConfigError: Two layers of one name, or a setting is wrong.
    """
    by_name: dict[str, Layer] = {}
    for layer in layers:
        if layer.name in by_name:
            raise ConfigError(f"layers.{layer.name}: there are two layers of this name")
        by_name[layer.name] = layer
    own = OwnHosts(public_url, frozenset(host.lower() for host in own_hosts))
    callers = Callers.of(by_name, keys, admin_key=admin_key, jobs_key=jobs.key if jobs is not None else "")
    routes = Routes(
        tiles=TileRoutes(
            callers,
            Figures(by_name, cache, process, jobs, clock, others, meter, disk),
            own,
            Admin(own, admin_key, forget, others),
            WaitingRoom(tiles_waiting_max),
            deadline_s=deadline_s,
        ),
        clock=clock,
        own_hosts=own,
        pages=read_page_files(),
        new_request_id=new_request_id,
        readiness=Readiness(dict(checks or {}), clock),
        started_s=clock.now_s() if started_s is None else started_s,
        jobs=jobs,
        meter=meter,
        cors=cors or Cors(),
    )
    if cache is None:
        return Service(routes, None, None, meter)
    early = EarlyHits(callers, cache, clock.now_s, new_request_id, routes.cors)
    return Service(routes, early, Boarding(routes.tiles, cache, new_request_id, routes.cors), meter)


class Server:
    """Listens on one address for one `Service`, inside the running loop.

    Args:
        port: 0 takes a free one.
        listener: A socket that listens already, instead of `host` and `port`; this closes it.
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
        listener: socket.socket | None = None,
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
        self._listener = listener
        self._protocol = bound_protocol(
            app.early_hits, app.boarding, doors=doors, meter=app.meter, new_request_id=app.new_request_id
        )
        self._uvicorn = QuietUvicorn(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                http=self._protocol,
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
        return url_at(*self._address)

    async def start(self) -> tuple[str, int]:
        """Listen. Returns the address and port really taken.

        Raises:
            ConfigError: The port is in use or not allowed, or the host is not of this machine.
        """
        listener = self._listener or listen(self._host, self._port, self._backlog)
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

    def renew(self, app: Service) -> None:
        """Requests from now on are answered by `app`, on the same connections; those under way end where
        they began.
        """
        self._app = app
        self._protocol.hits = app.early_hits
        self._protocol.boarding = app.boarding
        self._protocol.meter = app.meter

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

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
