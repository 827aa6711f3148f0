"""A transparent tile, for layers that answer missing tiles with a picture."""

import struct
import zlib

SIDE_PX = 256


def transparent_png(side_px: int) -> bytes:
    """A fully transparent square PNG: one palette colour, one bit per pixel, alpha 0.

    Source: W3C "Portable Network Graphics (PNG) Specification", chunks IHDR, PLTE, tRNS, IDAT, IEND.
    """

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 3, 0, 0, 0)
    rows = (b"\0" + b"\0" * ((side_px + 7) // 8)) * side_px
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"PLTE", b"\0\0\0"),
            chunk(b"tRNS", b"\0"),
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        )
    )


TRANSPARENT_PNG = transparent_png(SIDE_PX)
