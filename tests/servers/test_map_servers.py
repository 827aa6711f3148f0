"""WMS against MapServer, WMTS against MapProxy."""

# mypy: allow-untyped-defs, allow-untyped-calls

import io

import pytest
from PIL import Image, ImageChops, ImageStat

import tilehaul
from tilehaul.wiring.places import open_archive

pytestmark = pytest.mark.servers

AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
ALL = tilehaul.SeedOptions(max_failures=tilehaul.FailureLimit(), durability="fast")


async def tiles_of(path):
    archive = open_archive(str(path))
    try:
        return {tile_id: (await archive.get(tile_id)).body async for tile_id in archive.tile_ids()}
    finally:
        await archive.close()


@pytest.mark.parametrize("version", ["1.1.1", "1.3.0"])
async def test_mapserver_a_request_a_block(mapserver, tmp_path, version):
    before = mapserver.maps_asked()
    source = mapserver.location(f"layers=earth&version={version}")
    report = await tilehaul.seed(source, str(tmp_path / "meta.mbtiles"), AREA, options=ALL)
    assert (report.state, report.done) == ("complete", 85)
    # lighttpd writes its log late; what we sent is in the report: the capabilities, and 7 blocks.
    assert report.requests == 8
    single = mapserver.location(f"layers=earth&version={version}&tilehaul.meta=1&tilehaul.buffer=0")
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    await tilehaul.seed(single, str(tmp_path / "single.mbtiles"), area, options=ALL)
    cut, whole = await tiles_of(tmp_path / "meta.mbtiles"), await tiles_of(tmp_path / "single.mbtiles")
    assert mapserver.maps_asked() >= before
    for tile_id, body in whole.items():
        with Image.open(io.BytesIO(body)) as one, Image.open(io.BytesIO(cut[tile_id])) as other:
            assert one.size == other.size == (256, 256)
            assert one.convert("L").getextrema()[1] > 60
            apart = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
            assert max(apart) < 4, tile_id


async def test_mapserver_says_what_is_wrong(mapserver, tmp_path):
    with pytest.raises(tilehaul.PlanError, match="did you mean earth"):
        async with tilehaul.open(mapserver.location("layers=eart")):
            pass
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(1))
    with pytest.raises(tilehaul.PlanError, match="no style for layer earth 'nosuch'"):
        async with tilehaul.open(mapserver.location("layers=earth&styles=nosuch")):
            pass
    # What is not declared is the server's to judge.
    source = mapserver.location("layers=earth&sld=")
    report = await tilehaul.seed(source, str(tmp_path / "out.mbtiles"), area, options=ALL)
    assert report.dead == 1
    letters = [letter async for letter in tilehaul.dead_letters(str(tmp_path / "out.mbtiles"))]
    assert letters[0].cause == "error_page"
    assert "the service answered with an exception: " in letters[0].message
    assert "open SLD" in letters[0].message


async def test_mapproxy_rest_and_kvp_are_its_xyz(mapproxy, tmp_path):
    capabilities = mapproxy.replace("http", "wmts+http", 1) + "/wmts/1.0.0/WMTSCapabilities.xml"
    sources = {
        "rest": f"{capabilities}?layer=earth",
        "kvp": mapproxy.replace("http", "wmts+http", 1) + "/service?layer=earth&tilehaul.encoding=kvp",
        "xyz": mapproxy + "/tiles/earth/mercator/{z}/{x}/{y}.png",
    }
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    found = {}
    for name, source in sources.items():
        report = await tilehaul.seed(source, str(tmp_path / f"{name}.mbtiles"), area, options=ALL)
        assert (report.state, report.done) == ("complete", 21), name
        found[name] = await tiles_of(tmp_path / f"{name}.mbtiles")
    assert found["rest"] == found["kvp"] == found["xyz"]
    assert len(set(found["xyz"].values())) > 15


async def test_mapproxy_out_of_range_is_absent(mapproxy):
    """It says so with a 400 and OWS XML."""
    source = (
        mapproxy
        + "/service?SERVICE=WMTS&REQUEST=GetTile&VERSION=1.0.0&LAYER=earth&STYLE=&TILEMATRIXSET=mercator"
        "&TILEMATRIX=02&TILEROW={y}&TILECOL={x}&FORMAT=image/png&z={z}"
    )
    async with tilehaul.open(source) as opened:
        assert isinstance(await opened.get(tilehaul.TileId(2, 3, 3)), tilehaul.Tile)
        there = await opened.get(tilehaul.TileId(3, 7, 0))
    assert there == tilehaul.NoTile(tilehaul.TileId(3, 7, 0), "out_of_range")


async def test_mapproxy_tms_is_its_xyz(mapproxy, tmp_path):
    """Its sets begin with four tiles: which is which zoom follows from their units per pixel."""
    sources = {
        "tms": mapproxy.replace("http", "tms+http", 1) + "/tms/1.0.0/earth/mercator",
        "xyz": mapproxy + "/tiles/earth/mercator/{z}/{x}/{y}.png",
    }
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(1, 3))
    found = {}
    for name, source in sources.items():
        report = await tilehaul.seed(source, str(tmp_path / f"{name}.mbtiles"), area, options=ALL)
        assert (report.state, report.done) == ("complete", 20), name
        found[name] = await tiles_of(tmp_path / f"{name}.mbtiles")
    assert found["tms"] == found["xyz"]
