"""Nothing corrupt passes: every answer is judged and every body checked.

Innermost of the wrappers, so that a corrupt body is a failed attempt like any
other: retried by the retrying sender and seen by the lane.
"""

from dataclasses import dataclass, replace

from tilehaul.codec.coding import decode
from tilehaul.codec.http_dates import parse_retry_after
from tilehaul.codec.safe_url import redact
from tilehaul.codec.verify import verify_tile
from tilehaul.errors import (
    BrokenError,
    DataError,
    DeniedError,
    RefusedError,
    ThrottledError,
    TransferError,
)
from tilehaul.policy.answers import ANSWERS_DEFAULT, AnswerRule, judge_status
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.wire import Request, Response, Sender


@dataclass(frozen=True, slots=True)
class VerifiedSender:
    """Turns answers into verified responses or typed errors.

    Returns responses that are whole and what they claim (200, 206), that say "not modified" (304), or that
    say "none" (404, 410, 204: the body is dropped). Raises ThrottledError, BrokenError, DeniedError,
    RefusedError or DataError for all others; the wire's own errors pass through.
    """

    wire: Sender
    clock: Clock
    tally: Tally
    rule: AnswerRule = ANSWERS_DEFAULT

    async def send(self, request: Request) -> Response:
        self.tally.requests += 1
        try:
            response = await self.wire.send(request)
            if response.status != 200:
                return self._judge(request, response)
            verified = _verified(request, response)
        except (TransferError, DataError) as error:
            self.tally.failed(error.cause)
            raise
        self.tally.fetches.add(response.total_s)
        return verified

    def _judge(self, request: Request, response: Response) -> Response:
        """Decide on an answer that is not a plain 200."""
        status = response.status
        retry_after_s: float | None = None
        asked = response.headers.get("retry-after")
        if asked is not None:
            retry_after_s = parse_retry_after(
                asked, date_header=response.headers.get("date"), wall_s=self.clock.wall_s()
            )
        meaning = judge_status(status, retry_after=retry_after_s is not None, rule=self.rule)
        if meaning == "absent":
            self.tally.fetches.add(response.total_s)
            return replace(response, body=b"")
        if meaning == "done":
            self.tally.fetches.add(response.total_s)
            return response if status == 304 else _verified(request, response)
        raise _error_of(meaning, status, redact(request.url), retry_after_s)


def _error_of(meaning: str, status: int, url: str, retry_after_s: float | None) -> TransferError:
    cause = f"http_{status}"
    if meaning == "pushed_back":
        return ThrottledError(
            f"{url} asked for fewer requests (HTTP {status})",
            url=url,
            retry_after_s=retry_after_s,
            cause=cause,
        )
    if meaning == "transient":
        return BrokenError(f"{url} failed (HTTP {status})", url=url, cause=cause)
    if meaning == "denied":
        return DeniedError(
            f"{url} denies access (HTTP {status}): check the key or the permission", url=url, cause=cause
        )
    return RefusedError(f"{url} refuses the request (HTTP {status})", url=url, cause=cause)


def _verified(request: Request, response: Response) -> Response:
    """Check one body against its promises and take its content coding off."""
    headers = response.headers
    body = response.body
    if request.method == "HEAD":
        return response
    declared = headers.get("content-length")
    if declared is not None and declared != str(len(body)):
        raise DataError(
            f"{redact(request.url)} promised {declared[:20]} bytes and sent {len(body)}",
            cause="truncated",
            url=redact(request.url),
            head=body[: DataError.HEAD_BYTES_MAX],
        )
    try:
        coding = headers.get("content-encoding")
        if coding is not None:
            body = decode(body, coding, request.body_bytes_max)
        media_type = ""
        if request.expect == "tile":
            media_type = verify_tile(body, headers.get("content-type", ""))
    except DataError as error:
        # The pure room knows no addresses: the one that failed is named here.
        raise DataError(
            f"{redact(request.url)}: {error}",
            cause=error.cause,
            url=redact(request.url),
            head=error.head or body[: DataError.HEAD_BYTES_MAX],
        ) from error
    # Spelled out, because dataclasses.replace() costs twice as much, and every tile passes here.
    return Response(
        response.url, response.status, headers, body, response.ttfb_s, response.total_s, media_type
    )
