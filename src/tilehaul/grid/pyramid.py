"""A picture in its own pixels, cut into tiles at halving sizes: no place on Earth, the same addresses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tilehaul.errors import PlanError
from tilehaul.grid.mercator import latitude_deg
from tilehaul.grid.tile_id import ZOOM_MAX, TileId

TILE_SIZES = (256, 512)
TILE_SIZE_DEFAULT = 256
# 100 gigapixels are a wall at 0.1 mm; what claims more is damaged, or means harm.
PICTURE_PIXELS_MAX = 100_000_000_000

# Rows of an archive's metadata. Others ignore names they do not know (MBTiles 1.3, "Metadata").
GRID_NAME = "pixels"
_GRID, _WIDTH, _HEIGHT, _TILE_SIZE = ROWS = ("grid", "width", "height", "tile_size")

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Sizes in pixels at full resolution, which is zoom `zoom_max`; each zoom above has half of both, rounded
    up, until all of it fits in tile 0/0/0. Row 0 is the top. Tiles at the right and lower edge are as
    large as what is left: nothing is padded (as DeepZoom and Zoomify without overlap have it).

    Raises PlanError when a side is below 1, there are more than PICTURE_PIXELS_MAX, the tiles are none of
    TILE_SIZES, or zooms beyond 30 were needed.
    """

    width: int
    height: int
    tile_size: int = TILE_SIZE_DEFAULT

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or self.width * self.height > PICTURE_PIXELS_MAX:
            raise PlanError(
                f"a picture of {self.width} x {self.height} px: 1 to {PICTURE_PIXELS_MAX:,} pixels can be cut"
            )
        if self.tile_size not in TILE_SIZES:
            raise PlanError(f"tiles of {self.tile_size} px: {' and '.join(map(str, TILE_SIZES))} are known")
        if self.zoom_max > ZOOM_MAX:
            raise PlanError(f"a picture of {self.width} x {self.height} px needs zooms beyond {ZOOM_MAX}")

    @property
    def zoom_max(self) -> int:
        """The zoom of full resolution: the least whose grid of 2^z x 2^z tiles holds the picture."""
        return (_up(max(self.width, self.height), self.tile_size) - 1).bit_length()

    def size(self, zoom: int) -> tuple[int, int]:
        """Width and height of a zoom in its own pixels; 0 <= zoom <= zoom_max."""
        factor = 1 << (self.zoom_max - zoom)
        return _up(self.width, factor), _up(self.height, factor)

    def columns(self, zoom: int) -> int:
        return _up(self.size(zoom)[0], self.tile_size)

    def rows(self, zoom: int) -> int:
        return _up(self.size(zoom)[1], self.tile_size)

    def count(self, zoom: int) -> int:
        return self.columns(zoom) * self.rows(zoom)

    @property
    def tiles(self) -> int:
        """Of all zooms."""
        return sum(self.count(zoom) for zoom in range(self.zoom_max + 1))

    def __contains__(self, tile_id: TileId) -> bool:
        z = tile_id.z
        if not 0 <= z <= self.zoom_max:
            return False
        return 0 <= tile_id.x < self.columns(z) and 0 <= tile_id.y < self.rows(z)

    def box(self, tile_id: TileId) -> Box:
        """(left, top, right, lower) of a tile in its zoom's pixels. PlanError outside the picture."""
        if tile_id not in self:
            raise PlanError(f"tile {tile_id} is outside a picture of {self.width} x {self.height} px")
        width, height = self.size(tile_id.z)
        left, top = tile_id.x * self.tile_size, tile_id.y * self.tile_size
        return left, top, min(left + self.tile_size, width), min(top + self.tile_size, height)

    def strips(self) -> Iterator[tuple[int, int]]:
        """(zoom, row) of every row of tiles in the order in which one pass over the picture completes them.

        Full resolution from the top; a row of a lower zoom as soon as the two rows below it are there. So
        the picture is read once, and what has to be kept is half a row a zoom: less than one row in all.
        """
        deepest = self.zoom_max
        for row in range(self.rows(deepest)):
            z, y = deepest, row
            yield z, y
            while z > 0 and self.completes(z, y):
                z, y = z - 1, y >> 1
                yield z, y

    def completes(self, zoom: int, row: int) -> bool:
        """Whether with this row of tiles the one above it (zoom - 1, row // 2) is whole."""
        return row % 2 == 1 or row == self.rows(zoom) - 1

    def walk(self) -> Iterator[TileId]:
        """Every tile, in the order of `strips`, each row from the left."""
        for z, y in self.strips():
            for x in range(self.columns(z)):
                yield TileId(z, x, y)

    def down_to(self, zoom: int) -> "Pyramid":
        """The pyramid of the picture as large as it is at this zoom; itself from zoom_max on."""
        return self if zoom >= self.zoom_max else Pyramid(*self.size(zoom), self.tile_size)

    @property
    def bounds_deg(self) -> tuple[float, float, float, float]:
        """Where programs that know only maps show it: in the north-west corner of a web mercator world whose
        tiles have the same addresses. What such bounds say of tiles is true, so nothing finds fault.
        """
        side = self.tile_size << self.zoom_max
        return -180.0, latitude_deg(self.height / side), self.width / side * 360.0 - 180.0, latitude_deg(0.0)


def pyramid_rows(pyramid: Pyramid) -> dict[str, str]:
    """What an archive of it says in its metadata, besides what every archive says."""
    numbers = (pyramid.width, pyramid.height, pyramid.tile_size)
    return {_GRID: GRID_NAME} | dict(zip(ROWS[1:], map(str, numbers), strict=True))


def pyramid_of(metadata: Mapping[str, str]) -> Pyramid | None:
    """The pyramid that an archive says it is; None for a map, and when what it says makes no sense."""
    if metadata.get(_GRID) != GRID_NAME:
        return None
    try:
        return Pyramid(*(int(metadata[name]) for name in (_WIDTH, _HEIGHT, _TILE_SIZE)))
    except (KeyError, ValueError, PlanError):
        return None


def grid_of(pyramid: Pyramid | None) -> str:
    """The grid of tiles as a store's record names it: those of one never join those of the other."""
    return "WebMercatorQuad" if pyramid is None else GRID_NAME


def larger_rows(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The rows of an archive whose jobs brought different zooms of one picture: the deepest are full size."""
    before, added = pyramid_of(old), pyramid_of(new)
    if before is None or added is None:
        known = before or added
        return {} if known is None else pyramid_rows(known)
    return pyramid_rows(max(before, added, key=lambda pyramid: (pyramid.zoom_max, pyramid.width)))


def _up(number: int, divisor: int) -> int:
    return -(-number // divisor)
