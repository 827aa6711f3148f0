"""What bytes are, by their first ones; never by what a header or a file name says."""

VECTOR_TILE = "application/vnd.mapbox-vector-tile"
PNG = "image/png"
JPEG = "image/jpeg"
WEBP = "image/webp"
GIF = "image/gif"
AVIF = "image/avif"
TIFF = "image/tiff"
ZLIB = "application/zlib"
XML = "application/xml"
HTML = "text/html"
JSON = "application/json"
PLAIN = "text/plain"

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
GZIP_MAGIC = b"\x1f\x8b\x08"

# How far text is read before it is called text: an XML prologue and a comment fit.
TEXT_HEAD_BYTES = 512

# MVT 2.1, 4.1: a tile is layers, field 3, length-delimited, so its first byte is 3 << 3 | 2.
_LAYER_TAG = 0x1A

_EXTENSIONS = {
    PNG: "png",
    JPEG: "jpg",
    WEBP: "webp",
    GIF: "gif",
    AVIF: "avif",
    TIFF: "tif",
    VECTOR_TILE: "pbf",
    JSON: "json",
    XML: "xml",
    HTML: "html",
    PLAIN: "txt",
}
_MEDIA_TYPES = {extension: media_type for media_type, extension in _EXTENSIONS.items()} | {
    "jpeg": JPEG,
    "tiff": TIFF,
    "mvt": VECTOR_TILE,
    "geojson": JSON,
}
# Names other than ours that say the same.
_ALIASES = {
    "image/jpg": JPEG,
    "image/pjpeg": JPEG,
    "image/x-png": PNG,
    "image/png8": PNG,
    "application/x-protobuf": VECTOR_TILE,
    "application/protobuf": VECTOR_TILE,
    "application/x-mapbox-vector-tile": VECTOR_TILE,
    "application/vnd.mvt": VECTOR_TILE,
    "text/xml": XML,
    "application/geo+json": JSON,
}


def sniff(body: bytes) -> str:
    """The media type of a body, empty when its magic is not known.

    Known: PNG, JPEG, WebP, GIF, AVIF, TIFF; vector tiles, plain and gzipped (every gzip stream counts
    as one: nothing else comes gzipped inside an archive of tiles); zlib streams; and as text HTML,
    XML, JSON and plain words, so that an error page is told from a damaged picture. Reads the first
    512 bytes at most; says nothing about the rest (see `codec/verify.py`).
    """
    if body.startswith(PNG_MAGIC):
        return PNG
    if body.startswith(JPEG_MAGIC):
        return JPEG
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return WEBP
    if body.startswith(GZIP_MAGIC):
        return VECTOR_TILE
    if body.startswith((b"GIF89a", b"GIF87a")):
        return GIF
    if body[4:8] == b"ftyp" and _is_avif(body):
        return AVIF
    if body.startswith((b"II*\0", b"MM\0*")):
        return TIFF
    if body[:1] == b"\x1a" and looks_like_layers(body):
        return VECTOR_TILE
    if body[:1] == b"\x78" and len(body) > 1 and (body[0] << 8 | body[1]) % 31 == 0 and body[1] & 32 == 0:
        return ZLIB
    return _sniff_text(body[:TEXT_HEAD_BYTES])


def extension_of(media_type: str) -> str:
    """The usual file ending of a media type without the dot (`jpg`, `pbf`), empty when not known."""
    return _EXTENSIONS.get(plain_media_type(media_type), "")


def media_type_of(extension: str) -> str:
    """The media type of a file ending, with or without dot, in any case; empty when not known."""
    return _MEDIA_TYPES.get(extension.lower().removeprefix("."), "")


def plain_media_type(content_type: str) -> str:
    """A Content-Type in our own spelling: lower case, without parameters, one name for each format."""
    plain = content_type.partition(";")[0].strip().lower()
    return _ALIASES.get(plain, plain)


def looks_like_layers(body: bytes) -> bool:
    """Whether a body is a whole sequence of vector tile layers: lengths add up to its end exactly."""
    at, end = 0, len(body)
    while at < end:
        if body[at] != _LAYER_TAG:
            return False
        at += 1
        length = shift = 0
        while True:
            if at >= end or shift > 28:
                return False
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += length
    return at == end and end > 0


def _is_avif(body: bytes) -> bool:
    """ISO/IEC 14496-12, 4.3: the major brand, then a version, then compatible brands."""
    size = int.from_bytes(body[:4], "big")
    brands = body[8:12] + body[16 : min(size, TEXT_HEAD_BYTES)]
    return any(brands[at : at + 4] in (b"avif", b"avis") for at in range(0, len(brands), 4))


def _sniff_text(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "ignore").encode()
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\x0b\x0c").lower()
    if text.startswith(b"<"):
        if any(mark in text for mark in (b"<!doctype html", b"<html", b"<head", b"<body", b"<title")):
            return HTML
        return XML if text[1:2] in (b"?", b"!") or text[1:2].isalpha() else ""
    if not text or any(byte < 32 and byte not in b"\t\n\r\x1b\x0b\x0c" for byte in text):
        return ""
    if text[0] in b"{[" and (len(text) == 1 or text[1:].lstrip(b" \t\r\n")[:1] in _JSON_SECONDS):
        return JSON
    try:
        text.decode()
    except UnicodeDecodeError as error:
        # The head may end within a character of several bytes.
        if len(head) < TEXT_HEAD_BYTES or error.start < len(text) - 3:
            return ""
    return PLAIN


# What may follow the first bracket, at the end of the head nothing.
_JSON_SECONDS = (b"", *(bytes([byte]) for byte in b'"{[]}-0123456789tfn'))
