"""GDAL and OWSLib read our layers at the doors they know: WMTS, TMS, XYZ."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import io
import shutil
import subprocess
import threading
from contextlib import contextmanager

import pytest
from PIL import Image

from tilehaul.config.load import parse_settings
from tilehaul.grid.tile_id import TileId
from tilehaul.net.clock import SystemClock
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.server.app import Server, make_app
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.wiring.layers import open_layers

pytestmark = pytest.mark.servers

ZOOM = 3
SIDE = 1 << ZOOM
GDAL = pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="GDAL is missing (gdal-bin)")


def colour(x, y):
    return 30 * x, 30 * y, 128


def picture(x, y):
    body = io.BytesIO()
    Image.new("RGB", (256, 256), colour(x, y)).save(body, "PNG")
    return body.getvalue()


async def fill(path):
    """The world at one zoom, each tile of a colour of its own."""
    tiles = [TileId(ZOOM, x, y) for x in range(SIDE) for y in range(SIDE)]
    rows = {"name": "World", "format": "png", "minzoom": str(ZOOM), "maxzoom": str(ZOOM)}
    store = MbtilesStore(path, durability="fast")
    await store.begin(JobKey("s", "S", "a", len(tiles), metadata=tuple(rows.items())))
    await store.commit([Tile(one, picture(one.x, one.y), "image/png") for one in tiles])
    await store.finish(complete=True)
    await store.close()


@contextmanager
def serving(path):
    """A service in a thread of its own, so that programs can be waited for here."""
    up, down, told = threading.Event(), None, {}

    async def serve():
        nonlocal down
        await fill(path)
        down = asyncio.Event()
        told["loop"] = asyncio.get_running_loop()
        settings = parse_settings({"layers": {"world": {"source": str(path)}}}, {})
        async with open_layers(settings) as opened:
            app = make_app(opened.layers, opened.caches.memory, clock=SystemClock())
            async with Server(app, port=0, drain_s=1) as server:
                told["url"] = server.url
                up.set()
                await down.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert up.wait(20)
    yield told["url"]
    told["loop"].call_soon_threadsafe(down.set)
    thread.join(20)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("world") / "world.mbtiles") as url:
        yield url


def minidriver(address, origin):
    """GDAL's description of a tile service (its WMS driver)."""
    return f"""<GDAL_WMS>
      <Service name="TMS"><ServerUrl>{address}</ServerUrl></Service>
      <DataWindow>
        <UpperLeftX>-20037508.34</UpperLeftX><UpperLeftY>20037508.34</UpperLeftY>
        <LowerRightX>20037508.34</LowerRightX><LowerRightY>-20037508.34</LowerRightY>
        <TileLevel>{ZOOM}</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>
        <YOrigin>{origin}</YOrigin>
      </DataWindow>
      <Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY>
      <BandsCount>3</BandsCount><ZeroBlockHttpCodes>404</ZeroBlockHttpCodes>
    </GDAL_WMS>"""


@GDAL
@pytest.mark.parametrize("door", ["wmts", "wmts-kvp", "tms", "xyz"])
def test_gdal_sees_the_world_as_it_is(url, tmp_path, door):
    """Every tile lies where its address says, at each door."""
    source = {
        "wmts": f"WMTS:{url}/wmts/1.0.0/WMTSCapabilities.xml,layer=world",
        "wmts-kvp": f"WMTS:{url}/wmts?SERVICE=WMTS&REQUEST=GetCapabilities,layer=world",
        "tms": minidriver(url + "/tms/1.0.0/world/${z}/${x}/${y}.png", "bottom"),
        "xyz": minidriver(url + "/api/tiles/world/${z}/${x}/${y}.png", "top"),
    }[door]
    bands = [word for band in (1, 2, 3) for word in ("-b", str(band))]
    # Its full size: a smaller picture would be made of zooms that are not there.
    window = ["-projwin", "-20037508.34", "20037508.34", "20037508.34", "-20037508.34"]
    size = ["-outsize", str(256 * SIDE), str(256 * SIDE)]
    done = subprocess.run(
        ["gdal_translate", "-q", "-of", "PNG", *bands, *window, *size, source, str(tmp_path / "out.png")],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
        env={"GDAL_ENABLE_WMS_CACHE": "NO", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "out.png") as out:
        found = {
            (x, y): out.convert("RGB").getpixel((256 * x + 128, 256 * y + 128))
            for x in range(SIDE)
            for y in range(SIDE)
        }
    assert found == {place: colour(*place) for place in found}


def test_owslib_reads_the_capabilities_and_gets_a_tile(url):
    wmts = pytest.importorskip("owslib.wmts")
    service = wmts.WebMapTileService(f"{url}/wmts/1.0.0/WMTSCapabilities.xml")
    layer = service["world"]
    assert layer.title == "world"
    assert layer.boundingBoxWGS84 == pytest.approx((-180.0, -85.0511287798066, 180.0, 85.0511287798066))
    assert list(layer.tilematrixsetlinks) == ["GoogleMapsCompatible"]
    tile = service.gettile(
        layer="world", tilematrixset="GoogleMapsCompatible", tilematrix="3", row=2, column=5
    )
    with Image.open(io.BytesIO(tile.read())) as got:
        assert got.convert("RGB").getpixel((8, 8)) == colour(5, 2)
