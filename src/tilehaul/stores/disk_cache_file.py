"""The file of the service's disk cache: one SQLite database, bounded by bytes, evicted by SIEVE.

Blocking; `disk_cache.py` puts it on threads. Several processes may have it open at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw
import xxhash

from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import Freshness
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.disk_errors import sqlite_name

FILE_NAME = "tiles.cache"
PLACE = "disk"

# What a tile costs besides its body: its row, its place in the index, and the unused rest of its pages.
# Measured by tests/stores/test_disk_cache.py, which fails when the file grows beyond it.
ENTRY_OVERHEAD_BYTES = 700
PAGE_BYTES = 4096
BUSY_MS_MAX = 5_000
# The write-ahead log is cut back to this each time it has been folded into the file.
LOG_BYTES_MAX = 8 * 1024 * 1024
# Tiles looked at in one step of the hand.
HAND_TILES = 64

_APPLICATION_ID = 0x74686364  # "thcd"
_VERSION = 1

_SCHEMA = """
CREATE TABLE tiles (
    id INTEGER PRIMARY KEY AUTOINCREMENT, layer TEXT NOT NULL, z INTEGER NOT NULL, x INTEGER NOT NULL,
    y INTEGER NOT NULL, media_type TEXT NOT NULL, cause TEXT NOT NULL, body BLOB NOT NULL,
    digest BLOB NOT NULL, bytes INTEGER NOT NULL, born_s REAL NOT NULL, fresh_s REAL NOT NULL,
    revalidate_s REAL NOT NULL, stale_s REAL NOT NULL, etag TEXT NOT NULL, last_modified TEXT NOT NULL,
    source TEXT NOT NULL, visited INTEGER NOT NULL DEFAULT 0, UNIQUE (layer, z, x, y));
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), tiles INTEGER NOT NULL,
 bytes INTEGER NOT NULL, hand INTEGER NOT NULL);
INSERT INTO state VALUES (1, 0, 0, 0);
CREATE TRIGGER kept AFTER INSERT ON tiles BEGIN
 UPDATE state SET tiles = tiles + 1, bytes = bytes + NEW.bytes; END;
CREATE TRIGGER gone AFTER DELETE ON tiles BEGIN
 UPDATE state SET tiles = tiles - 1, bytes = bytes - OLD.bytes; END;
"""
_FIND = """SELECT id, media_type, cause, body, digest, born_s, fresh_s, revalidate_s, stale_s, etag,
 last_modified, source FROM tiles WHERE layer = ? AND z = ? AND x = ? AND y = ?"""
_FORGET = "DELETE FROM tiles WHERE layer = ? AND z = ? AND x = ? AND y = ?"
_KEEP = """INSERT INTO tiles (layer, z, x, y, media_type, cause, body, digest, bytes, born_s, fresh_s,
 revalidate_s, stale_s, etag, last_modified, source)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

Kept = Tile | NoTile
Key = tuple[str, int, int, int]


class NotACacheError(Exception):
    """The file is not this cache's, or of another version."""


# What a file answers that is no use any more.
USELESS = (NotACacheError, apsw.NotADBError, apsw.CorruptError)


class DiskCacheFile:
    """One connection to the file; made when it does not exist. For one thread at a time.

    Args:
        path: The file.
        bytes_max: What bodies and their overhead may take together, > 0.
        wall_s: Seconds since 1970: what is kept outlasts the process.

    Raises:
        NotACacheError: See there.
        PlanError: The file's name is no UTF-8.
        apsw.Error: As every method, when the disk refuses or the file is damaged (see USELESS).
    """

    def __init__(self, path: Path, bytes_max: int, wall_s: Callable[[], float]) -> None:
        self._bytes_max = bytes_max
        self._wall_s = wall_s
        self._db = apsw.Connection(sqlite_name(path))
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        db = self._db
        db.set_busy_timeout(BUSY_MS_MAX)
        # Freed pages can be given back to the disk, for a limit that is lowered. Before the first table.
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL")
        # What a power cut takes off the end of a cache is asked for again: no sync for each commit.
        db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")
        with self._writing():
            mark = (db.pragma("application_id"), db.pragma("user_version"))
            if mark == (0, 0) and not list(db.execute("SELECT 1 FROM sqlite_schema LIMIT 1")):
                db.execute(_SCHEMA)
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION}")
            elif mark != (_APPLICATION_ID, _VERSION):
                raise NotACacheError("not a cache of this version of tilehaul")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # Immediate: two processes that both began by reading could not both go on to write.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def find(self, key: Key) -> tuple[int, Kept] | None:
        """The row's id and the answer with its age as of now; None when nothing of any use is kept.

        Bytes that are not those that were kept are not found.
        """
        for row in self._db.execute(_FIND, key):
            number, media_type, cause, body, digest, born_s, fresh_s, revalidate_s, stale_s, *words = row
            # A clock that was set back must not make a tile younger than new.
            age_s = max(self._wall_s() - born_s, 0.0)
            freshness = Freshness(fresh_s, age_s, revalidate_s, stale_s, *words)
            if freshness.kept_s <= 0 or xxhash.xxh3_64_digest(body) != digest:
                return None
            tile_id = TileId(*key[1:])
            if cause:
                return number, NoTile(tile_id, cause, PLACE, freshness)
            return number, Tile(tile_id, body, media_type, PLACE, freshness)
        return None

    def write(self, answers: Mapping[Key, Kept], visited: Iterable[int]) -> int:
        """Keep answers, note which rows were of use, and evict what is too much: one transaction.

        Returns the number of tiles evicted.
        """
        with self._writing():
            self._db.executemany("UPDATE tiles SET visited = 1 WHERE id = ?", ((one,) for one in visited))
            self._db.executemany(_FORGET, answers.keys())
            self._db.executemany(_KEEP, self._rows(answers))
            return self._evict()

    def shrink(self) -> int:
        """Evict what is too much, and give the room back to the disk. Returns the number of tiles evicted."""
        with self._writing():
            evicted = self._evict()
        if evicted:
            # Each row of this statement frees one page.
            list(self._db.execute("PRAGMA incremental_vacuum"))
        return evicted

    def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int:
        """Drop the tiles of a layer that are `wanted`. Returns their number."""
        with self._writing():
            rows = self._db.execute("SELECT id, z, x, y FROM tiles WHERE layer = ?", (layer,))
            doomed = [(number,) for number, *at in rows if wanted(TileId(*at))]
            self._db.executemany("DELETE FROM tiles WHERE id = ?", doomed)
        return len(doomed)

    def sizes(self) -> dict[str, dict[int, tuple[int, int]]]:
        """By layer and zoom (tiles, bytes); absences count as tiles. Costs a walk over all rows."""
        sizes: dict[str, dict[int, tuple[int, int]]] = {}
        sql = "SELECT layer, z, count(*), sum(bytes) FROM tiles GROUP BY layer, z ORDER BY layer, z"
        for layer, zoom, tiles, size_bytes in self._db.execute(sql):
            sizes.setdefault(layer, {})[zoom] = (tiles, size_bytes)
        return sizes

    def total(self) -> tuple[int, int]:
        """(tiles, bytes) of all layers."""
        tiles, size_bytes = next(self._db.execute("SELECT tiles, bytes FROM state"))
        return tiles, size_bytes

    def try_writing(self) -> None:
        """Begin and end a change of nothing. Raises apsw.Error as every method."""
        with self._writing():
            pass

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._db.close()

    def _rows(self, answers: Mapping[Key, Kept]) -> Iterator[Sequence[object]]:
        wall_s = self._wall_s()
        for key, answer in answers.items():
            freshness = answer.freshness
            if freshness is None or freshness.kept_s <= 0:
                continue
            body, media_type, cause = b"", "", ""
            if isinstance(answer, Tile):
                body, media_type = answer.body, answer.media_type
            else:
                cause = answer.cause
            size_bytes = len(body) + ENTRY_OVERHEAD_BYTES
            if size_bytes > self._bytes_max:
                continue
            fresh_s, age_s, revalidate_s, stale_s, *words = freshness
            digest = xxhash.xxh3_64_digest(body)
            yield (
                *(*key, media_type, cause, body, digest, size_bytes),
                *(wall_s - age_s, fresh_s, revalidate_s, stale_s, *words),
            )

    def _evict(self) -> int:
        """SIEVE: the hand forgives rows of use since it last passed, and takes the first that was not."""
        size_bytes, hand = next(self._db.execute("SELECT bytes, hand FROM state"))
        evicted = 0
        while size_bytes > self._bytes_max:
            sql = "SELECT id, bytes, visited FROM tiles WHERE id > ? ORDER BY id LIMIT ?"
            rows = list(self._db.execute(sql, (hand, HAND_TILES)))
            if not rows:
                if hand == 0:
                    break
                hand = 0
                continue
            for number, row_bytes, visited in rows:
                hand = number
                if visited:
                    self._db.execute("UPDATE tiles SET visited = 0 WHERE id = ?", (number,))
                    continue
                self._db.execute("DELETE FROM tiles WHERE id = ?", (number,))
                size_bytes -= row_bytes
                evicted += 1
                if size_bytes <= self._bytes_max:
                    break
        self._db.execute("UPDATE state SET hand = ?", (hand,))
        return evicted
