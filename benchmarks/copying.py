"""Copying MBTiles -> PMTiles -> directory -> MBTiles, against a raw bulk insert and pmtiles-convert.

    python benchmarks/copying.py [--tiles 100000] [--peer PATH/TO/pmtiles-convert]

Every step is a process of its own; CPU and peak memory are the kernel's account of that process.
Tiles are valid PNGs of 8 KB, 30 % of them repeat another one's bytes.
"""

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from tilehaul.grid.area import Area
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.source import WORLD_DEG

TILE_BYTES = 8192
# Of ten tiles in a row the last three are the first one again.
DISTINCT_OF_TEN = 7
INSERT = "INSERT INTO tiles VALUES (?, ?, ?, ?)"
SCHEMA = (
    "CREATE TABLE metadata (name TEXT, value TEXT);"
    "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);"
    "CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row);"
    "INSERT INTO metadata VALUES ('name', 'bench'), ('format', 'png'), ('minzoom', '0'), ('maxzoom', '11'),"
    "('bounds', '-180,-85,180,85'), ('center', '0,0,0'), ('description', ''), ('attribution', '');"
)


def make(path: Path, tiles: int) -> None:
    """A MBTiles file of so many tiles, in Hilbert order."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    body = b""
    rows = []
    for number, tile_id in enumerate(Area.from_bbox(*WORLD_DEG, zooms=range(12))):
        if number == tiles:
            break
        if number % 10 < DISTINCT_OF_TEN:
            fresh = plain_png(tile_id, size_bytes=TILE_BYTES)
            body = fresh if number % 10 == 0 or not body else body
            rows.append((tile_id.z, tile_id.x, (1 << tile_id.z) - 1 - tile_id.y, fresh))
        else:
            rows.append((tile_id.z, tile_id.x, (1 << tile_id.z) - 1 - tile_id.y, body))
        if len(rows) == 1000:
            connection.executemany(INSERT, rows)
            rows = []
    connection.executemany(INSERT, rows)
    connection.commit()
    connection.close()


def bulk(source: str, target: str) -> None:
    """SQLite's own bulk insert of the same rows, synced once at the end."""
    reading, writing = sqlite3.connect(source), sqlite3.connect(target)
    writing.executescript(SCHEMA)
    writing.executemany(INSERT, reading.execute("SELECT * FROM tiles"))
    writing.commit()


def measured(name: str, words: list[str], tiles: int) -> dict[str, object]:
    """Run a process; what it took."""
    begun_s = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - begun_s
    row: dict[str, object] = {
        "what": name,
        "tiles_per_s": round(tiles / wall_s),
        "cpu_us_per_tile": round((usage.ru_utime + usage.ru_stime) / tiles * 1e6, 1),
        "rss_mb": round(usage.ru_maxrss / 1024),
        "exit": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--peer", help="the pmtiles-convert command of PyPI's pmtiles")
    parser.add_argument("--durability", default="full", choices=("full", "fast"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = root / "source.mbtiles"
        make(source, options.tiles)
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import copying; "
        inserting = f"{code}copying.bulk({str(source)!r}, {str(root / 'bulk.mbtiles')!r})"
        measured("bulk insert", [sys.executable, "-c", inserting], options.tiles)
        (root / "bulk.mbtiles").unlink()
        steps = (("source.mbtiles", "a.pmtiles"), ("a.pmtiles", "b"), ("b", "c.mbtiles"))
        for here, there in steps:
            words = [sys.executable, "-m", "tilehaul", "copy", str(root / here), str(root / there)]
            measured(f"{here} -> {there}", [*words, "--durability", options.durability], options.tiles)
        if options.peer:
            words = [options.peer, str(source), str(root / "peer.pmtiles")]
            measured("pmtiles-convert", words, options.tiles)


if __name__ == "__main__":
    main()
