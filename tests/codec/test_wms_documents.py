"""What a WMS says of itself, and what it is asked."""

from urllib.parse import parse_qs, urlsplit

import pytest

from doubles.wms import CAPABILITIES_111, CAPABILITIES_130, EXCEPTION
from tilehaul.codec.safe_xml import XML_BYTES_MAX, XML_DEPTH_MAX, exception_said, is_out_of_range, parse_xml
from tilehaul.codec.verify import verify_tile
from tilehaul.codec.wms_capabilities import WmsDimension, parse_wms_capabilities
from tilehaul.codec.wms_request import MapRequest, parse_wms_location
from tilehaul.errors import ConfigError, DataError

SAID_130 = (CAPABILITIES_130 % {"url": "http://h/wms?", "east": "180", "most": "2048"}).encode()


def test_capabilities_of_1_3_0() -> None:
    said = parse_wms_capabilities(SAID_130)
    assert (said.version, said.title, said.get_map_url) == ("1.3.0", "Small", "http://h/wms?")
    assert said.formats == ("image/png", "image/jpeg")
    assert (said.width_max, said.height_max, said.layer_limit) == (2048, 2048, 2)
    relief, rivers, roads = said.layers
    assert [layer.name for layer in said.layers] == ["relief", "rivers", "roads"]
    assert relief.crs == rivers.crs == {"EPSG:4326", "EPSG:3857"}
    assert relief.bounds_deg == (-180, -90, 180, 90)
    assert relief.dimensions == (WmsDimension("time", "2020-01-01", "2019-01-01,2020-01-01"),)
    assert rivers.styles == ("blue",)
    assert roads.styles == roads.dimensions == ()


def test_capabilities_of_1_1_1_with_its_doctype() -> None:
    """Every 1.1.1 document has a DOCTYPE: it is passed over, and never fetched."""
    said = parse_wms_capabilities(CAPABILITIES_111.encode())
    relief, alps = said.layers
    assert said.version == "1.1.1"
    assert said.get_map_url == "http://maps.invalid/wms?map=a&"
    assert relief.crs == {"EPSG:4326", "EPSG:900913"}
    assert alps.crs == {"EPSG:4326", "EPSG:900913", "EPSG:3857"}
    assert relief.bounds_deg == (5, 45, 11, 48)
    assert alps.bounds_deg == (6, 46, 7, 47)
    assert alps.dimensions == relief.dimensions == (WmsDimension("TIME", "2001", "2000/2001"),)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>', "entities"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "entities"),
        (b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://h/x">%x;]><a/>', "entities"),
        (b"<a>" * (XML_DEPTH_MAX + 1), "deeper"),
        (b" " * (XML_BYTES_MAX + 1), "bytes"),
        (b"<a><b></a>", "no whole XML"),
        (b"<?xml version='1.0' encoding='no-such'?><a/>", "no whole XML"),
        (b"", "no whole XML"),
    ],
    ids=["bomb", "file", "parameter", "deep", "big", "broken", "encoding", "empty"],
)
def test_bad_xml_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_xml(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (EXCEPTION.encode(), "LayerNotDefined: no such layer"),
        (b"<html/>", "not the capabilities"),
        (b"<WMS_Capabilities/>", "no GetMap"),
    ],
)
def test_what_is_no_capabilities(body: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_wms_capabilities(body)


def test_an_exception_is_told_masked_and_short() -> None:
    said = exception_said(EXCEPTION.encode())
    assert said == "LayerNotDefined: no such layer, token=***"
    assert len(exception_said(EXCEPTION.replace("no such", "x" * 9999).encode())) <= 160
    coded = EXCEPTION.replace("LayerNot", "Layer\x0c\r\nkey=secret1234567890 \x1b[2J")
    assert exception_said(coded.encode()).startswith("Layer key=*** [2J")
    assert exception_said(b"<ServiceExceptionReport/>") == exception_said(b"<a>b</a>") == ""
    with pytest.raises(DataError, match="LayerNotDefined: no such layer") as caught:
        verify_tile(EXCEPTION.encode(), "text/html")
    assert caught.value.cause == "error_page"


def test_an_ows_exception() -> None:
    body = (
        b'<ows:ExceptionReport><ows:Exception exceptionCode="TileOutOfRange" locator="TILEROW">'
        b"<ows:ExceptionText>too far</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"
    )
    assert is_out_of_range(body)
    assert exception_said(body) == "TileOutOfRange: too far"
    assert not is_out_of_range(body.replace(b"TileOutOfRange", b"InvalidParameterValue"))
    assert not is_out_of_range(b"TileOutOfRange")


def ask(version: str, crs: str) -> dict[str, list[str]]:
    request = MapRequest(
        "https://h/wms", version, crs, ("a", "b"), ",", "image/png", transparent=True,
        extra=(("map", "/x.map"), ("TIME", "2020-01-01"), ("Width", "9")),
    )  # fmt: skip
    return parse_qs(urlsplit(request.url((5.0, 45.0, 11.0, 48.0), 256, 512)).query, keep_blank_values=True)


@pytest.mark.parametrize(
    ("version", "crs", "name", "bbox"),
    [
        ("1.1.1", "EPSG:4326", "SRS", "5.0,45.0,11.0,48.0"),
        ("1.3.0", "EPSG:4326", "CRS", "45.0,5.0,48.0,11.0"),
        ("1.3.0", "EPSG:3857", "CRS", "5.0,45.0,11.0,48.0"),
    ],
)
def test_get_map(version: str, crs: str, name: str, bbox: str) -> None:
    query = ask(version, crs)
    assert query[name] == [crs]
    assert query["BBOX"] == [bbox]
    assert query["LAYERS"] == ["a,b"]
    assert (query["WIDTH"], query["HEIGHT"]) == (["256"], ["512"])
    assert query["map"] == ["/x.map"]
    assert query["TIME"] == ["2020-01-01"]
    assert query["TRANSPARENT"] == ["TRUE"]
    assert "BLANK" not in query["EXCEPTIONS"][0]
    assert "Width" not in query


def test_identity_knows_everything_but_keys() -> None:
    def identity(**other: object) -> str:
        values = {
            "address": "https://u:p@h/wms", "version": "1.3.0", "crs": "EPSG:3857", "layers": ("a",),
            "styles": "", "format": "image/png", "extra": (("TIME", "2020"), ("apikey", "k1")),
        } | other  # fmt: skip
        return MapRequest(**values).identity  # type: ignore[arg-type]

    plain = identity()
    assert identity(extra=(("apikey", "k2"), ("TIME", "2020"))) == plain
    others = [
        identity(layers=("b",)), identity(styles="x"), identity(format="image/jpeg"),
        identity(crs="EPSG:900913"), identity(extra=(("TIME", "2021"),)), identity(transparent=True),
    ]  # fmt: skip
    assert len({plain, *others}) == 7


def test_location() -> None:
    place = parse_wms_location(
        "wms+https://h/wms?map=x&layers=a,b&STYLES=s,&version=1.1.1&srs=epsg:900913&format=image/png"
        "&transparent=True&time=2020&tilehaul.meta=8&tilehaul.buffer=0"
    )
    assert (place.address, place.layers, place.styles) == ("https://h/wms", ("a", "b"), "s,")
    assert (place.version, place.crs, place.format) == ("1.1.1", "EPSG:900913", "image/png")
    assert (place.transparent, place.meta, place.buffer_px) == (True, 8, 0)
    assert place.extra == (("map", "x"), ("time", "2020"))
    assert (parse_wms_location("wms+http://h?layers=a").meta, place.address) == (4, "https://h/wms")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "names no layers"),
        ("layers=a&tilehaul.mata=4", "did you mean tilehaul.meta"),
        ("layers=a&tilehaul.meta=3", "1, 2, 4, 8 or 16"),
        ("layers=a&tilehaul.meta=32", "up to 16"),
        ("layers=a&tilehaul.buffer=" + "0" * 9 + "9" * 9, "a whole number up to"),
        ("layers=a&tilehaul.buffer=" + "1" * 5000, "a whole number up to"),
        ("layers=a&tilehaul.buffer=-1", "up to 256"),
        ("layers=a&version=1.0.0", "1.1.1 and 1.3.0"),
        ("layers=a&crs=EPSG:2056", "only pictures in degrees are resampled"),
        ("layers=a&exceptions=BLANK", "errors as pictures"),
        ("layers=a&transparent=1", "true or false"),
    ],
)
def test_bad_locations(query: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_wms_location(f"wms+https://h/wms?{query}")
