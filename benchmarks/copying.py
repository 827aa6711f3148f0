"""Copying MBTiles -> PMTiles -> directory -> GeoPackage, against raw writes and other programs.

    python benchmarks/copying.py [--tiles 100000] [--rounds 3] [--peer PMTILES-CONVERT] [--folder PATH]

Every step is a process of its own; CPU and peak memory are the kernel's account of that process. Tiles are
valid PNGs of 8 KB, 30 % of them repeat another one's bytes. The peer is `pmtiles-convert` of PyPI's pmtiles.
`gdal_translate` takes part where it is installed: it decodes and encodes each tile, and so gets fewer.

With durability `full` each step's time ends when what it wrote is on the disk: other programs sync nothing.

What a round has made stays until the end: ext4 looks long for the number of a new file where many were
removed in the last minutes, and would have the next step pay for that.
"""

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tables import spread, stamp, table
from tilehaul.grid.area import Area
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.source import WORLD_DEG

TILE_BYTES = 8192
# Of ten tiles in a row the last three are the first one again.
DISTINCT_OF_TEN = 7
# All of zooms 0 to 6; GDAL copies the 4,096 of the last.
GDAL_TILES, GDAL_ZOOM_TILES = 5461, 4096
INSERT = "INSERT INTO tiles VALUES (?, ?, ?, ?)"
SCHEMA = (
    "CREATE TABLE metadata (name TEXT, value TEXT);"
    "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);"
    "CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row);"
)
METADATA = (
    "INSERT INTO metadata VALUES ('name', 'bench'), ('format', 'png'), ('minzoom', '0'), ('maxzoom', '{}'),"
    "('bounds', '-180,-85.0511,180,85.0511'), ('center', '0,0,0'), ('description', ''), ('attribution', '')"
)
Figures = dict[str, float]


def rows_of(tiles: int) -> Iterator[tuple[int, int, int, bytes]]:
    """So many rows, in Hilbert order."""
    body = b""
    for number, tile_id in enumerate(Area.from_bbox(*WORLD_DEG, zooms=range(12))):
        if number == tiles:
            break
        fresh = number % 10 < DISTINCT_OF_TEN
        kept = plain_png(tile_id, size_bytes=TILE_BYTES) if fresh else body
        if number % 10 == 0:
            body = kept
        yield tile_id.z, tile_id.x, tile_id.tms_y, kept


def make(path: Path, tiles: int) -> None:
    """A MBTiles file of so many tiles."""
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.executemany(INSERT, rows_of(tiles))
    (deepest,) = connection.execute("SELECT max(zoom_level) FROM tiles").fetchone()
    connection.execute(METADATA.format(deepest))
    connection.commit()
    connection.close()


def _rows(source: str) -> Iterable[tuple[int, int, int, bytes]]:
    return sqlite3.connect(source).execute("SELECT * FROM tiles")


def bulk(source: str, target: str) -> None:
    """SQLite's own bulk insert of the same rows, synced once at the end."""
    writing = sqlite3.connect(target)
    writing.executescript(SCHEMA)
    writing.executemany(INSERT, _rows(source))
    writing.commit()


def raw_file(source: str, target: str) -> None:
    """The same bytes one after another into one file, synced once at the end."""
    with Path(target).open("wb") as file:
        file.writelines(row[3] for row in _rows(source))
        file.flush()
        os.fsync(file.fileno())


def raw_files(source: str, target: str) -> None:
    """The same bytes into a file for each tile."""
    made = set()
    for zoom, column, row, body in _rows(source):
        folder = f"{target}/{zoom}/{column}"
        if folder not in made:
            Path(folder).mkdir(parents=True)
            made.add(folder)
        with open(f"{folder}/{row}.png", "wb") as file:  # noqa: PTH123  a Path costs more than the call
            file.write(body)


def measured(words: list[str], tiles: int, *, sync: bool) -> Figures:
    """Run a process; what it took, with `sync` until its bytes are on the disk. CalledProcessError."""
    os.sync()
    begun_s = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if sync:
        os.sync()
    wall_s = time.perf_counter() - begun_s
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, words)
    return {
        "tiles_per_s": tiles / wall_s,
        "cpu_us": (usage.ru_utime + usage.ru_stime) / tiles * 1e6,
        "rss_mb": usage.ru_maxrss / 1024,
    }


class Round:
    """All steps once, in a folder of their own; `seen` has the figures by step."""

    def __init__(self, folder: Path, source: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._source = source
        self._options = options
        self.seen: dict[str, Figures] = {}

    def _run(self, name: str, words: list[str], tiles: int = 0) -> None:
        full = self._options.durability == "full"
        self.seen[name] = measured(words, tiles or self._options.tiles, sync=full)
        print(json.dumps({"what": name, **self.seen[name]}), flush=True)

    def _own(self, name: str, work: str, target: str) -> None:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import copying; "
        call = f"copying.{work}({str(self._source)!r}, {str(self._folder / target)!r})"
        self._run(name, [sys.executable, "-c", code + call])

    def _copy(self, here: Path, there: str) -> Path:
        target = self._folder / there
        words = [sys.executable, "-m", "tilehaul", "copy", str(here), str(target), "--quiet"]
        name = f"{KINDS[here.suffix]} -> {KINDS[target.suffix]}"
        self._run(name, [*words, "--durability", self._options.durability])
        return target

    def _peer(self, here: Path, there: str) -> None:
        if self._options.peer:
            name = f"{KINDS[here.suffix]} -> {KINDS[Path(there).suffix]}, pmtiles-convert"
            self._run(name, [self._options.peer, str(here), str(self._folder / there)])

    def run(self) -> None:
        self._own(RAW, "raw_file", "raw")
        self._gone("raw")
        self._own(BULK, "bulk", "bulk.mbtiles")
        self._gone("bulk.mbtiles")
        pmtiles = self._copy(self._source, "a.pmtiles")
        self._peer(self._source, "peer.pmtiles")
        self._gone("peer.pmtiles")
        directory = self._copy(pmtiles, "tiles")
        self._peer(pmtiles, "peer")
        self._own(RAW_FILES, "raw_files", "raw-files")
        self._copy(directory, "b.gpkg")
        self._gone("b.gpkg")
        if (gdal := shutil.which("gdal_translate")) is not None:
            small = self._folder / "small.mbtiles"
            make(small, GDAL_TILES)
            words = [gdal, "-q", "-of", "GPKG", "-co", "TILE_FORMAT=PNG", str(small)]
            self._run(GDAL, [*words, str(self._folder / "gdal.gpkg")], GDAL_ZOOM_TILES)

    def _gone(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


KINDS = {".mbtiles": "MBTiles", ".pmtiles": "PMTiles", "": "directory", ".gpkg": "GeoPackage"}
RAW, RAW_FILES = "raw write of the bytes, one file", "raw write of the bytes, a file each"
BULK = "SQLite bulk insert of the rows"
GDAL = "MBTiles -> GeoPackage, gdal_translate"


def versions(peer: str | None) -> str:
    """Of what took part."""
    said = [f"SQLite {sqlite3.sqlite_version}"]
    if (gdal := shutil.which("gdal_translate")) is not None:
        said.append(subprocess.check_output([gdal, "--version"], text=True).split(",")[0])
    if peer:
        ask = "import importlib.metadata as m; print(m.version('pmtiles'))"
        python = str(Path(peer).with_name("python"))
        said.append(f"pmtiles {subprocess.check_output([python, '-c', ask], text=True).strip()}")
    return ", ".join(said)


def page(rounds: list[dict[str, Figures]]) -> str:
    """The table: medians and ranges, and the share of the bulk insert's speed in the same round."""
    rows = []
    for name in rounds[0]:
        figures = [each[name] for each in rounds]
        share = statistics.median(each[name]["tiles_per_s"] / each[BULK]["tiles_per_s"] for each in rounds)
        rows.append(
            (
                name,
                spread([each["tiles_per_s"] for each in figures]),
                f"{share:.0%}",
                spread([each["cpu_us"] for each in figures]),
                f"{max(each['rss_mb'] for each in figures):.0f}",
            )
        )
    return table(("step", "tiles/s", "of the bulk insert", "CPU us per tile", "peak MB"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="the pmtiles-convert command of PyPI's pmtiles")
    parser.add_argument("--durability", default="full", choices=("full", "fast"))
    parser.add_argument("--folder", help="where to work: on the disk to be measured")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rounds = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder, "source.mbtiles")
        make(source, options.tiles)
        for number in range(options.rounds):
            one = Round(Path(folder, str(number)), source, options)
            Path(folder, str(number)).mkdir()
            one.run()
            rounds.append(one.seen)
        said = f"{options.tiles:,} tiles, durability {options.durability}, medians of {options.rounds} rounds"
        print(said, end="; ")
        print(f"{versions(options.peer)}. {stamp(load)}\n\n{page(rounds)}", flush=True)


if __name__ == "__main__":
    main()
