"""Tiles on their way into a PMTiles file: bodies in `NAME.part/`, their index in the journal.

Bodies come in any order and are kept once: found by digest, compared byte by byte. The index is the
journal's, in one transaction with what the journal says of the tiles; what lies behind the last indexed
body was never acknowledged and is overwritten.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import xxhash

from tilehaul.codec.pmtiles import Span, packed, tile_type_of
from tilehaul.codec.sniff import GZIP_MAGIC, VECTOR_TILE
from tilehaul.ports.store import Deleted, Outcome
from tilehaul.ports.tile import Tile
from tilehaul.stores import journal
from tilehaul.stores.atomic_file import sync_folder
from tilehaul.stores.pmtiles_file import PmtilesFile, read_at

# Keys of bodies: where they begin in the spool, or from here on, in the tile data of the file that is
# being added to. A tile whose key is one of the latter has the same bytes in that file's own directories.
BASE_KEY = 1 << 62

SCHEMA = """
CREATE TABLE IF NOT EXISTS tilehaul_mark (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tilehaul_content (
  key INTEGER PRIMARY KEY, length INTEGER NOT NULL, digest INTEGER NOT NULL,
  uses INTEGER NOT NULL, kind INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS tilehaul_content_digest ON tilehaul_content (digest);
CREATE TABLE IF NOT EXISTS tilehaul_tile (id INTEGER PRIMARY KEY, key INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tilehaul_gone (id INTEGER PRIMARY KEY);
"""
DROP = (
    "DROP TABLE IF EXISTS tilehaul_tile; DROP TABLE IF EXISTS tilehaul_content; "
    "DROP TABLE IF EXISTS tilehaul_gone"
)

# Enough to tell what a body is.
HEAD_BYTES = 512

# Marks: the number in the spool's name, and the fingerprints of the file as it is ('' without one) and
# as it will be once it is renamed.
SPOOL, BASE, NEXT = "spool", "base", "next"

_ALIKE = (
    "SELECT c.value, t.key, t.length FROM carray(?1) AS c CROSS JOIN tilehaul_content AS t "
    "ON t.digest = c.value WHERE t.key < ?2"
)
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)


def part_path(store: Path) -> Path:
    """The folder of what is not whole yet."""
    return Path(f"{store}.part")


def spool_path(store: Path, number: str) -> Path:
    """The file of bodies. Each spool has a number of its own, so that no reader takes one for another."""
    return part_path(store) / f"tiles-{number}"


def marks_in(connection: apsw.Connection) -> dict[str, str]:
    """What the journal of a file says of it. Raises DataError when that is damaged, apsw.Error."""
    try:
        marks = {str(name): str(value) for name, value in connection.execute("SELECT * FROM tilehaul_mark")}
    except UnicodeDecodeError:
        marks = {}
    if not {SPOOL, BASE, NEXT} <= marks.keys() or not marks[SPOOL].isdecimal():
        raise journal.damaged("it does not say which file it belongs to")
    return marks


def write_marks(connection: apsw.Connection, **marks: str) -> None:
    connection.executemany("INSERT OR REPLACE INTO tilehaul_mark VALUES (?, ?)", list(marks.items()))


def has_spool(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tilehaul_tile'").get)


def has_gone(connection: apsw.Connection) -> bool:
    """Whether deleted tiles are noted there, which the file that is added to still has."""
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tilehaul_gone'").get)


def write_index(connection: apsw.Connection, outcomes: Sequence[Outcome], keys: Iterator[int]) -> None:
    """Note where the bodies of these outcomes are, one for each tile; `keys` gives those of the tiles.

    A deleted tile is noted as gone until the file is made anew, for the file may have it.
    """
    tiles = [(tile.tile_id.pmtiles_id, next(keys)) for tile in journal.tiles_of(outcomes)]
    connection.executemany("INSERT OR REPLACE INTO tilehaul_tile VALUES (?, ?)", tiles)
    gone = [(tile_id.pmtiles_id,) for tile_id in journal.gone_of(outcomes)]
    connection.executemany("DELETE FROM tilehaul_tile WHERE id = ?", gone)
    deleted = [(o.tile_id.pmtiles_id,) for o in outcomes if isinstance(o, Deleted)]
    connection.executemany("INSERT OR IGNORE INTO tilehaul_gone VALUES (?)", deleted)


def kept_body(tile: Tile) -> bytes:
    """What the archive keeps. Vector tiles are all zipped, because the header says it of all of them."""
    if tile.media_type == VECTOR_TILE and not tile.body.startswith(GZIP_MAGIC):
        return packed(tile.body)
    return tile.body


def digest_of(body: bytes) -> int:
    """64 bits of XXH3 as SQLite's signed integer."""
    return int.from_bytes(xxhash.xxh3_64_digest(body), "big", signed=True)


@dataclass
class Placed:
    """Where bodies went: keys in their order, and the rows that say so, for the transaction."""

    keys: list[int]
    contents: list[tuple[int, int, int, int, int]]
    reused: list[tuple[int]]

    def write(self, connection: apsw.Connection) -> None:
        connection.executemany("INSERT INTO tilehaul_content VALUES (?, ?, ?, ?, ?)", self.contents)
        connection.executemany("UPDATE tilehaul_content SET uses = uses + 1 WHERE key = ?", self.reused)


class Spool:
    """The open file of bodies, used by one thread. Methods raise OSError and apsw.Error as they come."""

    def __init__(self, store: Path, connection: apsw.Connection, *, sync: bool) -> None:
        self.path = spool_path(store, marks_in(connection)[SPOOL])
        self._connection = connection
        self._sync = sync
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, _FLAGS, 0o644)
        last = connection.execute(
            "SELECT key + length FROM tilehaul_content WHERE key < ? ORDER BY key DESC LIMIT 1", (BASE_KEY,)
        ).get
        self.stop = int(last or 0)
        os.ftruncate(self.descriptor, self.stop)
        if sync:
            sync_folder(str(self.path.parent))
            sync_folder(str(self.path.parent.parent))

    def sweep(self) -> None:
        """What a merge that was cut short left beside it goes."""
        for other in self.path.parent.iterdir():
            if other != self.path:
                other.unlink()

    def place(self, tiles: Sequence[Tile]) -> Placed:
        """Write what is not there yet, durably; nothing refers to it before `Placed.write` is committed."""
        bodies = [kept_body(tile) for tile in tiles]
        digests = [digest_of(body) for body in bodies]
        alike = self._alike(digests, BASE_KEY)
        fresh: dict[int, bytes] = {}
        placed = Placed([], [], [])
        stop = self.stop
        for tile, body, digest in zip(tiles, bodies, digests, strict=True):
            others = alike.setdefault(digest, [])
            key = self._same(body, others, fresh, None)
            if key is None:
                key = stop
                stop += len(body)
                fresh[key] = body
                others.append((key, len(body)))
                kind = tile_type_of(tile.media_type)
                placed.contents.append((key, len(body), digest, 1, kind))
            else:
                placed.reused.append((key,))
            placed.keys.append(key)
        self._append(b"".join(fresh.values()))
        return placed

    def place_base(self, bodies: Sequence[tuple[int, bytes, int]], base: PmtilesFile) -> Placed:
        """As `place`, for bodies (key, bytes, tile type) that lie in the file `base`: they stay there."""
        digests = [digest_of(body) for _, body, _ in bodies]
        alike = self._alike(digests, 2 * BASE_KEY - 1)
        fresh: dict[int, bytes] = {}
        placed = Placed([], [], [])
        for (own, body, kind), digest in zip(bodies, digests, strict=True):
            others = alike.setdefault(digest, [])
            key = self._same(body, others, fresh, base)
            if key is None:
                key = own
                fresh[key] = body
                others.append((key, len(body)))
                placed.contents.append((key, len(body), digest, 1, kind))
            else:
                placed.reused.append((key,))
            placed.keys.append(key)
        return placed

    def _alike(self, digests: list[int], stop: int) -> dict[int, list[tuple[int, int]]]:
        found: dict[int, list[tuple[int, int]]] = {}
        if not digests:
            return found
        for digest, key, length in self._connection.execute(_ALIKE, (apsw.carray(array("q", digests)), stop)):
            found.setdefault(int(digest), []).append((int(key), int(length)))
        return found

    def _same(
        self,
        body: bytes,
        others: Sequence[tuple[int, int]],
        fresh: dict[int, bytes],
        base: PmtilesFile | None,
    ) -> int | None:
        """The key of equal bytes. Equal digests are no proof."""
        for key, length in others:
            if length != len(body):
                continue
            kept = fresh.get(key)
            if kept is None and key < BASE_KEY:
                kept = read_at(self.descriptor, self.path, Span(key, length))
            elif kept is None and base is not None:
                at = base.header.data.offset + key - BASE_KEY
                kept = read_at(base.descriptor(), base.path, Span(at, length))
            if kept == body:
                return key
        return None

    def _append(self, body: bytes) -> None:
        if not body:
            return
        view = memoryview(body)
        done = 0
        while done < len(body):
            done += os.pwrite(self.descriptor, view[done:], self.stop + done)
        if self._sync:
            os.fdatasync(self.descriptor)
        self.stop += done

    def head(self) -> bytes:
        """The first bytes of the first body."""
        return os.pread(self.descriptor, HEAD_BYTES, 0)

    def close(self) -> None:
        os.close(self.descriptor)
