"""Whether a picture file is whole, from its frame alone: nothing is decoded.

Each `check_*` walks one format's outer structure to its declared end and answers (width, height)
in pixels. All raise DataError: `truncated` when the file ends before its structure does, `corrupt`
when the structure contradicts itself.

One rule for what follows the end, in every format: zero bytes and line ends (CR, LF) are allowed,
because cutters pad to whole blocks and scripts add a last new line, and they hide nothing: the end
itself must stand before them. Anything else is refused.
"""

import struct
from zlib import crc32

from tilehaul.codec.sniff import PNG_MAGIC
from tilehaul.errors import DataError

Size = tuple[int, int]

_CHUNK = struct.Struct(">I4s")
_CHECKSUM = struct.Struct(">I")
_PNG_HEADER = struct.Struct(">IIBBBBB")
# PNG 3rd edition, table 12: bit depths by colour type.
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# What may follow a picture's end.
_PADDING = b"\0\r\n"


def check_png(body: bytes) -> Size:
    """Every chunk's length and CRC, IHDR first, IDAT present, IEND last (PNG 3rd ed., 5)."""
    if not body.endswith(_PNG_END) and not (body := body.rstrip(_PADDING)).endswith(_PNG_END):
        at = body.rfind(_PNG_END)
        if at > 0:
            raise _corrupt("PNG", f"{len(body) - at - len(_PNG_END)} bytes follow its end")
        raise _truncated("PNG", "its end chunk is missing")
    if len(body) < 45 or body[8:16] != b"\x00\x00\x00\rIHDR":
        raise _corrupt("PNG", "it does not begin with its header chunk")
    width, height, depth, colour, packing, filtering, interlace = _PNG_HEADER.unpack_from(body, 16)
    if not width or not height or depth not in _PNG_DEPTHS.get(colour, ()) or packing or filtering:
        raise _corrupt("PNG", "its header makes no sense")
    if interlace > 1:
        raise _corrupt("PNG", "its header makes no sense")
    at, end = len(PNG_MAGIC), len(body)
    view = memoryview(body)
    unpack, checksum = _CHUNK.unpack_from, _CHECKSUM.unpack_from
    has_data = False
    while True:
        if at + 12 > end:
            raise _corrupt("PNG", "its chunks do not add up to its length")
        length, name = unpack(body, at)
        stop = at + 8 + length
        if stop + 4 > end:
            raise _corrupt("PNG", "its chunks do not add up to its length")
        if crc32(view[at + 4 : stop]) != checksum(body, stop)[0]:
            raise _corrupt("PNG", f"the checksum of {_named(name)} chunk is wrong")
        at = stop + 4
        if name == b"IDAT":
            has_data = True
        elif name == b"IEND":
            break
    if at != end or not has_data:
        raise _corrupt("PNG", "its chunks do not add up to its length")
    return width, height


def _named(name: bytes) -> str:
    """A chunk's name, four letters in what is whole (PNG 5.3)."""
    return f"its {name.decode()}" if name.isalpha() else "a nameless"


# Markers that stand alone: TEM and RST0..7 (T.81, table B.1).
_JPEG_LONELY = frozenset((0x01, *range(0xD0, 0xD8)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA


def check_jpeg(body: bytes) -> Size:
    """Segments up to the first scan, and the end marker (T.81, annex B)."""
    at, end = 2, len(body)
    size: Size | None = None
    while True:
        while body[at : at + 2] == b"\xff\xff":  # fill bytes before a marker
            at += 1
        if at + 4 > end:
            raise _truncated("JPEG", "it ends within its headers")
        if body[at] != 0xFF:
            raise _corrupt("JPEG", "a segment does not begin where the one before ends")
        marker = body[at + 1]
        if marker in _JPEG_LONELY:
            at += 2
            continue
        length = body[at + 2] << 8 | body[at + 3]
        if marker in _JPEG_FRAMES:
            if length < 8 or at + 9 > end:
                raise _truncated("JPEG", "it ends within its headers")
            size = body[at + 7] << 8 | body[at + 8], body[at + 5] << 8 | body[at + 6]
        at += 2 + length
        if at > end or length < 2:
            raise _truncated("JPEG", "it ends within its headers")
        if marker == _JPEG_SCAN:
            break
    if size is None or not size[0]:
        raise _corrupt("JPEG", "no frame stands before its first scan")
    if not body.endswith(b"\xff\xd9") and not body.rstrip(_PADDING).endswith(b"\xff\xd9"):
        raise _truncated("JPEG", "its end marker is missing")
    return size


# A file that was given its full length first and filled only in part ends in zero bytes, and its frame
# is right. Whole pictures end in zeros too where the last rows are plain: measured with libwebp 1.x over
# noise above one colour, all methods and qualities, at most 0.0193 bytes a pixel lossy (VP8) and 0.19
# lossless (VP8L); libaom's AVIF none at all. Limits above that lose no good picture; a cut nearer to the
# end than the limit passes.
_ZEROS_FREE_BYTES = 64
_PIXELS_PER_ZERO = {b"VP8 ": 32, b"VP8L": 2, b"ANMF": 2}
_AVIF_ZEROS_MAX = 256
# Header and fixed fields of the picture's first chunk, from the file's start.
_WEBP_HEAD_BYTES = {b"VP8X": 30, b"VP8 ": 30, b"VP8L": 25}


def check_webp(body: bytes) -> Size:
    """The RIFF length, the chunks in it, and that the picture's data is not zeros from somewhere on.

    An odd length may be followed by its padding byte.
    """
    end = len(body)
    declared = 8 + int.from_bytes(body[4:8], "little")
    if end < declared:
        raise _truncated("WebP", f"it has {end} bytes of {declared}")
    # The padding byte of an odd length is one of the zeros that may follow.
    _check_tail(body, declared, "WebP")
    at = 12
    first = last = b""
    data = slice(0, 0)
    while at + 8 <= declared:
        name = body[at : at + 4]
        first = first or name
        length = int.from_bytes(body[at + 4 : at + 8], "little")
        if name in _PIXELS_PER_ZERO:
            last, data = name, slice(at + 8, at + 8 + length)
        elif not any(name):
            raise _truncated("WebP", "zeros stand where a chunk should")
        at += 8 + length + (length & 1)
    # The last chunk's padding byte may be left out by careless writers.
    if at not in (declared, declared + 1) or not last:
        raise _corrupt("WebP", "its chunks do not add up to its length")
    width, height = _webp_size(body, first)
    if not body[data.stop - 1]:
        zeros_max = _ZEROS_FREE_BYTES + width * height // _PIXELS_PER_ZERO[last]
        _check_filled(body, data.start, data.stop, zeros_max, "WebP")
    return width, height


def _webp_size(body: bytes, first: bytes) -> Size:
    """RFC 9649, 2.7 (VP8X); RFC 6386, 9.1 (VP8); RFC 9649, 3.4 (VP8L)."""
    if len(body) < _WEBP_HEAD_BYTES.get(first, 0):
        raise _corrupt("WebP", "its picture chunk is shorter than its header")
    if first == b"VP8X":
        return 1 + int.from_bytes(body[24:27], "little"), 1 + int.from_bytes(body[27:30], "little")
    if first == b"VP8L" and body[20] == 0x2F:
        bits = int.from_bytes(body[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if first == b"VP8 " and body[23:26] == b"\x9d\x01\x2a":
        width = int.from_bytes(body[26:28], "little") & 0x3FFF
        height = int.from_bytes(body[28:30], "little") & 0x3FFF
        if width and height:
            return width, height
    raise _corrupt("WebP", "its picture chunk makes no sense")


def check_gif(body: bytes) -> Size:
    """Blocks up to the trailer (GIF89a, 12 to 27)."""
    try:
        width, height = body[6] | body[7] << 8, body[8] | body[9] << 8
        at = 13 + _gif_table_bytes(body[10])
        while body[at] != 0x3B:
            if body[at] == 0x2C:  # a picture: its own table, one byte of code size, data
                at += 11 + _gif_table_bytes(body[at + 9])
            elif body[at] == 0x21:  # an extension
                at += 2
            else:
                raise _corrupt("GIF", "a block is of no known kind")
            while body[at]:
                at += 1 + body[at]
            at += 1
    except IndexError as error:
        raise _truncated("GIF", "its trailer is missing") from error
    _check_tail(body, at + 1, "GIF")
    if not width or not height:
        raise _corrupt("GIF", "it has no size")
    return width, height


def _gif_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def check_avif(body: bytes) -> Size:
    """Top-level boxes that add up to the file, with `meta` and `mdat`; the largest `ispe` in `meta`.

    The data must not be zeros from somewhere on.

    Sources: ISO/IEC 14496-12, 4.2 (boxes); ISO/IEC 23008-12, 6.5.3 (ispe).
    """
    at, end = 0, len(body)
    size = (0, 0)
    has_data = False
    while at < end:
        if body[at] in _PADDING and not body[at:].strip(_PADDING):
            break
        length, name = _CHUNK.unpack_from(body, at) if at + 8 <= end else (end, b"")
        if length == 1 and at + 16 <= end:
            length = int.from_bytes(body[at + 8 : at + 16], "big")
        elif length == 0:
            length = end - at
        if at + length > end:
            raise _truncated("AVIF", "a box is cut")
        if length < 8:
            raise _corrupt("AVIF", "a box is shorter than its own header")
        if name == b"meta":
            found = body.find(b"ispe", at, at + length - 15)
            while found > 0:
                width, height = struct.unpack_from(">II", body, found + 8)
                size = max(size[0], width), max(size[1], height)
                found = body.find(b"ispe", found + 16, at + length - 15)
        if name == b"mdat":
            has_data = True
            if not body[at + length - 1]:
                _check_filled(body, at, at + length, _AVIF_ZEROS_MAX, "AVIF")
        at += length
    if not has_data:
        raise _truncated("AVIF", "its data box is missing")
    if not size[0] or not size[1]:
        raise _corrupt("AVIF", "it does not say its size")
    return size


def _check_tail(body: bytes, stop: int, kind: str) -> None:
    """Nothing but padding from `stop`, the picture's end, on."""
    if len(body) > stop and body[stop:].strip(_PADDING):
        raise _corrupt(kind, f"{len(body) - stop} bytes follow its end")


def _check_filled(body: bytes, start: int, stop: int, zeros_max: int, kind: str) -> None:
    """`body[start:stop]` ends in at most `zeros_max` zero bytes, and is not all zeros."""
    if not any(body[max(start, stop - zeros_max - 1) : stop]):
        raise _truncated(kind, "its data is zeros from somewhere on")


def _truncated(kind: str, what: str) -> DataError:
    return DataError(f"the {kind} is cut short: {what}", cause="truncated")


def _corrupt(kind: str, what: str) -> DataError:
    return DataError(f"the {kind} is damaged: {what}", cause="corrupt")
