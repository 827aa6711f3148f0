"""Small PNG tiles made by hand: no Pillow, different bytes for every address.

Source: PNG specification, 3rd edition, sections 5 (chunks), 11.2 (critical chunks), 11.3.3.3 (tEXt).
"""

import hashlib
import struct
import zlib
from typing import Final

from tilehaul.grid.tile_id import TileId

SIDE_PX: Final = 256
PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
# A private, ancillary chunk (second letter lower case): decoders skip it.
PADDING_CHUNK: Final = b"paDd"
# Bytes of the smallest wanted size: above what an unpadded tile takes, whatever its address.
PLAIN_BYTES_MIN: Final = 512
CHUNK_OVERHEAD_BYTES: Final = 12


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return b"".join((struct.pack(">I", len(content)), name, content, struct.pack(">I", check)))


# One bit a pixel, two colours: a line north and west, and a cross in the middle.
_HEADER: Final = _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 1, 3, 0, 0, 0))
_END: Final = _chunk(b"IEND", b"")


def _pixels() -> bytes:
    rows = bytearray()
    for row in range(SIDE_PX):
        line = (1 << SIDE_PX) - 1 if row in (0, SIDE_PX // 2) else 1 << (SIDE_PX - 1) | 1 << (SIDE_PX // 2)
        rows += b"\x00" + line.to_bytes(SIDE_PX // 8, "big")
    return _chunk(b"IDAT", zlib.compress(bytes(rows), 9))


_DATA: Final = _pixels()


# A valid tile with nothing on it: one colour, fully transparent (tRNS, section 11.3.1.1).
BLANK_PNG: Final = b"".join(
    (
        PNG_MAGIC,
        _HEADER,
        _chunk(b"PLTE", b"\xff\xff\xff"),
        _chunk(b"tRNS", b"\x00"),
        _chunk(b"IDAT", zlib.compress(bytes(SIDE_PX * (1 + SIDE_PX // 8)), 9)),
        _END,
    )
)

# Cut from one block, because making fresh noise for each tile would cost more than sending it.
_NOISE: Final = hashlib.shake_128(b"tilehaul").digest(1 << 16)


def _noise(seed: bytes, length: int) -> bytes:
    """`length` bytes that do not compress, from an offset that depends on `seed`."""
    offset = int.from_bytes(seed[-2:], "big")
    block = _NOISE[offset:] + _NOISE[:offset]
    return (block * (length // len(block) + 1))[:length]


def plain_png(tile_id: TileId, *, size_bytes: int = 0) -> bytes:
    """A valid PNG of 256 x 256 px that carries its address.

    The address is in a tEXt chunk with the keyword `Title`, and gives the colours.

    Args:
        tile_id: The address, for example 3/4/2.
        size_bytes: Exact length of the answer, at least PLAIN_BYTES_MIN; 0 for no padding.
            The padding does not compress.
    """
    address = str(tile_id).encode()
    seed = hashlib.sha256(address).digest()
    colours = bytes(128 + byte // 2 for byte in seed[:3]) + bytes(byte // 3 for byte in seed[3:6])
    text = _chunk(b"tEXt", b"Title\x00" + address)
    before = b"".join((PNG_MAGIC, _HEADER, _chunk(b"PLTE", colours), text))
    padding = b""
    if size_bytes:
        length = size_bytes - len(before) - len(_DATA) - len(_END) - CHUNK_OVERHEAD_BYTES
        padding = _chunk(PADDING_CHUNK, _noise(seed, max(length, 0)))
    return b"".join((before, padding, _DATA, _END))
