"""The wire: sends one request over HTTP and answers what came, raw."""

import asyncio
import contextlib
from collections import deque
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from tilehaul.codec.safe_url import redact
from tilehaul.errors import ConfigError, Phase, PlanError, RefusedError, TimedOutError, UnreachableError
from tilehaul.net.addresses import AddressGuard
from tilehaul.net.curl import CurlHandle, CurlSettings
from tilehaul.net.curl_loop import CurlLoop
from tilehaul.ports.wire import TIMEOUTS_DEFAULT, Request, Response, Signing, Timeouts

# More than any lane's limit (128), so that the lane decides and this is the last line.
CONNECTIONS_MAX_DEFAULT = 256

# Timeouts are looked at this often: an eighth of the shortest, within these bounds. One sweep over
# what is in flight is cheaper than a timer per request (7-17 us each, measured).
SWEEP_S_MIN, SWEEP_S_MAX = 0.005, 1.0

# Header lists are made once per different `Request.headers`; past this many, per request.
_HEADER_LISTS_MAX = 64

_SCHEMES = ("https://", "http://")
_METHODS = ("GET", "HEAD", "PUT", "DELETE")


class Wire:
    """Sends over HTTP/1.1 with keep-alive, over TLS also HTTP/2. See `ports.wire.Sender`.

    Bodies are raw: gzip is asked for and left on, for `net/verified.py` takes it off under a
    cap and checks its end. It is asked for because vector tiles, TileJSON and capabilities
    shrink to a third, and pictures are sent as they are anyway; a request with its own
    Accept-Encoding, or with a Range, goes without.

    Environment proxies are not used: behind one the guard could not see where a name leads.

    Args:
        user_agent: Sent with every request.
        timeouts: Limits by phase, for requests without their own. `connect_s` is exact; the others are
            noticed up to an eighth of the shortest of them late (at most 1 s).
        guard: Which addresses may be reached; without one, public ones only.
        connections_max: Requests in flight at most, and so connections; more wait here, first
            come first served, and their clocks do not run yet.
        tls_roots: A PEM file, or a folder, of trusted roots instead of the system's.
        signing: Every request is signed with it: for the one bucket this wire is for. Needs a redirect
            never to be followed, which would show the key's name to another host.

    Raises (from `send`):
        RefusedError: cause `refused_address`, `refused_scheme`, `bad_url`, `too_large`,
            `headers_too_large`, `tls_certificate`, `tls_roots`.
        UnreachableError: cause `dns`, `connect`, `tls`, `reset`, `cut`, `bad_reply`, `closed`.
        TimedOutError: `.phase` is `connect`, `first_byte`, `idle` or `total`.
        PlanError: The request is impossible (method, header with a line break), or the wire
            is not open.
    """

    def __init__(
        self,
        user_agent: str,
        *,
        timeouts: Timeouts = TIMEOUTS_DEFAULT,
        guard: AddressGuard | None = None,
        connections_max: int = CONNECTIONS_MAX_DEFAULT,
        tls_roots: Path | str | None = None,
        signing: Signing | None = None,
    ) -> None:
        if connections_max < 1:
            raise ConfigError("connections_max must be at least 1")
        self._settings = CurlSettings(
            user_agent, guard or AddressGuard(), timeouts.connect_s, connections_max, tls_roots, signing
        )
        self._token = signing.session_token if signing is not None else ""
        self._timeouts = timeouts
        self._sweep_s = _sweep_s(timeouts)
        self._sweeper: asyncio.Handle | None = None
        self._curls: CurlLoop | None = None
        self._places = connections_max
        self._queue: deque[asyncio.Future[None]] = deque()
        self._header_lists: dict[tuple[tuple[str, str], ...], list[bytes]] = {}

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            self._curls = CurlLoop(self._settings)
        except NotImplementedError as error:
            text = "the wire needs a loop that can watch sockets; on Windows: asyncio.SelectorEventLoop"
            raise ConfigError(text) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Fail what is in flight (cause `closed`), close every connection. Safe to call twice."""
        curls, self._curls = self._curls, None
        if curls is not None:
            curls.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    @property
    def in_flight(self) -> int:
        """Requests sent and not yet answered; those that wait for a place are not counted."""
        return 0 if self._curls is None else len(self._curls.busy)

    @property
    def connections_opened(self) -> int:
        """Connections begun since the wire was opened, those that failed included."""
        return 0 if self._curls is None else self._curls.connections_opened

    @property
    def connections_held(self) -> int:
        """Connections open now, idle ones included; asks the system about each."""
        return 0 if self._curls is None else self._curls.connections_held()

    async def send(self, request: Request) -> Response:
        """Send once. Errors as in the class's docstring."""
        if self._places:
            self._places -= 1
        else:
            await self._place()
        try:
            curls = self._curls
            if curls is None:
                raise PlanError("the wire is not open")
            handle = curls.take()
            try:
                self._prepare(handle, request)
                curls.start(handle)
                if self._sweeper is None:
                    self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
                error = await handle.done
                if error is not None:
                    raise error
                return _response(handle)
            finally:
                curls.give_back(handle)
        finally:
            self._leave_place()

    async def _place(self) -> None:
        """Wait until a request ends and leaves its place to us."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                with contextlib.suppress(ValueError):
                    self._queue.remove(waiter)
            else:
                self._leave_place()  # it was left to us already
            raise

    def _leave_place(self) -> None:
        """Leave a place to the first who waits; a newcomer cannot slip in between."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._places += 1

    def _prepare(self, handle: CurlHandle, request: Request) -> None:
        url = request.url
        if not url.startswith(_SCHEMES) and not url[:8].lower().startswith(_SCHEMES):
            raise RefusedError(
                "only http:// and https:// are fetched", url=redact(url), cause="refused_scheme"
            )
        if request.method not in _METHODS:
            raise PlanError(f"the wire sends GET, HEAD, PUT and DELETE, not {request.method!r}")
        if request.body_bytes_max < 1:
            raise PlanError("body_bytes_max must be at least 1")
        if request.body and request.method != "PUT":
            raise PlanError(f"a {request.method} has no body")
        timeouts = request.timeouts
        if timeouts is None:
            timeouts = self._timeouts
        elif (sweep_s := _sweep_s(timeouts)) < self._sweep_s:
            # Until nothing is in flight any more; the next sweep must not come too late for this one.
            self._sweep_s = sweep_s
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
        header_list = self._header_list(request)
        handle.prepare(url, request.method, header_list, request.body_bytes_max, timeouts, request.body)

    def _header_list(self, request: Request) -> list[bytes]:
        headers = request.headers
        if request.method == "PUT":
            return self._upload_headers(request)
        header_list = self._header_lists.get(headers)
        if header_list is None:
            header_list = _header_list(headers + self._token_header())
            if len(self._header_lists) < _HEADER_LISTS_MAX:
                self._header_lists[headers] = header_list
        return header_list

    def _upload_headers(self, request: Request) -> list[bytes]:
        headers = request.headers + self._token_header()
        if self._settings.signing is not None:
            # Else libcurl signs all but the body.
            headers += (("x-amz-content-sha256", sha256(request.body).hexdigest()),)
        # libcurl would ask before it sends a body of 1 MB, and wait a second where nobody answers that.
        return [*_header_list(headers), b"Expect:"]

    def _token_header(self) -> tuple[tuple[str, str], ...]:
        return (("x-amz-security-token", self._token),) if self._token else ()

    def _sweep(self) -> None:
        """Fail what made no progress. Runs only while something is in flight."""
        self._sweeper = None
        curls = self._curls
        if curls is None:
            return
        now_s = self._loop.time()
        for handle in list(curls.busy.values()):
            seen = len(handle.head) + len(handle.body)
            if seen != handle.seen:
                handle.seen, handle.progress_s = seen, now_s
            elif handle.upload is not None and (sent := handle.upload.tell()) != handle.sent:
                handle.sent, handle.progress_s = sent, now_s
            phase = _overdue(handle, now_s)
            if phase is not None:
                text = f"no progress within the limit ({phase})"
                curls.end(handle, TimedOutError(text, phase=phase, url=redact(handle.url)))
        if curls.busy:
            self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)
        else:
            self._sweep_s = _sweep_s(self._timeouts)


def _overdue(handle: CurlHandle, now_s: float) -> Phase | None:
    """The phase whose limit the transfer is over, if any. Connecting is libcurl's to time."""
    limits, age_s = handle.timeouts, now_s - handle.start_s
    if age_s > limits.total_s:
        return "total"
    if handle.seen:
        return "idle" if now_s - handle.progress_s > limits.idle_s else None
    if age_s > limits.first_byte_s:
        connected_s = handle.connected_s()
        # While a body is going out there can be no answer yet.
        since_s = max(handle.start_s + connected_s, handle.progress_s)
        if connected_s > 0 and now_s - since_s > limits.first_byte_s:
            return "first_byte"
    return None


def _sweep_s(timeouts: Timeouts) -> float:
    shortest_s = min(timeouts.first_byte_s, timeouts.idle_s, timeouts.total_s)
    return min(max(shortest_s / 8, SWEEP_S_MIN), SWEEP_S_MAX)


def _header_list(headers: tuple[tuple[str, str], ...]) -> list[bytes]:
    """The lines to send. Raises PlanError for a line break: the rest would be headers of its own."""
    names = {name.lower() for name, _ in headers}
    lines = []
    for name, value in headers:
        if not name or ":" in name or any(c in "\r\n\0" for c in name + value):
            raise PlanError(f"the header {name!r} is malformed (a line break, a colon in the name)")
        # libcurl drops a header with nothing behind its colon; a semicolon sends it empty.
        lines.append(f"{name}: {value}" if value.strip() else f"{name};")
    if not names & {"accept-encoding", "range"}:
        lines.append("Accept-Encoding: gzip")
    return [line.encode("latin-1", "replace") for line in lines]


def _response(handle: CurlHandle) -> Response:
    status, ttfb_s, total_s = handle.figures()
    pieces = handle.body
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    headers = _headers(handle.head)
    if headers is None:
        text = "the answer ended within its headers"
        raise UnreachableError(text, url=redact(handle.url), cause="cut")
    return Response(handle.url, status, headers, body, ttfb_s, total_s)


def _headers(lines: list[bytes]) -> dict[str, str] | None:
    """The last header block: interim answers (1xx) come before it, trailers after.

    None when no empty line ends it: the connection closed before, which libcurl calls a success.
    """
    text = b"".join(lines).decode("latin-1").replace("\r\n", "\n")
    last = text.rfind("\nHTTP/")
    block, end, _trailers = text[last + 1 :].partition("\n\n")
    if not end:
        return None
    headers: dict[str, str] = {}
    for line in block.split("\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name = name.lower()
            if name in headers:
                value = f"{headers[name]}, {value.strip()}"
            headers[name] = value.strip()
    return headers
