"""What is in a store, read without tilehaul: by SQLite and the file system alone."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tilehaul.grid.tile_id import TileId

_STATES = {1: "done", 2: "absent", 3: "dead"}


@dataclass(slots=True)
class Evidence:
    """What became of each tile. `strays` are bodies that the journal does not vouch for (a directory's
    files come first, their journal rows after); `wrong` says what no store may look like. `complete`: the
    journal is gone, so what is not there is absent.
    """

    done: dict[TileId, bytes] = field(default_factory=dict)
    absent: set[TileId] = field(default_factory=set)
    dead: set[TileId] = field(default_factory=set)
    strays: dict[TileId, bytes] = field(default_factory=dict)
    complete: bool = False
    wrong: list[str] = field(default_factory=list)


def read(store: Path) -> Evidence:
    """The store as it lies there, also after a kill; nothing of it is touched.

    The database is copied with its log first: opening it in place would repair it for the next run.
    """
    found = Evidence()
    is_file = store.suffix == ".mbtiles"
    database = store if is_file else Path(f"{store}.journal")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for tail in ("", "-wal"):
            if Path(f"{database}{tail}").exists():
                shutil.copyfile(f"{database}{tail}", f"{copy}{tail}")
        rows, dead_rows, bodies, journalled = _tables(copy) if copy.exists() else ([], [], {}, True)
    states = {TileId(z, x, y): _STATES[state] for z, x, y, state in rows}
    found.absent = {tile_id for tile_id, state in states.items() if state == "absent"}
    found.dead = {tile_id for tile_id, state in states.items() if state == "dead"}
    if found.dead != {TileId(z, x, y) for z, x, y in dead_rows}:
        found.wrong.append("dead outcomes and dead letters differ")
    if is_file:
        found.done = bodies
    else:
        files = _files(store, found.wrong)
        vouched = {tile_id for tile_id, state in states.items() if state == "done"}
        found.done = {
            tile_id: body for tile_id, body in files.items() if not journalled or tile_id in vouched
        }
        found.strays = {tile_id: body for tile_id, body in files.items() if tile_id not in found.done}
        if gone := vouched - set(files):
            found.wrong.append(f"journalled as done without a file: {sorted(gone)[:3]}")
    found.complete = not journalled and bool(found.done)
    both = [tile_id for tile_id in found.done if tile_id in found.absent or tile_id in found.dead]
    if both:
        found.wrong.append(f"in two states at once: {sorted(both)[:3]}")
    return found


def _tables(
    path: Path,
) -> tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int]], dict[TileId, bytes], bool]:
    """Outcomes, dead letters, bodies, and whether there is a journal."""
    with closing(sqlite3.connect(path)) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if check != "ok":
            raise AssertionError(f"integrity check: {check}")
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        rows, dead, bodies = [], [], {}
        if "tilehaul_outcome" in names:
            rows = connection.execute("SELECT z, x, y, state FROM tilehaul_outcome").fetchall()
            dead = connection.execute("SELECT z, x, y FROM tilehaul_dead_letter").fetchall()
        if "tiles" in names:
            query = "SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles"
            for z, x, row, body in connection.execute(query):
                bodies[TileId(z, x, (1 << z) - 1 - row)] = body
    return rows, dead, bodies, "tilehaul_outcome" in names


def _files(root: Path, wrong: list[str]) -> dict[TileId, bytes]:
    """Every `z/x/y.png`. Temporary files of a killed writer are looked over."""
    files: dict[TileId, bytes] = {}
    for path in root.rglob("*") if root.exists() else ():
        if path.is_file() and path.suffix == ".png":
            z, x = path.parts[-3:-1]
            files[TileId(int(z), int(x), int(path.stem))] = path.read_bytes()
        elif path.is_file() and not path.name.endswith(".tilehaul-tmp"):
            wrong.append(f"a file that is no tile: {path.name}")
    return files
