"""A job of twelve tiles in a forked child, whose store works on one thread that others may trace."""

import asyncio
import ctypes
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pmtiles.reader import MmapSource, all_tiles

from doubles.tiles import FakeSource
from tilehaul.cli.exit_codes import INTERRUPTED, code_of_error, code_of_state
from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs import outbox
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.seed import seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.store import JobKey, Outcome
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import directory_tree
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.pmtiles import PmtilesStore

IDS = [TileId(2, x, y) for x in range(3) for y in range(4)]
ABSENT = TileId(2, 1, 3)
COMMIT_TILES = 4
JOB = JobKey("s", "S", "a", len(IDS), metadata=(("name", "small"), ("format", "png")))
_PR_SET_PTRACER = 0x59616D61


def body_of(tile_id: TileId) -> bytes:
    """Every byte follows from the address; two neighbours have the same."""
    luck = random.Random(f"{tile_id.z}/{tile_id.x}/{tile_id.y // 2 if tile_id.x == 2 else tile_id.y}")
    return b"\x89PNG\r\n\x1a\n" + luck.randbytes(3000 + luck.randrange(6000))


CONTENT = {tile_id: body_of(tile_id) for tile_id in IDS if tile_id != ABSENT}


def _answer(tile_id: TileId) -> Tile | NoTile:
    if tile_id == ABSENT:
        return NoTile(tile_id, "http_404")
    return Tile(tile_id, CONTENT[tile_id], "image/png")


@dataclass(frozen=True)
class Kind:
    """A kind of store: how it is opened, and how it is read without tilehaul."""

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], dict[TileId, bytes]]


def _read_mbtiles(path: Path) -> dict[TileId, bytes]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles").fetchall()
    return {TileId(z, x, (1 << z) - 1 - row): body for z, x, row, body in rows}


def _read_geopackage(path: Path) -> dict[TileId, bytes]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (table,) = connection.execute("SELECT table_name FROM gpkg_contents").fetchone()
        rows = connection.execute(f'SELECT zoom_level, tile_column, tile_row, tile_data FROM "{table}"')
        return {TileId(z, x, y): body for z, x, y, body in rows.fetchall()}


def _read_pmtiles(path: Path) -> dict[TileId, bytes]:
    with path.open("rb") as file:
        return {TileId(*address): body for address, body in all_tiles(MmapSource(file))}


def _read_directory(root: Path) -> dict[TileId, bytes]:
    files = {tuple(map(int, (*p.parts[-3:-1], p.stem))): p.read_bytes() for p in root.rglob("*.png")}
    return {TileId(*address): body for address, body in files.items()}


def _syncing_each(root: Path) -> DirectoryStore:
    """As on a file system that is not synced as a whole."""
    directory_tree.open_whole_disk = lambda _: None
    return DirectoryStore(root)


# To add a kind of store: one line here.
KINDS = {
    "mbtiles": Kind("small.mbtiles", MbtilesStore, _read_mbtiles),
    "mbtiles-dedup": Kind("small.mbtiles", partial(MbtilesStore, deduplicate=True), _read_mbtiles),
    "geopackage": Kind("small.gpkg", GeopackageStore, _read_geopackage),
    "pmtiles": Kind("small.pmtiles", PmtilesStore, _read_pmtiles),
    "directory": Kind("small", DirectoryStore, _read_directory),
    "directory-each": Kind("small", _syncing_each, _read_directory),
}


@dataclass
class Life:
    """What a run of the job came to. `code` as the program's exit code, negative for a signal."""

    code: int = 0
    message: str = ""
    acknowledged: set[TileId] = field(default_factory=set)
    asked: list[TileId] = field(default_factory=list)


def live(kind: Kind, folder: Path, before_work: Callable[[int], None] = lambda _: None) -> Life:
    """Run the job in a child; `before_work` is given the thread that will do all work of the store."""
    told, tell = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.close(go)
        code = 99
        try:
            code = _run(kind, folder, tell, wait)
        finally:
            os._exit(code)
    os.close(tell)
    os.close(wait)
    with open(told, encoding="utf-8") as lines:  # noqa: PTH123  a descriptor
        before_work(int(lines.readline()))
        os.write(go, b"\n")
        os.close(go)
        life = _heard(lines.read())
    life.code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return life


def _heard(text: str) -> Life:
    life = Life()
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "error":
            life.message = rest
        else:
            tile_id = TileId(*map(int, rest.split("/")))
            life.asked.append(tile_id) if word == "ask" else life.acknowledged.add(tile_id)
    return life


def _run(kind: Kind, folder: Path, tell: int, wait: int) -> int:
    with suppress(OSError, AttributeError):
        # Where the system lets only parents trace, this lets our sibling.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1 & (2**64 - 1)), 0, 0, 0)
    outbox.COMMIT_TILES = COMMIT_TILES
    # A slow machine must not make more commits of them.
    outbox.COMMIT_S = 60.0
    # Nor may a quick one make fewer: the next batch waits for its turn, and has as many tiles.
    outbox.WAITING_TILES_MAX = COMMIT_TILES

    def answer(tile_id: TileId) -> Tile | NoTile:
        os.write(tell, f"ask {tile_id}\n".encode())
        return _answer(tile_id)

    async def work() -> int:
        store = kind.make(folder / kind.name)
        # One thread for writing and sealing, so that the n-th call is the n-th of all.
        store._read_thread = store._write_thread
        thread = await store._write_thread.run(threading.get_native_id)
        os.write(tell, f"{thread}\n".encode())
        os.read(wait, 1)
        commit = store.commit

        async def told_commit(outcomes: list[Outcome]) -> None:
            await commit(outcomes)
            os.write(tell, "".join(f"ack {outcome.tile_id}\n" for outcome in outcomes).encode())

        store.commit = told_commit
        plan = SeedPlan(IDS, len(IDS), JOB, workers=1)
        try:
            report = await seed(Origin(FakeSource(answer)), store, plan, tally=Tally(), clock=SystemClock())
        finally:
            await store.close()
        return code_of_state(report.state)

    try:
        return asyncio.run(work())
    except TilehaulError as error:
        os.write(tell, f"error {error}\n".encode())
        return code_of_error(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        os.write(tell, f"error not ours: {type(error).__name__}: {error}\n".encode())
        raise
