"""A picture of which places an archive covers, and how deep: no Pillow needed.

Source: PNG specification, 3rd edition, sections 5 (chunks) and 11.2 (critical chunks).
"""

import struct
import zlib
from typing import Final

# The world in Mercator, or the part of it that has tiles, is drawn at most this wide and high.
SIDE_CELLS: Final = 512
# Tiles are put into cells of the world at this zoom: 16 million of them, one byte each.
CELL_ZOOM: Final = 12
_ZOOM_MAX: Final = 30
_MARGIN_SHARE: Final = 16
_NOTHING: Final = (245, 245, 240)
_SHALLOW: Final = (198, 219, 239)
_DEEP: Final = (8, 48, 107)
_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


class Coverage:
    """Collects tiles, then draws them. Takes 22 MiB, however many tiles there are.

    A cell has the colour of the deepest zoom that has a tile over it. A tile of a zoom below CELL_ZOOM
    covers many cells: it is noted on its own zoom's map, and painted over its square in the end.
    """

    def __init__(self) -> None:
        self._maps: dict[int, bytearray] = {}
        self._cells = bytearray((1 << CELL_ZOOM) ** 2)

    def add(self, z: int, x: int, y: int) -> None:
        """Note one tile, its row counted from the north."""
        if z < CELL_ZOOM:
            if z not in self._maps:
                self._maps[z] = bytearray(1 << 2 * z)
            self._maps[z][y << z | x] = 1
            return
        shift = z - CELL_ZOOM
        at = (y >> shift) << CELL_ZOOM | x >> shift
        # Nothing is 0, so that zoom 0 is 1.
        self._cells[at] = max(self._cells[at], z + 1)

    def png(self) -> bytes:
        """The picture: pale blue for zoom 0 to dark blue for the deepest zoom; row 0 is the north."""
        for zoom in sorted(self._maps, reverse=True):
            self._paint(zoom)
        side = 1 << CELL_ZOOM
        left, top, step, cells = self._window()
        rows = bytearray()
        for row in range(cells):
            at = (top + row * step) << CELL_ZOOM
            block = [
                self._cells[at + line * side + left : at + line * side + left + cells * step]
                for line in range(step)
            ]
            rows += b"\0"
            rows += bytes(
                max(max(line[column * step : (column + 1) * step], default=0) for line in block)
                for column in range(cells)
            )
        return _picture(bytes(rows), cells, max(self._cells))

    def _paint(self, zoom: int) -> None:
        """Put the tiles of a zoom under what was painted, which is deeper."""
        side, found = 1 << CELL_ZOOM, self._maps[zoom]
        span, level = side >> zoom, bytes([zoom + 1])
        key = found.find(1)
        while key >= 0:
            column, row = (key & (1 << zoom) - 1) * span, (key >> zoom) * span
            for at in range(row * side + column, (row + span) * side + column, side):
                self._cells[at : at + span] = self._cells[at : at + span].replace(b"\0", level)
            key = found.find(1, key + 1)

    def _window(self) -> tuple[int, int, int, int]:
        """Left, top, cells of the map a pixel, pixels a side: a square around what is deepest."""
        side = 1 << CELL_ZOOM
        deepest = max(self._cells)
        lines = [self._cells[at : at + side] for at in range(0, side * side, side)] if deepest else []
        found = [at for at, line in enumerate(lines) if deepest in line]
        if not found:
            return 0, 0, side // SIDE_CELLS, SIDE_CELLS
        left = min(lines[at].find(deepest) for at in found)
        right = max(lines[at].rfind(deepest) for at in found) + 1
        top, bottom = found[0], found[-1] + 1
        wide = max(right - left, bottom - top)
        step = max(1, -(-(wide + 2 * wide // _MARGIN_SHARE) // SIDE_CELLS))
        # At most the world.
        step = min(step, side // SIDE_CELLS)
        pixels = SIDE_CELLS
        west = min(max(0, (left + right - pixels * step) // 2), side - pixels * step)
        north = min(max(0, (top + bottom - pixels * step) // 2), side - pixels * step)
        return west, north, step, pixels


def _picture(rows: bytes, side_px: int, deepest: int) -> bytes:
    """One byte a pixel, each row behind a filter byte, as a PNG with a palette."""
    colours = bytearray(_NOTHING)
    for level in range(_ZOOM_MAX + 1):
        share = min(1.0, level / max(1, deepest - 1))
        colours += bytes(round(a + (b - a) * share) for a, b in zip(_SHALLOW, _DEEP, strict=True))
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", bytes(colours)), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return _MAGIC + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
