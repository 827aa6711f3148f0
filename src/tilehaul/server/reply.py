"""From our plain `Reply` to what the framework sends."""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tilehaul.errors import DataError, TilehaulError
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Headers, Reply, error_body
from tilehaul.server.statuses import cause_of, message_of, retry_after_s, status_of

# Names in lower case.
RawHeaders = Iterable[tuple[bytes, bytes]]

# Statuses whose answers have neither a body nor a Content-Length of one (RFC 9110, 15.3.5 and 15.4.5).
BODILESS = frozenset({204, 304})

NO_STORE: Headers = (("cache-control", "no-store"),)

# A caller's own request id is repeated only in this form: it ends up in headers and logs.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z", re.ASCII)

# RFC 9110, section 5.5: visible characters, blank, tab, and obs-text as Latin-1.
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def checked(reply: Reply) -> Reply:
    """The same reply.

    Raises:
        DataError: A header holds what would end its line, or cannot be sent at all: what an archive
            or an origin said of itself must not become headers or a body of its own choice.
    """
    _check_headers(reply.headers)
    return reply


def head_bytes(status: int, headers: Headers) -> bytes:
    """Status line and header lines as they are sent, each with its end; the empty line is left out.

    Raises:
        DataError: As `checked`.
    """
    _check_headers(headers)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}".encode("latin-1")


def _check_headers(headers: Headers) -> None:
    told = "".join([name + value for name, value in headers])
    # The first question is a quick one, and answers for every header of ours.
    if not (told.isascii() and told.isprintable()) and _UNSENDABLE.search(told):
        raise DataError("a header of the answer has characters that no header may have", cause="bad_header")


def joined(values: Iterable[str]) -> str:
    """Repeated header fields as the one list they are (RFC 9110, section 5.3), without empty items."""
    return ", ".join(value for value in values if value)


def field_of(headers: RawHeaders, name: bytes) -> str:
    """A header field of a request, `joined`; empty when it is not there. `name` in lower case."""
    return joined(value.decode("latin-1") for header, value in headers if header == name)


def told_request_id(headers: RawHeaders) -> str:
    """The caller's name for a request if it is harmless, else "". Of several the first counts."""
    first = next((value for header, value in headers if header == b"x-request-id"), b"")
    return own_request_id(first.decode("latin-1"))


def defect_reply(request_id: str) -> Reply:
    """The answer to a request that failed by a defect of ours: whoever catches it logs it whole."""
    return refusal(500, "the service failed; its log says more", "internal", request_id)


def to_response(reply: Reply, request: Request) -> Response:
    """The framework's response. To HEAD: the same headers, Content-Length included, and no body."""
    headers = dict(reply.headers)
    body = reply.body
    if reply.status not in BODILESS:
        headers["content-length"] = str(len(body))
    if request.method == "HEAD":
        body = b""
    return Response(body, status_code=reply.status, headers=headers)


def json_reply(value: Any, *, status: int = 200, headers: Headers = NO_STORE) -> Reply:
    """A JSON answer; not cached unless `headers` say otherwise."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, (("content-type", "application/json"), *headers, *PUBLIC_HEADERS), body)


def refusal(status: int, message: str, cause: str, request_id: str, *, headers: Headers = ()) -> Reply:
    """An error answer in the form every error has, never cached."""
    return Reply(
        status,
        (
            ("content-type", "application/json"),
            ("x-request-id", request_id),
            *NO_STORE,
            *headers,
            *PUBLIC_HEADERS,
        ),
        error_body(message, cause, request_id),
    )


def error_reply(error: TilehaulError, request_id: str) -> Reply:
    """The answer to a request that failed with one of our errors."""
    wait_s = retry_after_s(error)
    headers: Headers = () if wait_s is None else (("retry-after", str(wait_s)),)
    return refusal(status_of(error), message_of(error), cause_of(error), request_id, headers=headers)


def own_request_id(told: str) -> str:
    """The caller's request id if it is harmless, else ""."""
    return told if _REQUEST_ID.match(told) else ""


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, section 12.5.3). No header: no."""
    named: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        coding, _, rest = item.partition(";")
        named[coding.strip()] = not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", rest)
    return named.get("gzip", named.get("x-gzip", named.get("*", False)))
