"""What a WMTS says of itself, and which of its tiles is one of ours."""

import pytest

from doubles.wmts import SCALE_0, document, matrix
from tilehaul.codec.wmts_capabilities import WmtsCapabilities, parse_wmts_capabilities, plain_crs
from tilehaul.codec.wmts_request import filled_template, parse_wmts_location, zoom_matrices
from tilehaul.errors import ConfigError, DataError


def said(**changes: str) -> WmtsCapabilities:
    return parse_wmts_capabilities(document(**changes))


def test_the_document() -> None:
    read = said()
    (layer,) = read.layers
    assert read.kvp_url == "http://h/kvp?"
    assert (layer.name, layer.title, layer.bounds_deg) == ("alps", "Alps", (-180, -85, 180, 85))
    assert layer.styles == ("day", "night")
    assert layer.formats == ("image/jpeg", "image/png")
    assert layer.templates[0][0] == "image/png"
    assert layer.sets == {"goog": {"01": (0, 0, 1, 1)}}
    assert (layer.dimensions[0].name, layer.dimensions[0].default) == ("Time", "2020")
    assert read.matrix_sets[0].crs == "EPSG:900913"


def test_matrices_are_zooms_by_their_scale_not_their_name() -> None:
    read = said()
    found = zoom_matrices(read.matrix_sets[0], read.layers[0].sets["goog"])
    assert {z: each.identifier for z, each in found.items()} == {0: "00", 1: "01"}
    assert found[0].has(0, 0)
    assert [found[1].has(x, y) for x, y in [(0, 0), (1, 0), (1, 1)]] == [False, True, False]


def test_other_matrices_are_left_out_and_another_corner_is_counted_from() -> None:
    pieces = [
        matrix("odd", SCALE_0 / 3), matrix("beside", SCALE_0 / 4, "-19900000 20037508"),
        matrix("east", SCALE_0 / 8, "0 10018754.1714", side=2), matrix("deep", SCALE_0 / 2.0**31),
    ]  # fmt: skip
    read = said(matrices="".join(pieces))
    found = zoom_matrices(read.matrix_sets[0], {})
    assert list(found) == [3]
    assert (found[3].identifier, found[3].column_0, found[3].row_0) == ("east", 4, 2)
    assert found[3].has(4, 2)
    assert found[3].has(5, 3)
    assert not found[3].has(3, 2)
    assert not found[3].has(6, 2)


@pytest.mark.parametrize(
    "text",
    ["EPSG:3857", "urn:ogc:def:crs:EPSG::3857", "urn:ogc:def:crs:EPSG:6.18.3:3857",
     "http://www.opengis.net/def/crs/EPSG/0/3857"],
)  # fmt: skip
def test_names_of_a_crs(text: str) -> None:
    assert plain_crs(text) == "EPSG:3857"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html/>", "not the capabilities of a WMTS"),
        (b"<Capabilities/>", "not the capabilities of a WMTS"),
        (document(matrices=matrix("0", -1.0)), "matrix set goog has no valid numbers: a ScaleDenominator"),
        (document(matrices=matrix("0", SCALE_0, "here there")), "a TopLeftCorner of 'here'"),
        (document(matrices=matrix("0", SCALE_0, "nan 0")), "a TopLeftCorner of 'nan'"),
        (document(matrices=matrix("0", SCALE_0, "0")), "a TopLeftCorner of 1 numbers, not two"),
        (document(matrices=matrix("0", SCALE_0, side=-5)), "a MatrixWidth of '-5'"),
        (document(matrices=matrix("0", SCALE_0, side=0)), "a MatrixWidth of '0'"),
        (document(matrices=matrix("0", SCALE_0, side=10**400)), "a MatrixWidth of '1000"),
        (
            document().replace(b">-180 -85<", b">-180 x<"),
            "layer alps has no valid numbers: a LowerCorner of 'x'",
        ),
        (document().replace(b">-180 -85<", b">-180<"), "layer alps has no valid numbers: a LowerCorner"),
    ],
)
def test_bad_documents(body: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_wmts_capabilities(body)


def test_templates_are_filled_whatever_their_letters_case() -> None:
    template = "http://h/{Layer}/{STYLE}/{tilematrix}/{TileCol}/{TileRow}"
    filled = filled_template(template, {"layer": "a b", "style": "x"})
    assert filled == "http://h/a%20b/x/{TileMatrix}/{TileCol}/{TileRow}"
    with pytest.raises(ConfigError, match=r"wants \{STYLE\}"):
        filled_template(template, {"layer": "a"})
    with pytest.raises(ConfigError, match=r"no \{TileCol\}"):
        filled_template("http://h/{TileMatrix}/{TileRow}", {})


def test_locations() -> None:
    place = parse_wmts_location("wmts+https://h/WMTSCapabilities.xml?layer=a&TIME=2019&tilehaul.encoding=kvp")
    assert (place.layer, place.encoding, place.extra) == ("a", "kvp", (("TIME", "2019"),))
    assert place.capabilities_url() == "https://h/WMTSCapabilities.xml?TIME=2019"
    kvp = parse_wmts_location("wmts+https://h/wmts?layer=a").capabilities_url()
    assert kvp == "https://h/wmts?SERVICE=WMTS&REQUEST=GetCapabilities&VERSION=1.0.0"
    for query, says in [
        ("", "names no layer"),
        ("layer=a&tilehaul.encoding=soap", "rest or kvp"),
        ("layer=a&tilehaul.encodin=kvp", "did you mean tilehaul.encoding"),
    ]:
        with pytest.raises(ConfigError, match=says):
            parse_wmts_location(f"wmts+https://h/wmts?{query}")
