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


@pytest.mark.parametrize("version", ["1.1.1", "1.3.0"])
async def test_mapserver_in_degrees_only_is_resampled(mapserver, tmp_path, version):
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(4))
    found = {}
    for name, source in {
        "degrees": mapserver.in_degrees(f"layers=earth&version={version}"),
        "metres": mapserver.location(f"layers=earth&version={version}"),
    }.items():
        report = await tilehaul.seed(source, str(tmp_path / f"{name}.mbtiles"), area, options=ALL)
        assert (report.state, report.done) == ("complete", 85), name
        found[name] = await tiles_of(tmp_path / f"{name}.mbtiles")
    for tile_id, body in found["metres"].items():
        with Image.open(io.BytesIO(body)) as one, Image.open(io.BytesIO(found["degrees"][tile_id])) as other:
            apart = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
            # Measured below 1; tiles that lay one row beside would differ by 3 to 8.
            assert max(ImageStat.Stat(apart).mean) < 2, tile_id
    with pytest.raises(tilehaul.PlanError, match="not offered in EPSG:3857"):
        async with tilehaul.open(mapserver.in_degrees("layers=earth&crs=EPSG:3857")):
            pass


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


async def test_mapproxy_tms_is_its_xyz_one_level_off(mapproxy, tmp_path):
    tms = mapproxy.replace("http", "tms+http", 1) + "/tms/1.0.0"
    area = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=(1, 2))
    found = {}
    for name, source in {
        "tms": f"{tms}/earth/mercator",
        "xyz": mapproxy + "/tiles/earth/mercator/{z}/{x}/{y}.png",
    }.items():
        report = await tilehaul.seed(source, str(tmp_path / f"{name}.mbtiles"), area, options=ALL)
        assert (report.state, report.done, report.absent) == ("complete", 20, 0), name
        found[name] = await tiles_of(tmp_path / f"{name}.mbtiles")
    assert found["tms"] == found["xyz"]
    assert len(set(found["xyz"].values())) > 15
    zooms = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(3))
    with pytest.raises(tilehaul.PlanError, match=r"has zooms 1-19, not 0: give -z 1-2"):
        await tilehaul.seed(f"{tms}/earth/mercator", str(tmp_path / "no.mbtiles"), zooms, options=ALL)
    for root in (tms, f"{tms}/", mapproxy.replace("http", "tms+http", 1) + "/tms/"):
        with pytest.raises(tilehaul.PlanError, match=r"it lists tms\+http://127\.0\.0\.1:\d+/tms/1\.0\.0"):
            async with tilehaul.open(root):
                pass


@pytest.mark.parametrize(
    "path", ["/tms/1.0.0/earth/mercator/{z}/9/9.png", "/tiles/earth/mercator/{z}/9/9.png"]
)
async def test_mapproxy_out_of_range_of_tms_and_xyz_is_absent(mapproxy, path):
    """There it says so with a 404, as XML and as plain words."""
    async with tilehaul.open(f"{mapproxy}{path}?x={{x}}&y={{y}}") as opened:
        there = await opened.get(tilehaul.TileId(1, 0, 0))
    assert there == tilehaul.NoTile(tilehaul.TileId(1, 0, 0), "http_404")
