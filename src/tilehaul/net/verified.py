"""Nothing corrupt passes: every answer is judged and every body checked.

Innermost of the wrappers, so that a corrupt body is a failed attempt like any
other: retried by the retrying sender and seen by the lane.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from tilehaul.codec.coding import decode
from tilehaul.codec.http_dates import parse_retry_after
from tilehaul.codec.limit_fields import parse_limit_fields
from tilehaul.codec.safe_url import MASK, redact
from tilehaul.codec.safe_xml import exception_said, is_out_of_range
from tilehaul.codec.verify import verify_tile
from tilehaul.errors import (
    BrokenError,
    DataError,
    DeniedError,
    PlanError,
    RefusedError,
    ThrottledError,
    TransferError,
)
from tilehaul.policy.answers import ANSWERS_DEFAULT, AnswerRule, judge_status
from tilehaul.policy.providers import NO_PROVIDERS, Providers
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.wire import Request, Response, Sender

# Shorter values are words such as "png": masking them would only make the message unreadable.
SECRET_CHARS_MIN = 5
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})", re.ASCII)
_PART = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class VerifiedSender:
    """Turns answers into verified responses or typed errors.

    Returns responses that are whole and what they claim (200, 206), that say "not modified" (304), or that
    say "none" (404, 410, 204, and a 400 that calls the tile out of range: the body is dropped). Raises
    ThrottledError, BrokenError, DeniedError, RefusedError or DataError for all others; the wire's own errors
    pass through.

    `providers` say what some hosts mean by an answer, `rule` what all others do.
    """

    wire: Sender
    clock: Clock
    tally: Tally
    rule: AnswerRule = ANSWERS_DEFAULT
    providers: Providers = NO_PROVIDERS

    async def send(self, request: Request) -> Response:
        self.tally.requests += 1
        try:
            response = await self._answer(request)
            if response.status != 200 or self.providers.suspects_200:
                return self._judge(request, response)
            verified = _verified(request, response)
        except (TransferError, DataError) as error:
            self.tally.failed(error.cause)
            raise
        self.tally.fetches.add(response.total_s)
        return verified

    async def _answer(self, request: Request) -> Response:
        try:
            return await self.wire.send(request)
        except RefusedError as error:
            if request.expect != "range" or error.cause != "too_large":
                raise
            # Cut off where the range would have ended: it may well be a slip that another attempt mends.
            raise _damaged(request, "sent more than the range that was asked for", "no_range", b"") from None

    def _judge(self, request: Request, response: Response) -> Response:
        """Decide on an answer that is not a plain 200, or may be a notice in its place."""
        status = response.status
        retry_after_s: float | None = None
        asked = response.headers.get("retry-after")
        if asked is not None:
            retry_after_s = parse_retry_after(
                asked, date_header=response.headers.get("date"), wall_s=self.clock.wall_s()
            )
        meaning = judge_status(status, retry_after=retry_after_s is not None)
        if status == 400 and is_out_of_range(_plain(request, response)):
            meaning = "absent"
        if self._is_push_back(request, response):
            meaning = "pushed_back"
        if meaning == "absent":
            self.tally.fetches.add(response.total_s)
            return response._replace(body=b"")
        if meaning == "done":
            answer = response if status == 304 else _verified(request, response)
            if status == 304 and not _is_conditional(request):
                url = redact(request.url)
                raise BrokenError(f"{url} says that what we have is current", url=url, cause="http_304")
            if status == 206 and not _is_whole(request, response):
                raise _damaged(request, "sent a part of the body, and none was asked for", "truncated", b"")
            self.tally.fetches.add(response.total_s)
            return answer
        if retry_after_s is None and meaning == "pushed_back":
            quota = parse_limit_fields(response.headers, wall_s=self.clock.wall_s()).quota
            retry_after_s = quota.hold_s if quota is not None else None
        said = exception_said(_plain(request, response))
        raise _error_of(meaning, status, redact(request.url), retry_after_s, _masked(request, said))

    def _is_push_back(self, request: Request, response: Response) -> bool:
        """Whether this provider means "too much" by it, whatever others mean."""
        provider = self.providers.of(request.url)
        rule = self.rule if provider is None else provider.answers
        body = _plain(request, response) if rule.reads_body else response.body
        return rule.is_push_back(response.status, response.headers, body)


def _plain(request: Request, response: Response) -> bytes:
    """The body of an answer that is no tile, its content coding taken off; empty where that does not go."""
    coding = response.headers.get("content-encoding")
    if coding is None:
        return response.body
    try:
        return decode(response.body, coding, request.body_bytes_max)
    except (DataError, RefusedError):
        return b""


def _error_of(meaning: str, status: int, url: str, retry_after_s: float | None, said: str) -> TransferError:
    """`said`: the words of a service's exception, masked; "" for none."""
    words = f": {said}" if said else ""
    cause = f"http_{status}"
    if meaning == "pushed_back":
        return ThrottledError(
            f"{url} asked for fewer requests (HTTP {status})",
            url=url,
            retry_after_s=retry_after_s,
            # A 503 with Retry-After is no failure; a cause of its own tells the two apart afterwards.
            cause=cause if status == 429 else f"pushed_back_{status}",
        )
    if meaning == "transient":
        return BrokenError(f"{url} failed (HTTP {status}){words}", url=url, cause=cause)
    if meaning == "denied":
        return DeniedError(
            f"{url} denies access (HTTP {status}): check the key or the permission", url=url, cause=cause
        )
    return RefusedError(f"{url} refuses the request (HTTP {status}){words}", url=url, cause=cause)


def _is_conditional(request: Request) -> bool:
    return any(name.lower() in ("if-none-match", "if-modified-since") for name, _ in request.headers)


def _is_whole(request: Request, response: Response) -> bool:
    """Whether a 206 is what was asked for: a range that was, or a range that is all there is."""
    if any(name.lower() == "range" for name, _ in request.headers):
        return True
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        return False
    first, last, size = (int(number) for number in match.groups())
    return first == 0 and last + 1 == size


def _verified(request: Request, response: Response) -> Response:
    """Check one body against its promises and take its content coding off."""
    headers = response.headers
    body = response.body
    if request.method == "HEAD":
        return response
    declared = headers.get("content-length")
    if declared is not None and declared != str(len(body)):
        raise _damaged(request, f"promised {declared[:20]} bytes and sent {len(body)}", "truncated", body)
    try:
        coding = headers.get("content-encoding")
        if request.expect == "range":
            _check_range(request, response)
        elif coding is not None and request.expect != "stored":
            body = decode(body, coding, request.body_bytes_max)
        media_type = ""
        if request.expect == "tile":
            media_type = verify_tile(body, headers.get("content-type", ""))
    except DataError as error:
        # Its own words are not masked yet: they must not come along as a cause that a traceback shows.
        raise _damaged(request, str(error), error.cause, error.head or body) from None
    except RefusedError as error:
        url = redact(request.url)
        raise RefusedError(f"{url}: {error}", url=url, cause=error.cause) from error
    return Response(
        response.url, response.status, headers, body, response.ttfb_s, response.total_s, media_type
    )


def _check_range(request: Request, response: Response) -> None:
    """Raise DataError unless the body is the range that was asked for (RFC 9110, 14.4).

    `no_range`: the whole object, or another place of it. `truncated`: only the beginning of the range.
    """
    first, last = _asked_range(request)
    found = _PART.fullmatch(response.headers.get("content-range", "").strip())
    if response.status != 206 or found is None:
        raise DataError("sent no range where one was asked for", cause="no_range")
    length = len(response.body)
    if int(found[1]) != first or int(found[2]) != first + length - 1 or length > last - first + 1:
        raise DataError("sent another range than was asked for", cause="no_range")
    at_end = found[3] != "*" and first + length == int(found[3])
    if first + length - 1 < last and not at_end:
        raise DataError("sent a part of the range that was asked for", cause="truncated")


def _asked_range(request: Request) -> tuple[int, int]:
    """First and last byte, both within. Raises PlanError when the request has no such header."""
    for name, value in request.headers:
        if name.lower() == "range" and (found := _RANGE.fullmatch(value)):
            return int(found[1]), int(found[2])
    raise PlanError("a range is expected, and the request names none")


def _damaged(request: Request, what: str, cause: str, body: bytes) -> DataError:
    """The error for a body that is not what was promised: names the address, repeats no secret.

    The pure rooms know no addresses; and a page that quotes the key that was sent with the request must
    not carry it into a message, a log or an archive.
    """
    url = redact(request.url)
    head = body[: DataError.HEAD_BYTES_MAX]
    for secret in _secrets_of(request):
        head = head.replace(secret.encode(), MASK.encode())
    return DataError(f"{url}: {_masked(request, what)}", cause=cause, url=url, head=head)


def _masked(request: Request, text: str) -> str:
    for secret in _secrets_of(request) if text else ():
        text = text.replace(secret, MASK)
    return text


def _secrets_of(request: Request) -> list[str]:
    """What the request told the origin that may be secret: header values and the query's."""
    values = [value for _, header in request.headers for value in header.split()]
    query = urlsplit(request.url).query
    values += [value for _, value in parse_qsl(query) if not value.isdigit()]
    return [value for value in values if len(value) >= SECRET_CHARS_MIN]
