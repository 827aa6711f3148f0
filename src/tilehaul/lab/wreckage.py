"""What goes over the wire: honest answers and broken ones. Pure: bytes in, bytes out."""

import gzip
import math
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from typing import Final, Literal

from tilehaul.codec.http_dates import parse_http_date
from tilehaul.lab.faults import Kind, RetryAfter
from tilehaul.lab.plain_png import BLANK_PNG, PNG_MAGIC
from tilehaul.lab.tile_bodies import TileBody

# What happens to the connection after the bytes: as HTTP says, closed, RST, or held open in silence.
End = Literal["keep", "close", "reset", "hang"]

PLAIN_TEXT: Final = "text/plain; charset=utf-8"
SERVICE_EXCEPTION: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<ServiceExceptionReport version="1.3.0" xmlns="http://www.opengis.net/ogc">\n'
    b'  <ServiceException code="NoApplicableCode">The layer is under repair.</ServiceException>\n'
    b"</ServiceExceptionReport>\n"
)
HTML_PAGE: Final = b"<!DOCTYPE html>\n<title>Please sign in</title>\n<p>This page is not a tile.</p>\n"
# When every tile was last changed, in seconds since 1970: fixed, so that two runs agree.
LAST_MODIFIED_S: Final = 1_735_689_600
LAST_MODIFIED: Final = formatdate(LAST_MODIFIED_S, usegmt=True)
HEADER_BOMB_BYTES: Final = 1024 * 1024
# 64 MiB of zeros are 64 kB once compressed.
GZIP_BOMB_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: status line and headers (without Date, Connection and the empty line), then body.

    `status` 0 means nothing is sent. `end` is what happens after the last byte of `body`.
    `fault` is counted once the answer begins. `announced_s` is the wait its Retry-After asks for.
    """

    status: int
    head: bytes
    body: bytes = b""
    end: End = "keep"
    fault: str = ""
    announced_s: float = 0.0


SILENCE: Final = {
    "close_before": Reply(0, b"", end="close", fault="close_before"),
    "reset_before": Reply(0, b"", end="reset", fault="reset_before"),
    "black_hole": Reply(0, b"", end="hang", fault="black_hole"),
}


def head_bytes(status: int, *headers: tuple[str, str]) -> bytes:
    """Status line and headers, each line ended, for an answer that is not finished yet."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unassigned"
    lines = [f"HTTP/1.1 {status} {phrase}\r\nServer: tilehaul-mock\r\nAccess-Control-Allow-Origin: *\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    return "".join(lines).encode("latin-1")


def text_reply(status: int, body: bytes, media_type: str = PLAIN_TEXT, fault: str = "") -> Reply:
    """A whole answer with Content-Type and Content-Length, never stored by caches."""
    length = ("Content-Length", str(len(body)))
    head = head_bytes(status, ("Content-Type", media_type), length, ("Cache-Control", "no-store"))
    return Reply(status, head, body, fault=fault)


def _validators(tile: TileBody, max_age_s: int) -> tuple[tuple[str, str], ...]:
    control = ("Cache-Control", f"public, max-age={max_age_s}")
    tag = (("ETag", tile.etag),) if tile.etag else ()
    return *tag, ("Last-Modified", LAST_MODIFIED), control


def tile_reply(tile: TileBody, max_age_s: int) -> Reply:
    """The tile as it should be answered."""
    # The hot path: one formatting instead of `head_bytes`, the same lines in the same order.
    tag = f"ETag: {tile.etag}\r\n" if tile.etag else ""
    head = (
        "HTTP/1.1 200 OK\r\nServer: tilehaul-mock\r\nAccess-Control-Allow-Origin: *\r\n"
        f"Content-Type: {tile.media_type}\r\nContent-Length: {len(tile.body)}\r\n"
        f"{tag}Last-Modified: {LAST_MODIFIED}\r\nCache-Control: public, max-age={max_age_s}\r\n"
    )
    return Reply(200, head.encode("latin-1"), tile.body)


def unchanged_reply(tile: TileBody, max_age_s: int) -> Reply:
    """304 (RFC 9110, 15.4.5): the validators, no body."""
    return Reply(304, head_bytes(304, *_validators(tile, max_age_s)))


def etag_matches(etag: str, if_none_match: str) -> bool:
    """Weak comparison of an entity tag with an If-None-Match list (RFC 9110, 13.1.2)."""
    wanted = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return "*" in wanted or etag in wanted


def is_unmodified(if_modified_since: str, wall_s: float) -> bool:
    """Whether the tiles, all of LAST_MODIFIED, are as old as the date or older; no date: False (13.1.3)."""
    since_s = parse_http_date(if_modified_since, wall_s=wall_s)
    return since_s is not None and since_s >= LAST_MODIFIED_S


def absent_reply(status: int) -> Reply:
    """404 with a short text, or 204 without a body."""
    if status == HTTPStatus.NO_CONTENT:
        return Reply(204, head_bytes(204))
    return text_reply(status, b"no such tile\n")


def wait_header(rule: RetryAfter, wall_s: float) -> tuple[str, float]:
    """The value of Retry-After ("" for no header) and the seconds from `wall_s` that it announces.

    Whole seconds, rounded up so that nobody comes early: the grammar has no fractions.
    """
    if rule.form == "raw":
        return rule.text, 0.0
    whole_s = math.ceil(rule.delay_s)
    if rule.form == "date":
        until_s = math.ceil(wall_s) + whole_s
        return formatdate(until_s, usegmt=True), until_s - wall_s
    return str(whole_s), float(whole_s)


def error_reply(status: int, fault: str, wait: tuple[str, float] = ("", 0.0)) -> Reply:
    """An error with a short text; `wait` as `wait_header` gives it."""
    reply = text_reply(status, f"mock error {status}\n".encode(), fault=fault)
    header, announced_s = wait
    head = reply.head + f"Retry-After: {header}\r\n".encode("latin-1") if header else reply.head
    return replace(reply, head=head, announced_s=announced_s)


def _half(body: bytes) -> bytes:
    return body[: max(len(body) // 2, 1)]


@cache
def _gzip_bomb() -> bytes:
    # A gzip stream may have several members: one, repeated, is made quickly.
    return gzip.compress(b"\x00" * (1 << 20), 6, mtime=0) * (GZIP_BOMB_BYTES >> 20)


def flip_bit(body: bytes) -> bytes:
    """The body with one bit changed: in the middle of a PNG's last IDAT chunk, so that its CRC no
    longer fits; in other formats at three quarters, where the compressed picture is.
    """
    name_at = body.rfind(b"IDAT") if body.startswith(PNG_MAGIC) else -1
    if name_at >= 0:
        length = int.from_bytes(body[name_at - 4 : name_at], "big")
        at = name_at + 4 + length // 2
    else:
        at = len(body) * 3 // 4
    return b"".join((body[:at], bytes((body[at] ^ 0x10,)), body[at + 1 :]))


def _tile_wreck(kind: Kind, tile: TileBody, max_age_s: int) -> Reply:
    """The tile, damaged. `kind` is one of BODY_KINDS but wrong_tile, which is another whole tile."""
    whole, kept = tile_reply(tile, max_age_s), _validators(tile, max_age_s)
    kind_of = ("Content-Type", tile.media_type)
    if kind == "short_length":
        return Reply(200, whole.head, _half(tile.body), "close", kind)
    if kind == "reset_mid":
        return Reply(200, whole.head, _half(tile.body), "reset", kind)
    if kind == "cut_chunked":
        # One chunk that announces all of the body and carries half of it.
        body = f"{len(tile.body):x}\r\n".encode() + _half(tile.body)
        head = head_bytes(200, kind_of, ("Transfer-Encoding", "chunked"), *kept)
        return Reply(200, head, body, "close", kind)
    if kind == "cut_close":
        return Reply(200, head_bytes(200, kind_of, *kept), _half(tile.body), "close", kind)
    if kind == "cut_gzip":
        body = _half(gzip.compress(tile.body, 1, mtime=0))
        coding = (("Content-Encoding", "gzip"), ("Content-Length", str(len(body))))
        return Reply(200, head_bytes(200, kind_of, *coding, *kept), body, "keep", kind)
    return Reply(200, whole.head, flip_bit(tile.body), "keep", kind)


def wrecked_reply(kind: Kind, tile: TileBody | None, max_age_s: int) -> Reply:
    """The broken answer of one kind. `tile` may be None for kinds outside BODY_KINDS."""
    if kind in SILENCE:
        return SILENCE[kind]
    if kind in ("xml_200", "xml_as_png"):
        media_type = "text/xml; charset=utf-8" if kind == "xml_200" else "image/png"
        return text_reply(200, SERVICE_EXCEPTION, media_type, kind)
    if kind == "html_200":
        return text_reply(200, HTML_PAGE, "text/html; charset=utf-8", kind)
    if kind == "empty_200":
        return text_reply(200, b"", "image/png", kind)
    if kind == "blank_200":
        return text_reply(200, BLANK_PNG, "image/png", kind)
    if kind == "header_bomb":
        line = ("X-Padding", "x" * 8000)
        head = head_bytes(200, *[line] * (HEADER_BOMB_BYTES // 8000 + 1), ("Content-Length", "0"))
        return Reply(200, head, b"", "close", kind)
    if kind == "gzip_bomb":
        body = _gzip_bomb()
        lengths = (("Content-Encoding", "gzip"), ("Content-Length", str(len(body))))
        return Reply(200, head_bytes(200, ("Content-Type", "image/png"), *lengths), body, "keep", kind)
    if tile is None:
        raise ValueError(kind)
    if kind == "wrong_tile":
        other = tile_reply(tile, max_age_s)
        return Reply(200, other.head, other.body, "keep", kind)
    return _tile_wreck(kind, tile, max_age_s)
