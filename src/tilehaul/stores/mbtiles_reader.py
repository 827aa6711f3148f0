"""Reading an MBTiles file, ours or anybody's: the flat table or the deduplicated view."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from tilehaul.codec.sniff import sniff
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, State, StoreInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    Bounds,
    bounds_of_columns,
    media_type_of_format,
    parse_bounds,
    source_info_of,
)
from tilehaul.stores.metadata_table import read_metadata
from tilehaul.stores.record import has_completed, parse_record, state_of
from tilehaul.stores.sqlite_file import TILE_BYTES_MAX, from_sqlite, open_reading

_GET = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
# A file made by others may hold anything in these columns: text, fractions, rows off the grid. Only whole
# numbers on the grid are addresses. The plus keeps the paging query on its own range of the index.
_ON_GRID = (
    "typeof(zoom_level) = 'integer' AND typeof(tile_column) = 'integer' AND typeof(tile_row) = 'integer' "
    f"AND +zoom_level BETWEEN 0 AND {ZOOM_MAX} "
    "AND +tile_column BETWEEN 0 AND (1 << zoom_level) - 1 AND +tile_row BETWEEN 0 AND (1 << zoom_level) - 1"
)
# NULL and empty are how some writers say "no tile".
_TILE = f"{_ON_GRID} AND length(tile_data) > 0"
_ZOOM = f"SELECT zoom_level FROM tiles WHERE {_TILE} ORDER BY zoom_level {{}} LIMIT 1"  # noqa: S608  constants
_BOX = (
    "SELECT min(tile_column), max(tile_column), min(tile_row), max(tile_row) "  # noqa: S608  constants
    f"FROM tiles WHERE zoom_level = ? AND {_ON_GRID}"
)
# In the table's own order: three times faster than looking each row up from the index.
_COUNTS = f"SELECT zoom_level, count(*) FROM tiles WHERE {_TILE} GROUP BY +zoom_level ORDER BY 1"  # noqa: S608  constants
_PAGE = (
    "SELECT zoom_level, tile_column, tile_row FROM tiles "  # noqa: S608  constants
    f"WHERE (zoom_level, tile_column, tile_row) > (?, ?, ?) AND {_TILE} "
    "ORDER BY zoom_level, tile_column, tile_row LIMIT ?"
)
_FIRST = f"SELECT tile_data FROM tiles WHERE typeof(tile_data) = 'blob' AND {_TILE} LIMIT 1"  # noqa: S608  constants

_KEPT = (
    "SELECT c.value FROM carray(?2) AS c CROSS JOIN tiles AS t ON t.zoom_level = ?1 "
    "AND t.tile_column = c.value >> 30 "
    # A row without bytes is no tile: it is fetched, and replaced.
    "AND t.tile_row = ?3 - (c.value & ?4) AND length(t.tile_data) > 0"
)


def zoom_range(connection: apsw.Connection) -> tuple[int, int] | None:
    """Least and greatest zoom kept; None without a tile."""
    lowest = connection.execute(_ZOOM.format("ASC")).get
    highest = connection.execute(_ZOOM.format("DESC")).get
    return None if lowest is None or highest is None else (lowest, highest)


def tile_bounds(connection: apsw.Connection, zoom: int) -> Bounds | None:
    """The box of the tiles of one zoom, in degrees; from the index alone, so empty rows count."""
    row = connection.execute(_BOX, (zoom,)).fetchone()
    if row is None or row[0] is None:
        return None
    west, east, south_tms, north_tms = row
    last = (1 << zoom) - 1
    return bounds_of_columns(zoom, (west, east), (last - north_tms, last - south_tms))


def first_media_type(connection: apsw.Connection) -> str:
    """What some tile's bytes are; empty without a tile, or when they are of no known kind."""
    body = connection.execute(_FIRST).get
    return sniff(body) if isinstance(body, bytes) else ""


def states_in(connection: apsw.Connection, tile_ids: Sequence[TileId]) -> list[State | None]:
    """See `JobStore.settled`; one query a zoom for the tiles, one for the journal."""
    keys = journal.keys_by_zoom(tile_ids)
    kept = {
        zoom: {
            row[0]
            for row in connection.execute(
                _KEPT, (zoom, apsw.carray(values), (1 << zoom) - 1, journal.KEY_MASK)
            )
        }
        for zoom, values in keys.items()
    }
    noted = journal.journalled(connection, keys) if journal.has_journal(connection) else {}
    answer: list[State | None] = []
    for tile_id in tile_ids:
        key = tile_id.x << journal.KEY_BITS | tile_id.y
        # The journal speaks last: a tile kept from before may have died when it was fetched anew.
        note = noted[tile_id.z].get(key) if noted else None
        if note is not None:
            answer.append(journal.STATES[note[0]])
        else:
            answer.append("done" if key in kept[tile_id.z] else None)
    return answer


class MbtilesReader:
    """Blocking reads of one file over one read-only connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: apsw.Connection | None = None
        self._media_type = ""

    def get(self, tile_id: TileId) -> Tile | NoTile:
        """The tile; what has no bytes (NULL, empty) is none.

        Raises:
            PlanError: There is no file.
            DataError: The file is damaged; the tile is no blob (`corrupt_archive`), or larger than
                `TILE_BYTES_MAX` (`too_large`).
            StorageError: The disk refused.
        """
        z, x, y = tile_id.z, tile_id.x, tile_id.y
        if not 0 <= z <= ZOOM_MAX or not 0 <= x < 1 << z or not 0 <= y < 1 << z:
            return NoTile(tile_id, "not_stored", "store")
        connection = self._connection or self._open()
        try:
            # Rows are counted from the south in MBTiles (the TMS scheme).
            body = connection.execute(_GET, (z, x, (1 << z) - 1 - y)).get
        except apsw.Error as error:
            raise from_sqlite(error, self.path, f"reading tile {tile_id} of") from error
        except UnicodeDecodeError as error:
            raise self._not_binary(tile_id) from error
        if body is None or body in (b"", ""):
            return NoTile(tile_id, "not_stored", "store")
        if not isinstance(body, bytes):
            raise self._not_binary(tile_id)
        return Tile(tile_id, body, sniff(body) or self._media_type, "store")

    def _not_binary(self, tile_id: TileId) -> DataError:
        return DataError(f"{self.path}: tile {tile_id} is not binary", cause="corrupt_archive")

    def tile_ids(self) -> Iterator[TileId]:
        """By zoom, column, and row from the south; pages of their own, so that no snapshot is held."""
        after = (-1, -1, -1)
        while rows := self._page(after):
            for zoom, column, row in rows:
                yield TileId(zoom, column, (1 << zoom) - 1 - row)
            after = rows[-1]

    def dead_letters(self, causes: Collection[str] = ()) -> Iterator[DeadLetter]:
        return journal.dead_letters(self._dead_page, causes)

    def _dead_page(self, after: TileId | None) -> list[DeadLetter]:
        with self._reading() as connection:
            return journal.dead_page(connection, after)

    def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        with self._reading() as connection:
            return states_in(connection, tile_ids)

    def has_completed(self, area_identity: str) -> bool:
        with self._reading() as connection:
            metadata = read_metadata(connection)
        return has_completed(parse_record(metadata, str(self.path)), area_identity)

    def describe(self) -> StoreInfo:
        """Looks at every row's length; `bytes` is the size of the file with its log."""
        with self._reading() as connection:
            metadata = read_metadata(connection)
            by_zoom = {int(zoom or 0): int(count or 0) for zoom, count in connection.execute(_COUNTS)}
            noted = journal.counts(connection)
        return StoreInfo(
            location=str(self.path),
            kind="mbtiles",
            tiles=sum(by_zoom.values()),
            absent=noted.absent,
            dead=noted.dead,
            bytes=_size_bytes(self.path) + _size_bytes(Path(f"{self.path}-wal")),
            state=state_of(parse_record(metadata, str(self.path)), dead=noted.dead),
            metadata=metadata,
            tiles_by_zoom=by_zoom,
            dropped=noted.dropped,
            dead_causes=noted.dead_causes,
        )

    def source_info(self) -> SourceInfo:
        """See `source_info_of`."""
        with self._reading() as connection:
            metadata = read_metadata(connection)
            zooms = zoom_range(connection)
            bounds = None
            if zooms is not None and parse_bounds(metadata.get("bounds", "")) is None:
                bounds = tile_bounds(connection, zooms[1])
            media_type = first_media_type(connection)
        return source_info_of(
            metadata,
            name=self.path.stem,
            identity=identity_of("mbtiles", self.path),
            zooms=zooms,
            bounds=bounds,
            media_type=media_type,
        )

    def release(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close(force=True)

    def _open(self) -> apsw.Connection:
        connection = open_reading(self.path)
        try:
            names = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema")}
            if not names and _size_bytes(self.path) == 0:
                raise PlanError(f"{self.path} is empty: no archive, or one that was not begun yet")
            if not {"tiles", "metadata"} <= names:
                raise PlanError(
                    f"{self.path} is an SQLite file but not an MBTiles (no tables tiles, metadata)"
                )
            # Nothing longer is brought into memory; SQLite's own limit is 1 GB.
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, TILE_BYTES_MAX)
            self._media_type = media_type_of_format(read_metadata(connection).get("format", ""))
        except apsw.Error as error:
            connection.close(force=True)
            raise from_sqlite(error, self.path, "reading") from error
        except BaseException:
            connection.close(force=True)
            raise
        self._connection = connection
        return connection

    def _page(self, after: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        with self._reading() as connection:
            rows = connection.execute(_PAGE, (*after, journal.PAGE_ROWS))
            # They are integers already (`_ON_GRID`): this says so to the type checker.
            return [(int(z or 0), int(x or 0), int(y or 0)) for z, x, y in rows]

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        """The connection, with SQLite's errors turned into ours."""
        connection = self._connection or self._open()
        try:
            yield connection
        except apsw.Error as error:
            raise from_sqlite(error, self.path, "reading") from error


def identity_of(kind: str, path: Path) -> str:
    """Two locations are the same source when they are the same place on this disk."""
    return hashlib.sha256(f"{kind}:{path.absolute()}".encode()).hexdigest()[:32]


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
