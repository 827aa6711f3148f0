"""What a TMS says of itself, and which of its levels is which zoom."""

import pytest

from doubles.tms import BOX, CORNER, UNITS_0, tile_map, tile_set
from tilehaul.codec.tms_tilemap import (
    check_tile_map,
    level_address,
    parse_tile_map,
    parse_tms_location,
    tms_zooms,
)
from tilehaul.errors import ConfigError, DataError, PlanError

HERE = "https://h/tms/1.0.0/alps"


def test_the_document() -> None:
    said = parse_tile_map(tile_map(), HERE)
    check_tile_map(said)
    assert (said.title, said.crs, said.tile_px, said.extension) == ("Alps", "OSGEO:41001", (256, 256), "png")
    assert said.media_type == "image/png"
    assert [each.href for each in said.tile_sets][:2] == [
        "http://h/tms/1.0.0/alps/0",
        "http://h/tms/1.0.0/alps/1",
    ]


def test_zooms_are_read_from_units_not_from_order() -> None:
    off = tms_zooms(parse_tile_map(tile_map(), HERE))
    assert {z: each.identifier[-1] for z, each in off.items()} == {1: "0", 2: "1", 3: "2"}
    # GeoWebCache's units are its own, rounded otherwise.
    sets = [tile_set(0, 0, units="156543.03390625"), tile_set(1, 1, units="78271.516953125")]
    on = tms_zooms(parse_tile_map(tile_map(*sets, srs="EPSG:900913"), HERE))
    assert {z: each.identifier[-1] for z, each in on.items()} == {0: "0", 1: "1"}


def test_tiles_of_512_px_are_a_level_off() -> None:
    """Four times the pixels in the same place: units of zoom 1 at 256 px are those of zoom 0 at 512."""
    form = '<TileFormat width="512" height="512" mime-type="image/jpeg" extension=".jpg"/>'
    said = parse_tile_map(tile_map(tile_set(0, 1), tile_set(1, 2), form=form), HERE)
    check_tile_map(said)
    assert {z: each.identifier[-1] for z, each in tms_zooms(said).items()} == {0: "0", 1: "1"}
    assert said.extension == "jpg"


def test_a_thousand_levels_are_the_few_that_are_zooms() -> None:
    sets = [tile_set(at, 0, units=repr(UNITS_0 / 1.01**at)) for at in range(1000)]
    said = parse_tile_map(tile_map(*sets, tile_set(7, 0), tile_set(8, 2)), HERE)
    found = tms_zooms(said)
    assert found[0].identifier.endswith("/0")
    assert found[2].identifier.endswith("/8")
    assert max(found) <= 30


def test_bounds_are_rows_from_the_north() -> None:
    box = '<BoundingBox minx="0" miny="0" maxx="10018754.1714" maxy="20037508.34"/>'
    (matrix,) = tms_zooms(parse_tile_map(tile_map(tile_set(1, 2), box=box), HERE)).values()
    assert matrix.limits == (0, 1, 2, 2)
    assert [matrix.has(x, y) for x, y in [(2, 0), (2, 1), (2, 2), (1, 0), (3, 0)]] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "box",
    [
        "",
        BOX.replace("-20037508.342789", "NaN"),
        BOX.replace("minx", "x"),
        '<BoundingBox minx="999" miny="999" maxx="1" maxy="1000"/>',
        '<BoundingBox minx="-180" miny="-85" maxx="180" maxy="85"/>',
        '<BoundingBox minx="-1e308" miny="-1e308" maxx="1e308" maxy="1e308"/>',
    ],
    ids=["missing", "nan", "unnamed", "turned", "degrees", "huge"],
)
def test_bounds_that_are_none_bound_nothing(box: str) -> None:
    zooms = tms_zooms(parse_tile_map(tile_map(box=box), HERE))
    assert zooms[1].limits == (0, 1, 0, 1)


def test_the_origin_and_bounds_of_gdal2tiles_are_not_believed() -> None:
    changes = {
        "srs": "EPSG:3857",
        "profile": "mercator",
        "origin": '<Origin x="5.9" y="45.8"/>',
        "box": '<BoundingBox minx="5.9" miny="45.8" maxx="10.5" maxy="47.8"/>',
    }
    said = parse_tile_map(tile_map(tile_set(3, 3, base=""), **changes), HERE)
    check_tile_map(said)
    assert tms_zooms(said)[3].limits == (0, 7, 0, 7)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"srs": "EPSG:4326"}, "in EPSG:4326, and tiles are Web Mercator"),
        ({"srs": ""}, "in no SRS"),
        ({"srs": "OSGEO&#10;:41001"}, "in OSGEO%20:41001"),
        ({"origin": '<Origin x="-180" y="-90"/>'}, "counts its tiles from -180, -90"),
        ({"form": '<TileFormat width="100" height="256" extension="png"/>'}, "tiles of 100x256 px"),
        ({"form": '<TileFormat width="1024" height="1024" extension="png"/>'}, "tiles of 1024x1024 px"),
    ],
)
def test_another_grid_is_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        check_tile_map(parse_tile_map(tile_map(**changes), HERE))


def test_no_level_that_is_a_zoom() -> None:
    with pytest.raises(PlanError, match=r"its units per pixel are 100, 1e-09"):
        tms_zooms(parse_tile_map(tile_map(tile_set(0, 0, units="100"), tile_set(1, 0, units="1e-9")), HERE))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (tile_map(tile_set(0, 0, units="NaN")), "units-per-pixel='NaN'"),
        (tile_map(tile_set(0, 0, units="-1")), "units-per-pixel=-1"),
        (tile_map(tile_set(0, 0, units="0")), "units-per-pixel=0"),
        (tile_map(tile_set(0, 0, units="inf")), "units-per-pixel='inf'"),
        (tile_map('<TileSet href="a"/>'), "units-per-pixel=''"),
        (tile_map('<TileSet units-per-pixel="1"/>'), "no href"),
        (tile_map(origin=""), "lacks Origin"),
        (tile_map(origin='<Origin x="1"/>'), "Origin has y=''"),
        (tile_map(form=""), "lacks TileFormat"),
        (tile_map(form='<TileFormat width="256" height="256"/>'), "no extension"),
        (tile_map(form='<TileFormat width="256" height="256" extension="a/b"/>'), "no extension"),
        (tile_map(form='<TileFormat width="1e999" height="256" extension="png"/>'), "width='1e999'"),
        (tile_map(form='<TileFormat width="25.5" height="256" extension="png"/>'), "width=25.5"),
        (b"<html><body/></html>", "<html> came"),
        (
            b"<TileMapServerError><Message>unknown layer: a token=abcdef</Message></TileMapServerError>",
            r"unknown layer: a token=\*\*\*",
        ),
        ("<E><Message>one\n two \x85 three</Message></E>".encode(), "error: one two three"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><TileMap>&b;</TileMap>', "entities"),
        (b"<TileMap>" * 100 + b"</TileMap>" * 100, "deeper than"),
        (b"<TileMap>", "no whole XML"),
    ],
)
def test_documents_that_are_none(body: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_tile_map(body, HERE)


def test_a_list_of_tile_maps_is_named() -> None:
    maps = "".join(f'<TileMap title="t" href="http://h/tms/1.0.0/m{at}?key=abc"/>' for at in range(12))
    body = f"<TileMapService><TileMaps>{maps}</TileMaps></TileMapService>".encode()
    with pytest.raises(PlanError) as caught:
        parse_tile_map(body, HERE)
    said = str(caught.value)
    assert "it lists tms+http://h/tms/1.0.0/m0?key=***, " in said
    assert said.endswith(" and 2 more")
    assert "\n" not in said
    root = b'<Services><TileMapService href="1.0.0/"/></Services>'
    with pytest.raises(PlanError, match=r"it lists tms\+https://h/tms/1.0.0/"):
        parse_tile_map(root, "https://h/tms/")
    with pytest.raises(PlanError, match="without any"):
        parse_tile_map(b"<TileMapService/>", HERE)


@pytest.mark.parametrize(
    ("document", "href", "address"),
    [
        ("https://h/a/tilemapresource.xml", "3", ("https://h/a/3", "")),
        ("https://h/a/doc", "http://h/a/doc/3/", ("https://h/a/doc/3", "")),
        ("https://h/a/doc", "http://h:8080/a/doc/3", ("http://h:8080/a/doc/3", "")),
        ("http://h/a/doc", "https://h/a/doc/3", ("https://h/a/doc/3", "")),
        ("http://h/a/doc/", "3", ("http://h/a/doc/3", "")),
        ("http://u:p@h/a/doc", "http://h/a/3", ("http://u:p@h/a/3", "")),
        ("http://h/a/doc", "//cdn/3?map=m", ("http://cdn/3", "?map=m")),
        ("http://h/a/doc", "/3#x", ("http://h/3", "")),
    ],
)
def test_where_a_level_is(document: str, href: str, address: tuple[str, str]) -> None:
    assert level_address(href, parse_tms_location("tms+" + document)) == address


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "http://u:p@h/3", "http://[::1/3", "a b", "http://h:x/3", "ftp://h/3"],
)
def test_where_no_level_is(href: str) -> None:
    with pytest.raises(DataError, match="no address") as caught:
        level_address(href, parse_tms_location("tms+http://h/a"))
    assert "u:p@" not in str(caught.value)


def test_locations() -> None:
    place = parse_tms_location("tms+https://h/tms/1.0.0/a@b?key=abcdef&map=m")
    assert place.capabilities_url() == "https://h/tms/1.0.0/a@b?key=abcdef&map=m"
    assert place.shown == "https://h/tms/1.0.0/a@b?key=***&map=m"
    assert parse_tms_location("tms+https://h/a").capabilities_url() == "https://h/a"
    with pytest.raises(ConfigError, match=r"\{-y\}"):
        parse_tms_location("tms+https://h/{z}/{x}/{y}.png")
    with pytest.raises(ConfigError, match=r"no parameter tilehaul\.meta"):
        parse_tms_location("tms+https://h/a?tilehaul.meta=4")


def test_the_corner_may_be_rounded() -> None:
    check_tile_map(parse_tile_map(tile_map(origin='<Origin x="-20037508" y="-20037508.34"/>'), HERE))
    assert CORNER.encode() in tile_map()
