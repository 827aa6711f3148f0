"""Whether a body is the whole tile it claims to be."""

from collections.abc import Callable

from tilehaul.codec import picture_form
from tilehaul.codec.coding import decode
from tilehaul.codec.safe_url import redact_text
from tilehaul.codec.safe_xml import exception_said
from tilehaul.codec.sniff import (
    AVIF,
    GIF,
    GZIP_MAGIC,
    HTML,
    JPEG,
    JSON,
    PLAIN,
    PNG,
    PNG_MAGIC,
    TIFF,
    VECTOR_TILE,
    WEBP,
    XML,
    looks_like_layers,
    plain_media_type,
    sniff,
)
from tilehaul.errors import DataError

# The usual maximum of a WMS; 16.8 megapixels, 64 MiB once decoded.
SIDE_PX_MAX = 4096
# Most bytes a gzipped vector tile may unpack to while it is checked.
VECTOR_BYTES_MAX = 64 * 1024 * 1024

_CHECKS: dict[str, Callable[[bytes], tuple[int, int]]] = {
    PNG: picture_form.check_png,
    JPEG: picture_form.check_jpeg,
    WEBP: picture_form.check_webp,
    GIF: picture_form.check_gif,
    AVIF: picture_form.check_avif,
}
_ERROR_PAGES = frozenset({HTML, XML, JSON, PLAIN})


def verify_tile(body: bytes, content_type: str = "") -> str:
    """Check a decoded body, and say what it is.

    A PNG must have every chunk's CRC right and end with IEND, a JPEG with its end marker, a WebP, GIF
    or AVIF with its declared structure; a vector tile must be whole layers, gzipped or not. Nothing
    is decoded: damage inside JPEG, WebP, GIF and AVIF picture data passes.

    A whole picture of any format may be followed by zero bytes and line ends, and by nothing else; a
    vector tile by nothing. A WebP or AVIF that has its full length, but whose data is zeros from
    somewhere on (a copy into a file made to size beforehand), is truncated; where only its last bytes
    are missing (for a lossy WebP of 256 x 256 pixels the last 2 KiB) that cannot be told from a picture
    that ends in one colour, and it passes.

    The bytes decide, not the header: a picture labelled as another picture, as binary, as text or not
    at all is accepted as what it is. Only a vector tile labelled as a picture, or the reverse, is
    taken for the wrong answer.

    Args:
        body: Without content coding.
        content_type: The header, empty when there was none.

    Returns:
        The media type: `image/png`, `image/jpeg`, `image/webp`, `image/gif`, `image/avif` or
        `application/vnd.mapbox-vector-tile` (also when it is gzipped).

    Raises:
        DataError: cause `empty`, `truncated`, `corrupt`, `bad_coding`, `error_page` (HTML, XML, JSON
            or plain words), `mistyped`, `too_many_pixels` (a side above 4096). `head` has the first bytes.
        RefusedError: cause `too_large`: a gzipped vector tile is a bomb.
    """
    # The commonest tile first: this is called for every one.
    kind = PNG if body.startswith(PNG_MAGIC) else sniff(body)
    check = _CHECKS.get(kind)
    try:
        if check is None:
            return _verify_other(body, kind, plain_media_type(content_type))
        width, height = check(body)
    except DataError as error:
        if not error.head:
            error.head = body[: DataError.HEAD_BYTES_MAX]
        raise
    if width > SIDE_PX_MAX or height > SIDE_PX_MAX:
        raise DataError(
            f"the picture is {width}x{height} pixels, at most {SIDE_PX_MAX} a side are allowed",
            cause="too_many_pixels",
            head=body,
        )
    if content_type and plain_media_type(content_type) == VECTOR_TILE:
        raise DataError(f"a picture ({kind}) came as a vector tile", cause="mistyped", head=body)
    return kind


def _verify_other(body: bytes, kind: str, declared: str) -> str:
    """What is no picture: a vector tile, or something that is no tile at all."""
    if not body:
        raise DataError("the body is empty", cause="empty")
    if kind in _ERROR_PAGES:
        if said := exception_said(body):
            raise DataError(f"the service answered with an exception: {said}", cause="error_page")
        raise DataError(f"a page of {kind} came instead of a tile: {_first_words(body)}", cause="error_page")
    if kind == VECTOR_TILE:
        content = body
        if body.startswith(GZIP_MAGIC):
            content = decode(body, "gzip", VECTOR_BYTES_MAX)
            inner = sniff(content)
            if inner in _ERROR_PAGES:
                page = _first_words(content)
                raise DataError(
                    f"a zipped page of {inner} came instead of a tile: {page}", cause="error_page"
                )
        if declared.startswith("image/"):
            raise DataError(f"a vector tile came as {declared}", cause="mistyped")
        # A gzipped tile of nothing is how some generators write an empty tile.
        if content and not looks_like_layers(content):
            raise DataError("the zipped body is no vector tile", cause="mistyped")
        return VECTOR_TILE
    if kind == TIFF:
        raise DataError("a TIFF came; as a tile its end cannot be checked", cause="mistyped")
    if declared == VECTOR_TILE and body[0] == 0x1A:
        raise DataError("the vector tile is cut short: its layers do not add up", cause="truncated")
    if declared == VECTOR_TILE:
        raise DataError("the body is no vector tile", cause="mistyped")
    said = f"Content-Type says {declared[:40]}" if declared else "it has no Content-Type"
    raise DataError(f"the body is of no kind that is a tile ({said})", cause="mistyped")


def _first_words(body: bytes) -> str:
    """The beginning of a page on one line, for the message."""
    text = redact_text(body[: DataError.HEAD_BYTES_MAX].decode("utf-8", "replace"))
    return repr(" ".join("".join(c if c.isprintable() else " " for c in text).split())[:80])
