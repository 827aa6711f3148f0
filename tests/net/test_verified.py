"""The verified sender: what passes, what is refused, and as which error."""

import gzip
from typing import Any

import pytest

from doubles.clock import VirtualClock
from doubles.wire import PNG, ScriptedWire, answer
from tilehaul.errors import (
    BrokenError,
    DataError,
    DeniedError,
    RefusedError,
    ThrottledError,
    TransferError,
    UnreachableError,
)
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.answers import AnswerRule, Sign
from tilehaul.policy.providers import Provider, Providers
from tilehaul.policy.tally import Tally
from tilehaul.ports.wire import Request, Response

SECRET = "sesame"
A = Request(f"http://user:{SECRET}@a.test/1/2/3.png?key={SECRET}")


async def sent(response: Response | Exception, request: Request = A) -> Response:
    return await VerifiedSender(ScriptedWire(then=response), VirtualClock(), Tally()).send(request)


async def test_push_back_without_retry_after_waits_for_the_quota() -> None:
    """The RateLimit field says when there is more; Retry-After, where there is one, goes before it."""
    for headers, wanted_s in (
        ({"ratelimit": '"a";r=0;t=7'}, 7.0),
        ({"ratelimit": '"a";r=0;t=7', "retry_after": "3"}, 3.0),
        ({"ratelimit": '"a";r=5;t=7'}, None),
        ({}, None),
    ):
        wire = ScriptedWire(then=answer(429, b"", **headers))
        with pytest.raises(ThrottledError) as caught:
            await VerifiedSender(wire, VirtualClock(), Tally()).send(Request("http://a.test/1"))
        assert caught.value.retry_after_s == wanted_s


@pytest.mark.parametrize(("status", "kind"), [(400, RefusedError), (500, BrokenError)])
async def test_the_words_of_an_exception_come_along_with_any_status(status: int, kind: Any) -> None:
    body = f'<ServiceExceptionReport><ServiceException code="A">no {SECRET} b</ServiceException></a>'.encode()
    with pytest.raises(kind, match=rf"HTTP {status}\): A: no \*\*\* b\Z"):
        await sent(answer(status, body))


RANGED = Request("http://a.test/a?key=sesame", headers=(("Range", "bytes=10-19"),), expect="range")


@pytest.mark.parametrize(
    ("told", "body", "cause"),
    [
        ("bytes 10-19/90", b"0123456789", ""),
        ("Bytes 10-19/*", b"0123456789", ""),
        ("bytes 10-14/15", b"01234", ""),
        ("bytes 10-14/90", b"01234", "truncated"),
        ("bytes 10-14/*", b"01234", "truncated"),
        ("bytes 11-20/90", b"0123456789", "no_range"),
        ("bytes 10-19/90", b"012345678", "no_range"),
        ("bytes 10-20/90", b"0123456789a", "no_range"),
        ("bytes */90", b"0123456789", "no_range"),
        ("", b"0123456789", "no_range"),
    ],
)
async def test_a_range_is_the_one_that_was_asked_for(told: str, body: bytes, cause: str) -> None:
    response = answer(206, body, content_range=told)
    if not cause:
        assert (await sent(response, RANGED)).body == body
        return
    with pytest.raises(DataError) as caught:
        await sent(response, RANGED)
    assert (caught.value.cause, SECRET in str(caught.value)) == (cause, False)


async def test_the_whole_in_place_of_a_range_is_a_failed_attempt() -> None:
    for whole in (answer(200, b"0" * 90), RefusedError("too large", cause="too_large")):
        with pytest.raises(DataError) as caught:
            await sent(whole, RANGED)
        assert caught.value.cause == "no_range"
    with pytest.raises(RefusedError):
        await sent(RefusedError("no", cause="refused_address"), RANGED)


async def test_whole_tile_passes_with_its_true_type() -> None:
    """The server's label may be wrong among pictures; the bytes decide."""
    response = await sent(answer(content_type="image/jpeg"))
    assert (response.body, response.media_type) == (PNG, "image/png")


async def test_content_coding_is_taken_off() -> None:
    packed = gzip.compress(PNG)
    response = await sent(answer(body=packed, content_encoding="gzip"))
    assert response.body == PNG


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (answer(body=PNG[:-10], content_length=str(len(PNG))), "truncated"),
        (answer(body=PNG[:-10]), "truncated"),
        (answer(body=gzip.compress(PNG)[:-4], content_encoding="gzip"), "truncated"),
        (answer(body=b""), "empty"),
        (answer(body=b"<html><body>log in</body></html>", content_type="text/html"), "error_page"),
        (answer(body=b"<html><body>log in</body></html>"), "error_page"),
        (answer(body=b"<?xml version='1.0'?><ServiceException/>", content_type="text/xml"), "error_page"),
        (answer(body=b'{"error": "quota"}', content_type="application/json"), "error_page"),
        (answer(body=PNG.replace(b"IDAT", b"IDAX")), "corrupt"),
    ],
)  # fmt: skip
async def test_body_that_is_not_what_was_promised_is_data_error(response: Response, cause: str) -> None:
    """Never a Response: nothing corrupt can be kept by anyone above."""
    with pytest.raises(DataError) as caught:
        await sent(response)
    if cause != "corrupt":
        assert caught.value.cause == cause
    assert SECRET not in str(caught.value) + caught.value.url
    assert len(caught.value.head) <= 200


async def test_extra_bytes_after_the_tile_are_found() -> None:
    with pytest.raises(DataError):
        await sent(answer(body=PNG + b"<!-- proxy was here -->"))


@pytest.mark.parametrize(
    ("response", "kind", "retry_after_s", "cause"),
    [
        (answer(429), ThrottledError, None, "http_429"),
        (answer(429, retry_after="7"), ThrottledError, 7.0, "http_429"),
        (answer(503, retry_after="7"), ThrottledError, 7.0, "pushed_back_503"),
        (answer(429, retry_after="soon"), ThrottledError, None, "http_429"),
        (answer(503, retry_after="soon"), BrokenError, None, "http_503"),
        (answer(503), BrokenError, None, "http_503"),
        (answer(500), BrokenError, None, "http_500"),
        (answer(403), DeniedError, None, "http_403"),
        (answer(400), RefusedError, None, "http_400"),
    ],
)
async def test_status_becomes_its_error(response, kind, retry_after_s, cause) -> None:
    with pytest.raises(kind) as caught:
        await sent(response)
    assert caught.value.retry_after_s == retry_after_s
    assert caught.value.cause == cause
    assert SECRET not in str(caught.value) + caught.value.url


async def test_retry_after_date_counts_from_the_server_s_own_clock() -> None:
    """A server whose clock is an hour off still means ten seconds."""
    response = answer(429, retry_after="Sun, 06 Nov 1994 08:49:47 GMT", date="Sun, 06 Nov 1994 08:49:37 GMT")
    with pytest.raises(ThrottledError) as caught:
        await sent(response)
    assert caught.value.retry_after_s == 10.0


@pytest.mark.parametrize("status", [404, 410, 204])
async def test_absence_is_an_answer_without_a_body(status: int) -> None:
    """An error page at 404 is not looked at, and not kept."""
    response = await sent(answer(status, body=b"<html>not found</html>"))
    assert (response.status, response.body) == (status, b"")


async def test_a_400_is_absence_only_where_it_says_so() -> None:
    """A WMTS says TileOutOfRange; many servers zip every answer."""
    said = b'<ExceptionReport><Exception exceptionCode="TileOutOfRange"/></ExceptionReport>'
    for body in (answer(400, said), answer(400, gzip.compress(said), content_encoding="gzip")):
        response = await sent(body)
        assert (response.status, response.body) == (400, b"")
    for body in (
        answer(400, said.replace(b"OutOfRange", b"Missing")),
        # It says that it is zipped, and is not: nothing is believed.
        answer(400, said, content_encoding="gzip"),
        answer(500, said),
    ):
        with pytest.raises(TransferError):
            await sent(body)


async def test_decoded_body_over_the_limit_is_refused() -> None:
    """A bomb: a kilobyte on the wire, a megabyte in memory."""
    bomb = gzip.compress(bytes(4_000_000))
    request = Request(A.url, body_bytes_max=100_000)
    with pytest.raises(RefusedError) as caught:
        await sent(answer(body=bomb, content_encoding="gzip"), request)
    assert caught.value.cause == "too_large"


async def test_tally_counts_attempts_and_causes() -> None:
    tally = Tally()
    wire = ScriptedWire(steps=[answer(), answer(500), UnreachableError("x", cause="reset"), answer(404)])
    sender = VerifiedSender(wire, VirtualClock(), tally)
    for _ in range(4):
        try:
            await sender.send(A)
        except (BrokenError, UnreachableError):
            pass
    assert tally.requests == 4
    assert tally.causes == {"http_500": 1, "reset": 1}
    assert tally.fetches.count == 2


async def test_206_of_everything_is_the_tile() -> None:
    """Contract: 206 that verifies is done; a server may say so although no range was asked for."""
    size = len(PNG)
    whole = answer(206, PNG, content_type="image/png", content_range=f"bytes 0-{size - 1}/{size}")
    assert (await sent(whole)).body == PNG


@pytest.mark.parametrize(
    "content_range", ["", f"bytes 0-{len(PNG) - 1}/{len(PNG) + 9}", "bytes 5-9/10", "all"]
)
async def test_206_of_a_part_is_truncated(content_range: str) -> None:
    """Even when the part looks like a whole tile."""
    with pytest.raises(DataError) as caught:
        await sent(answer(206, PNG, content_type="image/png", content_range=content_range))
    assert caught.value.cause == "truncated"


async def test_206_is_verified_as_any_body() -> None:
    half = PNG[:40]
    with pytest.raises(DataError):
        await sent(answer(206, half, content_type="image/png", content_range="bytes 0-39/40"))


async def test_304_without_a_condition_is_a_failure_and_with_one_an_answer() -> None:
    with pytest.raises(BrokenError):
        await sent(answer(304))
    asked = Request(A.url, headers=(("If-None-Match", '"x"'),))
    assert (await sent(answer(304), asked)).status == 304


async def test_error_page_that_quotes_our_key_does_not_carry_it_on() -> None:
    """Neither the query's value nor a header's, in message or head."""
    request = Request("http://a.test/1.png?apikey=CANquery1", headers=(("X-Api-Key", "CANheader2"),))
    page = b"<html>The key CANquery1 and the agent CANheader2 are not valid</html>"
    with pytest.raises(DataError) as caught:
        await sent(answer(body=page, content_type="text/html"), request)
    seen = str(caught.value) + caught.value.url + caught.value.head.decode()
    assert "CAN" not in seen
    assert "are not valid" in caught.value.head.decode()


LIMITS = Providers(
    [
        Provider("a.test", answers=AnswerRule(frozenset({500}), (Sign(403, body="quota"),))),
        Provider("b.test", answers=AnswerRule(signs=(Sign(200, header="x-note", header_value="limit"),))),
    ]
)


async def judged(url: str, response: Response, tally: Tally | None = None) -> Response:
    wire = ScriptedWire(then=response)
    verified = VerifiedSender(wire, VirtualClock(), tally or Tally(), providers=LIMITS)
    return await verified.send(Request(url))


@pytest.mark.parametrize(
    ("url", "response"),
    [
        ("http://a.test/1", answer(500)),
        ("http://sub.a.test/1", answer(500)),
        ("http://a.test/1", answer(500, retry_after="7")),
        ("http://a.test/1", answer(403, body=b"Your quota is used up")),
        ("http://a.test/1", answer(403, body=gzip.compress(b"QUOTA"), content_encoding="gzip")),
        ("http://b.test/1", answer(200, x_note="over the limit")),
    ],
)
async def test_providers_own_sign_is_push_back(url: str, response: Response) -> None:
    with pytest.raises(ThrottledError) as caught:
        await judged(url, response)
    assert caught.value.cause == f"pushed_back_{response.status}"
    assert caught.value.retry_after_s == (7.0 if "retry-after" in response.headers else None)


@pytest.mark.parametrize(
    ("url", "response", "error"),
    [
        ("http://other.test/1", answer(500), BrokenError),
        ("http://a.test/1", answer(502), BrokenError),
        ("http://a.test/1", answer(403, body=b"no key"), DeniedError),
        ("http://a.test/1", answer(403, body=b"\x1f\x8b broken", content_encoding="gzip"), DeniedError),
        ("http://b.test/1", answer(200, body=b""), DataError),
    ],
)
async def test_what_bears_no_sign_means_what_it_means_elsewhere(
    url: str, response: Response, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await judged(url, response)


async def test_plain_tile_of_a_host_with_notices_passes() -> None:
    tally = Tally()
    response = await judged("http://b.test/1", answer(), tally)
    assert (response.body, response.media_type) == (PNG, "image/png")
    assert tally.causes == {}
