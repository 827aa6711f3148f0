"""Whether a picture file is whole, from its frame alone: nothing is decoded.

Each `check_*` walks one format's outer structure to its declared end and answers (width, height)
in pixels. All raise DataError: `truncated` when the file ends before its structure does, `corrupt`
when the structure contradicts itself.
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


def check_png(body: bytes) -> Size:
    """Every chunk's length and CRC, IHDR first, IDAT present, IEND at the very end (PNG 3rd ed., 5)."""
    if not body.endswith(_PNG_END):
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
            raise _corrupt("PNG", f"the checksum of a {name!r} chunk is wrong")
        at = stop + 4
        if name == b"IDAT":
            has_data = True
        elif name == b"IEND":
            break
    if at != end or not has_data:
        raise _corrupt("PNG", "its chunks do not add up to its length")
    return width, height


# Markers that stand alone: TEM and RST0..7 (T.81, table B.1).
_JPEG_LONELY = frozenset((0x01, *range(0xD0, 0xD8)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA


def check_jpeg(body: bytes) -> Size:
    """Segments up to the first scan, and the end marker (T.81, annex B).

    Zero bytes behind the end marker are allowed: some cameras and cutters pad with them, and they
    hide nothing, because the marker itself must stand before them.
    """
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
    if not body.endswith(b"\xff\xd9") and not body.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise _truncated("JPEG", "its end marker is missing")
    return size


def check_webp(body: bytes) -> Size:
    """The RIFF length and the chunks in it; an odd length may be followed by its padding byte."""
    end = len(body)
    declared = 8 + int.from_bytes(body[4:8], "little")
    if end < declared or end < 30:
        raise _truncated("WebP", f"it has {end} bytes of {declared}")
    if end > declared + (declared & 1):
        raise _corrupt("WebP", f"{end - declared} bytes follow its end")
    at = 12
    names = []
    while at + 8 <= declared:
        names.append(body[at : at + 4])
        length = int.from_bytes(body[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)
    # The last chunk's padding byte may be left out by careless writers.
    if at not in (declared, declared + 1) or not {b"VP8 ", b"VP8L", b"ANMF"}.intersection(names):
        raise _corrupt("WebP", "its chunks do not add up to its length")
    return _webp_size(body, names[0])


def _webp_size(body: bytes, first: bytes) -> Size:
    """RFC 9649, 2.7 (VP8X); RFC 6386, 9.1 (VP8); RFC 9649, 3.4 (VP8L)."""
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
    """Blocks up to the trailer, which must be the last byte (GIF89a, 12 to 27)."""
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
    if at != len(body) - 1:
        raise _corrupt("GIF", f"{len(body) - 1 - at} bytes follow its end")
    if not width or not height:
        raise _corrupt("GIF", "it has no size")
    return width, height


def _gif_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def check_avif(body: bytes) -> Size:
    """Top-level boxes that add up to the file, with `meta` and `mdat`; the largest `ispe` in `meta`.

    Sources: ISO/IEC 14496-12, 4.2 (boxes); ISO/IEC 23008-12, 6.5.3 (ispe).
    """
    at, end = 0, len(body)
    size = (0, 0)
    has_data = False
    while at < end:
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
        has_data = has_data or name == b"mdat"
        at += length
    if not has_data:
        raise _truncated("AVIF", "its data box is missing")
    if not size[0] or not size[1]:
        raise _corrupt("AVIF", "it does not say its size")
    return size


def _truncated(kind: str, what: str) -> DataError:
    return DataError(f"the {kind} is cut short: {what}", cause="truncated")


def _corrupt(kind: str, what: str) -> DataError:
    return DataError(f"the {kind} is damaged: {what}", cause="corrupt")
