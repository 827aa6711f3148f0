"""Addresses: arithmetic that must hold for every tile."""

import dataclasses
import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId

STEADY = settings(derandomize=True, deadline=None, database=None)


@st.composite
def tile_ids(draw, zoom_min=0, zoom_max=ZOOM_MAX):
    z = draw(st.integers(zoom_min, zoom_max))
    return TileId(z, draw(st.integers(0, (1 << z) - 1)), draw(st.integers(0, (1 << z) - 1)))


@given(tile_ids(zoom_max=ZOOM_MAX - 1))
@STEADY
def test_children_have_this_parent_and_quadkey(tile):
    """The four children are distinct, name this tile as parent and extend its quadkey by 0, 1, 2, 3."""
    assert [child.parent for child in tile.children] == [tile] * 4
    assert [child.quadkey for child in tile.children] == [tile.quadkey + digit for digit in "0123"]


@given(tile_ids())
@STEADY
def test_quadkey_round_trip(tile):
    """A quadkey has one digit a zoom and leads back."""
    assert len(tile.quadkey) == tile.z
    assert TileId.from_quadkey(tile.quadkey) == tile


@given(tile_ids())
@STEADY
def test_value_behaves_like_a_value(tile):
    """Equal, hashable, ordered, frozen, and the same after pickle and replace, despite its own __init__."""
    again = TileId(tile.z, tile.x, tile.y)
    assert again == tile
    assert hash(again) == hash(tile)
    assert pickle.loads(pickle.dumps(tile)) == tile
    assert dataclasses.replace(tile, z=tile.z + 1) > tile
    with pytest.raises(dataclasses.FrozenInstanceError):
        tile.z = 3
    assert str(tile) == f"{tile.z}/{tile.x}/{tile.y}"


def test_quadkey_known_values():
    """The example of the Bing Maps Tile System page, and the world."""
    assert TileId(3, 3, 5).quadkey == "213"
    assert TileId.from_quadkey("") == TileId(0, 0, 0)
    for wrong in ("4", "01x", "0" * 31, "٣"):
        with pytest.raises(PlanError, match="quadkey"):
            TileId.from_quadkey(wrong)


@given(tile_ids())
@STEADY
def test_children_bounds_fill_the_tile(tile):
    """Bounds join without gap in degrees and in metres, and lie the right way round."""
    west, south, east, north = tile.bounds_deg
    assert west < east
    assert south < north
    if tile.z < ZOOM_MAX:
        nw, ne, sw, _ = tile.children
        assert nw.bounds_deg[0] == west
        assert nw.bounds_deg[3] == north
        assert ne.bounds_deg[2] == east
        assert sw.bounds_deg[1] == south
        assert nw.bounds_deg[2] == ne.bounds_deg[0]
        assert nw.bounds_m[1] == sw.bounds_m[3]


def test_bounds_known_values():
    """The world in both units, and a tile against figures from EPSG:3857's definition."""
    half_m = 20037508.342789244
    assert TileId(0, 0, 0).bounds_deg == pytest.approx((-180, -85.0511287798066, 180, 85.0511287798066))
    assert TileId(0, 0, 0).bounds_m == (-half_m, -half_m, half_m, half_m)
    assert TileId(1, 1, 0).bounds_m == (0, 0, half_m, half_m)
    assert TileId(5, 17, 11).bounds_deg == pytest.approx((11.25, 40.97989806962013, 22.5, 48.92249926375824))


@given(tile_ids())
@STEADY
def test_tms_row_is_the_mirror(tile):
    """Counting rows from the south twice gives the row back."""
    assert 0 <= tile.tms_y < 1 << tile.z
    assert TileId(tile.z, tile.x, tile.tms_y).tms_y == tile.y


@pytest.mark.parametrize(
    ("z", "x", "y", "named"),
    [(-1, 0, 0, "zoom -1"), (31, 0, 0, "zoom 31"), (2, 4, 0, "column 4"), (2, 0, -1, "row -1")],
)
def test_checked_refuses_what_is_beyond(z, x, y, named):
    """The message names the number that is wrong."""
    with pytest.raises(PlanError, match=named):
        TileId.checked(z, x, y)


def test_checked_accepts_corners():
    """The last column and row of the last zoom are tiles; their children and the world's parent are not."""
    last = (1 << 30) - 1
    corner = TileId.checked(30, last, last)
    with pytest.raises(PlanError, match="last zoom"):
        _ = corner.children
    with pytest.raises(PlanError, match="no parent"):
        _ = TileId(0, 0, 0).parent


# --- the PMTiles order


def plain_hilbert_id(z, x, y):
    """The specification's loop, one level at a time, as an independent witness."""
    number, side = (4**z - 1) // 3, (1 << z) >> 1
    while side:
        column, row = int(bool(x & side)), int(bool(y & side))
        number += side * side * ((3 * column) ^ row)
        if row == 0:
            if column:
                x, y = ~x, ~y
            x, y = y, x
        side >>= 1
    return number


@given(tile_ids())
@STEADY
def test_hilbert_id_agrees_with_the_plain_loop_and_returns(tile):
    """Tables of five levels give what one level at a time gives, and lead back."""
    number = tile.pmtiles_id
    assert number == plain_hilbert_id(tile.z, tile.x, tile.y)
    assert TileId.from_pmtiles_id(number) == tile


def test_hilbert_ids_known_values():
    """The examples of the PMTiles specification."""
    assert [TileId(*t).pmtiles_id for t in [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)]] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip
    assert TileId(12, 3423, 1763).pmtiles_id == 19078479


@pytest.mark.parametrize("zoom", range(8))
def test_hilbert_neighbours_are_adjacent(zoom):
    """Along the curve each tile shares an edge with the next, and every tile is met once."""
    first = (4**zoom - 1) // 3
    tiles = [TileId.from_pmtiles_id(first + step) for step in range(4**zoom)]
    assert len(set(tiles)) == 4**zoom
    assert {tile.z for tile in tiles} == {zoom}
    for one, two in itertools.pairwise(tiles):
        assert abs(one.x - two.x) + abs(one.y - two.y) == 1


@given(tile_ids(zoom_max=ZOOM_MAX - 1))
@STEADY
def test_hilbert_children_follow_each_other(tile):
    """A tile's children are four neighbouring ids: what the walk of an area rests on."""
    numbers = sorted(child.pmtiles_id for child in tile.children)
    offset = numbers[0] - (4 ** (tile.z + 1) - 1) // 3
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert offset == 4 * (tile.pmtiles_id - (4**tile.z - 1) // 3)


def test_hilbert_ids_beyond_the_zooms_are_refused():
    """Ids end with zoom 30."""
    end = (4**31 - 1) // 3
    last = TileId.from_pmtiles_id(end - 1)
    assert last.z == 30
    for wrong in (-1, end):
        with pytest.raises(PlanError, match="PMTiles id"):
            TileId.from_pmtiles_id(wrong)
