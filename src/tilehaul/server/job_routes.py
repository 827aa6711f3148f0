"""`/api/jobs`: start, list, follow and end seeds over HTTP.

Who may: programs on this machine when the service listens there only, else whoever has the key. A page of
another site may not: bodies must be JSON, no answer has a header that lets such a page read it, and the Host
must be ours (a stranger's name that was pointed at this machine is not).
"""

from collections.abc import AsyncIterator
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tilehaul.config.job_request import JobRequest, parse_job_request
from tilehaul.errors import BusyError
from tilehaul.jobs.followed import RunningJob
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Headers, Reply
from tilehaul.server.admin import check_caller
from tilehaul.server.batch_encodings import JSON
from tilehaul.server.callers import Callers
from tilehaul.server.entries import NOTHING, Answers, Entry
from tilehaul.server.job_records import job_json, sse_text
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.reply import NO_STORE, json_reply
from tilehaul.wiring.running_jobs import RunningJobs, StoreInUseError

# A region of 10,000 corners has about 250 kB.
BODY_BYTES_MAX = 512 * 1024
# Followers of all jobs together; each holds a connection.
STREAMS_MAX = 100
# Proxies end a connection that says nothing for half a minute or a minute.
HEARTBEAT_S = 15.0
# A browser whose stream broke comes back after this.
RECONNECT_MS = 2_000

JOB_CAUSES: Final = {
    401: ("unauthorized", "the key of this service is wanted"),
    403: ("forbidden", "not allowed"),
    409: ("conflict", "a job writes into this store now"),
    413: ("too_large", "the body is too large"),
    415: ("media_type", "the body must be application/json"),
}

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would otherwise keep events back until a buffer is full.
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
}


class JobRoutes:
    """The answers. Without `jobs` every one of them says how to allow jobs."""

    def __init__(self, jobs: RunningJobs | None, own_hosts: OwnHosts, callers: Callers) -> None:
        self._jobs = jobs
        self._callers = callers
        self._own_hosts = own_hosts
        self._streams = 0

    def entries(self) -> tuple[Entry, ...]:
        """Each address with its answer."""
        one = "/api/jobs/{job}"
        refused: Answers = dict.fromkeys((403, 404), (JSON,))
        read: Answers = {200: (JSON,), **refused}
        begun: Answers = {202: (JSON,), **refused, **dict.fromkeys((400, 409, 413, 415, 500, 503), (JSON,))}
        ended: Answers = {**read, 202: (JSON,)}
        followed: Answers = {200: ("text/event-stream",), 204: NOTHING, **refused, 503: (JSON,)}
        told = (
            ("GET", "/api/jobs", self.list, "All jobs.", read, None),
            ("POST", "/api/jobs", self.start, "Start a seed.", begun, JobRequest),
            ("GET", one, self.one, "One job.", read, None),
            ("DELETE", one, self.end, "End a job, a second time at once.", ended, None),
            ("GET", f"{one}/events", self.events, "Follow a job.", followed, None),
        )
        return tuple(
            Entry(method, path, answer, text, answers, key="jobs", body=body, public=False)
            for method, path, answer, text, answers, body in told
        )

    async def list(self, request: Request) -> Reply:
        jobs = self._allowed(request)
        return _private(
            json_reply({"jobs": [job_json(job) for job in jobs.jobs.values() if self._sees(request, job)]})
        )

    async def start(self, request: Request) -> Reply:
        jobs = self._allowed(request)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise HTTPException(415)
        asked = parse_job_request(await _body(request))
        try:
            job = await jobs.start(asked, self._callers.seen(request))
        except StoreInUseError as error:
            raise HTTPException(409, str(error)) from error
        location = (("location", f"/api/jobs/{job.job_id}"), *NO_STORE)
        return _private(json_reply(job_json(job), status=202, headers=location))

    async def one(self, request: Request) -> Reply:
        return _private(json_reply(job_json(self._job(request))))

    async def end(self, request: Request) -> Reply:
        """The first time in good order, again at once; of one that has ended nothing is changed."""
        job = self._job(request)
        if job.ended is None:
            job.halt()
        return _private(json_reply(job_json(job), status=200 if job.ended else 202))

    async def events(self, request: Request) -> Reply | Response:
        job = self._job(request)
        told = request.headers.get("last-event-id", "")
        # A number that no event of this job has is that of another service's run: begin at the beginning.
        after = int(told) if told.isascii() and told.isdigit() and len(told) <= 18 else 0
        if after > job.last_number:
            after = 0
        if job.ended is not None and after == job.last_number:
            # A browser comes back for ever, unless it is told that there is nothing more.
            return Reply(204, NO_STORE)
        if request.method == "HEAD":
            return Reply(200, tuple(_STREAM_HEADERS.items()))
        if self._streams >= STREAMS_MAX:
            raise BusyError(f"{self._streams} clients follow jobs already")
        return StreamingResponse(self._stream(job, after), headers=_STREAM_HEADERS)

    async def _stream(self, job: RunningJob, after: int) -> AsyncIterator[str]:
        self._streams += 1
        try:
            yield f"retry: {RECONNECT_MS}\n\n"
            async for item in job.follow(after, silence_s=HEARTBEAT_S):
                yield ": still here\n\n" if item is None else sse_text(job, *item)
        finally:
            self._streams -= 1

    def _allowed(self, request: Request) -> RunningJobs:
        """The jobs, if this client may have to do with them."""
        jobs = self._jobs
        if jobs is None:
            raise HTTPException(
                404, "this service starts no jobs: set jobs.folder, or serve with --jobs FOLDER"
            )
        check_caller(request, jobs.key, self._own_hosts, "have to do with jobs")
        return jobs

    def _sees(self, request: Request, job: RunningJob) -> bool:
        return job.layer in self._callers.seen(request)

    def _job(self, request: Request) -> RunningJob:
        job = self._allowed(request).jobs.get(request.path_params["job"])
        if job is None or not self._sees(request, job):
            raise HTTPException(404, "there is no such job; /api/jobs lists those there are")
        return job


def _private(reply: Reply) -> Reply:
    """The reply without what lets pages of other sites read it."""
    public: Headers = tuple(pair for pair in PUBLIC_HEADERS if pair[0].startswith("access-control-"))
    return Reply(reply.status, tuple(pair for pair in reply.headers if pair not in public), reply.body)


async def _body(request: Request) -> bytes:
    """The body, never more of it in memory than may be. Raises HTTPException 413."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        # Read to its end even so (`server/protocol.py` bounds it): a connection that is closed with bytes
        # unread is reset, and the client would not see why.
        if size <= BODY_BYTES_MAX:
            parts.append(part)
    if size > BODY_BYTES_MAX:
        raise HTTPException(413, f"the body may have {BODY_BYTES_MAX} bytes")
    return b"".join(parts)
