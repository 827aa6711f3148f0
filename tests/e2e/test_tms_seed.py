"""A TMS behind a scripted wire: zooms by their units per pixel, rows from the south, strange documents."""

import re

import pytest

from doubles.clock import VirtualClock
from doubles.wire import ScriptedWire, answer
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.net.verified import VerifiedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import WORLD_DEG
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.server.standard_documents import ServedLayer, tms_map
from tilehaul.wiring.tms import open_tms

UNITS_0 = 156543.03392804097
OUT_OF_RANGE = (
    b'<ExceptionReport><Exception exceptionCode="TileOutOfRange" locator="TILECOL"/></ExceptionReport>'
)


def sets(*levels, href="http://h/tms/1.0.0/earth"):
    return "".join(
        f'<TileSet href="{href}/{order}" units-per-pixel="{UNITS_0 / 2**z!r}" order="{order}"/>'
        for order, z in enumerate(levels)
    )


def document(told=None, *, srs="EPSG:3857", px=256, origin="-20037508.342789", form=None, box="20037508.34"):
    return f"""<?xml version="1.0"?><!DOCTYPE TileMap SYSTEM "http://tms.osgeo.org/1.0.0/tilemap.dtd">
    <TileMap version="1.0.0" tilemapservice="http://h/tms/1.0.0"><Title>Earth</Title><Abstract/>
    <SRS>{srs}</SRS><BoundingBox minx="-{box}" miny="-{box}" maxx="{box}" maxy="{box}"/>
    <Origin x="{origin}" y="{origin}"/>
    <TileFormat width="{px}" height="{px}" mime-type="image/png" extension="{form or "png"}"/>
    <TileSets profile="none">{sets(0, 1, 2, 3) if told is None else told}</TileSets></TileMap>""".encode()


async def opened(body, url="http://h/tms/1.0.0/earth", headers=()):
    wire = ScriptedWire([answer(200, body, content_type="text/xml")])
    sender = VerifiedSender(wire, VirtualClock(), Tally())
    return await open_tms(url, sender, Sending(headers=headers)), wire


@pytest.mark.parametrize(
    ("told", "px", "address"),
    [
        (sets(0, 1, 2, 3), 256, "3/4/5"),
        # MapProxy's first set is the world in four tiles.
        (sets(1, 2, 3), 256, "2/4/5"),
        # Tiles of 512 pixels are a zoom coarser than their pixels.
        (sets(1, 2, 3, 4), 512, "3/4/5"),
    ],
    ids=["from one tile", "from four", "512 pixels"],
)
async def test_zoom_follows_from_units_per_pixel(told, px, address):
    source, wire = await opened(document(told, px=px))
    assert isinstance(await source.get(TileId(3, 4, 2)), Tile)
    assert wire.requests[1].url == f"http://h/tms/1.0.0/earth/{address}.png"
    assert source.info.zoom_max == 3
    assert await source.get(TileId(4, 0, 0)) == NoTile(TileId(4, 0, 0), "out_of_range")
    assert await source.get(TileId(3, 8, 0)) == NoTile(TileId(3, 8, 0), "outside")
    assert len(wire.requests) == 2


async def test_key_goes_along_to_the_same_host_only():
    """In the query and in headers."""
    source, wire = await opened(document(), "http://h/tms/1.0.0/earth?key=k", headers=(("x-key", "k"),))
    await source.get(TileId(0, 0, 0))
    assert wire.requests[1].url == "http://h/tms/1.0.0/earth/0/0/0.png?key=k"
    assert wire.requests[1].headers == (("x-key", "k"),)
    elsewhere = document(sets(0, href="http://other/earth"))
    source, wire = await opened(elsewhere, "http://h/tms/1.0.0/earth?key=k", headers=(("x-key", "k"),))
    await source.get(TileId(0, 0, 0))
    assert (wire.requests[1].url, wire.requests[1].headers) == ("http://other/earth/0/0/0.png", ())
    assert "key=k" not in source.info.name


async def test_relative_address_is_below_the_document():
    source, wire = await opened(document(sets(0, href="earth")), "http://h/tms/1.0.0/earth")
    await source.get(TileId(0, 0, 0))
    assert wire.requests[1].url == "http://h/tms/1.0.0/earth/0/0/0.png"


async def test_out_of_range_is_absent():
    source, wire = await opened(document())
    wire.then = answer(400, OUT_OF_RANGE)
    assert await source.get(TileId(0, 0, 0)) == NoTile(TileId(0, 0, 0), "out_of_range")
    wire.then = answer(404, b"")
    assert await source.get(TileId(0, 0, 0)) == NoTile(TileId(0, 0, 0), "http_404")


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (document(srs="EPSG:4326"), PlanError, "is in EPSG:4326: only Web Mercator"),
        (document(sets()), PlanError, "none of its 0 sets"),
        (document(origin="0"), PlanError, "none of its 4 sets"),
        (document(sets(0.5)), PlanError, "none of its 1 sets"),
        (document(px=-256), DataError, "not above 0"),
        (document(px="nan"), DataError, "no number width"),
        (document(box="1e999"), DataError, "no number minx"),
        (document('<TileSet href="x" units-per-pixel="0"/>'), DataError, "not above 0"),
        (document('<TileSet href="x" units-per-pixel="1e-320"/>'), PlanError, "none of its 1 sets"),
        (document('<TileSet href="x"/>'), DataError, "no number units-per-pixel"),
        (document(sets(0, href="file:///etc")), PlanError, "does not begin with http"),
        (document(sets(0, href="http://[bad")), PlanError, "is no address"),
        (
            b'<TileMapService><TileMaps><TileMap href="http://h/a"/></TileMaps></TileMapService>',
            PlanError,
            "name one of http://h/a",
        ),
        (b"<Services/>", PlanError, "it lists none"),
        (b"<html/>", DataError, "this is a html, no TileMap"),
        (b"<TileMap/>", DataError, "lacks TileFormat"),
        (b"no xml", DataError, "no whole XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><TileMap>&b;</TileMap>', DataError, "declares entities"),
    ],
)
async def test_strange_documents_end_in_one_line(body, error, says):
    """Named, and nothing more is asked."""
    with pytest.raises(error, match=re.escape(says)) as caught:
        await opened(body)
    assert "\n" not in str(caught.value)


async def test_our_own_tms_is_read():
    """What the service writes is what is read here."""
    layer = ServedLayer("osm", "Open & all", "", WORLD_DEG, 0, 4, "image/png", "png")
    written = tms_map(layer, "http://localhost:8080")
    source, wire = await opened(written, "http://localhost:8080/tms/1.0.0/osm")
    await source.get(TileId(3, 1, 2))
    assert wire.requests[1].url == "http://localhost:8080/tms/1.0.0/osm/3/1/5.png"
    assert (source.info.zoom_min, source.info.zoom_max) == (0, 4)
    assert source.info.bounds_deg == pytest.approx(WORLD_DEG)
