"""Tiles by their rank, without walking to them: what a random sample asks for.

A shape numbers the tiles of a zoom from 0 in an order of its own, in which finding one is quick.
"""

from collections.abc import Iterator, Sequence

from tilehaul.grid.boxes import Rectangle, strips
from tilehaul.grid.mercator import LATTICE, LATTICE_BITS
from tilehaul.grid.shapes import Part, Polygons

Place = tuple[int, int]


def ranked_in_rectangles(rectangles: Sequence[Rectangle], ranks: Sequence[int]) -> Iterator[Place]:
    """(x, y) of the tiles of these ranks, ascending, in a union of rectangles: strip by strip eastward."""
    at = 0
    before = 0
    for start, stop, rows in strips(rectangles):
        width = stop - start
        after = before + width * rows
        if at < len(ranks) and ranks[at] < after:
            spans = _rows(rectangles, start)
            while at < len(ranks) and ranks[at] < after:
                row, column = divmod(ranks[at] - before, width)
                yield start + column, _row(spans, row)
                at += 1
        before = after


def _rows(rectangles: Sequence[Rectangle], column: int) -> list[tuple[int, int]]:
    """The spans of rows that are covered in a column, from north to south, apart from each other."""
    spans: list[tuple[int, int]] = []
    for north, south in sorted(
        (north, south) for west, north, east, south in rectangles if west <= column < east
    ):
        if spans and north <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], south))
        else:
            spans.append((north, south))
    return spans


def _row(spans: Sequence[tuple[int, int]], rank: int) -> int:
    """The covered row of that rank, which is less than there are."""
    for north, south in spans[:-1]:
        if rank < south - north:
            return north + rank
        rank -= south - north
    return spans[-1][0] + rank


def ranked_in_polygons(shape: Polygons, zoom: int, ranks: Sequence[int]) -> Iterator[Place]:
    """As `ranked_in_rectangles`, of polygons. Costs what counting does: the borders, not the inside."""
    at = 0
    before = 0
    stack: list[tuple[Part | None, int, int, int]] = [(shape.world(), 0, 0, 0)]
    while stack and at < len(ranks):
        part, level, x, y = stack.pop()
        if part is None:
            continue
        left = zoom - level
        if part and left:
            shift = LATTICE_BITS - level
            quarters = shape.split(part, x << shift, y << shift, LATTICE >> level + 1)
            stack.extend(
                (quarter, level + 1, 2 * x + (number & 1), 2 * y + (number >> 1))
                for number, quarter in enumerate(quarters)
            )
            continue
        after = before + (1 << 2 * left)
        while at < len(ranks) and ranks[at] < after:
            row, column = divmod(ranks[at] - before, 1 << left)
            yield (x << left) + column, (y << left) + row
            at += 1
        before = after
