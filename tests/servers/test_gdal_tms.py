"""What GDAL's gdal2tiles writes, behind a plain file server, is a TMS by its document."""

# mypy: allow-untyped-defs, allow-untyped-calls

import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

import tilehaul
from tilehaul.wiring.places import open_archive

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("gdal2tiles.py") is None, reason="GDAL is missing (gdal-bin)"),
]

# Western Alps: tiles 5/16/11, 6/32-33/22-23 and so on.
BOX = ("5", "48", "11", "45")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("gdal2tiles")
    Image.radial_gradient("L").convert("RGB").resize((400, 200)).save(root / "alps.png")
    for command in (
        ["gdal_translate", "-q", "-a_srs", "EPSG:4326", "-a_ullr", *BOX, "alps.png", "alps.tif"],
        ["gdal2tiles.py", "-q", "-z", "5-7", "-w", "none", "alps.tif", "out"],
    ):
        subprocess.run(command, cwd=root, check=True, timeout=50)
    return root / "out"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_gdal2tiles_by_its_document(folder, address, tmp_path):
    """Its Origin and BoundingBox are the picture's, in degrees, its tiles are the world's."""
    files = {path: path.read_bytes() for path in folder.glob("*/*/*.png")}
    # A square of the world around them, for there are tiles that gdal2tiles did not write.
    area = tilehaul.Area.from_bbox(0.1, 41.1, 16.8, 52.4, zooms=range(5, 8))
    options = tilehaul.SeedOptions(durability="fast")
    store = str(tmp_path / "a.mbtiles")
    report = await tilehaul.seed(f"tms+{address}/tilemapresource.xml", store, area, options=options)
    assert (report.state, report.done, report.absent) == ("complete", len(files), area.count() - len(files))
    assert report.absent > 0
    archive = open_archive(store)
    try:
        kept = {tile_id: (await archive.get(tile_id)).body async for tile_id in archive.tile_ids()}
    finally:
        await archive.close()
    assert {
        folder / f"{tile_id.z}/{tile_id.x}/{tile_id.tms_y}.png": body for tile_id, body in kept.items()
    } == files
    west, south, east, north = (next(iter(sorted(kept, key=lambda each: each.z)))).bounds_deg
    assert west < 11
    assert east > 5
    assert south < 48
    assert north > 45
