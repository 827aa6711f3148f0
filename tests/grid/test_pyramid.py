"""A picture's own grid: every pixel in exactly one tile of each zoom, and one pass that makes them all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilehaul.errors import PlanError
from tilehaul.grid.pyramid import PICTURE_PIXELS_MAX, Pyramid, larger_rows, pyramid_of, pyramid_rows
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.verify import meets

sizes = st.builds(Pyramid, st.integers(1, 9_000), st.integers(1, 9_000), st.sampled_from([256, 512]))


@pytest.mark.parametrize(
    ("size", "zoom_max", "by_zoom"),
    [
        ((1, 1, 256), 0, [1]),
        ((256, 256, 256), 0, [1]),
        ((257, 1, 256), 1, [1, 2]),
        ((512, 512, 512), 0, [1]),
        # 5400 x 2700: 22 x 11 tiles, then 2700 x 1350, 1350 x 675, 675 x 338, 338 x 169, 169 x 85.
        ((5400, 2700, 256), 5, [1, 2, 6, 18, 66, 242]),
        ((30_000, 30_000, 256), 7, [1, 4, 16, 64, 225, 900, 3481, 13_924]),
    ],
)
def test_known_pyramids(size, zoom_max, by_zoom):
    pyramid = Pyramid(*size)
    assert pyramid.zoom_max == zoom_max
    assert [pyramid.count(zoom) for zoom in range(zoom_max + 1)] == by_zoom
    assert pyramid.tiles == sum(by_zoom)


@given(sizes)
def test_tiles_of_a_zoom_cover_it_without_overlap(pyramid):
    for zoom in range(pyramid.zoom_max + 1):
        width, height = pyramid.size(zoom)
        halves = 2 ** (pyramid.zoom_max - zoom)
        assert (width, height) == (math.ceil(pyramid.width / halves), math.ceil(pyramid.height / halves))
        rights = [pyramid.box(TileId(zoom, x, 0))[2] for x in range(pyramid.columns(zoom))]
        lowers = [pyramid.box(TileId(zoom, 0, y))[3] for y in range(pyramid.rows(zoom))]
        assert rights == [*range(pyramid.tile_size, width, pyramid.tile_size), width]
        assert lowers == [*range(pyramid.tile_size, height, pyramid.tile_size), height]
    assert pyramid.count(0) == 1


@given(sizes)
def test_one_pass_gives_each_tile_once_and_none_before_those_it_is_made_of(pyramid):
    seen = set()
    for tile_id in pyramid.walk():
        assert tile_id in pyramid
        assert tile_id not in seen
        if tile_id.z < pyramid.zoom_max:
            assert all(child in seen for child in tile_id.children if child in pyramid)
        seen.add(tile_id)
    assert len(seen) == pyramid.tiles


@given(sizes)
def test_its_bounds_are_those_of_its_tiles_for_who_takes_it_for_a_map(pyramid):
    assert all(meets(tile_id, pyramid.bounds_deg) for tile_id in pyramid.walk())
    side = 2**pyramid.zoom_max
    for column, row in ((pyramid.columns(pyramid.zoom_max), 0), (0, pyramid.rows(pyramid.zoom_max))):
        if max(column, row) < side - 1:
            beyond = TileId(pyramid.zoom_max, column + (column > 0), row + (row > 0))
            assert not meets(beyond, pyramid.bounds_deg)


@given(sizes)
def test_what_an_archive_says_is_read_again(pyramid):
    assert pyramid_of({"name": "a", **pyramid_rows(pyramid)}) == pyramid


@pytest.mark.parametrize(
    "changed",
    [{"grid": "WebMercatorQuad"}, {"width": ""}, {"height": "-4"}, {"tile_size": "300"}, {"width": "1e9"}],
)
def test_what_makes_no_sense_is_no_pyramid(changed):
    assert pyramid_of({**pyramid_rows(Pyramid(10, 10)), **changed}) is None


def test_a_part_of_the_zooms_is_the_pyramid_of_a_smaller_picture():
    whole = Pyramid(5400, 2701)
    part = whole.down_to(3)
    assert (part.width, part.height, part.zoom_max) == (1350, 676, 3)
    assert [part.count(z) for z in range(4)] == [whole.count(z) for z in range(4)]
    assert whole.down_to(9) is whole
    for one, other in ((whole, part), (part, whole)):
        assert larger_rows(pyramid_rows(one), pyramid_rows(other)) == pyramid_rows(whole)
    assert larger_rows({}, pyramid_rows(part)) == pyramid_rows(part)
    assert larger_rows({"name": "map"}, {}) == {}


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (PICTURE_PIXELS_MAX, 2), (10, 10, 300), (2**40, 1)])
def test_sizes_that_cannot_be_cut_are_refused(size):
    with pytest.raises(PlanError):
        Pyramid(*size)


@pytest.mark.parametrize("tile_id", [TileId(2, 0, 0), TileId(1, 0, 1), TileId(1, 2, 0), TileId(0, -1, 0)])
def test_a_tile_outside_has_no_box(tile_id):
    with pytest.raises(PlanError, match="outside a picture of 400 x 100 px"):
        Pyramid(400, 100).box(tile_id)
