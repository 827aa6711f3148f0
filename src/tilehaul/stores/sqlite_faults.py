"""What is wrong in a file of tiles in SQLite beyond its tiles' bytes: its pages, its rows, its tables."""

from collections.abc import Callable
from pathlib import Path

import apsw

from tilehaul.grid.tile_id import ZOOM_MAX
from tilehaul.stores.disk_errors import from_sqlite
from tilehaul.stores.sqlite_file import open_reading
from tilehaul.stores.tile_table import quoted

# SQLite stops looking after so many faults.
FAULTS_MAX = 20
# `GPKG`, and what it was before version 1.2.
_GEOPACKAGE_IDS = frozenset({0x47504B47, 0x47503130, 0x47503131})
# Of a zoom's width: what programs round to.
_NEAR = 1e-6
_IN_GRID = (
    f"zoom_level BETWEEN 0 AND {ZOOM_MAX} AND tile_column >= 0 AND tile_column < 1 << zoom_level"
    " AND tile_row >= 0 AND tile_row < 1 << zoom_level"
)


def mbtiles_faults(path: Path) -> list[str]:
    """Damaged pages, rows that are no tiles, metadata that is missing. DataError, StorageError."""
    return _looked(path, _of_mbtiles)


def geopackage_faults(path: Path, table: str = "") -> list[str]:
    """Damaged pages, rows that are no tiles, matrices that do not fit. DataError, StorageError.

    Args:
        path: The file.
        table: Its table of tiles; empty: the first.
    """
    return _looked(path, lambda connection: _of_geopackage(connection, table))


def _looked(path: Path, look: Callable[[apsw.Connection], list[str]]) -> list[str]:
    connection = open_reading(path)
    try:
        rows = connection.execute(f"PRAGMA quick_check({FAULTS_MAX})").fetchall()
        broken = [f"SQLite: {' '.join(str(row[0]).split())}" for row in rows if row[0] != "ok"]
        # What is read from broken pages says nothing.
        return broken or look(connection)
    except apsw.Error as error:
        raise from_sqlite(error, path, "checking") from error
    finally:
        connection.close(force=True)


def _of_mbtiles(connection: apsw.Connection) -> list[str]:
    wrong = _of_rows(connection, "tiles", _IN_GRID)
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    if {"map", "images"} <= names:
        query = (
            "SELECT count(*) FROM map WHERE tile_id IS NULL OR tile_id NOT IN (SELECT tile_id FROM images)"
        )
        wrong += _counted(connection, query, "rows of its table map that point to no image")
    metadata = (
        [row[0] for row in connection.execute("SELECT name FROM metadata")] if "metadata" in names else []
    )
    wrong += [f"its metadata has no {name}" for name in ("name", "format") if name not in metadata]
    twice = sorted({str(name) for name in metadata if metadata.count(name) > 1})
    return wrong + [f"its metadata has {name} more than once" for name in twice]


def _of_rows(connection: apsw.Connection, table: str, in_grid: str) -> list[str]:
    name = quoted(table)
    # Names are quoted, and the conditions are ours.
    count = f"SELECT count(*) FROM {name} WHERE"  # noqa: S608
    wrong = _counted(connection, f"{count} ({in_grid}) IS NOT TRUE", "rows outside the grid")
    wrong += _counted(connection, f"{count} tile_data IS NULL OR length(tile_data) = 0", "rows without bytes")
    doubled = (
        f"SELECT count(*) FROM (SELECT 1 FROM {name} GROUP BY zoom_level, tile_column, tile_row"  # noqa: S608
        " HAVING count(*) > 1)"
    )
    return wrong + _counted(connection, doubled, "addresses that stand in several rows")


def _of_geopackage(connection: apsw.Connection, table: str) -> list[str]:
    first = "SELECT table_name FROM gpkg_contents WHERE data_type = 'tiles' ORDER BY rowid LIMIT 1"
    chosen = table or str(connection.execute(first).get or "")
    matrix = "(SELECT {} FROM gpkg_tile_matrix AS m WHERE m.table_name = ? AND m.zoom_level = t.zoom_level)"
    wrong = []
    if int(connection.pragma("application_id") or 0) not in _GEOPACKAGE_IDS:
        wrong.append("its application id is not that of a GeoPackage")
    kept = f"SELECT DISTINCT zoom_level FROM {quoted(chosen)} AS t WHERE {matrix.format('1')} IS NULL"  # noqa: S608
    zooms = sorted(int(row[0] or 0) for row in connection.execute(kept, (chosen,)))
    wrong += [f"zoom {zoom} has tiles and no row in gpkg_tile_matrix" for zoom in zooms]
    # With what it says itself of its width and height: a matrix need not be the whole world's.
    inside = (
        f"tile_column >= 0 AND tile_row >= 0 AND tile_column < {matrix.format('matrix_width')}"
        f" AND tile_row < {matrix.format('matrix_height')}"
    )
    outside = f"SELECT count(*) FROM {quoted(chosen)} AS t WHERE NOT ({inside})"  # noqa: S608
    wrong += _counted(connection, outside, "rows outside their matrix", (chosen, chosen))
    wrong += _of_rows(connection, chosen, "TRUE")
    extent = connection.execute(
        "SELECT max_x - min_x, max_y - min_y, srs_id FROM gpkg_tile_matrix_set WHERE table_name = ?",
        (chosen,),
    ).fetchone()
    if extent is None:
        return [*wrong, f"gpkg_tile_matrix_set has no row of {chosen}"]
    sides = connection.execute(
        "SELECT zoom_level, matrix_width * tile_width * pixel_x_size,"
        " matrix_height * tile_height * pixel_y_size"
        " FROM gpkg_tile_matrix WHERE table_name = ? ORDER BY zoom_level",
        (chosen,),
    )
    for zoom, *sizes in sides.fetchall():
        if any(_differ(size, side) for size, side in zip(sizes, extent[:2], strict=True)):
            wrong.append(f"zoom {zoom}: tiles times pixels of gpkg_tile_matrix are not the extent of its set")
    srs = connection.execute("SELECT srs_id FROM gpkg_contents WHERE table_name = ?", (chosen,)).get
    if srs != extent[2]:
        wrong.append(f"gpkg_contents says srs {srs}, gpkg_tile_matrix_set {extent[2]}")
    return wrong


def _differ(one: object, other: object) -> bool:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return True
    return abs(one - other) > _NEAR * abs(other)


def _counted(connection: apsw.Connection, query: str, what: str, values: tuple[str, ...] = ()) -> list[str]:
    count = int(connection.execute(query, values).get or 0)
    return [f"{what}: {count}"] if count else []
