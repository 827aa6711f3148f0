"""Reading an MBTiles file, ours or anybody's: the flat table or the deduplicated view."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import apsw

from tilehaul.codec.sniff import sniff
from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.source import WORLD_DEG, SourceInfo
from tilehaul.ports.store import DeadLetter, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    Bounds,
    bounds_of_columns,
    media_type_of_format,
    parse_bounds,
    parse_zoom,
)
from tilehaul.stores.metadata_table import read_metadata
from tilehaul.stores.record import parse_record, state_of
from tilehaul.stores.sqlite_file import from_sqlite, open_reading

_GET = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
_PAGE = (
    "SELECT zoom_level, tile_column, tile_row FROM tiles "
    "WHERE (zoom_level, tile_column, tile_row) > (?, ?, ?) "
    "ORDER BY zoom_level, tile_column, tile_row LIMIT ?"
)


def zoom_range(connection: apsw.Connection) -> tuple[int, int] | None:
    """Least and greatest zoom kept; None without a tile."""
    lowest = connection.execute("SELECT min(zoom_level) FROM tiles").get
    highest = connection.execute("SELECT max(zoom_level) FROM tiles").get
    return None if lowest is None else (int(lowest), int(highest))


def tile_bounds(connection: apsw.Connection, zoom: int) -> Bounds | None:
    """The box of the tiles of one zoom, in degrees."""
    row = connection.execute(
        "SELECT min(tile_column), max(tile_column), min(tile_row), max(tile_row) "
        "FROM tiles WHERE zoom_level = ?",
        (zoom,),
    ).fetchone()
    if row is None or row[0] is None:
        return None
    west, east, south_tms, north_tms = (int(value) for value in row)
    last = (1 << zoom) - 1
    return bounds_of_columns(zoom, (west, east), (last - north_tms, last - south_tms))


class MbtilesReader:
    """Blocking reads of one file over one read-only connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: apsw.Connection | None = None
        self._media_type = ""

    def get(self, tile_id: TileId) -> Tile | NoTile:
        """PlanError without a file, DataError when it is damaged, StorageError when the disk refuses."""
        if not 0 <= tile_id.z <= ZOOM_MAX:
            return NoTile(tile_id, "not_stored", "store")
        connection = self._connection or self._open()
        try:
            # Rows are counted from the south in MBTiles (the TMS scheme).
            body = connection.execute(_GET, (tile_id.z, tile_id.x, (1 << tile_id.z) - 1 - tile_id.y)).get
        except apsw.Error as error:
            raise self._translated(error) from error
        if not body:
            return NoTile(tile_id, "not_stored", "store")
        if not isinstance(body, bytes):
            raise DataError(f"{self.path}: tile {tile_id} is not binary", cause="corrupt_archive")
        return Tile(tile_id, body, sniff(body) or self._media_type, "store")

    def tile_ids(self) -> Iterator[TileId]:
        """By zoom, column, and row from the south; pages of their own, so that no snapshot is held."""
        after = (-1, -1, -1)
        while rows := self._page(after):
            for zoom, column, row in rows:
                if 0 <= zoom <= ZOOM_MAX:
                    yield TileId(zoom, column, (1 << zoom) - 1 - row)
            after = rows[-1]

    def dead_letters(self) -> Iterator[DeadLetter]:
        after: TileId | None = None
        while page := self._dead_page(after):
            yield from page
            after = page[-1].tile_id

    def _dead_page(self, after: TileId | None) -> list[DeadLetter]:
        connection = self._connection or self._open()
        try:
            return journal.dead_page(connection, after)
        except apsw.Error as error:
            raise self._translated(error) from error

    def describe(self) -> StoreInfo:
        """Counts from the index; `bytes` is the size of the file with its log."""
        connection = self._connection or self._open()
        try:
            metadata = read_metadata(connection)
            counts = connection.execute("SELECT zoom_level, count(*) FROM tiles GROUP BY 1 ORDER BY 1")
            by_zoom = {int(zoom): int(count) for zoom, count in counts}
            absent, dead = journal.counts(connection)
        except apsw.Error as error:
            raise self._translated(error) from error
        return StoreInfo(
            location=str(self.path),
            kind="mbtiles",
            tiles=sum(by_zoom.values()),
            absent=absent,
            dead=dead,
            bytes=_size_bytes(self.path) + _size_bytes(Path(f"{self.path}-wal")),
            state=state_of(parse_record(metadata, str(self.path)), dead=dead),
            metadata=metadata,
            tiles_by_zoom=by_zoom,
        )

    def source_info(self) -> SourceInfo:
        """From the metadata; what is missing there, from the tiles."""
        connection = self._connection or self._open()
        try:
            metadata = read_metadata(connection)
            zooms = zoom_range(connection)
            bounds = parse_bounds(metadata.get("bounds", ""))
            if bounds is None and zooms is not None:
                bounds = tile_bounds(connection, zooms[1])
            first = connection.execute("SELECT tile_data FROM tiles LIMIT 1").get
        except apsw.Error as error:
            raise self._translated(error) from error
        sniffed = sniff(first) if isinstance(first, bytes) else ""
        lowest, highest = zooms or (0, ZOOM_MAX)
        return SourceInfo(
            name=metadata.get("name") or self.path.stem,
            identity=identity_of("mbtiles", self.path),
            media_type=media_type_of_format(metadata.get("format", "")) or sniffed,
            zoom_min=_first_zoom(metadata.get("minzoom"), lowest),
            zoom_max=_first_zoom(metadata.get("maxzoom"), highest),
            bounds_deg=bounds or WORLD_DEG,
            attribution=metadata.get("attribution", ""),
            description=metadata.get("description", ""),
        )

    def release(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close(force=True)

    def _open(self) -> apsw.Connection:
        connection = open_reading(self.path)
        try:
            names = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema")}
            if not {"tiles", "metadata"} <= names:
                raise PlanError(
                    f"{self.path} is an SQLite file but not an MBTiles (no tables tiles, metadata)"
                )
            self._media_type = media_type_of_format(read_metadata(connection).get("format", ""))
        except apsw.Error as error:
            connection.close(force=True)
            raise self._translated(error) from error
        except BaseException:
            connection.close(force=True)
            raise
        self._connection = connection
        return connection

    def _page(self, after: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        connection = self._connection or self._open()
        try:
            rows = connection.execute(_PAGE, (*after, journal.PAGE_ROWS)).fetchall()
            return [(int(z or 0), int(x or 0), int(y or 0)) for z, x, y in rows]
        except apsw.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: apsw.Error) -> StorageError | DataError:
        return from_sqlite(error, self.path, "reading")


def identity_of(kind: str, path: Path) -> str:
    """Two locations are the same source when they are the same place on this disk."""
    return hashlib.sha256(f"{kind}:{path.absolute()}".encode()).hexdigest()[:32]


def _first_zoom(text: str | None, fallback: int) -> int:
    zoom = parse_zoom(text)
    return fallback if zoom is None else zoom


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
