"""The service's addresses: what each of them answers."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import inf

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tilehaul.errors import BusyError, PlanError, TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import Reply, TileRequest, etag_matches, serve_tile
from tilehaul.ports.clock import Clock
from tilehaul.ports.correlation import REQUEST_ID
from tilehaul.ports.lane import ProcessFigures
from tilehaul.server.describe import cache_stats, layer_json, layer_tilejson, service_stats
from tilehaul.server.early_hits import HotCache
from tilehaul.server.job_routes import JOB_CAUSES, JobRoutes
from tilehaul.server.lanes import LanesByLayer, health_json, lanes_json
from tilehaul.server.metrics import Seen, metrics_reply
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.page_files import PageFile
from tilehaul.server.reply import (
    accepts_gzip,
    checked,
    error_reply,
    joined,
    json_reply,
    own_request_id,
    refusal,
    to_response,
)
from tilehaul.server.statuses import cause_of
from tilehaul.server.while_connected import while_connected
from tilehaul.wiring.running_jobs import RunningJobs

log = logging.getLogger(__name__)

# Tile requests that may wait for origins at once. Each holds a task and a connection (about 30 kB).
TILES_WAITING_MAX = 1_000
# Who asks for figures more often than this is told the same ones again.
LANES_FRESH_S = 1.0

# `blob:` because the page loads tiles with fetch() to read their headers.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)

_FILE = re.compile(r"([0-9]{1,10})\.([A-Za-z0-9]{1,8})\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}\Z", re.ASCII)

# A stream answers by itself; every other answer is a plain reply.
Answer = Callable[[Request], Awaitable[Reply | Response]]


@dataclass(slots=True)
class Routes:
    """All answers of one service. Mutable only in what it counts and in `draining`."""

    layers: Mapping[str, Layer]
    cache: HotCache | None
    clock: Clock
    own_hosts: OwnHosts
    pages: Mapping[str, PageFile]
    new_request_id: Callable[[], str]
    checks: Mapping[str, Callable[[], bool]]
    tiles_waiting_max: int
    draining: bool = False
    tiles_waiting: int = 0
    started_s: float = 0.0
    process: Callable[[], ProcessFigures] | None = None
    lanes_seen: LanesByLayer = field(default_factory=dict)
    lanes_until_s: float = -inf
    jobs: RunningJobs | None = None

    def table(self) -> list[Route]:
        """The framework's routes. HEAD comes with GET."""
        answers: tuple[tuple[str, Answer], ...] = (
            ("/api/tiles/{layer}/{z}/{x}/{file}", self.tile),
            ("/api/tiles/{layer}/cache-stats", self.cache_stats),
            ("/api/tiles/{layer}", self.tilejson),
            ("/api/layers", self.layer_list),
            ("/api/stats", self.all_stats),
            ("/api/health", self.health),
            ("/metrics", self.metrics),
            ("/health/live", self.live),
            ("/health/ready", self.ready),
            ("/static/{name:path}", self.static),
            ("/favicon.ico", self.favicon),
            ("/", self.page),
        )
        jobs = [
            Route(path, self._door(answer), methods=[method])
            for method, path, answer in JobRoutes(self.jobs, self.own_hosts).answers()
        ]
        return [Route(path, self._door(answer), methods=["GET"]) for path, answer in answers] + jobs

    async def tile(self, request: Request) -> Reply:
        layer = self._layer(request)
        tile_id, ext = _parse_address(request)
        asked = TileRequest(
            tile_id,
            ext,
            if_none_match=_told(request, "if-none-match"),
            accepts_gzip=accepts_gzip(_told(request, "accept-encoding")),
            request_id=str(REQUEST_ID.get()),
        )
        if self.tiles_waiting >= self.tiles_waiting_max:
            layer.stats.errors["busy"] += 1
            raise BusyError(f"{self.tiles_waiting} tile requests are waiting already")
        self.tiles_waiting += 1
        try:
            return await while_connected(request, serve_tile(asked, layer))
        except TilehaulError as error:
            cause = cause_of(error)
            layer.stats.errors[cause] += 1
            if not isinstance(error, PlanError):
                # The error's own text may hold the tile's address, so it is for the debug log only.
                facts = {"layer": layer.name, "cause": cause}
                log.warning("layer %s: a tile failed: %s", layer.name, cause, extra={"facts": facts})
                log.debug("layer %s, tile %s: %s", layer.name, tile_id, error)
            raise
        finally:
            self.tiles_waiting -= 1

    async def tilejson(self, request: Request) -> Reply:
        layer = self._layer(request)
        server = request.scope.get("server")
        base = self.own_hosts.base_url(
            request.headers.get("host", ""),
            scheme=request.url.scheme,
            local=(server[0], server[1]) if server else None,
        )
        value = layer_tilejson(layer, base)
        # The answer depends on the name it was asked under.
        return json_reply(value, headers=(("cache-control", "no-cache"), ("vary", "Host")))

    async def cache_stats(self, request: Request) -> Reply:
        layer = self._layer(request)
        stats = cache_stats(layer, self.cache)
        return json_reply({"layer": layer.name, "stats": stats, **stats})

    async def layer_list(self, request: Request) -> Reply:  # noqa: ARG002 - every answer has one form
        return json_reply({"layers": [layer_json(layer) for layer in self.layers.values()]})

    async def all_stats(self, request: Request) -> Reply:  # noqa: ARG002
        figures = service_stats(self.layers, self.cache, uptime_s=self.clock.now_s() - self.started_s)
        process = None if self.process is None else asdict(self.process())
        return json_reply({**figures, "process": process, "lanes": lanes_json(self._lanes())})

    async def metrics(self, request: Request) -> Reply:
        process = None if self.process is None else self.process()
        uptime_s = self.clock.now_s() - self.started_s
        seen = Seen(self.layers, self.cache, self._lanes(), process, uptime_s, self.jobs)
        return metrics_reply(seen, accept=_told(request, "accept"))

    async def health(self, request: Request) -> Reply:  # noqa: ARG002
        return json_reply(health_json(self._lanes()))

    async def live(self, request: Request) -> Reply:  # noqa: ARG002
        return json_reply({"status": "alive"})

    async def ready(self, request: Request) -> Reply:  # noqa: ARG002
        checks = {name: check() for name, check in self.checks.items()}
        checks["accepting"] = not self.draining
        good = all(checks.values())
        return json_reply(
            {"status": "ready" if good else "not ready", "checks": checks}, status=200 if good else 503
        )

    async def page(self, request: Request) -> Reply:
        return self._file(request, "index.html", extra=(("content-security-policy", PAGE_POLICY),))

    async def favicon(self, request: Request) -> Reply:
        return self._file(request, "favicon.svg")

    async def static(self, request: Request) -> Reply:
        return self._file(request, str(request.path_params["name"]))

    def _file(self, request: Request, name: str, *, extra: tuple[tuple[str, str], ...] = ()) -> Reply:
        file = self.pages.get(name)
        if file is None:
            raise HTTPException(404)
        zipped = bool(file.zipped) and accepts_gzip(_told(request, "accept-encoding"))
        # The zipped form is another representation, so it has another strong tag.
        etag = f'{file.etag[:-1]}-gz"' if zipped else file.etag
        shared = (
            ("etag", etag),
            ("cache-control", file.cache_control),
            ("vary", "Accept-Encoding"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            *extra,
        )
        told = _told(request, "if-none-match")
        if told and etag_matches(told, etag):
            return Reply(304, shared)
        coding = (("content-encoding", "gzip"),) if zipped else ()
        return Reply(
            200, (("content-type", file.media_type), *coding, *shared), file.zipped if zipped else file.body
        )

    def _lanes(self) -> LanesByLayer:
        """The lanes of each layer, at most LANES_FRESH_S old: reading one costs up to a millisecond."""
        now_s = self.clock.now_s()
        if now_s >= self.lanes_until_s:
            self.lanes_seen = {name: layer.lanes() for name, layer in self.layers.items()}
            self.lanes_until_s = now_s + LANES_FRESH_S
        return self.lanes_seen

    def _layer(self, request: Request) -> Layer:
        layer = self.layers.get(request.path_params["layer"])
        if layer is None:
            raise HTTPException(404, "there is no such layer; /api/layers lists those there are")
        return layer

    def _request_id(self, request: Request) -> str:
        return own_request_id(request.headers.get("x-request-id", "")) or self.new_request_id()

    def _door(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            # One name for the request, in its answer and in every line of the log that it causes.
            request_id = self._request_id(request)
            named = REQUEST_ID.set(request_id)
            try:
                answered = await answer(request)
                if isinstance(answered, Response):
                    return answered
                reply = checked(answered)
            except TilehaulError as error:
                reply = error_reply(error, request_id)
            except HTTPException as error:
                reply = self.refused(error, request)
            except Exception:
                # The last door before the server's own: a defect of ours, told as such, and logged whole.
                log.exception("a request failed")
                reply = refusal(500, "the service failed; its log says more", "internal", request_id)
            finally:
                REQUEST_ID.reset(named)
            return to_response(reply, request)

        return endpoint

    def refused(self, error: HTTPException, request: Request) -> Reply:
        """The framework's own refusals (no such address, wrong method) in our form."""
        causes = {
            404: ("not_found", "there is nothing at this address"),
            405: ("method_not_allowed", "only GET and HEAD"),
            **JOB_CAUSES,
        }
        cause, message = causes.get(error.status_code, ("http", "refused"))
        # Starlette's default detail is the bare name of the status.
        told = error.detail if " " in error.detail and error.detail[0].islower() else message
        headers = tuple((error.headers or {}).items())
        return refusal(error.status_code, told, cause, self._request_id(request), headers=headers)


def _told(request: Request, name: str) -> str:
    return joined(request.headers.getlist(name))


def _parse_address(request: Request) -> tuple[TileId, str]:
    """Tile and extension of the path; PlanError when they name no tile."""
    told = request.path_params
    match = _FILE.match(told["file"])
    if match is None or not _NUMBER.match(told["z"]) or not _NUMBER.match(told["x"]):
        raise PlanError("a tile's address is /api/tiles/LAYER/Z/X/Y.EXT, with whole numbers")
    return TileId.checked(int(told["z"]), int(told["x"]), int(match[1])), match[2].lower()
