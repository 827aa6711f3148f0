"""Areas: what is counted is what is walked, and both are what geometry says."""

import itertools
import json
import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.errors import PlanError
from tilehaul.grid.area import BOXES_MAX, Area, parse_zooms, zooms_text
from tilehaul.grid.bounds import parse_bbox
from tilehaul.grid.tile_id import TileId

STEADY = settings(derandomize=True, deadline=None, database=None)

LIMIT_DEG = 85.0511287798066
longitudes = st.floats(-180, 180)
latitudes = st.floats(-90, 90)
# Many borders on tile edges: that is where the mistakes are.
edges_deg = st.sampled_from([-180.0, -90.0, -45.0, 0.0, 11.25, 22.5, 90.0, 180.0])
zoom_sets = st.sets(st.integers(0, 6), min_size=1, max_size=4)


def box_polygon(west, south, east, north):
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def tiles_of_box(west, south, east, north, zoom):
    """Brute force: every tile of the zoom whose bounds overlap by more than rounding."""
    tiny_deg = 6e-9
    south, north = max(south, -LIMIT_DEG), min(north, LIMIT_DEG)
    spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    found = set()
    for x, y in itertools.product(range(1 << zoom), repeat=2):
        left, bottom, right, top = TileId(zoom, x, y).bounds_deg
        if min(top, north) - max(bottom, south) > tiny_deg and any(
            min(right, stop) - max(left, start) > tiny_deg for start, stop in spans
        ):
            found.add(TileId(zoom, x, y))
    return found


def check_walk(area):
    """No repeats, PMTiles order, the counts, and membership."""
    walked = list(area)
    numbers = [tile.pmtiles_id for tile in walked]
    assert numbers == sorted(set(numbers))
    by_zoom = {zoom: sum(tile.z == zoom for tile in walked) for zoom in area.zooms}
    assert area.count_by_zoom() == by_zoom
    assert area.count() == len(walked)
    assert all(tile in area for tile in walked)
    for zoom, count in by_zoom.items():
        ranked = list(area.ranked(zoom, range(count)))
        assert len(ranked) == count
        assert set(ranked) == {tile for tile in walked if tile.z == zoom}
        # The same tile, also when the others are not asked for.
        assert list(area.ranked(zoom, range(1, count, 3))) == ranked[1::3]
    return walked


@given(
    st.tuples(longitudes | edges_deg, longitudes | edges_deg),
    st.tuples(latitudes | st.just(0.0), latitudes | st.just(0.0)),
    st.integers(0, 5),
)
@settings(STEADY, max_examples=60)
def test_bbox_equals_brute_force(pair_x, pair_y, zoom):
    """Any box, also across the antimeridian, holds exactly the tiles whose bounds overlap it."""
    (west, east), (south, north) = pair_x, sorted(pair_y)
    width, height = (east - west) % 360.0, north - south
    if width < 1e-6 or height < 1e-6 or south > 85 or north < -85:
        return
    area = Area.from_bbox(west, south, east, north, [zoom])
    walked = set(check_walk(area))
    assert walked == tiles_of_box(west, south, east, north, zoom)
    everything = {TileId(zoom, x, y) for x, y in itertools.product(range(1 << zoom), repeat=2)}
    assert not any(tile in area for tile in everything - walked)


boxes_deg = st.tuples(
    longitudes | edges_deg, latitudes | st.just(0.0), longitudes | edges_deg, latitudes | st.just(0.0)
).map(lambda box: (box[0], min(box[1], box[3]), box[2], max(box[1], box[3])))


def has_size(box):
    west, south, east, north = box
    return (east - west) % 360.0 > 1e-6 and north - south > 1e-6 and south < 85 and north > -85


@given(st.lists(boxes_deg.filter(has_size), min_size=1, max_size=5), st.sets(st.integers(0, 4), min_size=1))
@settings(STEADY, max_examples=120)
def test_boxes_equal_brute_force(boxes, zooms):
    """The union of any boxes: each tile once, counted without walking, in whatever order they are given."""
    area = Area.from_boxes(boxes, zooms)
    walked = check_walk(area)
    wanted = {tile for box in boxes for zoom in zooms for tile in tiles_of_box(*box, zoom)}
    assert set(walked) == wanted
    for zoom in zooms:
        for x, y in itertools.product(range(1 << zoom), repeat=2):
            assert (TileId(zoom, x, y) in area) == (TileId(zoom, x, y) in wanted)
    again = Area.from_boxes([*boxes[::-1], boxes[0]], zooms)
    assert (again.identity, again.bounds_deg) == (area.identity, area.bounds_deg)
    # The bounds hold every box.
    assert wanted <= set(Area.from_bbox(*area.bounds_deg, zooms))


@given(boxes_deg, zoom_sets)
@STEADY
def test_one_box_is_the_area_it_always_was(box, zooms):
    """A job begun with one box goes on, whichever way the box is given."""
    one, several = Area.from_bbox(*box, zooms), Area.from_boxes([box, box], zooms)
    assert one == Area.from_boxes([box], zooms)
    assert (one.identity, list(one)) == (several.identity, list(several))
    assert one.bounds_deg[::2] == box[::2]


@pytest.mark.parametrize(
    ("boxes", "bounds"),
    [
        ([(0, 0, 10, 10), (20, -5, 30, 5)], (0, -5, 30, 10)),
        ([(139, 35, 140, 36), (-75, 40, -73, 41)], (-75, 35, 140, 41)),
        ([(170, 0, 180, 10), (-180, 0, -170, 10)], (170, 0, -170, 10)),
        ([(170, 0, -170, 10), (160, 0, 165, 10)], (160, 0, -170, 10)),
        ([(170, 0, -170, 10), (-20, 0, 20, 10)], (-20, 0, -170, 10)),
        ([(-180, 0, 20, 10), (10, 0, 180, 10)], (-180, 0, 180, 10)),
    ],
)
def test_bounds_hold_every_box(boxes, bounds):
    """Across the antimeridian only when boxes reach it from both sides; the widest gap is left out."""
    assert Area.from_boxes(boxes, [1]).bounds_deg == bounds


def test_identity_of_several_boxes():
    """Kept in journals: it must not change, and differs from that of each box and of their bounds."""
    west, east = (0, 0, 10, 10), (20, 0, 30, 10)
    both = Area.from_boxes([east, west], [3])
    assert both.identity == "3590ff957f54f9db"
    others = [Area.from_bbox(*box, [3]) for box in (west, east, both.bounds_deg)]
    assert len({area.identity for area in (both, *others)}) == 4


def test_boxes_that_touch_or_have_no_size():
    """Neighbours share no tile; a point and a line among boxes are the tiles they touch."""
    quarters = [(-180, 0, 0, 85.06), (0, 0, 180, 85.06), (-180, -85.06, 0, 0), (0, -85.06, 180, 0)]
    for zoom in range(5):
        assert Area.from_boxes(quarters, [zoom]).count() == 4**zoom
    small = Area.from_boxes([(0, 0, 0, 0), (-90, -45, 90, -45)], [1])
    assert set(check_walk(small)) == {TileId(1, 0, 1), TileId(1, 1, 1)}


def test_many_boxes_are_counted_by_arithmetic():
    """Ten thousand boxes, and two that span continents at zoom 30, in no time; more are refused."""
    grid = [(x, y, x + 1.0, y + 1.0) for x in range(-50, 50) for y in range(-50, 50)]
    assert len(grid) == BOXES_MAX
    whole = Area.from_bbox(-50, -50, 50, 50, [3, 12, 20])
    assert Area.from_boxes(grid, [3, 12, 20]).count_by_zoom() == whole.count_by_zoom()
    one, other = (-120, -30, 60, 70), (50, -40, 170, 0)
    counts = [Area.from_boxes(boxes, [30]).count() for boxes in ([one], [other], [one, other])]
    shared = Area.from_bbox(50, -30, 60, 0, [30]).count()
    assert counts[2] == counts[0] + counts[1] - shared
    with pytest.raises(PlanError, match="more than 10,000 boxes"):
        Area.from_boxes([*grid, one], [3])
    with pytest.raises(PlanError, match="no box"):
        Area.from_boxes([], [3])
    with pytest.raises(PlanError, match="finite"):
        Area.from_boxes([one, (0, math.nan, 1, 1)], [3])


@given(
    st.lists(longitudes | edges_deg, min_size=2, max_size=2, unique=True),
    st.lists(st.floats(-85, 85) | st.just(0.0), min_size=2, max_size=2, unique=True),
    zoom_sets,
)
@settings(STEADY, max_examples=60)
def test_box_as_polygon_equals_bbox(pair_x, pair_y, zooms):
    """The same box given both ways has the same tiles, also with borders on tile edges."""
    (west, east), (south, north) = sorted(pair_x), sorted(pair_y)
    if east - west < 1e-6 or north - south < 1e-6:
        return
    polygon = Area.from_geojson(box_polygon(west, south, east, north), zooms)
    box = Area.from_bbox(west, south, east, north, zooms)
    assert check_walk(polygon) == check_walk(box)


def point_in_rings(rings, x, y):
    """Even-odd by counting crossings to the west: an independent witness."""
    inside = False
    for ring in rings:
        for (ax, ay), (bx, by) in zip(ring, ring[1:] + ring[:1], strict=True):
            if (ay > y) != (by > y) and ax + (y - ay) * (bx - ax) / (by - ay) < x:
                inside = not inside
    return inside


@given(
    st.lists(
        st.lists(st.tuples(st.integers(-170, 170), st.integers(-80, 80)), min_size=3, max_size=7),
        min_size=1,
        max_size=3,
    )
)
@settings(STEADY, max_examples=80)
def test_polygon_agrees_with_sampled_points(rings):
    """Any rings, crossing or not: a tile with a sampled point inside is walked, and so are its parents."""
    zoom = 4
    try:
        area = Area.from_geojson({"type": "Polygon", "coordinates": rings}, [zoom, 2])
    except PlanError as error:
        assert "no area" in str(error) or "positions" in str(error)  # noqa: PT017
        return
    walked = set(check_walk(area))

    def project(lon, lat):
        return (lon + 180) / 360, 0.5 - math.asinh(math.tan(math.radians(lat))) / math.tau

    projected = [[project(*position) for position in ring] for ring in rings]
    side = 1 << zoom
    for x, y in itertools.product(range(side), repeat=2):
        samples = [
            point_in_rings(projected, (x + i / 3.1) / side, (y + j / 3.3) / side)
            for i, j in itertools.product((0.031, 1.57, 3.07), repeat=2)
        ]
        if any(samples):
            assert TileId(zoom, x, y) in walked
    for tile in walked:
        if tile.z == zoom:
            assert tile.parent.parent in walked


def test_hole_is_left_out_and_islands_join():
    """A hole that covers tiles wholly removes them; overlapping polygons are a union, not even-odd."""
    outer, hole = (-90, -60, 90, 60), (-45, -40.9, 45, 40.9)
    with_hole = box_polygon(*outer)
    with_hole["coordinates"].append(box_polygon(*hole)["coordinates"][0])
    holed = set(check_walk(Area.from_geojson(with_hole, [5])))
    whole = set(Area.from_bbox(*outer, [5]))
    removed = whole - holed
    assert removed == {tile for tile in whole if contains(hole, tile.bounds_deg)}
    assert removed
    overlapping = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {}, "geometry": box_polygon(-10, -10, 30, 30)},
            {"type": "Feature", "properties": None, "geometry": None},
            {
                "type": "Feature",
                "geometry": {"type": "GeometryCollection", "geometries": [box_polygon(0, 0, 50, 50)]},
            },
        ],
    }
    union = set(check_walk(Area.from_geojson(json.dumps(overlapping), [6])))
    assert union == set(Area.from_bbox(-10, -10, 30, 30, [6])) | set(Area.from_bbox(0, 0, 50, 50, [6]))


def contains(box, inner):
    return box[0] <= inner[0] and box[1] <= inner[1] and inner[2] <= box[2] and inner[3] <= box[3]


@given(st.integers(0, 12), st.data())
@STEADY
def test_bounds_of_a_tile_give_that_tile_only(zoom, data):
    """Half-open: neighbours that share an edge are not included, after the trip through degrees."""
    tile = TileId(
        zoom, data.draw(st.integers(0, (1 << zoom) - 1)), data.draw(st.integers(0, (1 << zoom) - 1))
    )
    assert list(Area.from_bbox(*tile.bounds_deg, [zoom])) == [tile]
    assert list(Area.from_geojson(box_polygon(*tile.bounds_deg), [zoom])) == [tile]
    rounded = [round(number, 10) for number in tile.bounds_deg]
    if rounded[1] > -LIMIT_DEG and rounded[3] < LIMIT_DEG:
        assert list(Area.from_bbox(*rounded, [zoom])) == [tile]


@pytest.mark.parametrize("zoom", range(5))
def test_antimeridian_is_crossed(zoom):
    """West > east: both sides, once each, also where they meet in one column."""
    crossing = Area.from_bbox(170, -20, -170, 20, [zoom])
    split = set(Area.from_bbox(170, -20, 180, 20, [zoom])) | set(Area.from_bbox(-180, -20, -170, 20, [zoom]))
    assert set(check_walk(crossing)) == split
    assert crossing.bounds_deg == (170, -20, -170, 20)
    assert (
        Area.from_bbox(180, -20, -170, 20, [zoom]).count()
        == Area.from_bbox(-180, -20, -170, 20, [zoom]).count()
    )


def test_place_without_size_is_the_tile_there():
    """A point belongs to the tile south-east of it; at the far corner, to the last tile."""
    assert list(Area.from_bbox(0, 0, 0, 0, [1])) == [TileId(1, 1, 1)]
    assert list(Area.from_bbox(180, -90, 180, -90, [3])) == [TileId(3, 7, 7)]
    assert list(Area.from_bbox(-180, 89, -180, 90, [3])) == [TileId(3, 0, 0)]
    assert Area.from_bbox(180, 0, -180, 1, [3]).count() == 1


def test_latitude_is_clamped_to_the_mercator_limit():
    """The poles are beyond the map: asking for them gives the last row."""
    area = Area.from_bbox(-180, -90, 180, 90, range(3))
    assert area.count_by_zoom() == {0: 1, 1: 4, 2: 16}
    assert area.bounds_deg == (-180, -LIMIT_DEG, 180, LIMIT_DEG)
    polar = Area.from_geojson(box_polygon(-180, -90, 180, 90), range(3))
    assert polar.count_by_zoom() == {0: 1, 1: 4, 2: 16}


def test_large_counts_are_arithmetic():
    """The world at zoom 30 is counted at once, by either shape."""
    world = sum(4**zoom for zoom in range(31))
    assert Area.from_bbox(-180, -90, 180, 90, range(31)).count() == world
    assert Area.from_geojson(box_polygon(-180, -90, 180, 90), range(31)).count() == world


def test_walk_is_lazy_and_bounded():
    """Ten thousand tiles of a job of 10^17 need next to no memory."""
    circle = [[60 * math.cos(i / 50 * math.tau), 60 * math.sin(i / 50 * math.tau)] for i in range(50)]
    area = Area.from_geojson({"type": "Polygon", "coordinates": [circle]}, [28])
    list(itertools.islice(area, 10))
    tracemalloc.start()
    count = sum(1 for _ in itertools.islice(area, 10_000))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak_bytes < 300_000


def test_tile_list_is_sorted_and_unique():
    """A list keeps each tile once, in PMTiles order, with the bounds of all."""
    tiles = [TileId(3, 7, 0), TileId(0, 0, 0), TileId(3, 1, 2), TileId(3, 7, 0)]
    area = Area.from_tiles(tiles)
    assert check_walk(area) == sorted(set(tiles), key=lambda tile: tile.pmtiles_id)
    assert area.zooms == (0, 3)
    assert area.count_by_zoom() == {0: 1, 3: 2}
    assert TileId(3, 1, 1) not in area
    assert TileId(2, 0, 0) not in area
    with pytest.raises(PlanError, match="column 9"):
        Area.from_tiles([TileId(3, 9, 0)])
    with pytest.raises(PlanError, match="empty"):
        Area.from_tiles([])


def test_identity_names_geometry_and_zooms():
    """Equal for one place and its zooms however written, different when either differs, stable over runs."""
    box = Area.from_bbox(-10, 20, 30, 40, [3, 1, 3])
    assert box.zooms == (1, 3)
    assert box.identity == Area.from_bbox(-10.0, 20, 30, 40, (1, 3)).identity
    assert len(box.identity) == 16
    others = [
        Area.from_bbox(-10, 20, 30, 41, [1, 3]),
        Area.from_bbox(-10, 20, 30, 40, [1, 2]),
        Area.from_tiles(box),
    ]
    assert len({area.identity for area in [box, *others]}) == 4
    ring = box_polygon(-10, 20, 30, 40)["coordinates"][0]
    turned = {"type": "Polygon", "coordinates": [[*ring[2:], *ring[1:3]][::-1]]}
    assert (
        Area.from_geojson(turned, [3]).identity
        == Area.from_geojson(box_polygon(-10, 20, 30, 40), [3]).identity
    )
    # Journals keep it: a change here makes every unfinished job a different one.
    assert Area.from_bbox(0, 0, 90, 45, [0]).identity == "e46cde2b9cfc8ac5"


def test_membership_of_foreign_values():
    """What is no tile of this grid is not in the area."""
    area = Area.from_bbox(-180, -85, 180, 85, [2])
    assert TileId(2, 4, 0) not in area
    assert TileId(2, 0, -1) not in area
    assert "2/0/0" not in area


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0, 10, 5, 5), "south 10 lies north of north 5"),
        ((0, 91, 5, 95), "write 91,0,95,5"),
        ((0, 0, 190, 5), "longitude 190 is beyond 180: write -170"),
        ((1e6, 6e6, 2e6, 7e6), "metres"),
        ((math.nan, 0, 1, 1), "finite"),
        ((0, 0, math.inf, 1), "finite"),
    ],
)
def test_wrong_bounds_are_refused_with_the_probable_intent(bounds, said):
    """One line that says what to write instead."""
    with pytest.raises(PlanError, match=said) as caught:
        Area.from_bbox(*bounds, [1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("geojson", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "an object was expected"),
        ({"type": "Circle"}, "its type is 'Circle'"),
        ({"type": ["Polygon"]}, "its type is"),
        ({"type": {"a": 1}}, "its type is"),
        ({"type": "Point", "coordinates": [0, 0]}, "no polygon"),
        ({"type": "FeatureCollection", "features": []}, "no polygon"),
        ({"type": "FeatureCollection"}, "needs a list 'features'"),
        ({"type": "Polygon", "coordinates": []}, "not a list of rings"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "3 positions"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2]]]}, "not \\[longitude, latitude\\]"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], ["a", 2]]]}, "finite"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, math.inf], [2, 2]]]}, "finite"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 10**400], [2, 2]]]}, "finite"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 100], [2, 2]]]}, "exchanged"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0], [1, 0]]]}, "no area"),
        ({"type": "MultiPolygon", "coordinates": [3]}, "not a list of rings"),
        ({"type": "Polygon", "coordinates": [7]}, "not a list of positions"),
    ],
)
def test_wrong_geojson_is_refused(geojson, said):
    """Every malformed region is a PlanError of one short line."""
    with pytest.raises(PlanError, match=said) as caught:
        Area.from_geojson(geojson, [1])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_nested_collections_are_bounded():
    """A collection in a collection, too deep, is refused and not recursed into."""
    node = box_polygon(0, 0, 1, 1)
    for _ in range(40):
        node = {"type": "GeometryCollection", "geometries": [node]}
    with pytest.raises(PlanError, match="nests"):
        Area.from_geojson(node, [1])


@pytest.mark.parametrize(
    ("text", "zooms"),
    [("0-12,14", (*range(13), 14)), ("3", (3,)), (" 5 , 4-4,5", (4, 5)), ("30", (30,))],
)
def test_zooms_are_parsed(text, zooms):
    """Numbers and inclusive ranges, sorted, once each."""
    assert parse_zooms(text) == zooms


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "31", "1,,2", "1.5", "0-31", "٣", "9" * 5000])
def test_wrong_zooms_are_refused(text):
    """Never a ValueError, never a guess."""
    with pytest.raises(PlanError, match="zoom"):
        parse_zooms(text)


def test_zooms_beyond_the_grid_are_refused():
    """From the library too."""
    for zooms in ([31], [-1], []):
        with pytest.raises(PlanError, match="zoom"):
            Area.from_bbox(0, 0, 1, 1, zooms)


def test_bbox_text_is_parsed():
    """Four finite numbers, nothing else."""
    assert parse_bbox("-10, 2.5,3e1,40") == (-10.0, 2.5, 30.0, 40.0)
    for wrong in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "nan,0,1,1", "0,0,inf,1"):
        with pytest.raises(PlanError, match="WEST,SOUTH,EAST,NORTH"):
            parse_bbox(wrong)


def test_slanted_border_through_corners_is_exact():
    """A diamond whose borders run through tile corners: tiles that it touches in a point are left out."""
    quarter_deg = TileId(2, 1, 1).bounds_deg[3]
    diamond = {"type": "Polygon", "coordinates": [[[-90, 0], [0, quarter_deg], [90, 0], [0, -quarter_deg]]]}
    area = Area.from_geojson(diamond, range(7))
    # In each of the four quadrants the tiles (i, j), counted from the middle, with i + j < n.
    assert area.count_by_zoom() == {0: 1, 1: 4, 2: 4, 3: 12, 4: 40, 5: 144, 6: 544}
    check_walk(area)


@STEADY
@given(st.sets(st.integers(0, 30), min_size=1))
def test_zooms_as_text_are_read_again(zooms: set[int]) -> None:
    assert parse_zooms(zooms_text(sorted(zooms))) == tuple(sorted(zooms))


def test_zooms_as_text_are_short() -> None:
    assert zooms_text([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
