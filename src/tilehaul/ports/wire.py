"""The seam to HTTP: one request, one answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one attempt, in seconds, by phase (`resilience` defaults for tiles).

    `connect_s`: DNS, TCP and TLS. `first_byte_s`: from sending to the response's headers.
    `idle_s`: between two pieces of the body. `total_s`: the whole attempt.
    """

    connect_s: float = 10.0
    first_byte_s: float = 30.0
    idle_s: float = 15.0
    total_s: float = 120.0


TIMEOUTS_DEFAULT = Timeouts()


# Request and Response are tuples with names: one of each and a half is made for every tile, and a frozen
# dataclass costs three times as much to make (2.3 against 0.8 us).


@dataclass(frozen=True, slots=True)
class Signing:
    """How requests to a bucket are signed: AWS Signature Version 4, service `s3`.

    `secret_key` and `session_token` are kept out of `repr`. `session_token` is empty for lasting keys.
    """

    region: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class Request(NamedTuple):
    """One GET, HEAD, PUT or DELETE. `headers` are added to the sender's own (User-Agent, Accept-Encoding).

    `body` is what a PUT sends; the other methods send none.
    `body_bytes_max` bounds the answer's body as it crosses the wire and again once decoded.
    `lane_class` and the address's scheme, host and port name the lane.
    `expect` is the kind of body that verifies: `tile` (picture or vector tile), `any`, or `stored`: as `any`,
    with the content coding left on, because it is part of what a bucket keeps. `range`: as `stored`, and
    nothing but the bytes that the header Range asks for, or fewer where the object ends.
    `timeouts` are this request's own limits; None: the sender's.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    lane_class: str = "tile"
    body_bytes_max: int = 8 * MIB
    expect: str = "tile"
    timeouts: Timeouts | None = None
    body: bytes = b""


class Response(NamedTuple):
    """An answer of any status. Header names are lower case; repeated ones joined with ", ".

    From the wire `body` is raw (content coding still on); from the verified sender upward it is decoded.
    `ttfb_s` is the time from sending to the headers, `total_s` to the last byte.
    `media_type` is set by verification from the bytes.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    ttfb_s: float = 0.0
    total_s: float = 0.0
    media_type: str = ""


class Sender(Protocol):
    """Sends one request.

    Wire: answers any status, follows no redirect, decodes nothing, raises UnreachableError,
    TimedOutError, RefusedError (forbidden address, body over `body_bytes_max`), and leaves a
    cancelled task's connection closed or reusable, never dirty.
    Verified, Laned, Retried: see `net/`.
    """

    async def send(self, request: Request) -> Response: ...
