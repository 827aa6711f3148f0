"""When each tile of a store was last checked with its origin: a small SQLite file beside the store."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tilehaul.errors import StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.freshness import Note, Notes
from tilehaul.ports.store import DeadLetter, Deleted, JobCounts, JobKey, JobStore, Outcome, State
from tilehaul.ports.tile import NoTile, Tile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS base (one INTEGER PRIMARY KEY CHECK (one = 1), checked_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS checked (
    z INTEGER NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL, checked_at REAL NOT NULL,
    etag TEXT NOT NULL, last_modified TEXT NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (z, x, y)
) WITHOUT ROWID;
"""


class FreshnessFile:
    """Notes by tile. Losing the file costs requests, never a tile. For any thread; every method blocks.

    Args:
        path: Made when it does not exist.
        base_s: When tiles without a note were checked, seconds since 1970: kept when the file is made,
            since the store's own time moves with every run.

    Raises StorageError, as all its methods, when the disk refuses or the file is none of these.
    """

    def __init__(self, path: Path, base_s: float) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO base VALUES (1, ?)", (base_s,))
            self._db.commit()
            self.base_s: float = self._db.execute("SELECT checked_at FROM base").fetchone()[0]
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def find(self, tile_ids: Sequence[TileId]) -> Notes:
        """The notes there are of these tiles."""
        sql = "SELECT checked_at, etag, last_modified, digest FROM checked WHERE z = ? AND x = ? AND y = ?"
        found: Notes = {}
        try:
            with self._lock, closing(self._db.cursor()) as cursor:
                for tile_id in tile_ids:
                    row = cursor.execute(sql, (tile_id.z, tile_id.x, tile_id.y)).fetchone()
                    if row is not None:
                        found[tile_id] = Note(*row)
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return found

    def keep(self, notes: Mapping[TileId, Note], gone: Sequence[TileId]) -> None:
        """Note these tiles and forget those that are gone."""
        try:
            with self._lock, self._db:
                self._db.executemany("DELETE FROM checked WHERE z = ? AND x = ? AND y = ?", map(_key, gone))
                self._db.executemany(
                    "INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?, ?, ?, ?)",
                    ((*_key(tile_id), *note) for tile_id, note in notes.items()),
                )
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._db.close()

    def _refused(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"{self._path}: {error}; free space, or delete the file: only its times are lost")


def _key(tile_id: TileId) -> tuple[int, int, int]:
    return tile_id.z, tile_id.x, tile_id.y


class NotingStore(JobStore):
    """A store that notes what was observed of its tiles, once they are durable themselves.

    `observed` gets its notes from the source; those of committed tiles are taken out.
    """

    def __init__(self, store: JobStore, file: FreshnessFile, observed: Notes) -> None:
        self._store = store
        self._file = file
        self._observed = observed

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        return await self._store.begin(job, force_source=force_source)

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        return await self._store.settled(tile_ids)

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        await self._store.commit(outcomes)
        tiles = (outcome.tile_id for outcome in outcomes if isinstance(outcome, Tile))
        notes = {tile_id: self._observed.pop(tile_id) for tile_id in tiles if tile_id in self._observed}
        gone = [outcome.tile_id for outcome in outcomes if isinstance(outcome, NoTile | Deleted)]
        await asyncio.to_thread(self._file.keep, notes, gone)

    def dead_letters(self, *, causes: Collection[str] = ()) -> AsyncIterator[DeadLetter]:
        return self._store.dead_letters(causes=causes)

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        await self._store.finish(complete=complete, counts=counts)

    async def close(self) -> None:
        await self._store.close()
