"""The tables of an MBTiles 1.3 file: the flat one, and `map` + `images` behind a view."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import apsw

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores import metadata_table
from tilehaul.stores.sqlite_form import WriteForm
from tilehaul.stores.tile_table import FROM_SOUTH, TileTable

# "MPBX" (MBTiles 1.3, "Database"; registered in SQLite's magic.txt).
APPLICATION_ID = 0x4D504258

_SCHEMA = """
CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);
CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row);
"""
_PUT = "INSERT OR REPLACE INTO tiles (zoom_level, tile_column, tile_row, tile_data) VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
_INDEX = "CREATE UNIQUE INDEX tilehaul_tile_index ON tiles (zoom_level, tile_column, tile_row)"


class MbtilesForm:
    """One row for each tile, with its bytes."""

    kind = "mbtiles"
    application_id = APPLICATION_ID
    user_version = 0

    def table_in(self, _connection: apsw.Connection, tables: Collection[str], path: Path) -> TileTable:
        """`tiles`, a table or a view. Rows are counted from the south (the TMS scheme)."""
        if not {"tiles", "metadata"} <= set(tables):
            raise PlanError(f"{path} is an SQLite file but not an MBTiles (no tables tiles, metadata)")
        return TileTable("tiles", FROM_SOUTH)

    def metadata(self, connection: apsw.Connection, _table: TileTable) -> dict[str, str]:
        return metadata_table.read_metadata(connection)

    def writing_to(
        self, connection: apsw.Connection, tables: Mapping[str, str], path: Path
    ) -> tuple[WriteForm, TileTable]:
        table = self.table_in(connection, tables, path)
        if tables["tiles"] != "table":
            raise PlanError(
                f"{path} keeps equal tiles once (tiles is a view): tilehaul reads it but "
                "cannot add to it; copy it into a new file first"
            )
        return self, table

    def check_format(self, media_type: str, path: Path) -> None:
        """Any format is kept."""

    def create(self, connection: apsw.Connection) -> TileTable:
        connection.execute(metadata_table.schema() + _SCHEMA)
        return TileTable("tiles", FROM_SOUTH)

    def adopt(self, connection: apsw.Connection, table: TileTable, path: Path) -> None:
        """The index without which a tile would get a second row."""
        if table.has_unique_index(connection):
            return
        try:
            connection.execute(_INDEX)
        except apsw.ConstraintError as error:
            raise PlanError(
                f"{path} has several tiles at one address: tilehaul reads it but cannot add to it"
            ) from error

    def write_metadata(
        self,
        connection: apsw.Connection,
        _table: TileTable,
        before: Mapping[str, str],
        after: Mapping[str, str],
    ) -> None:
        metadata_table.write_metadata(connection, before, after)

    def put(self, connection: apsw.Connection, table: TileTable, tiles: Sequence[Tile]) -> None:
        connection.executemany(_PUT, [(*table.place(tile.tile_id), tile.body) for tile in tiles])

    def drop(self, connection: apsw.Connection, table: TileTable, tile_ids: Sequence[TileId]) -> None:
        connection.executemany(_DROP, map(table.place, tile_ids))

    def tidy(self, connection: apsw.Connection) -> None:
        """Nothing is left over."""
