"""Pictures in degrees for a WMS that has none in Web Mercator: which are asked for, and how they are cut."""

import math
from functools import lru_cache

from tilehaul.codec.wms_request import Box
from tilehaul.grid.mercator import latitude_deg
from tilehaul.sources.wms import TILE_PX, Block, Picture, meta_within, picture_of

# Rows that the resampling of the block's first and last reads beyond them.
RESAMPLED_PX = 2


class DegreeFrames:
    """`Frames` of pictures with latitude and longitude as their axes, at most `side_px_max` a side.

    A picture has a column for each of the tiles', and as many rows as its northernmost or southernmost part
    needs to have one for each of the tiles' rows there. Where that would be more than `side_px_max`, which is
    so near the poles, a block has fewer tiles; a single tile's picture is made less fine.

    No box reaches beyond the Web Mercator world, 85.0511 degrees, nor beyond 180.

    Raises ConfigError when Pillow is missing.
    """

    def __init__(self, meta: int, buffer_px: int, side_px_max: int) -> None:
        from tilehaul.pixels.degree_cut import cut_degrees  # noqa: PLC0415

        self._meta, self._buffer_px = meta_within(meta, max(buffer_px, RESAMPLED_PX), side_px_max)
        self._side_px_max = side_px_max
        self._cut = cut_degrees
        # Asked for every tile.
        self.side = lru_cache(maxsize=None)(self._side)

    def _side(self, z: int) -> int:
        side = min(self._meta, 1 << z)
        # Nowhere are rows of one picture as unlike as in the northernmost.
        while side > 1 and self._rows_wanted(Block(z, 0, 0, side)) > self._side_px_max:
            side //= 2
        return side

    def picture(self, block: Block) -> Picture:
        """`top_px` are rows of the zoom, not of the picture."""
        metres = picture_of(block, self._buffer_px)
        height = min(self._rows_wanted(block), self._side_px_max)
        return metres._replace(box=self._box(block), height_px=height)

    def cut(self, body: bytes, block: Block) -> tuple[bytes, ...]:
        picture = self.picture(block)
        _, south, _, north = picture.box
        px_per_deg = picture.height_px / (north - south)

        def edge(row: int) -> float:
            return (north - _latitude_deg(block.z, block.row * TILE_PX + row)) * px_per_deg

        return self._cut(
            body,
            side=block.side,
            tile_px=TILE_PX,
            left_px=picture.left_px,
            edge=edge,
            size_px=(picture.width_px, picture.height_px),
        )

    def _box(self, block: Block) -> Box:
        """(west, south, east, north) in degrees."""
        z, metres = block.z, picture_of(block, self._buffer_px)
        first_column, first_row = block.column * TILE_PX - metres.left_px, block.row * TILE_PX - metres.top_px
        px_deg = 360.0 / (TILE_PX << z)
        return (
            first_column * px_deg - 180.0,
            _latitude_deg(z, first_row + metres.height_px),
            (first_column + metres.width_px) * px_deg - 180.0,
            _latitude_deg(z, first_row),
        )

    def _rows_wanted(self, block: Block) -> int:
        """Rows by which the picture is nowhere less fine than the tiles."""
        _, south, _, north = self._box(block)
        # On the sphere of EPSG:3857 a pixel's height is its width by the cosine of its latitude.
        row_deg = 360.0 / (TILE_PX << block.z) * math.cos(math.radians(max(abs(south), abs(north))))
        return math.ceil((north - south) / row_deg)


def _latitude_deg(z: int, row_px: int) -> float:
    """Latitude of a row of the world of zoom `z`, counted from the north."""
    return latitude_deg(row_px / (TILE_PX << z))
