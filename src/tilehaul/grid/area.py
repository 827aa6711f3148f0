"""An area: a place and zooms. Counts without walking, walks without a list."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tilehaul.errors import PlanError
from tilehaul.grid.bounds import BoundsDeg, bounds_around, checked_bounds, rectangles_of
from tilehaul.grid.boxes import Boxes
from tilehaul.grid.geojson import parse_region
from tilehaul.grid.hilbert import CURVE_LEVELS, CURVES, QUARTERS
from tilehaul.grid.mercator import LATTICE, LATTICE_BITS
from tilehaul.grid.ranked import ranked_in_polygons, ranked_in_rectangles
from tilehaul.grid.shapes import Part, Polygons, Quarters
from tilehaul.grid.tile_id import ZOOM_MAX, TileId

# Characters of `Area.identity`: 64 bits, enough that two areas of one store never collide by chance.
IDENTITY_CHARS = 16
# To count so many takes some 0.1 s a zoom, to look for a tile in them 0.5 ms. A region has no such limit.
BOXES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Listed:
    """Tiles named one by one, as sorted PMTiles ids without repeats."""

    numbers: tuple[int, ...]

    def fingerprint(self) -> bytes:
        return repr(self.numbers).encode()


@dataclass(frozen=True, slots=True)
class Area:
    """The tiles of a place at some zooms; build one with `from_bbox`, `from_boxes`,
    `from_geojson` or `from_tiles`.

    A tile belongs to it when its open interior meets the place: one that only shares an edge does not.
    Borders closer to a tile's edge than 0.3 mm (at the equator) lie on it, so the bounds of a
    tile give that tile and not its neighbours.

    Iterating goes zoom by zoom, each in Hilbert order (the order of PMTiles), and keeps a few hundred
    squares at most, however many tiles there are. `zooms` is sorted. `bounds_deg` is (west, south,
    east, north), latitudes clamped to the Mercator limit; west > east across the antimeridian.
    """

    zooms: tuple[int, ...]
    bounds_deg: BoundsDeg
    shape: Boxes | Polygons | _Listed

    @classmethod
    def from_bbox(cls, west: float, south: float, east: float, north: float, zooms: Iterable[int]) -> "Area":
        """A box in degrees; west > east crosses the antimeridian.

        Without width or height it is the tiles it touches, those to the south and east of a border.

        Raises:
            PlanError: A number is not finite, longitude beyond 180, latitude beyond 90, south > north,
                or a zoom beyond 0..30 or none.
        """
        return cls.from_boxes([(west, south, east, north)], zooms)

    @classmethod
    def from_boxes(cls, boxes: Iterable[BoundsDeg], zooms: Iterable[int]) -> "Area":
        """All that lies in any of the boxes, each as `from_bbox` takes it; in any order, at most BOXES_MAX.

        A tile in several boxes is one tile. One box is the same area as `from_bbox` gives.

        Raises:
            PlanError: As `from_bbox`; no box, or too many.
        """
        checked = [checked_bounds(box) for box in islice(boxes, BOXES_MAX + 1)]
        if not checked:
            raise PlanError("no box is given")
        if len(checked) > BOXES_MAX:
            raise PlanError(f"more than {BOXES_MAX:,} boxes: give them as polygons of one GeoJSON region")
        shape = Boxes.of(rectangle for box in checked for rectangle in rectangles_of(box))
        return cls(_checked_zooms(zooms), bounds_around(checked), shape)

    @classmethod
    def from_geojson(cls, geojson: object, zooms: Iterable[int]) -> "Area":
        """The polygons of a GeoJSON object or text; see `parse_region` for what is read.

        Raises:
            PlanError: As `parse_region`, or a zoom beyond 0..30 or none.
        """
        region = parse_region(geojson)
        return cls(_checked_zooms(zooms), region.bounds_deg, region.shape)

    @classmethod
    def from_tiles(cls, tile_ids: Iterable[TileId]) -> "Area":
        """Exactly these tiles; repeats count once. Kept in memory, 8 to 40 bytes each.

        Raises:
            PlanError: None given, or one beyond its zoom.
        """
        checked = (TileId.checked(tile_id.z, tile_id.x, tile_id.y) for tile_id in tile_ids)
        numbers = tuple(sorted({tile_id.pmtiles_id for tile_id in checked}))
        if not numbers:
            raise PlanError("the list of tiles is empty")
        tiles = [TileId.from_pmtiles_id(number) for number in numbers]
        boxes = [tile.bounds_deg for tile in tiles]
        bounds = (
            min(box[0] for box in boxes),
            min(box[1] for box in boxes),
            max(box[2] for box in boxes),
            max(box[3] for box in boxes),
        )
        return cls(tuple(sorted({tile.z for tile in tiles})), bounds, _Listed(numbers))

    @property
    def identity(self) -> str:
        """16 hexadecimal digits of SHA-256 over the borders and zooms; the same in every process."""
        digest = hashlib.sha256(f"{type(self.shape).__name__} {self.zooms} ".encode())
        digest.update(self.shape.fingerprint())
        return digest.hexdigest()[:IDENTITY_CHARS]

    def count(self) -> int:
        """Tiles in all."""
        return sum(self.count_by_zoom().values())

    def count_by_zoom(self) -> dict[int, int]:
        """Tiles of each zoom, in order. Boxes by arithmetic; polygons by their borders, not their inside."""
        shape = self.shape
        if isinstance(shape, Boxes):
            return {zoom: shape.count(zoom) for zoom in self.zooms}
        if isinstance(shape, _Listed):
            starts = {zoom: bisect_left(shape.numbers, _first_number(zoom)) for zoom in self.zooms}
            stops = {zoom: bisect_left(shape.numbers, _first_number(zoom + 1)) for zoom in self.zooms}
            return {zoom: stops[zoom] - starts[zoom] for zoom in self.zooms}
        return _counted(shape, self.zooms)

    def ranked(self, zoom: int, ranks: Sequence[int]) -> Iterator[TileId]:
        """The tiles of these ranks in one zoom, found without walking to them.

        Ranks ascend, from 0 to below `count_by_zoom()[zoom]`. Each tile of the zoom has one; which, is the
        shape's own affair and not the order of iteration.
        """
        shape = self.shape
        if isinstance(shape, _Listed):
            start = bisect_left(shape.numbers, _first_number(zoom))
            yield from (TileId.from_pmtiles_id(shape.numbers[start + rank]) for rank in ranks)
            return
        if isinstance(shape, Boxes):
            places = ranked_in_rectangles(shape.tiles(zoom), ranks)
        else:
            places = ranked_in_polygons(shape, zoom, ranks)
        yield from (TileId(zoom, x, y) for x, y in places)

    def __iter__(self) -> Iterator[TileId]:
        if isinstance(self.shape, _Listed):
            yield from map(TileId.from_pmtiles_id, self.shape.numbers)
            return
        for zoom in self.zooms:
            yield from _walked(self.shape, zoom)

    def __contains__(self, tile_id: object) -> bool:
        if not isinstance(tile_id, TileId) or tile_id.z not in self.zooms:
            return False
        z, x, y = tile_id.z, tile_id.x, tile_id.y
        if not (0 <= x < 1 << z and 0 <= y < 1 << z):
            return False
        shape = self.shape
        if isinstance(shape, _Listed):
            number = tile_id.pmtiles_id
            at = bisect_left(shape.numbers, number)
            return at < len(shape.numbers) and shape.numbers[at] == number
        if isinstance(shape, Boxes):
            side = LATTICE >> z
            return shape.meets(x * side, y * side, side)
        part = shape.world()
        for level in range(z):
            if not part:
                break
            left, half = z - level, LATTICE >> level + 1
            corner_x, corner_y = x >> left << LATTICE_BITS - level, y >> left << LATTICE_BITS - level
            quarter = (x >> left - 1 & 1) + 2 * (y >> left - 1 & 1)
            part = shape.split(part, corner_x, corner_y, half)[quarter]
        return part is not None


def parse_zooms(text: str) -> tuple[int, ...]:
    """Zooms from `0-12,14`: numbers and inclusive ranges, in any order, repeats allowed.

    Raises:
        PlanError: Something else, a range that runs downward, or a zoom beyond 0..30.
    """
    zooms: set[int] = set()
    for piece in text.split(","):
        first, dash, last = (part.strip() for part in piece.partition("-"))
        if not _is_number(first) or (dash and not _is_number(last)):
            raise PlanError(f"zooms {text!r}: {piece.strip()!r} is neither a zoom nor a range like 0-12")
        start, stop = int(first), int(last or first)
        if start > stop:
            raise PlanError(f"zooms {text!r}: {start}-{stop} runs downward, write {stop}-{start}")
        zooms.update(range(start, stop + 1))
    return _checked_zooms(zooms)


def zooms_text(zooms: Sequence[int]) -> str:
    """What `parse_zooms` reads as these ascending zooms, as short as can be: `0-12,14`."""
    runs: list[list[int]] = []
    for zoom in zooms:
        if runs and runs[-1][-1] == zoom - 1:
            runs[-1].append(zoom)
        else:
            runs.append([zoom])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _is_number(text: str) -> bool:
    # Two digits are enough for any zoom, and keep int() from being fed a megabyte.
    return text.isascii() and text.isdigit() and len(text) <= 2


def _checked_zooms(zooms: Iterable[int]) -> tuple[int, ...]:
    """The zooms sorted, each once. PlanError: none, or one beyond 0..30."""
    checked = tuple(sorted(set(zooms)))
    if not checked:
        raise PlanError("no zoom is given")
    for zoom in checked:
        if not 0 <= zoom <= ZOOM_MAX:
            raise PlanError(f"zoom {zoom} is beyond 0..{ZOOM_MAX}")
    return checked


def _first_number(zoom: int) -> int:
    """The PMTiles id of the first tile of a zoom."""
    return ((1 << 2 * zoom) - 1) // 3


def _counted(shape: Polygons, zooms: tuple[int, ...]) -> dict[int, int]:
    """One descent for all zooms: squares covered in part are counted, whole ones grow fourfold a level."""
    deepest = zooms[-1]
    in_part = [0] * (deepest + 1)
    whole = [0] * (deepest + 1)
    stack: list[tuple[Part | None, int, int, int]] = [(shape.world(), 0, 0, 0)]
    while stack:
        part, level, x, y = stack.pop()
        if part is None:
            continue
        if not part:
            whole[level] += 1
            continue
        in_part[level] += 1
        if level < deepest:
            half = LATTICE >> level + 1
            quarters = shape.split(part, x, y, half)
            stack.extend(
                (quarter, level + 1, x + (half if at & 1 else 0), y + (half if at > 1 else 0))
                for at, quarter in enumerate(quarters)
            )
    covered = 0
    counts = {}
    for level in range(deepest + 1):
        covered = 4 * covered + whole[level]
        counts[level] = covered + in_part[level]
    return {zoom: counts[zoom] for zoom in zooms}


def _walked(shape: Boxes | Polygons, zoom: int) -> Iterator[TileId]:
    """The tiles of one zoom along the Hilbert curve.

    Squares wait on a stack, three a level at most; a square that is covered wholly is walked from
    tables, 1,024 tiles at a time, without asking the shape again.
    """
    stack: list[tuple[Part | None, int, int, int, int]] = [(shape.world(), 0, 0, 0, 0)]
    while stack:
        part, level, x, y, orientation = stack.pop()
        if part is None:
            continue
        left = zoom - level
        if not part:
            if left <= CURVE_LEVELS:
                x, y = x << left, y << left
                for column, row, _ in CURVES[orientation][left]:
                    yield TileId(zoom, x + column, y + row)
                continue
            quarters: Quarters = (part, part, part, part)
        elif left == 0:
            yield TileId(zoom, x, y)
            continue
        else:
            shift = LATTICE_BITS - level
            quarters = shape.split(part, x << shift, y << shift, LATTICE >> level + 1)
        level, x, y = level + 1, x << 1, y << 1
        for column, row, inside in reversed(QUARTERS[orientation]):
            quarter = quarters[column + 2 * row]
            if quarter is not None:
                stack.append((quarter, level, x + column, y + row, inside))
