"""MapProxy serves the MBTiles files and GeoPackages that tilehaul wrote, and tilehaul copies MapProxy's."""

# mypy: allow-untyped-defs, allow-untyped-calls

import hashlib
import urllib.request

import pytest

import tilehaul
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore

pytestmark = pytest.mark.servers

TILES = [TileId(z, x, y) for z in range(5) for x in range(1 << z) for y in range(1 << z)]
FILES = {"flat": "flat.mbtiles", "once": "once.mbtiles", "gpkg": "ours.gpkg"}
# Of corners and from within: at each, another picture lies where the row would be if it were mirrored.
SOME = [TileId(0, 0, 0), TileId(1, 0, 1), TileId(3, 5, 2), TileId(4, 0, 0), TileId(4, 15, 0), TileId(4, 7, 8)]


async def written(store):
    await store.begin(JobKey("s", "S", "a", len(TILES), metadata=(("name", "World"), ("format", "png"))))
    await store.commit([Tile(i, plain_png(i), "image/png") for i in TILES])
    await store.finish(complete=True)
    await store.close()


def body(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        return answer.read()


def digests(folder):
    return [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in FILES.values()]


async def test_the_same_pictures_at_the_same_places(serve_archives, tmp_path):
    """Byte for byte, by XYZ, by TMS with its rows from the south, and by WMTS; the files stay as they are."""
    await written(MbtilesStore(tmp_path / "flat.mbtiles"))
    await written(MbtilesStore(tmp_path / "once.mbtiles", deduplicate=True))
    await written(GeopackageStore(tmp_path / "ours.gpkg"))
    before = digests(tmp_path)
    with serve_archives(**FILES) as url:
        for name in FILES:
            grid = "from_north" if name == "gpkg" else "from_south"
            for i in SOME:
                assert body(f"{url}/tiles/{name}/{grid}/{i.z}/{i.x}/{i.y}.png") == plain_png(i)
                assert body(f"{url}/wmts/{name}/{grid}/{i.z:02}/{i.x}/{i.y}.png") == plain_png(i)
                # Its TMS begins with the four tiles of the profile global-mercator.
                if i.z:
                    tms = f"{i.z - 1}/{i.x}/{(1 << i.z) - 1 - i.y}"
                    assert body(f"{url}/tms/1.0.0/{name}/{grid}/{tms}.png") == plain_png(i)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("file", ["a.mbtiles", "a.gpkg"])
async def test_what_it_wrote_is_copied(serve_archives, tmp_path, file):
    """Each tile that it drew and kept, at its place, with its bytes; no other."""
    grid = "from_north" if file == "a.gpkg" else "from_south"
    with serve_archives(source="drawn", a=file) as url:
        places = {i: f"{url}/tiles/a/{grid}/{i.z}/{i.x}/{i.y}.png" for i in SOME}
        drawn = {i: body(place) for i, place in places.items()}
        kept = {i: body(place) for i, place in places.items()}
    assert kept == drawn
    assert len(set(kept.values())) == len(SOME)
    report = await tilehaul.copy(str(tmp_path / file), str(tmp_path / "ours.pmtiles"))
    assert (report.state, report.done, report.dead) == ("complete", len(SOME), 0)
    async with tilehaul.open(str(tmp_path / "ours.pmtiles")) as ours:
        for tile_id, picture in kept.items():
            assert (await ours.get(tile_id)).body == picture
