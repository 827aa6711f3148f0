"""The tables of a GeoPackage with tiles: how they are read and written.

What tilehaul keeps of a tile set and its jobs is in a table of its own, registered in `gpkg_extensions` as
one that readers may ignore; see `docs/geopackage.md`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import apsw

from tilehaul.codec.picture_form import Size, check_jpeg, check_png, check_webp
from tilehaul.codec.sniff import JPEG, PNG, WEBP, plain_media_type
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.mercator import HALF_WORLD_M, degrees_of, metres_of
from tilehaul.grid.pyramid import pyramid_of
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores import geopackage_grid, metadata_table
from tilehaul.stores import geopackage_schema as gpkg
from tilehaul.stores.archive_metadata import bounds_text, media_type_of_format, parse_bounds
from tilehaul.stores.sqlite_form import WriteForm
from tilehaul.stores.tile_table import FROM_NORTH, TileTable

# The formats of the standard (2.2.4 and 2.2.5, WebP by an extension of its own), and how big a picture is.
_SIZES: Mapping[str, Callable[[bytes], Size]] = {PNG: check_png, JPEG: check_jpeg, WEBP: check_webp}
TILE_PX = 256
# Of the metadata, what other programs find in `gpkg_contents`.
_CONTENTS = ("name", "description", "bounds")

_PUT = (
    "INSERT INTO {0} (zoom_level, tile_column, tile_row, tile_data) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (zoom_level, tile_column, tile_row) DO UPDATE SET tile_data = excluded.tile_data"
)
_DROP = "DELETE FROM {0} WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
_ZOOMS = "SELECT zoom_level FROM gpkg_tile_matrix WHERE table_name = ?"
_MATRIX = "INSERT INTO gpkg_tile_matrix VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_BOUNDS = "UPDATE gpkg_contents SET min_x = ?, min_y = ?, max_x = ?, max_y = ? WHERE table_name = ?"
_CHANGED = "UPDATE gpkg_contents SET last_change = strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE table_name = ?"
# Another table of a file made by others may have the name already.
_NAMED = "UPDATE OR IGNORE gpkg_contents SET identifier = ? WHERE table_name = ?"
_DESCRIBED = "UPDATE gpkg_contents SET description = ? WHERE table_name = ?"
_SAYS = "SELECT identifier, description, min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = ?"


class GeopackageForm:
    """Rows counted from the north, as XYZ counts them.

    Args:
        wanted: The name of the tile table; empty: the only one, `tiles` in a new file.
    """

    kind = "geopackage"
    application_id = gpkg.APPLICATION_ID
    user_version = gpkg.USER_VERSION

    def __init__(self, wanted: str = "") -> None:
        self._wanted = wanted

    def table_in(self, connection: apsw.Connection, tables: Collection[str], path: Path) -> TileTable:
        return geopackage_grid.table_in(connection, tables, path, self._wanted)

    def metadata(self, connection: apsw.Connection, table: TileTable) -> dict[str, str]:
        """Our own rows, and what `gpkg_contents` says where there are none."""
        metadata = _said(connection.execute(_SAYS, (table.name,)).fetchone())
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (gpkg.METADATA,)).get:
            metadata |= metadata_table.read_metadata(connection, gpkg.METADATA)
        return metadata

    def writing_to(
        self, connection: apsw.Connection, tables: Mapping[str, str], path: Path
    ) -> tuple[WriteForm, TileTable]:
        table = self.table_in(connection, tables, path)
        if table.levels != FROM_NORTH_LEVELS or tables[table.name] != "table":
            why = "is a view" if tables[table.name] != "table" else "is numbered in its own way"
            raise PlanError(
                f"{path}: its tile table {table.name} {why}: tilehaul reads it but cannot add to it; "
                "copy it into a new file first"
            )
        if not table.has_unique_index(connection):
            raise PlanError(
                f"{path}: its tile table {table.name} may have several tiles at one address: tilehaul "
                "reads it but cannot add to it; copy it into a new file first"
            )
        return self, table

    def check_format(self, media_type: str, path: Path) -> None:
        plain = media_type_of_format(media_type) or plain_media_type(media_type)
        if plain and plain not in _SIZES:
            raise PlanError(
                f"{path}: a GeoPackage holds PNG, JPEG and WebP, not {plain}: "
                "name an .mbtiles or .pmtiles file instead"
            )

    def create(self, connection: apsw.Connection) -> TileTable:
        name = self._wanted or gpkg.TILES
        connection.execute(gpkg.schema(name))
        _add_own(connection)
        return TileTable(name, FROM_NORTH)

    def adopt(self, connection: apsw.Connection, _table: TileTable, _path: Path) -> None:
        """Our own table, which a file made by others lacks."""
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (gpkg.METADATA,)).get:
            _add_own(connection)

    def write_metadata(
        self,
        connection: apsw.Connection,
        table: TileTable,
        before: Mapping[str, str],
        after: Mapping[str, str],
    ) -> None:
        """Into our own table; name, description and bounds into `gpkg_contents` as well."""
        metadata_table.write_metadata(connection, before, after, gpkg.METADATA)
        key = (table.name,)
        connection.execute(_CHANGED, key)
        if any(before.get(name, "") != after.get(name, "") for name in _CONTENTS):
            box = parse_bounds(after.get("bounds", ""))
            connection.execute(_BOUNDS, (*((None,) * 4 if box is None else _box_m(box)), *key))
            connection.execute(_NAMED, (after.get("name") or None, *key))
            connection.execute(_DESCRIBED, (after.get("description", ""), *key))

    def put(self, connection: apsw.Connection, table: TileTable, tiles: Sequence[Tile]) -> None:
        """A zoom's first tile brings its row of `gpkg_tile_matrix`, the first WebP its registration."""
        kinds = {tile.media_type for tile in tiles}
        firsts = {tile.tile_id.z: tile for tile in reversed(tiles)}
        there = {row[0] for row in connection.execute(_ZOOMS, (table.name,))}
        if added := sorted(firsts.keys() - there):
            # A pyramid's first tile may be an edge, and smaller than the rest.
            pyramid = pyramid_of(metadata_table.read_metadata(connection, gpkg.METADATA))
            for zoom in added:
                size = _size_of(firsts[zoom]) if pyramid is None else (pyramid.tile_size,) * 2
                connection.execute(_MATRIX, (table.name, *_matrix(zoom, size)))
        if WEBP in kinds:
            webp = (table.name, "tile_data", gpkg.WEBP_NAME, gpkg.WEBP_DEFINITION, gpkg.WEBP_SCOPE)
            connection.execute(gpkg.EXTENSIONS)
            connection.execute(gpkg.REGISTER, webp)
        rows = [(*table.place(tile.tile_id), tile.body) for tile in tiles]
        connection.executemany(_PUT.format(table.quoted), rows)

    def drop(self, connection: apsw.Connection, table: TileTable, tile_ids: Sequence[TileId]) -> None:
        connection.executemany(_DROP.format(table.quoted), map(table.place, tile_ids))

    def tidy(self, connection: apsw.Connection) -> None:
        """Nothing is left over: a matrix may stay without a tile (2.2.7.1.2)."""


FROM_NORTH_LEVELS = TileTable("", FROM_NORTH).levels


def _add_own(connection: apsw.Connection) -> None:
    connection.execute(metadata_table.schema(gpkg.METADATA) + gpkg.EXTENSIONS)
    connection.execute(gpkg.REGISTER, gpkg.OWN_TABLE)


def _said(row: Sequence[object] | None) -> dict[str, str]:
    if row is None:
        return {}
    name, description, *box = row
    metadata = {"name": str(name or ""), "description": str(description or "")}
    sides = [float(side) for side in box if isinstance(side, int | float)]
    if len(sides) == 4 and all(abs(side) <= 2 * HALF_WORLD_M for side in sides):
        (west, south), (east, north) = degrees_of(*sides[:2]), degrees_of(*sides[2:])
        metadata["bounds"] = bounds_text((west, south, east, north))
    return {word: text for word, text in metadata.items() if text}


def _box_m(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """In metres; the whole width for a box that crosses the antimeridian."""
    west, south, east, north = box
    if west > east:
        west, east = -180.0, 180.0
    return (*metres_of(west, south), *metres_of(east, north))


def _size_of(tile: Tile) -> Size:
    measure = _SIZES.get(plain_media_type(tile.media_type))
    try:
        return (TILE_PX, TILE_PX) if measure is None else measure(tile.body)
    except (DataError, IndexError, ValueError):
        return TILE_PX, TILE_PX


def _matrix(zoom: int, size: Size) -> tuple[int, int, int, int, int, float, float]:
    """Zoom, columns and rows of the world, pixels of a tile, metres of a pixel."""
    side_m = 2 * HALF_WORLD_M / (1 << zoom)
    return zoom, 1 << zoom, 1 << zoom, *size, side_m / size[0], side_m / size[1]
