"""Content codings taken off, with the end checked and the size bounded."""

import zlib

from tilehaul.errors import DataError, RefusedError

MIB = 1024 * 1024

# Below this a body may grow without limit: blank tiles shrink to next to nothing.
FREE_BYTES = MIB
# Deflate reaches 1032:1 at most; real map data stays below 50:1.
RATIO_MAX = 200
# Members of one gzip stream (RFC 1952, 2.2); more than a few is an attack on the loop.
MEMBERS_MAX = 16

# zlib's window argument, which also says what stands around the stream.
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


def decode(body: bytes, content_encoding: str, limit_bytes: int, ratio_max: int = RATIO_MAX) -> bytes:
    """The body without its content coding.

    The stream's end must be there, its checksum right (CRC-32 for gzip, Adler-32 for deflate), and
    nothing behind it.

    Args:
        body: As it crossed the wire.
        content_encoding: The header: `gzip`, `x-gzip`, `deflate` (zlib, RFC 9110, 8.4.1.2),
            `identity` or empty. One coding only.
        limit_bytes: Most bytes of the result.
        ratio_max: Most times the result may be larger than the body, once it is larger than 1 MiB.

    Raises:
        DataError: `truncated` (the end is missing) or `bad_coding` (all else that is wrong).
        RefusedError: `too_large`; nothing beyond the limit was unpacked.
    """
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        if len(body) > limit_bytes:
            raise _too_large(f"the body has {len(body)} bytes, allowed are {limit_bytes}")
        return body
    window = _WINDOWS.get(coding)
    if window is None:
        raise DataError(f"content coding {coding[:40]!r} is not read", cause="bad_coding", head=body)
    most_bytes = min(limit_bytes, max(FREE_BYTES, ratio_max * len(body)))
    pieces: list[bytes] = []
    size_bytes = 0
    rest = body
    for _ in range(MEMBERS_MAX):
        piece, rest = _unpacked(rest, window, most_bytes - size_bytes)
        pieces.append(piece)
        size_bytes += len(piece)
        if not rest:
            return piece if len(pieces) == 1 else b"".join(pieces)
        if window != 31 or not rest.startswith(b"\x1f\x8b"):
            break
    raise DataError(f"{len(rest)} bytes follow the end of the {coding} stream", cause="bad_coding", head=body)


def _unpacked(body: bytes, window: int, most_bytes: int) -> tuple[bytes, bytes]:
    """One stream's content, and what follows it."""
    stream = zlib.decompressobj(window)
    try:
        # One byte more than allowed tells "full" from "too large"; 0 would mean no limit.
        content = stream.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise DataError(f"the content coding is damaged: {error}", cause="bad_coding", head=body) from error
    if len(content) > most_bytes:
        raise _too_large(f"{len(body)} coded bytes unpack to more than the {most_bytes} allowed")
    if not stream.eof:
        raise DataError("the content coding ends early", cause="truncated", head=body)
    return content, stream.unused_data


def _too_large(message: str) -> RefusedError:
    return RefusedError(message, cause="too_large")
