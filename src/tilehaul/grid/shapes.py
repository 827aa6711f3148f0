"""What an area covers, asked square by square from the world downward.

A shape knows the world as one square and splits a square it covers in part into four quarters.
Each quarter is covered wholly (`INSIDE`), not at all (None), or in part (a tuple that the shape
alone understands and gets back when that quarter is split). A square counts as covered when its
*open* interior meets the shape: a tile that only shares an edge with it is not part of it.

Everything is whole numbers on the lattice of `grid/mercator.py`, so answers are exact and the
same for a quarter however it was reached.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tilehaul.errors import PlanError
from tilehaul.grid.mercator import LATTICE

Part = tuple[object, ...]
# A square that is covered wholly: an empty part.
INSIDE: Final[Part] = ()

# North-west, north-east, south-west, south-east: index = column + 2 * row.
Quarters = tuple[Part | None, Part | None, Part | None, Part | None]

Point = tuple[int, int]


class Shape(Protocol):
    """See the module."""

    def world(self) -> Part | None:
        """How the whole world is covered."""
        ...

    def split(self, part: Part, x: int, y: int, half: int) -> Quarters:
        """Quarters of a square covered in part, its north-west corner at (x, y), its side 2 * half."""
        ...

    def fingerprint(self) -> bytes:
        """Equal for shapes that cover the same by the same borders, in every process."""
        ...


# What never changes of an edge: its box (x_min, x_max, y_min, y_max) and its direction (dx, dy).
_Edge = tuple[int, int, int, int, int, int]
# An edge with f at the square's north-west corner, where f(x, y) = dx * (y - ay) - dy * (x - ax) is
# negative on one side of the edge's line and positive on the other.
_Placed = tuple[_Edge, int]
# One polygon within a square: whether the square's probe lies inside it, and the edges in the square.
_Group = tuple[bool, list[_Placed]]


@dataclass(frozen=True, slots=True)
class Polygons:
    """The union of polygons; holes by the even-odd rule within each polygon.

    Args:
        polygons: For each polygon its edges (ax, ay, bx, by) on even lattice points, as
            `polygon_edges` gives them.
    """

    polygons: tuple[tuple[tuple[int, int, int, int], ...], ...]
    _world: list[_Group] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_world", [_world_group(edges) for edges in self.polygons])

    def world(self) -> Part | None:
        return _verdict(self._world)

    def split(self, part: Part, x: int, y: int, half: int) -> Quarters:
        quarters: tuple[list[_Group], ...] = ([], [], [], [])
        for group in part:
            for quarter, piece in zip(quarters, _split_group(group, x, y, half), strict=True):  # type: ignore[arg-type]
                quarter.append(piece)
        return _verdict(quarters[0]), _verdict(quarters[1]), _verdict(quarters[2]), _verdict(quarters[3])

    def fingerprint(self) -> bytes:
        digest = hashlib.sha256()
        for edges in sorted(self.polygons):
            digest.update(repr(edges).encode())
        return digest.digest()


def polygon_edges(rings: Iterable[Sequence[Point]]) -> tuple[tuple[int, int, int, int], ...]:
    """The edges of one polygon, sorted; neither start, direction nor order of the rings matter.

    An edge that is there twice bounds nothing (even-odd) and is left out with its twin.

    Raises:
        PlanError: Nothing is left: the polygon has no area.
    """
    edges: set[tuple[int, int, int, int]] = set()
    for ring in rings:
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
            if a != b:
                edges ^= {(*a, *b) if a < b else (*b, *a)}
    if not edges:
        raise PlanError("a polygon of the area has no area: its edges cover each other")
    return tuple(sorted(edges))


def _world_group(edges: Iterable[tuple[int, int, int, int]]) -> _Group:
    """One polygon as the world sees it."""
    odd = False
    placed: list[_Placed] = []
    for ax, ay, bx, by in edges:
        dx, dy = bx - ax, by - ay
        edge = (min(ax, bx), max(ax, bx), min(ay, by), max(ay, by), dx, dy)
        at_corner = dy * ax - dx * ay
        # The probe (1, 1) is reached from outside the world, from (-1, 1).
        if edge[2] < 1 < edge[3]:
            inside = at_corner + dx - dy
            odd ^= _side(inside, dy) != _side(inside + 2 * dy, dy)
        if edge[0] < LATTICE and edge[1] > 0 and edge[2] < LATTICE and edge[3] > 0:
            placed.append((edge, at_corner))
    return odd, placed


def _side(f: int, dy: int) -> bool:
    """The side of an edge's line on which a probe lies; on the line itself, the side to its east."""
    return f > 0 or (f == 0 and dy < 0)


def _verdict(groups: list[_Group]) -> Part | None:
    met = []
    for group in groups:
        odd, edges = group
        if edges:
            met.append(group)
        elif odd:
            return INSIDE
    return tuple(met) or None


def _split_group(group: _Group, x: int, y: int, half: int) -> tuple[_Group, _Group, _Group, _Group]:
    """One polygon's share of the four quarters.

    A square's probe is the point one lattice step inside its north-west corner. Vertices lie on even
    points and probes on odd ones, so a probe meets no vertex and no edge along an axis; on a slanted
    edge it counts as lying to the east. Whether a quarter's probe is inside the polygon follows from
    the square's own probe and the edges between the two, all of which lie in the square.
    """
    nw, edges = group
    ne = sw = nw
    south_flips = False
    north_west: list[_Placed] = []
    north_east: list[_Placed] = []
    south_west: list[_Placed] = []
    south_east: list[_Placed] = []
    middle_x, middle_y = x + half, y + half
    for placed in edges:
        edge, f = placed
        x_min, x_max, y_min, y_max, dx, dy = edge
        east, south = -dy * half, dx * half
        probe = f + dx - dy
        side_ne = _side(probe + east, dy)
        if y_min <= y < y_max and _side(probe, dy) != side_ne:
            ne = not ne
        if x_min <= x < x_max and _side(probe, dy) != _side(probe + south, dy):
            sw = not sw
        if x_min <= middle_x < x_max and side_ne != _side(probe + east + south, dy):
            south_flips = not south_flips
        # Over a square of this side f varies between f(corner) + low and f(corner) + high.
        low = (min(0, east)) + (min(0, south))
        high = east + south - low
        if x_min < middle_x:
            if y_min < middle_y and f + low < 0 < f + high:
                north_west.append(placed)
            if y_max > middle_y:
                g = f + south
                if g + low < 0 < g + high:
                    south_west.append((edge, g))
        if x_max > middle_x:
            f += east
            if y_min < middle_y and f + low < 0 < f + high:
                north_east.append((edge, f))
            if y_max > middle_y:
                f += south
                if f + low < 0 < f + high:
                    south_east.append((edge, f))
    return (nw, north_west), (ne, north_east), (sw, south_west), (ne != south_flips, south_east)
