"""Bounds in degrees: read, checked, put on the lattice, joined."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tilehaul.errors import PlanError
from tilehaul.grid.boxes import Rectangle
from tilehaul.grid.geojson import check_position
from tilehaul.grid.mercator import LATTICE, clamp_latitude_deg, lattice_x, lattice_y

# (west, south, east, north); west > east across the antimeridian.
BoundsDeg = tuple[float, float, float, float]


def parse_bbox(text: str) -> BoundsDeg:
    """Four numbers from `W,S,E,N` in degrees; `Area.from_bbox` judges what they mean.

    Raises:
        PlanError: Not four finite numbers.
    """
    try:
        numbers = [float(piece) for piece in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise PlanError(f"bounds {text!r} are not four numbers WEST,SOUTH,EAST,NORTH")
    west, south, east, north = numbers
    return west, south, east, north


def checked_bounds(bounds: BoundsDeg) -> BoundsDeg:
    """The bounds, latitudes clamped to the Mercator limit. Raises PlanError, as `Area.from_bbox`."""
    west, south, east, north = bounds
    if not all(map(math.isfinite, bounds)):
        raise PlanError(f"bounds {west},{south},{east},{north} are not finite numbers")
    _check_corners(west, south, east, north)
    if south > north:
        raise PlanError(
            f"south {south:g} lies north of north {north:g}: bounds are WEST,SOUTH,EAST,NORTH;"
            f" write {west:g},{north:g},{east:g},{south:g}?"
        )
    return west, clamp_latitude_deg(south), east, clamp_latitude_deg(north)


def rectangles_of(bounds: BoundsDeg) -> list[Rectangle]:
    """Checked bounds on the lattice: one rectangle, or two across the antimeridian."""
    west, south, east, north = bounds
    top, bottom = _widened(lattice_y(north), lattice_y(south))
    left, right = lattice_x(west), lattice_x(east)
    if west <= east:
        spans = [_widened(left, right)]
    else:
        spans = [(start, stop) for start, stop in ((0, right), (left, LATTICE)) if start < stop]
        spans = spans or [_widened(0, 0)]
    return [(start, top, stop, bottom) for start, stop in spans]


def bounds_around(boxes: Sequence[BoundsDeg]) -> BoundsDeg:
    """Bounds that hold all of these, of which there is one or more.

    They cross the antimeridian when the boxes reach it from both sides and leave a gap elsewhere: the widest
    gap is then left out.
    """
    if len(boxes) == 1:
        return boxes[0]
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    spans = _joined(_spans(boxes))
    west, east = spans[0][0], spans[-1][1]
    if len(spans) > 1 and west == -180.0 and east == 180.0:
        before, after = max(pairwise(spans), key=lambda pair: pair[1][0] - pair[0][1])
        west, east = after[0], before[1]
    return west, south, east, north


def _spans(boxes: Iterable[BoundsDeg]) -> list[tuple[float, float]]:
    spans = []
    for west, _, east, _ in boxes:
        spans.extend([(west, east)] if west <= east else [(west, 180.0), (-180.0, east)])
    return sorted(spans)


def _joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted spans, those that touch as one."""
    joined: list[tuple[float, float]] = []
    for west, east in spans:
        if joined and west <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], east))
        else:
            joined.append((west, east))
    return joined


def _check_corners(west: float, south: float, east: float, north: float) -> None:
    """Raise PlanError for a box beyond the world; name the exchange of axes when it would mend it."""
    if (
        max(abs(south), abs(north)) > 90.0 >= max(abs(west), abs(east))
        and max(abs(south), abs(north)) <= 180.0
    ):
        if abs(south) > 90.0 and abs(north) > 90.0:
            raise PlanError(
                f"latitudes {south:g} and {north:g} are beyond 90: bounds are WEST,SOUTH,EAST,NORTH;"
                f" write {south:g},{west:g},{north:g},{east:g}?"
            )
        raise PlanError(f"latitude {south if abs(south) > 90.0 else north:g} is beyond 90")
    check_position(west, south)
    check_position(east, north)


def _widened(start: int, stop: int) -> tuple[int, int]:
    """A span that is not empty: a place without width belongs to the tile east or south of it."""
    if start < stop:
        return start, stop
    return (start, start + 2) if start < LATTICE else (start - 2, start)
