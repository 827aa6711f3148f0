"""GDAL, which knows only maps, reads a picture's pyramid all the same: its size and every pixel."""

import json
import shutil
import subprocess

import pytest
from PIL import Image

from doubles.pictures import save_noisy
from tilehaul.sources.reencoded import Encoding
from tilehaul.wiring.picture_copying import copy_picture
from tilehaul.wiring.seeding import SeedOptions

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="GDAL is missing (gdal-bin)"),
]


def run(*arguments):
    done = subprocess.run(
        [str(one) for one in arguments], check=False, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", ["a.mbtiles", "a.gpkg"])
async def test_gdal_reads_the_picture_back(tmp_path, name):
    path, store = save_noisy(tmp_path / "wall.png", 1500, 900), tmp_path / name
    await copy_picture(
        str(path), str(store), encoding=Encoding("png"), padded=True, options=SeedOptions(durability="fast")
    )
    told = json.loads(run("gdalinfo", "-json", store))
    assert told["size"] == [1500, 900]
    out = tmp_path / "out.tif"
    run("gdal_translate", "-q", "-b", 1, "-b", 2, "-b", 3, store, out)
    with Image.open(out) as back, Image.open(path) as original:
        assert back.size == original.size
        assert back.convert("RGB").tobytes() == original.tobytes()
