"""The service's addresses: what each of them answers."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tilehaul.errors import TilehaulError
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Reply, etag_matches
from tilehaul.ports.clock import Clock
from tilehaul.ports.correlation import REQUEST_ID
from tilehaul.server.batch_encodings import JSON
from tilehaul.server.cors import Cors
from tilehaul.server.describe import layer_json, service_stats
from tilehaul.server.entries import DOCUMENT, NOTHING, Answer, Answers, Entry, Key
from tilehaul.server.figures import Whole
from tilehaul.server.job_records import jobs_figures
from tilehaul.server.job_routes import JOB_CAUSES, JobRoutes
from tilehaul.server.lanes import health_json, lanes_json
from tilehaul.server.meter import Meter
from tilehaul.server.metrics import Seen, metrics_reply
from tilehaul.server.openapi import docs_page, openapi, openapi_text
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.page_files import PageFile, made_file
from tilehaul.server.pyramid_routes import PyramidRoutes
from tilehaul.server.readiness import Readiness
from tilehaul.server.reply import (
    accepts_gzip,
    checked,
    defect_reply,
    error_reply,
    field_of,
    json_reply,
    refusal,
    to_response,
    told_request_id,
)
from tilehaul.server.standard_routes import StandardRoutes
from tilehaul.server.tile_routes import TileRoutes
from tilehaul.server.while_connected import STATUS_CLIENT_GONE
from tilehaul.wiring.running_jobs import RunningJobs

log = logging.getLogger(__name__)

# `blob:` because the page loads tiles with fetch() to read their headers.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
# No script at all.
DOCS_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
# Pages and files of this service: nothing for those of others.
_OWN_PAGES = ("/", "/docs", "/favicon.ico", "/static/{name:path}")
_FILE_KINDS = ("text/css", "text/html", "text/javascript", "image/png", "image/svg+xml")


@dataclass(slots=True)
class Routes:
    """All answers of one service. Mutable only in what it counts."""

    tiles: TileRoutes
    clock: Clock
    own_hosts: OwnHosts
    pages: Mapping[str, PageFile]
    new_request_id: Callable[[], str]
    readiness: Readiness
    started_s: float = 0.0
    jobs: RunningJobs | None = None
    meter: Meter | None = None
    cors: Cors = field(default_factory=Cors)

    def table(self) -> list[Route]:
        """The framework's routes. HEAD comes with GET."""
        entries = (
            *self.tiles.entries(),
            *PyramidRoutes(self.tiles).entries(),
            *StandardRoutes(self.tiles).entries(),
            *self.entries(),
            *JobRoutes(self.jobs, self.own_hosts, self.tiles.callers).entries(),
        )
        document = openapi(entries)
        self.pages = {
            **self.pages,
            "openapi.json": made_file(openapi_text(document), "application/json"),
            "docs": made_file(docs_page(document), "text/html; charset=utf-8"),
        }
        return [
            *(Route(entry.path, self.door(entry.answer), methods=[entry.method]) for entry in entries),
            *(
                Route(entry.path, self.door(self.preflight), methods=["OPTIONS"])
                for entry in entries
                if entry.public
            ),
        ]

    def entries(self) -> tuple[Entry, ...]:
        """The addresses that are about the whole service."""
        metrics: Answers = {200: ("text/plain", "application/openmetrics-text")}
        html: Answers = {200: ("text/html",), 304: NOTHING}
        file: Answers = {200: _FILE_KINDS, 304: NOTHING, 404: (JSON,)}
        told: tuple[tuple[str, Answer, str, Answers, Key | None], ...] = (
            ("/api/layers", self.layer_list, "The layers.", DOCUMENT, "layer"),
            ("/api/stats", self.all_stats, "Figures of the service.", DOCUMENT, "layer"),
            ("/api/health", self.health, "How the ways to the origins fare.", DOCUMENT, "layer"),
            ("/metrics", self.metrics, "Figures for Prometheus.", metrics, "layer"),
            ("/health/live", self.live, "Whether the process runs.", DOCUMENT, None),
            ("/health/ready", self.ready, "Whether to send requests.", {**DOCUMENT, 503: (JSON,)}, None),
            ("/openapi.json", self.openapi, "This list, for programs.", {200: (JSON,), 304: NOTHING}, None),
            ("/docs", self.docs, "This list, for people.", html, None),
            ("/static/{name:path}", self.static, "Files of the pages.", file, None),
            ("/favicon.ico", self.favicon, "The icon.", {200: ("image/svg+xml",), 304: NOTHING}, None),
            ("/", self.page, "The map.", html, None),
        )
        return tuple(
            Entry("GET", path, answer, text, answers, key=key, public=path not in _OWN_PAGES)
            for path, answer, text, answers, key in told
        )

    async def layer_list(self, request: Request) -> Reply:
        seen = self.tiles.callers.seen(request)
        return json_reply({"layers": [layer_json(layer) for layer in seen.values()]})

    async def all_stats(self, request: Request) -> Reply:
        seen = await self._seen(request)
        uptime_s = self.clock.now_s() - self.started_s
        figures = service_stats(seen.layers, seen.cache, seen.disk, uptime_s=uptime_s)
        process = None if seen.process is None else asdict(seen.process)
        jobs = None if self.jobs is None else jobs_figures(self.jobs.jobs.values(), key=bool(self.jobs.key))
        told = {**figures, "process": process, "lanes": lanes_json(seen.lanes), "jobs": jobs}
        if seen.workers is not None:
            told["workers"] = dict(zip(("running", "answered", "this"), seen.workers, strict=True))
        return json_reply(told)

    async def metrics(self, request: Request) -> Reply:
        seen = await self._seen(request)
        uptime_s = self.clock.now_s() - self.started_s
        told = Seen(seen.layers, seen.cache, seen.lanes, seen.process, uptime_s, self.jobs, seen.refused)
        return metrics_reply(told, accept=field_of(request.scope["headers"], b"accept"))

    async def health(self, request: Request) -> Reply:
        return json_reply(health_json((await self._seen(request)).lanes))

    async def live(self, request: Request) -> Reply:  # noqa: ARG002 - every answer has one form
        return json_reply({"status": "alive"})

    async def ready(self, request: Request) -> Reply:  # noqa: ARG002
        checks = await self.readiness.look()
        good = all(checks.values())
        return json_reply(
            {"status": "ready" if good else "not ready", "checks": checks}, status=200 if good else 503
        )

    async def page(self, request: Request) -> Reply:
        return self._file(request, "index.html", extra=(("content-security-policy", PAGE_POLICY),))

    async def docs(self, request: Request) -> Reply:
        return self._file(request, "docs", extra=(("content-security-policy", DOCS_POLICY),))

    async def openapi(self, request: Request) -> Reply:
        return self._file(request, "openapi.json", extra=PUBLIC_HEADERS[:2])

    async def preflight(self, request: Request) -> Reply:
        return Reply(204, self.cors.preflight(request.headers.get("origin", "")))

    async def favicon(self, request: Request) -> Reply:
        return self._file(request, "favicon.svg")

    async def static(self, request: Request) -> Reply:
        name = str(request.path_params["name"])
        if name in ("docs", "openapi.json"):
            raise HTTPException(404)
        return self._file(request, name)

    def _file(self, request: Request, name: str, *, extra: tuple[tuple[str, str], ...] = ()) -> Reply:
        file = self.pages.get(name)
        if file is None:
            raise HTTPException(404)
        zipped = bool(file.zipped) and accepts_gzip(field_of(request.scope["headers"], b"accept-encoding"))
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
        told = field_of(request.scope["headers"], b"if-none-match")
        if told and etag_matches(told, etag):
            return Reply(304, shared)
        coding = (("content-encoding", "gzip"),) if zipped else ()
        return Reply(
            200, (("content-type", file.media_type), *coding, *shared), file.zipped if zipped else file.body
        )

    async def _seen(self, request: Request) -> Whole:
        """The figures of the layers that the caller may know of."""
        return (await self.tiles.figures.whole()).only(self.tiles.callers.seen(request))

    def _request_id(self, request: Request) -> str:
        return told_request_id(request.scope["headers"]) or self.new_request_id()

    def door(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """The answer as the framework wants it: whatever happens, a response in our form."""

        async def endpoint(request: Request) -> Response:
            # One name for the request, in its answer and in every line of the log that it causes.
            request_id = self._request_id(request)
            named = REQUEST_ID.set(request_id)
            try:
                answered = await answer(request)
                if isinstance(answered, Response):
                    return self._named(answered, request_id, request)
                reply = checked(answered)
            except TilehaulError as error:
                reply = error_reply(error, request_id)
            except HTTPException as error:
                reply = self.refused(error, request)
            except ClientDisconnect:
                # In the middle of its body: nobody receives this.
                reply = Reply(STATUS_CLIENT_GONE, ())
            except Exception:
                # The last door before the server's own.
                log.exception("a request failed")
                reply = defect_reply(request_id)
            finally:
                REQUEST_ID.reset(named)
            return self._named(to_response(reply, request), request_id, request)

        return endpoint

    def response(self, reply: Reply, request: Request) -> Response:
        """What the framework sends, to be read by whom it may be."""
        response = to_response(reply, request)
        self._open_to(response, request)
        return response

    def _named(self, response: Response, request_id: str, request: Request) -> Response:
        """With the name of the request, for whom it may be."""
        response.headers.setdefault("x-request-id", request_id)
        self._open_to(response, request)
        return response

    def _open_to(self, response: Response, request: Request) -> None:
        """Say which pages may read a response."""
        if not self.cors.open:
            told = self.cors.applied(tuple(response.headers.items()), request.headers.get("origin", ""))
            response.raw_headers[:] = [(name.encode(), value.encode("latin-1")) for name, value in told]

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
