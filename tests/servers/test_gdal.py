"""GDAL reads what we write, and we read what GDAL writes.

The programs are Debian's gdal-bin, which brings the validator of GeoPackages for the system's own Python.
"""

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="GDAL is missing (gdal-bin)"),
]

TILES = [TileId(3, x, y) for x in (4, 5) for y in (2, 3)] + [TileId(2, 2, 1)]
SYSTEM_PYTHON = "/usr/bin/python3"


def run(*arguments: object) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments], check=False, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def colour(tile_id: TileId) -> tuple[int, int, int]:
    return 40 * tile_id.z, 30 * tile_id.x, 30 * tile_id.y


def picture(tile_id: TileId, kind: str) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", (256, 256), colour(tile_id)).save(body, kind, lossless=True)
    return body.getvalue()


async def written(store: Any, kind: str) -> None:
    await store.begin(JobKey("s", "S", "a", len(TILES), metadata=(("name", "Alps"),)))
    await store.commit([Tile(i, picture(i, kind), f"image/{kind}") for i in TILES])
    await store.finish(complete=True)
    await store.close()


def middle(tile_id: TileId) -> tuple[float, float]:
    west, south, east, north = tile_id.bounds_m
    return (west + east) / 2, (south + north) / 2


@pytest.mark.parametrize(
    ("name", "kind"), [("a.gpkg", "png"), ("a.gpkg", "webp"), ("a.gpkg", "jpeg"), ("a.mbtiles", "png")]
)
async def test_gdal_finds_each_tile_where_it_belongs(tmp_path: Path, name: str, kind: str) -> None:
    """Every tile of the last zoom by its colour; the zoom above it as an overview; nothing to complain of."""
    path = tmp_path / name
    await written(GeopackageStore(path) if name.endswith("gpkg") else MbtilesStore(path), kind)
    info = json.loads(run("gdalinfo", "-json", path))
    assert info["size"] == [512, 512]
    assert [overview["size"] for overview in info["bands"][0]["overviews"]] == [[256, 256]]
    assert 'ID["EPSG",3857]' in info["coordinateSystem"]["wkt"]
    for tile_id in TILES[:-1]:
        values = run("gdallocationinfo", "-valonly", "-geoloc", path, *middle(tile_id)).split()
        assert [int(value) for value in values[:3]] == pytest.approx(colour(tile_id), abs=2)


async def test_validator_finds_nothing_wrong(tmp_path: Path) -> None:
    """GDAL's own check of a GeoPackage against the standard's requirements."""
    path = tmp_path / "a.gpkg"
    await written(GeopackageStore(path), "webp")
    assert run(SYSTEM_PYTHON, "-m", "osgeo_utils.samples.validate_gpkg", path) == ""


@pytest.mark.parametrize("scheme", ["GoogleMapsCompatible", "CUSTOM"])
async def test_pyramid_that_gdal_wrote_is_read(tmp_path: Path, scheme: str) -> None:
    """Over the world's matrix set, and over one of its own that lies on the grid."""
    ours, theirs = tmp_path / "ours.gpkg", tmp_path / "theirs.gpkg"
    await written(GeopackageStore(ours), "png")
    # Exactly the tiles' own edges, so that GDAL has no pixel to move.
    west, south, east, north = TILES[-1].bounds_m
    whole = ("-a_ullr", west, north, east, south)
    run("gdal_translate", "-q", "-of", "GTiff", *whole, ours, tmp_path / "a.tif")
    options = ("-co", f"TILING_SCHEME={scheme}", "-co", "TILE_FORMAT=PNG")
    run("gdal_translate", "-q", "-of", "GPKG", *options, tmp_path / "a.tif", theirs)
    store = GeopackageStore(theirs)
    assert [tile_id async for tile_id in store.tile_ids()] == TILES[:-1]
    for tile_id in TILES[:-1]:
        tile = await store.get(tile_id)
        assert isinstance(tile, Tile)
        pixel = Image.open(io.BytesIO(tile.body)).convert("RGB").getpixel((128, 128))
        assert pixel == colour(tile_id)
    assert (await store.describe()).state == "foreign"
    await store.close()
