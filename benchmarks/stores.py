"""Figures of the stores: microseconds per tile written and read, by library, page size and backend.

`python benchmarks/stores.py [sqlite] [stores] [--tiles N]`, in a folder of its own below the working
directory's disk (`--folder`), a few seconds a table. CPU is the whole process's.
"""

import argparse
import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import apsw
import uvloop

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobKey, JobStore
from tilehaul.ports.tile import Tile
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.memory import MemoryStore

BATCH = 500
READS = 10_000
READERS = 50
BODY_BYTES = 8192
CHECKPOINT_BYTES = 16 * 1024 * 1024
GET = "SELECT tile_data FROM tiles WHERE zoom_level=? AND tile_column=? AND tile_row=?"


def morton_ids(count: int) -> list[TileId]:
    """Neighbours follow each other, as in a job's Hilbert order."""
    ids = []
    for number in range(count):
        x = sum((number >> (2 * bit) & 1) << bit for bit in range(12))
        y = sum((number >> (2 * bit + 1) & 1) << bit for bit in range(12))
        ids.append(TileId(14, 8000 + x, 5000 + y))
    return ids


def bodies(count: int, mean_bytes: int) -> Iterator[bytes]:
    """Sizes spread from a quarter to seven quarters of the mean; every body is another one."""
    noise = os.urandom(2 * mean_bytes)
    for number in range(count):
        size = mean_bytes // 4 + (number * 7919) % (mean_bytes * 3 // 2)
        yield b"\x89PNG\r\n\x1a\n" + number.to_bytes(8, "big") + noise[:size]


class Watch:
    """Wall and CPU time of a block, told per item in microseconds."""

    def __enter__(self) -> Self:
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self.wall_s
        self.cpu_s = time.process_time() - self.cpu_s

    def us(self, items: int) -> str:
        return f"{self.wall_s / items * 1e6:7.1f} wall {self.cpu_s / items * 1e6:7.1f} cpu"


def bench_sqlite(folder: Path, count: int) -> None:
    """The bare libraries, to choose one and a page size."""
    print(f"\nBare SQLite, {count} tiles in batches of {BATCH}, WAL, us per tile")
    for mean_bytes in (2048, BODY_BYTES, 15_000, 24576):
        for page_bytes in (4096, 8192, 16384, 32768, 65536):
            _bench_library("apsw", folder, count, page_bytes=page_bytes, mean_bytes=mean_bytes)
    _bench_library("sqlite3", folder, count, page_bytes=8192, mean_bytes=BODY_BYTES)
    _bench_library("apsw", folder, count, page_bytes=8192, mean_bytes=BODY_BYTES, synchronous="NORMAL")


def _bench_library(
    library: str, folder: Path, count: int, *, page_bytes: int, mean_bytes: int, synchronous: str = "FULL"
) -> None:
    path = folder / "bench.db"
    path.unlink(missing_ok=True)
    open_file: Callable[[], Any] = (
        (lambda: apsw.Connection(str(path)))
        if library == "apsw"
        else (lambda: sqlite3.connect(path, isolation_level=None))
    )
    connection = open_file()
    for statement in (
        f"PRAGMA page_size={page_bytes}",
        "PRAGMA journal_mode=WAL",
        f"PRAGMA synchronous={synchronous}",
        f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // page_bytes}",
        "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)",
        "CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row)",
    ):
        connection.execute(statement)
    ids = morton_ids(count)
    rows = [(i.z, i.x, i.y, body) for i, body in zip(ids, bodies(count, mean_bytes), strict=True)]
    with Watch() as writing:
        for start in range(0, count, BATCH):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT OR REPLACE INTO tiles VALUES (?,?,?,?)", rows[start : start + BATCH]
            )
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    connection = open_file()
    picks = random.Random(1).choices(ids, k=READS)
    with Watch() as reading:
        for pick in picks:
            connection.execute(GET, (pick.z, pick.x, pick.y)).fetchone()
    connection.close()
    overhead = path.stat().st_size / sum(len(row[3]) for row in rows)
    print(
        f"{library:8} {mean_bytes:6} B tiles  page {page_bytes:6} {synchronous:6} write {writing.us(count)}"
        f"  read {reading.us(READS)}  size x{overhead:.2f}"
    )


async def bench_stores(folder: Path, count: int) -> None:
    """The stores as jobs use them."""
    ids = morton_ids(count)
    tiles = [Tile(i, body, "image/png") for i, body in zip(ids, bodies(count, BODY_BYTES), strict=True)]
    print(f"\nStores, {count} tiles of {BODY_BYTES} B in batches of {BATCH}, us per tile")
    for kind, store, some in (
        ("mbtiles", MbtilesStore(folder / "full.mbtiles"), tiles),
        ("mbtiles fast", MbtilesStore(folder / "fast.mbtiles", durability="fast"), tiles),
        ("mbtiles dedup", MbtilesStore(folder / "dedup.mbtiles", deduplicate=True), tiles),
        ("geopackage", GeopackageStore(folder / "full.gpkg"), tiles),
        ("directory", DirectoryStore(folder / "full"), tiles[: count // 4]),
        ("directory fast", DirectoryStore(folder / "fast", durability="fast"), tiles[: count // 4]),
        ("memory", MemoryStore(bytes_max=1 << 30), tiles),
    ):
        await _bench_store(kind, store, some)
        await store.close()


async def _bench_store(kind: str, store: Any, tiles: Sequence[Tile]) -> None:
    job_store: JobStore = store
    await job_store.begin(JobKey("s", "S", "a", len(tiles)))
    with Watch() as writing:
        for start in range(0, len(tiles), BATCH):
            await job_store.commit(tiles[start : start + BATCH])
    with Watch() as settling:
        for start in range(0, len(tiles), 1000):
            await job_store.settled([tile.tile_id for tile in tiles[start : start + 1000]])
    unknown = [TileId(15, tile.tile_id.x, tile.tile_id.y) for tile in tiles]
    with Watch() as pending:
        for start in range(0, len(tiles), 1000):
            await job_store.settled(unknown[start : start + 1000])
    with Watch() as finishing:
        await job_store.finish(complete=True)
    picks = [tile.tile_id for tile in random.Random(1).choices(tiles, k=READS)]

    async def read(some: list[TileId]) -> None:
        for tile_id in some:
            await store.get(tile_id)

    with Watch() as alone:
        await read(picks[: READS // 5])
    with Watch() as together:
        await asyncio.gather(*(read(picks[n::READERS]) for n in range(READERS)))
    missed = min(READS // 2, len(unknown))
    with Watch() as missing:
        await asyncio.gather(*(read(unknown[n : READS // 2 : READERS]) for n in range(READERS)))
    print(f"{kind:15} write      {writing.us(len(tiles))}")
    print(f"{'':15} settled    {settling.us(len(tiles))}  (pending {pending.us(len(tiles))})")
    print(f"{'':15} finish     {finishing.wall_s * 1e3:7.1f} ms in all")
    print(f"{'':15} get, 1     {alone.us(READS // 5)}")
    print(f"{'':15} get, {READERS}    {together.us(READS)}  (missing {missing.us(missed)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["sqlite", "stores"])
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        if "sqlite" in given.parts:
            bench_sqlite(Path(name), given.tiles)
        if "stores" in given.parts:
            uvloop.run(bench_stores(Path(name), given.tiles))


if __name__ == "__main__":
    main()
