"""Objects of a bucket that may be in the way: noted in its journal, so that no crash leaves one for good.

`tilehaul_leftover(z, x, y, extension)`: an object goes unless the journal's row of its tile names it.
Before a tile is written under another extension its new object is noted, and with the journal's new row its
old one: whichever of the two the row does not name is what a crash has left.
"""

from collections.abc import Iterable
from pathlib import Path

import apsw

from tilehaul.grid.tile_id import TileId
from tilehaul.stores import journal
from tilehaul.stores.disk_errors import from_sqlite
from tilehaul.stores.sqlite_file import open_reading

# A tile and the extension of one of its objects.
TileObject = tuple[TileId, str]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tilehaul_leftover (
  z INTEGER NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL, extension TEXT NOT NULL,
  PRIMARY KEY (z, x, y, extension)
) WITHOUT ROWID;
"""
_UNNAMED = """
SELECT l.z, l.x, l.y, l.extension FROM tilehaul_leftover AS l WHERE NOT EXISTS (
  SELECT 1 FROM tilehaul_outcome AS t
  WHERE t.z = l.z AND t.x = l.x AND t.y = l.y AND t.state <> ? AND t.detail = l.extension
)
"""


def create(connection: apsw.Connection) -> None:
    connection.execute(_SCHEMA)


def note(connection: apsw.Connection, objects: Iterable[TileObject]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO tilehaul_leftover VALUES (?, ?, ?, ?)",
        ((tile_id.z, tile_id.x, tile_id.y, extension) for tile_id, extension in objects),
    )


def unnamed(connection: apsw.Connection) -> list[TileObject]:
    """Those that are to go; none of a journal that an earlier version has begun."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tilehaul_leftover'").fetchone():
        return []
    rows = connection.execute(_UNNAMED, (journal.ABSENT,))
    return [(TileId(z, x, y), extension) for z, x, y, extension in rows]


def is_empty(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT 1 FROM tilehaul_leftover LIMIT 1").fetchone() is None


def forget(connection: apsw.Connection) -> None:
    connection.execute("DELETE FROM tilehaul_leftover")


def read(path: Path) -> list[TileObject]:
    """`unnamed` of a journal that may not be there. Opens it for reading only."""
    if not path.exists():
        return []
    connection = open_reading(path)
    try:
        return unnamed(connection) if journal.has_journal(connection) else []
    except apsw.Error as error:
        raise from_sqlite(error, path, "reading") from error
    finally:
        connection.close(force=True)
