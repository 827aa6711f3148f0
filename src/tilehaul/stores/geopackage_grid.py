"""Which tile set of a GeoPackage is meant, and how its columns and rows become XYZ addresses."""

import math
from collections.abc import Collection
from pathlib import Path

import apsw

from tilehaul.errors import DataError, PlanError
from tilehaul.grid.mercator import HALF_WORLD_M
from tilehaul.grid.tile_id import ZOOM_MAX
from tilehaul.stores.disk_errors import one_line
from tilehaul.stores.tile_table import FROM_NORTH, Level, TileTable

# Names of spherical Mercator on the WGS 84 ellipsoid's axis: today's, and two from before it had a number.
WEB_MERCATOR = {("EPSG", 3857), ("EPSG", 900913), ("ESRI", 102100)}
# How far a matrix may lie beside the grid, in tiles: half a pixel of 256.
OFF_GRID_MAX = 1 / 512
# Tiles a zoom beyond the least and the greatest; corners far beyond the world: no grid of ours.
_SIDE_M_MIN, _SIDE_M_MAX = HALF_WORLD_M / (1 << ZOOM_MAX), 4 * HALF_WORLD_M
_FAR_M = 1000 * HALF_WORLD_M

_NEEDED = {"gpkg_contents", "gpkg_spatial_ref_sys", "gpkg_tile_matrix_set", "gpkg_tile_matrix"}
_SETS = (
    "SELECT c.table_name, m.min_x, m.max_y, m.max_x - m.min_x, m.max_y - m.min_y, "
    "upper(s.organization), s.organization_coordsys_id, s.srs_name "
    "FROM gpkg_contents AS c LEFT JOIN gpkg_tile_matrix_set AS m USING (table_name) "
    "LEFT JOIN gpkg_spatial_ref_sys AS s ON s.srs_id = m.srs_id WHERE c.data_type = 'tiles' ORDER BY 1"
)
_MATRICES = (
    "SELECT zoom_level, matrix_width, matrix_height FROM gpkg_tile_matrix WHERE table_name = ? ORDER BY 1"
)


def table_in(connection: apsw.Connection, tables: Collection[str], path: Path, wanted: str) -> TileTable:
    """The tile set `wanted`, or the only one when that is empty.

    Raises:
        PlanError: No GeoPackage; no tile set of that name, or several and none is named; the tiles are in
            another grid than web mercator's.
        DataError: What the file says of its tiles makes no sense (`corrupt_archive`).
    """
    if not set(tables) >= {"gpkg_contents"}:
        raise PlanError(f"{path} is an SQLite file but not a GeoPackage (no table gpkg_contents)")
    if not set(tables) >= _NEEDED:
        raise PlanError(f"{path} holds no tiles: it has no table {min(_NEEDED - set(tables))}")
    sets = {str(name): others for name, *others in connection.execute(_SETS)}
    if not sets:
        raise PlanError(f"{path} holds no tiles (no row with the data type tiles in gpkg_contents)")
    if wanted and wanted not in sets:
        raise PlanError(f"{path} has no tile table {wanted}: {', '.join(map(one_line, sets))}")
    if not wanted and len(sets) > 1:
        places = ", ".join(f"{path}#{one_line(each)}" for each in sets)
        raise PlanError(f"{path} has several tile tables, name one: {places}")
    name = wanted or next(iter(sets))
    told = one_line(name)
    if name not in tables:
        raise DataError(f"{path}: its tile table {told} is missing", cause="corrupt_archive")
    min_x, max_y, width, height, organization, number, srs_name = sets[name]
    projection = one_line(str(srs_name or "an unknown projection"))
    if (organization, number) not in WEB_MERCATOR:
        raise PlanError(
            f"{path}: the tiles of {told} are in {projection}; tilehaul reads "
            "web mercator only (EPSG:3857): warp it into that first"
        )
    extent = [_number(value) for value in (min_x, max_y, width, height)]
    if None in extent:
        raise DataError(f"{path}: the extent of {told} makes no sense", cause="corrupt_archive")
    levels = []
    for row in connection.execute(_MATRICES, (name,)):
        level = _level(row, *(value or 0.0 for value in extent))
        if level is None:
            raise PlanError(
                f"{path}: zoom {one_line(str(row[0]))} of {told} is not cut along the web mercator grid: "
                "warp it into that first (GDAL: -co TILING_SCHEME=GoogleMapsCompatible)"
            )
        levels.append(level)
    zooms = [level.zoom for level in levels]
    if zooms != sorted(set(zooms)):
        raise PlanError(f"{path}: the zooms of {told} are not in order: warp it into web mercator first")
    # The whole grid where all of it is numbered as ours is: also the zooms that a job has yet to bring.
    plain = all(level == FROM_NORTH[level.zoom] for level in levels) and (levels or _is_world(extent))
    return TileTable(name, FROM_NORTH if plain else tuple(levels))


def _is_world(extent: list[float | None]) -> bool:
    world = (-HALF_WORLD_M, HALF_WORLD_M, 2 * HALF_WORLD_M, 2 * HALF_WORLD_M)
    return all(abs((side or 0.0) - whole) < 1 for side, whole in zip(extent, world, strict=True))


def _level(row: tuple[object, ...], min_x: float, max_y: float, width: float, height: float) -> Level | None:
    """Where a matrix lies on the web mercator grid; None when it does not."""
    stored_zoom, columns, rows = row
    if not isinstance(stored_zoom, int) or not isinstance(columns, int) or not isinstance(rows, int):
        return None
    if min(columns, rows) < 1 or min(width, height) <= 0:
        return None
    side_m = width / columns
    # Before anything is divided: no number that a file may hold is then too large or too small.
    if not _SIDE_M_MIN <= side_m <= _SIDE_M_MAX or max(abs(min_x), abs(max_y), height) > _FAR_M:
        return None
    zoom = round(math.log2(2 * HALF_WORLD_M / side_m))
    if not 0 <= zoom <= ZOOM_MAX:
        return None
    side_m = 2 * HALF_WORLD_M / (1 << zoom)
    left, top = (min_x + HALF_WORLD_M) / side_m, (HALF_WORLD_M - max_y) / side_m
    right, bottom = left + width / side_m, top + height / side_m
    column, row_0 = round(left), round(top)
    wanted = (column, row_0, column + columns, row_0 + rows)
    beside = max(abs(a - b) for a, b in zip((left, top, right, bottom), wanted, strict=True))
    if beside > OFF_GRID_MAX or min(column, row_0) < 0 or max(wanted) > 1 << zoom:
        return None
    return Level(zoom, stored_zoom, -column, -row_0, 1, columns, rows)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
