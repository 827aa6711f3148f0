"""The tables of an MBTiles file that keeps equal tiles once: `map` and `images` behind the view `tiles`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import apsw
import xxhash

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores import journal, metadata_table
from tilehaul.stores.mbtiles_form import MbtilesForm
from tilehaul.stores.sqlite_form import WriteForm
from tilehaul.stores.tile_table import FROM_SOUTH, TileTable

# The bodies are in `images`; rows of `map` are short, so that they need no table beside their key.
_TABLES = {
    "images": (
        "CREATE TABLE images (tile_id INTEGER PRIMARY KEY, digest BLOB NOT NULL, tile_data BLOB NOT NULL)"
    ),
    "map": (
        "CREATE TABLE map (zoom_level INTEGER NOT NULL, tile_column INTEGER NOT NULL, "
        "tile_row INTEGER NOT NULL, tile_id INTEGER NOT NULL, "
        "PRIMARY KEY (zoom_level, tile_column, tile_row)) WITHOUT ROWID"
    ),
    "tiles": (
        "CREATE VIEW tiles AS SELECT map.zoom_level AS zoom_level, map.tile_column AS tile_column, "
        "map.tile_row AS tile_row, images.tile_data AS tile_data "
        "FROM map JOIN images ON images.tile_id = map.tile_id"
    ),
}
# While a job writes: pictures that an address no longer shows, and perhaps no other does.
_SUPPORT = """
CREATE INDEX IF NOT EXISTS images_digest ON images (digest);
CREATE TABLE IF NOT EXISTS tilehaul_replaced (tile_id INTEGER PRIMARY KEY);
"""
_SAME = "SELECT tile_id, tile_data FROM images WHERE digest = ?"
_NEXT = "SELECT ifnull(max(tile_id), 0) + 1 FROM images"
_IMAGE = "INSERT INTO images (tile_id, digest, tile_data) VALUES (?, ?, ?)"
_PUT = "INSERT OR REPLACE INTO map (zoom_level, tile_column, tile_row, tile_id) VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM map WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
_REPLACED = (
    "INSERT OR IGNORE INTO tilehaul_replaced SELECT m.tile_id FROM carray(?2) AS c CROSS JOIN map AS m "
    "ON m.zoom_level = ?1 AND m.tile_column = c.value >> 30 AND m.tile_row = ?3 - (c.value & ?4)"
)
# One walk over the map, and no more in memory than what was replaced.
_TIDY = """
DELETE FROM tilehaul_replaced WHERE tile_id IN (
  SELECT r.tile_id FROM map AS m CROSS JOIN tilehaul_replaced AS r ON r.tile_id = m.tile_id
);
DELETE FROM images WHERE tile_id IN (SELECT tile_id FROM tilehaul_replaced);
"""


class DedupForm(MbtilesForm):
    """Pictures are the same when their bytes are; a digest (xxh3, 128 bits) finds the candidates."""

    def writing_to(
        self, connection: apsw.Connection, tables: Mapping[str, str], path: Path
    ) -> tuple[WriteForm, TileTable]:
        if is_ours(connection):
            return self, self.table_in(connection, tables, path)
        flat = super().writing_to(connection, tables, path)
        raise PlanError(
            f"{path} keeps each tile by itself ({flat[1].name} is a table): "
            "leave --deduplicate away, or choose another file"
        )

    def create(self, connection: apsw.Connection) -> TileTable:
        connection.execute(";".join([metadata_table.schema(), *_TABLES.values(), _SUPPORT]))
        return TileTable("tiles", FROM_SOUTH)

    def adopt(self, connection: apsw.Connection, _table: TileTable, _path: Path) -> None:
        """What an ended job took away."""
        connection.execute(_SUPPORT)

    def put(self, connection: apsw.Connection, table: TileTable, tiles: Sequence[Tile]) -> None:
        _note_replaced(connection, [tile.tile_id for tile in tiles])
        next_id = int(connection.execute(_NEXT).get or 1)
        new: list[tuple[int, bytes, bytes]] = []
        # By digest: the last picture of it that was met, and which it is.
        met: dict[bytes, tuple[int, bytes]] = {}
        rows = []
        for tile in tiles:
            digest = xxhash.xxh3_128_digest(tile.body)
            known = met.get(digest)
            if known is None or known[1] != tile.body:
                found = _same(connection, digest, tile.body)
                if found is None:
                    # Two bodies of one digest in one batch: both are kept, the earlier one perhaps twice.
                    found = next_id
                    next_id += 1
                    new.append((found, digest, tile.body))
                known = met[digest] = found, tile.body
            rows.append((*table.place(tile.tile_id), known[0]))
        connection.executemany(_IMAGE, new)
        connection.executemany(_PUT, rows)

    def drop(self, connection: apsw.Connection, table: TileTable, tile_ids: Sequence[TileId]) -> None:
        _note_replaced(connection, tile_ids)
        connection.executemany(_DROP, map(table.place, tile_ids))

    def tidy(self, connection: apsw.Connection) -> None:
        """Pictures that no address shows any more."""
        if connection.execute("SELECT 1 FROM tilehaul_replaced LIMIT 1").get:
            connection.execute(_TIDY)
        connection.execute("DROP TABLE tilehaul_replaced")


class FlatForm(MbtilesForm):
    """One row for each tile; a file of ours that keeps equal tiles once is added to as it is."""

    def writing_to(
        self, connection: apsw.Connection, tables: Mapping[str, str], path: Path
    ) -> tuple[WriteForm, TileTable]:
        if is_ours(connection):
            return DedupForm().writing_to(connection, tables, path)
        return super().writing_to(connection, tables, path)


def is_ours(connection: apsw.Connection) -> bool:
    """Whether a file has exactly the tables and the view that tilehaul makes."""
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE name IN ('images', 'map', 'tiles')")
    return {str(name): sql for name, sql in rows} == _TABLES


def _same(connection: apsw.Connection, digest: bytes, body: bytes) -> int | None:
    for tile_id, other in connection.execute(_SAME, (digest,)):
        if other == body:
            return int(tile_id)
    return None


def _note_replaced(connection: apsw.Connection, tile_ids: Sequence[TileId]) -> None:
    for zoom, keys in journal.keys_by_zoom(tile_ids).items():
        place = ((1 << zoom) - 1, journal.KEY_MASK)
        connection.execute(_REPLACED, (zoom, apsw.carray(keys), *place))
