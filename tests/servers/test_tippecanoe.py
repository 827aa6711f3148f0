"""Tippecanoe reads our PMTiles and MBTiles, and we read its: every tile, its features as it prints them."""

# mypy: allow-untyped-defs, allow-untyped-calls

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tilehaul

HERE = Path(sys.executable).parent
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not (HERE / "tippecanoe").exists(), reason="the package tippecanoe is not installed"),
]

ROADS = [[[x, -60.0], [x + 3.5, 0.25], [x + 20.0, 71.0]] for x in range(-170, 150, 20)]


def run(name, *arguments):
    done = subprocess.run([HERE / name, *map(str, arguments)], check=False, capture_output=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout


def decoded(path):
    """Tile by tile: a line of GeoJSON each feature, after the tile's address."""
    lines = run("tippecanoe-decode", "-c", path).splitlines()
    assert sum(b'"number":' in line for line in lines) >= len(ROADS)
    return lines


async def copied(source, store):
    report = await tilehaul.copy(str(source), str(store))
    assert (report.state, report.dead) == ("complete", 0)
    return report.done


@pytest.mark.parametrize("first", ["mbtiles", "pmtiles"])
async def test_its_archive_is_the_same_after_two_copies(tmp_path, first):
    """By way of the other format, whose metadata it needs to find layer and zooms."""
    second = {"mbtiles": "pmtiles", "pmtiles": "mbtiles"}[first]
    lines = [
        {
            "type": "Feature",
            "properties": {"number": number},
            "geometry": {"type": "LineString", "coordinates": places},
        }
        for number, places in enumerate(ROADS)
    ]
    source = tmp_path / "roads.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": lines}))
    theirs, between, ours = (tmp_path / name for name in (f"a.{first}", f"between.{second}", f"ours.{first}"))
    run("tippecanoe", "-q", "-z5", "-l", "roads", "-o", theirs, source)
    tiles = await copied(theirs, between)
    assert await copied(between, ours) == tiles > 100
    expected = decoded(theirs)
    assert decoded(between) == expected
    assert decoded(ours) == expected
