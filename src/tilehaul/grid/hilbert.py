"""The order of PMTiles v3: all tiles of zoom 0, then 1, and so on, each zoom along a Hilbert curve.

Source: PMTiles specification v3, "Tile ID encoding"; the curve is the one of
https://en.wikipedia.org/wiki/Hilbert_curve (xy2d) with y counted southward.

At each level the curve visits the four quarters in a U. How the U lies is one of four
orientations: bit 0 says that columns and rows are exchanged, bit 1 that both are mirrored.
Tables take five levels at once: three look-ups for zoom 14, six for zoom 30.
"""

from tilehaul.errors import PlanError

# Beyond it an id would not fit into the 64 bits that PMTiles v3 gives it.
ID_ZOOM_MAX = 30

# The quarter visited at each of the four steps of an upright U, as (column, row).
_UPRIGHT = ((0, 0), (0, 1), (1, 1), (1, 0))

_STEP_LEVELS = 5
_STEP_MASK = (1 << _STEP_LEVELS) - 1
_STEP_CELLS = 1 << 2 * _STEP_LEVELS


def _quarters(orientation: int) -> tuple[tuple[int, int, int], ...]:
    """The quarters in the order of the curve: (column, row, orientation inside)."""
    exchanged, mirrored = orientation & 1, orientation >> 1
    steps = []
    for column, row in _UPRIGHT:
        inside = orientation
        if row == 0:
            inside ^= 3 if column else 1
        pair = (row, column) if exchanged else (column, row)
        steps.append((pair[0] ^ mirrored, pair[1] ^ mirrored, inside))
    return tuple(steps)


# By orientation.
QUARTERS = tuple(_quarters(orientation) for orientation in range(4))


def _grown(cells: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The same stretch of curve, one level finer."""
    return [
        (x << 1 | column, y << 1 | row, inside)
        for x, y, orientation in cells
        for column, row, inside in QUARTERS[orientation]
    ]


def _curves(levels: int) -> tuple[tuple[list[tuple[int, int, int]], ...], ...]:
    """By orientation and number of levels: the cells (x, y, orientation inside) along the curve."""
    curves = []
    for orientation in range(4):
        cells = [(0, 0, orientation)]
        by_level = [cells]
        for _ in range(levels):
            cells = _grown(cells)
            by_level.append(cells)
        curves.append(tuple(by_level))
    return tuple(curves)


CURVE_LEVELS = _STEP_LEVELS
# CURVES[orientation][k]: the 4^k cells of a square of 2^k x 2^k in the order of the curve.
CURVES = _curves(CURVE_LEVELS)


def _tables() -> tuple[list[int], list[int]]:
    """Both ways for five levels; entries are `orientation << 10 | the other side's ten bits`."""
    to_steps = [0] * (4 * _STEP_CELLS)
    to_cells = [0] * (4 * _STEP_CELLS)
    for orientation in range(4):
        base = orientation * _STEP_CELLS
        for steps, (x, y, inside) in enumerate(CURVES[orientation][_STEP_LEVELS]):
            cell = x << _STEP_LEVELS | y
            to_steps[base | cell] = inside * _STEP_CELLS | steps
            to_cells[base | steps] = inside * _STEP_CELLS | cell
    return to_steps, to_cells


_TO_STEPS, _TO_CELLS = _tables()
# The functions below spell the parts of an entry as numbers, because they are called for every tile:
# 31 = five bits of a column or row, 1023 = ten bits of steps or cell, 3072 = the orientation.

# Tiles of all zooms before each one: (4^z - 1) / 3; one more for the end of the last.
_FIRST = tuple(((1 << 2 * z) - 1) // 3 for z in range(ID_ZOOM_MAX + 2))

# By zoom, the shift of the first table step, and the orientation it starts with. Zooms that are no
# multiple of five get levels of zeros in front; each lies in the first quarter, which exchanges
# columns and rows once, so an odd number of them starts exchanged.
_START = tuple(
    (max(-(-z // _STEP_LEVELS) - 1, 0) * _STEP_LEVELS, _STEP_CELLS * (-z % _STEP_LEVELS & 1))
    for z in range(ID_ZOOM_MAX + 1)
)


def hilbert_id(z: int, x: int, y: int) -> int:
    """The PMTiles id of a tile, 0..(4^31 - 1) / 3 - 1. The tile must be within its zoom."""
    shift, orientation = _START[z]
    steps = 0
    table = _TO_STEPS
    while shift >= 0:
        entry = table[orientation | (x >> shift & 31) << 5 | y >> shift & 31]
        steps = steps << 10 | entry & 1023
        orientation = entry & 3072
        shift -= 5
    return _FIRST[z] + steps


def place_of_hilbert_id(number: int) -> tuple[int, int, int]:
    """The tile (z, x, y) of a PMTiles id.

    Raises:
        PlanError: The number is negative or beyond zoom 30.
    """
    if not 0 <= number < _FIRST[-1]:
        raise PlanError(f"{number} is no PMTiles id of zoom 0..{ID_ZOOM_MAX}")
    # 3 n + 1 lies in [4^z, 4^(z+1)).
    z = (3 * number + 1).bit_length() - 1 >> 1
    steps = number - _FIRST[z]
    shift, orientation = _START[z]
    x = y = 0
    table = _TO_CELLS
    while shift >= 0:
        entry = table[orientation | steps >> (shift << 1) & 1023]
        x = x << 5 | entry >> 5 & 31
        y = y << 5 | entry & 31
        orientation = entry & 3072
        shift -= 5
    return z, x, y
