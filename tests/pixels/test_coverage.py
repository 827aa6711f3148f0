"""The picture of what an archive covers."""

import struct
import zlib

from tilehaul.codec.verify import verify_tile
from tilehaul.grid.tile_id import TileId
from tilehaul.pixels.coverage import SIDE_CELLS, Coverage


def pixels(tiles: list[TileId]) -> list[bytes]:
    """Rows of palette numbers: 0 for nothing, else zoom + 1."""
    coverage = Coverage()
    for tile_id in tiles:
        coverage.add(tile_id.z, tile_id.x, tile_id.y)
    body = coverage.png()
    assert verify_tile(body) == "image/png"
    width, height = struct.unpack(">II", body[16:24])
    assert width == height == SIDE_CELLS
    at = body.index(b"IDAT")
    (length,) = struct.unpack(">I", body[at - 4 : at])
    rows = zlib.decompress(body[at + 4 : at + 4 + length])
    return [rows[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]


def test_nothing_is_empty() -> None:
    assert set(b"".join(pixels([]))) == {0}


def test_the_deepest_tile_counts_and_north_is_up() -> None:
    rows = pixels([TileId(1, 0, 0), TileId(1, 1, 1), TileId(2, 3, 3)])
    # The window closes in on the south-eastern sixteenth: its corner is the deep one.
    assert rows[-1][-1] == 3
    assert rows[0][0] in {0, 2}
    assert {2, 3} <= set(b"".join(rows))


def test_the_whole_world_fills_the_picture() -> None:
    assert set(b"".join(pixels([TileId(0, 0, 0)]))) == {1}


def test_a_deep_tile_alone_is_found() -> None:
    seen = b"".join(pixels([TileId(0, 0, 0), TileId(18, 137_000, 90_000)]))
    assert seen.count(19) == 1
    assert set(seen) == {1, 19}
