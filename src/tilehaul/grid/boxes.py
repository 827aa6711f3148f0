"""The shape of an area that is given as boxes: one, two across the antimeridian, or thousands."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tilehaul.grid.mercator import LATTICE
from tilehaul.grid.shapes import INSIDE, Part, Quarters

# (west, north, east, south) on the lattice, or in tiles of one zoom: half-open.
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Boxes:
    """The union of boxes. One that crosses the antimeridian is its two sides.

    Args:
        boxes: On the lattice, none empty; sorted and each once, so that equal places are equal values.
    """

    boxes: tuple[Rectangle, ...]

    @classmethod
    def of(cls, boxes: Iterable[Rectangle]) -> "Boxes":
        """Boxes in any order, repeated or not."""
        return cls(tuple(sorted(set(boxes))))

    def world(self) -> Part | None:
        return self._cover(self.boxes, 0, 0, LATTICE)

    def split(self, part: Part, x: int, y: int, half: int) -> Quarters:
        boxes: Sequence[Rectangle] = part  # type: ignore[assignment]
        return (
            self._cover(boxes, x, y, half),
            self._cover(boxes, x + half, y, half),
            self._cover(boxes, x, y + half, half),
            self._cover(boxes, x + half, y + half, half),
        )

    def meets(self, x: int, y: int, side: int) -> bool:
        """Whether a square of the lattice is covered, wholly or in part."""
        return any(
            west < x + side and x < east and north < y + side and y < south
            for west, north, east, south in self.boxes
        )

    def fingerprint(self) -> bytes:
        # Journals keep what follows from it: a single box must go on being written like this.
        return repr(self.boxes).encode()

    @staticmethod
    def _cover(boxes: Sequence[Rectangle], x: int, y: int, side: int) -> Part | None:
        met = []
        for box in boxes:
            west, north, east, south = box
            if west < x + side and x < east and north < y + side and y < south:
                if west <= x and x + side <= east and north <= y and y + side <= south:
                    return INSIDE
                met.append(box)
        return tuple(met) or None

    def tiles(self, zoom: int) -> tuple[Rectangle, ...]:
        """The boxes as rectangles of one zoom's tiles, each once; they may overlap."""
        side = LATTICE >> zoom
        rectangles = {
            (west // side, north // side, -(-east // side), -(-south // side))
            for west, north, east, south in self.boxes
        }
        return tuple(sorted(rectangles))

    def count(self, zoom: int) -> int:
        """Tiles of one zoom, by arithmetic: n log n steps for n boxes, whatever their size."""
        return tiles_covered(self.tiles(zoom))


def tiles_covered(rectangles: Sequence[Rectangle]) -> int:
    """How many tiles lie in a union of rectangles, of which there is one or more."""
    return sum((stop - start) * rows for start, stop, rows in strips(rectangles))


def strips(rectangles: Sequence[Rectangle]) -> Iterator[tuple[int, int, int]]:
    """A union of rectangles cut at their sides: columns from, columns to, rows covered in each of these.

    A line sweeps eastward from side to side.
    """
    rows = sorted({row for _, north, _, south in rectangles for row in (north, south)})
    at = {row: index for index, row in enumerate(rows)}
    sides = sorted(
        (column, begins, at[north], at[south])
        for west, north, east, south in rectangles
        for column, begins in ((west, 1), (east, -1))
    )
    line = _Line(rows)
    swept = sides[0][0]
    for column, begins, top, bottom in sides:
        if column > swept:
            yield swept, column, line.covered()
            swept = column
        line.add(top, bottom, begins)


class _Line:
    """A line from north to south on which rectangles lie: how many of its rows are covered.

    A tree of the spans between neighbouring `rows`. A node counts the rectangles that cover its whole span
    and not that of the node above; what they leave is covered by its children.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = rows
        self._last = len(rows) - 1
        size = 2 << self._last.bit_length()
        self._over = [0] * size
        self._covered = [0] * size

    def covered(self) -> int:
        return self._covered[1]

    def add(self, top: int, bottom: int, change: int) -> None:
        """A rectangle from row `top` to row `bottom`, indices, begins (1) or ends (-1) here."""
        self._add(1, 0, self._last, top, bottom, change)

    def _add(self, node: int, start: int, stop: int, top: int, bottom: int, change: int) -> None:
        if top <= start and stop <= bottom:
            self._over[node] += change
        else:
            middle = (start + stop) // 2
            if top < middle:
                self._add(2 * node, start, middle, top, bottom, change)
            if middle < bottom:
                self._add(2 * node + 1, middle, stop, top, bottom, change)
        if self._over[node]:
            self._covered[node] = self._rows[stop] - self._rows[start]
        elif stop - start == 1:
            self._covered[node] = 0
        else:
            self._covered[node] = self._covered[2 * node] + self._covered[2 * node + 1]
