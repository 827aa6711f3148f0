"""The service's addresses: what each of them answers."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import inf

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tilehaul.errors import TilehaulError
from tilehaul.jobs.serve_tile import Reply, etag_matches
from tilehaul.ports.clock import Clock
from tilehaul.ports.correlation import REQUEST_ID
from tilehaul.ports.lane import ProcessFigures
from tilehaul.ports.store import CacheStats
from tilehaul.server.describe import layer_json, service_stats
from tilehaul.server.job_records import jobs_figures
from tilehaul.server.job_routes import JOB_CAUSES, JobRoutes
from tilehaul.server.lanes import LanesByLayer, health_json, lanes_json, lanes_of
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
from tilehaul.server.standard_routes import StandardRoutes
from tilehaul.server.tile_routes import TileRoutes
from tilehaul.server.while_connected import STATUS_CLIENT_GONE
from tilehaul.wiring.running_jobs import RunningJobs

log = logging.getLogger(__name__)

# Who asks for figures more often than this is told the same ones again.
LANES_FRESH_S = 1.0

# `blob:` because the page loads tiles with fetch() to read their headers.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)

# A stream answers by itself; every other answer is a plain reply.
Answer = Callable[[Request], Awaitable[Reply | Response]]


@dataclass(slots=True)
class Routes:
    """All answers of one service. Mutable only in what it counts and in `draining`."""

    tiles: TileRoutes
    clock: Clock
    own_hosts: OwnHosts
    pages: Mapping[str, PageFile]
    new_request_id: Callable[[], str]
    checks: Mapping[str, Callable[[], bool]]
    draining: bool = False
    started_s: float = 0.0
    process: Callable[[], ProcessFigures] | None = None
    disk: Callable[[], CacheStats | None] | None = None
    lanes_seen: LanesByLayer = field(default_factory=dict)
    lanes_until_s: float = -inf
    jobs: RunningJobs | None = None

    def table(self) -> list[Route]:
        """The framework's routes. HEAD comes with GET."""
        answers: tuple[tuple[str, Answer], ...] = (
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
        gets = tuple(("GET", path, answer) for path, answer in answers)
        jobs = JobRoutes(self.jobs, self.own_hosts).answers()
        return [
            Route(path, self._door(answer), methods=[method])
            for method, path, answer in (
                *self.tiles.answers(),
                *StandardRoutes(self.tiles).answers(),
                *gets,
                *jobs,
            )
        ]

    async def layer_list(self, request: Request) -> Reply:  # noqa: ARG002 - every answer has one form
        return json_reply({"layers": [layer_json(layer) for layer in self.tiles.layers.values()]})

    async def all_stats(self, request: Request) -> Reply:  # noqa: ARG002
        disk = None if self.disk is None else self.disk()
        figures = service_stats(
            self.tiles.layers, self.tiles.cache, disk, uptime_s=self.clock.now_s() - self.started_s
        )
        process = None if self.process is None else asdict(self.process())
        jobs = None if self.jobs is None else jobs_figures(self.jobs.jobs.values(), key=bool(self.jobs.key))
        return json_reply({**figures, "process": process, "lanes": lanes_json(self._lanes()), "jobs": jobs})

    async def metrics(self, request: Request) -> Reply:
        process = None if self.process is None else self.process()
        uptime_s = self.clock.now_s() - self.started_s
        seen = Seen(self.tiles.layers, self.tiles.cache, self._lanes(), process, uptime_s, self.jobs)
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
            jobs = self.jobs.jobs.values() if self.jobs is not None else ()
            self.lanes_seen = lanes_of(self.tiles.layers.values(), jobs)
            self.lanes_until_s = now_s + LANES_FRESH_S
        return self.lanes_seen

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
            except ClientDisconnect:
                # In the middle of its body: nobody receives this.
                reply = Reply(STATUS_CLIENT_GONE, ())
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
            405: ("method_not_allowed", "this address has no such method"),
            **JOB_CAUSES,
        }
        cause, message = causes.get(error.status_code, ("http", "refused"))
        # Starlette's default detail is the bare name of the status.
        told = error.detail if " " in error.detail and error.detail[0].islower() else message
        headers = tuple((error.headers or {}).items())
        return refusal(error.status_code, told, cause, self._request_id(request), headers=headers)


def _told(request: Request, name: str) -> str:
    return joined(request.headers.getlist(name))
