"""WMTS and TMS: documents that programs can read, and tiles where they say."""

from xml.etree import ElementTree as ET

import pytest

from tilehaul.codec.wmts_capabilities import parse_wmts_capabilities
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import WORLD_DEG

CAPABILITIES = "/wmts/1.0.0/WMTSCapabilities.xml"
KVP = {
    "SERVICE": "WMTS",
    "REQUEST": "GetTile",
    "VERSION": "1.0.0",
    "LAYER": "osm",
    "STYLE": "default",
    "FORMAT": "image/png",
    "TILEMATRIXSET": "GoogleMapsCompatible",
    "TILEMATRIX": "3",
    "TILEROW": "2",
    "TILECOL": "1",
}


def kvp(**changed):
    told = {**KVP, **changed}
    return "/wmts?" + "&".join(f"{name}={value}" for name, value in told.items() if value is not None)


@pytest.fixture
def source(service):
    info = {"zoom_max": 4, "description": "all <of> it & \x01 more", "attribution": "us"}
    source = service.layer(title="Open & <all>", info=info)
    source.put("3/1/2", b"picture")
    return source


@pytest.mark.parametrize(
    "path", [CAPABILITIES, "/wmts?SERVICE=WMTS&REQUEST=GetCapabilities", "/wmts?request=getcapabilities"]
)
async def test_capabilities_are_those_our_own_reader_reads(service, source, path):
    answer = await service.ask(path, host="localhost:8080")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/xml")
    assert answer.headers["vary"] == "Host"
    told = parse_wmts_capabilities(answer.body)
    [layer], [matrix_set] = told.layers, told.matrix_sets
    assert (layer.name, layer.title, layer.formats) == ("osm", "Open & <all>", ("image/png",))
    assert layer.bounds_deg == pytest.approx(WORLD_DEG)
    assert (matrix_set.crs, len(matrix_set.matrices)) == ("EPSG:3857", 5)
    assert matrix_set.matrices[0].scale_denominator == pytest.approx(559082264.0287178)
    assert matrix_set.matrices[3].size == (8, 8)
    assert layer.sets["GoogleMapsCompatible"]["3"] == (0, 7, 0, 7)
    assert layer.templates == (
        (
            "image/png",
            "http://localhost:8080/wmts/1.0.0/osm/{Style}/{TileMatrixSet}/{TileMatrix}/{TileRow}/{TileCol}.png",
        ),
    )
    assert told.kvp_url == "http://localhost:8080/wmts?"


@pytest.mark.parametrize(
    ("bounds", "zoom", "limits"),
    [
        # Exactly one tile: its neighbours only touch it.
        ((0.0, 0.0, 45.0, 40.979898069620134), 3, (3, 3, 4, 4)),
        ((5.0, 44.0, 17.0, 48.0), 6, (22, 23, 32, 35)),
        ((170.0, -10.0, -170.0, 10.0), 2, (1, 2, 0, 3)),
    ],
)
async def test_limits_are_the_tiles_of_the_bounds(service, bounds, zoom, limits):
    service.layer(info={"zoom_min": zoom, "zoom_max": zoom, "bounds_deg": bounds})
    [layer] = parse_wmts_capabilities((await service.ask(CAPABILITIES)).body).layers
    assert layer.sets["GoogleMapsCompatible"] == {str(zoom): limits}


@pytest.mark.parametrize(
    "path",
    [
        "/wmts/1.0.0/osm/default/GoogleMapsCompatible/3/2/1.png",
        kvp(),
        kvp(FORMAT=None, STYLE=None, VERSION=None, SERVICE=None),
        kvp(STYLE=""),
        kvp(TILEMATRIX="EPSG:3857:3"),
        kvp().lower().replace("googlemapscompatible", "GoogleMapsCompatible"),
        "/tms/1.0.0/osm/3/1/5.png",
    ],
)
async def test_tile_is_the_one_that_was_meant(service, source, path):
    """Rows first in a WMTS path, from the south in TMS."""
    answer = await service.ask(path)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"picture", "image/png")
    assert source.asked == [TileId(3, 1, 2)]


@pytest.mark.parametrize(
    ("changed", "code", "locator"),
    [
        ({"LAYER": "none"}, "InvalidParameterValue", "layer"),
        ({"LAYER": None}, "MissingParameterValue", "layer"),
        ({"TILEROW": None}, "MissingParameterValue", "tilerow"),
        ({"TILEROW": "8"}, "TileOutOfRange", "tilerow"),
        ({"TILECOL": "8"}, "TileOutOfRange", "tilecol"),
        ({"TILECOL": "x"}, "InvalidParameterValue", None),
        ({"TILEMATRIX": "31"}, "InvalidParameterValue", None),
        ({"TILEMATRIXSET": "other"}, "InvalidParameterValue", None),
        ({"STYLE": "other"}, "InvalidParameterValue", None),
        ({"FORMAT": "text/html"}, "InvalidParameterValue", None),
        ({"REQUEST": "GetFeatureInfo"}, "OperationNotSupported", "request"),
        ({"REQUEST": None}, "MissingParameterValue", "request"),
        ({"SERVICE": "WMS"}, "InvalidParameterValue", "service"),
    ],
)
async def test_refusals_are_exception_reports_in_our_words(service, source, changed, code, locator):
    answer = await service.ask(kvp(**changed))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/xml")
    [exception] = ET.fromstring(answer.body)
    assert (exception.get("exceptionCode"), exception.get("locator")) == (code, locator)
    assert source.asked == []


async def test_what_was_asked_is_not_repeated(service, source):
    for path in (
        kvp(LAYER="canary7"),
        kvp(STYLE="canary7"),
        kvp(FORMAT="canary7"),
        kvp(TILEMATRIX="canary7"),
    ):
        assert b"canary7" not in (await service.ask(path)).body


async def test_tms_documents(service, source):
    """From the root to the tile map; set 3 has an eighth of set 0's metres a pixel."""
    root = ET.fromstring((await service.ask("/tms")).body)
    assert root[0].get("href") == "http://localhost/tms/1.0.0"
    [listed] = ET.fromstring((await service.ask("/tms/1.0.0")).body).iter("TileMap")
    assert (listed.get("title"), listed.get("srs")) == ("Open & <all>", "EPSG:3857")
    told = ET.fromstring((await service.ask(listed.get("href").removeprefix("http://localhost"))).body)
    assert told.findtext("SRS") == "EPSG:3857"
    assert told.find("TileFormat").attrib == {
        "width": "256",
        "height": "256",
        "mime-type": "image/png",
        "extension": "png",
    }
    sets = [one.attrib for one in told.iter("TileSet")]
    assert [one["order"] for one in sets] == ["0", "1", "2", "3", "4"]
    assert float(sets[0]["units-per-pixel"]) == pytest.approx(156543.03392804097)
    assert float(sets[3]["units-per-pixel"]) == pytest.approx(156543.03392804097 / 8)
    assert sets[3]["href"] == "http://localhost/tms/1.0.0/osm/3"


@pytest.mark.parametrize("path", [CAPABILITIES, "/tms", "/tms/1.0.0", "/tms/1.0.0/osm"])
async def test_strange_host_gets_no_addresses(service, source, path):
    answer = await service.ask(path, host="evil.example")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    service.build(public_url="https://maps.example.com/base")
    told = await service.ask(path, host="evil.example")
    assert b"https://maps.example.com/base/" in told.body
    assert b"evil" not in told.body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tms/1.0.0/none", 404),
        ("/tms/1.0.0/none/3/1/2.png", 404),
        ("/tms/1.0.0/osm/3/8/2.png", 400),
        ("/tms/1.0.0/osm/3/1/9.png", 400),
        ("/tms/1.0.0/osm/3/6/2.png", 404),
        ("/wmts/1.0.0/osm/other/GoogleMapsCompatible/3/2/1.png", 404),
        ("/wmts/1.0.0/osm/default/other/3/2/1.png", 404),
        ("/wmts/1.0.0/osm/default/GoogleMapsCompatible/3/2/9.png", 400),
    ],
)
async def test_wrong_paths(service, source, path, status):
    assert (await service.ask(path)).status == status


async def test_service_without_layers_has_documents_too(service):
    assert parse_wmts_capabilities((await service.ask(CAPABILITIES)).body).layers == ()
