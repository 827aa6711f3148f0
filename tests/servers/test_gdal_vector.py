"""Vector tiles between GDAL and tilehaul, both ways: MBTiles and PMTiles.

Two GDALs: Debian's `ogr2ogr`, and the newer one in the package pyogrio, because Debian 12's knows no PMTiles.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import json
import shutil
import subprocess

import pytest

import tilehaul

pyogrio = pytest.importorskip("pyogrio.raw", reason="pyogrio is not installed")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="GDAL is missing (gdal-bin)"),
]

ZOOMS = range(4)
ROADS = {
    "path": [[-100, 10], [20, 48], [120, -30]],
    "ferry": [[5, 45], [11, 48]],
}


def roads(path):
    """As GeoJSON."""
    lines = [
        {
            "type": "Feature",
            "properties": {"kind": kind},
            "geometry": {"type": "LineString", "coordinates": places},
        }
        for kind, places in ROADS.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": lines}))
    return path


def ogr2ogr(*arguments):
    done = subprocess.run(
        ["ogr2ogr", *map(str, arguments)], check=False, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def seen_by_debian(path, z):
    """Layer and features. Copies carry no statistics, from which GDAL knows of lines that are multiple."""
    found = ogr2ogr(
        "-oo", f"ZOOM_LEVEL={z}", "-nlt", "PROMOTE_TO_MULTI", "-f", "GeoJSON", "/vsistdout/", path
    )
    return json.loads(found)


def seen_by_newer(path, z):
    """Of each feature its kind and geometry, in an order of their own: each format has another of tiles."""
    told, _, shapes, columns = pyogrio.read(str(path), ZOOM_LEVEL=z)
    kinds = columns[list(told["fields"]).index("kind")]
    return sorted(zip(kinds, shapes, strict=True))


async def copied(source, store):
    report = await tilehaul.copy(str(source), str(store))
    assert (report.state, report.dead) == ("complete", 0)
    return report.done


async def test_vector_tiles_of_gdal_are_the_same_after_two_copies(tmp_path):
    """MBTiles by GDAL, into PMTiles and back: every feature of every zoom; and GDAL reads the one between."""
    theirs, between, ours = (tmp_path / name for name in ("theirs.mbtiles", "a.pmtiles", "ours.mbtiles"))
    options = ("-dsco", "MINZOOM=0", "-dsco", "MAXZOOM=3", "-dsco", "NAME=Roads")
    ogr2ogr("-f", "MBTiles", *options, theirs, roads(tmp_path / "roads.geojson"))
    tiles = await copied(theirs, between)
    assert await copied(between, ours) == tiles == 18
    for z in ZOOMS:
        expected = seen_by_debian(theirs, z)
        assert expected["name"] == "roads"
        assert {each["properties"]["kind"] for each in expected["features"]} == set(ROADS)
        assert seen_by_debian(ours, z) == expected
        assert seen_by_newer(between, z) == seen_by_newer(ours, z)
        assert len(seen_by_newer(between, z)) == len(expected["features"])


async def test_pmtiles_of_gdal_become_mbtiles(tmp_path):
    theirs, ours, direct = (tmp_path / name for name in ("theirs.pmtiles", "ours.mbtiles", "direct.mbtiles"))
    source = roads(tmp_path / "roads.geojson")
    told, _, shapes, columns = pyogrio.read(str(source))
    pyogrio.write(
        str(theirs), shapes, columns, told["fields"], geometry_type="LineString", crs="EPSG:4326",
        driver="PMTiles", layer="roads", MINZOOM=0, MAXZOOM=3, NAME="Roads",
    )  # fmt: skip
    ogr2ogr("-f", "MBTiles", "-nln", "roads", "-dsco", "MINZOOM=0", "-dsco", "MAXZOOM=3", direct, source)
    assert await copied(theirs, ours) == 18
    for z in ZOOMS:
        assert seen_by_debian(ours, z) == seen_by_debian(direct, z)
