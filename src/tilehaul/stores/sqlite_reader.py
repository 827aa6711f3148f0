"""Reading a tile archive that is an SQLite file, ours or anybody's."""

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
    identity_of,
    media_type_of_format,
    parse_bounds,
    source_info_of,
)
from tilehaul.stores.disk_errors import TILE_BYTES_MAX, from_sqlite, no_text
from tilehaul.stores.record import has_completed, parse_record, state_of
from tilehaul.stores.source_version import file_version
from tilehaul.stores.sqlite_file import open_reading
from tilehaul.stores.sqlite_form import ReadForm
from tilehaul.stores.tile_table import TileTable

# Of the tile table; only a GeoPackage may have another, or several.
COMMON_NAME = "tiles"


class SqliteReader:
    """Blocking reads of one file over one read-only connection, used by one thread."""

    def __init__(self, path: Path, form: ReadForm) -> None:
        self.path = path
        self._form = form
        self._connection: apsw.Connection | None = None
        # Of the open connection.
        self._table = TileTable("", ())
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
            body = self._table.get(connection, tile_id)
        except apsw.Error as error:
            raise from_sqlite(error, self.path, f"reading tile {tile_id} of") from error
        except UnicodeDecodeError as error:
            raise self._not_binary(tile_id) from error
        if body is None or body in (b"", ""):
            return NoTile(tile_id, "not_stored", "store")
        if not isinstance(body, bytes):
            raise self._not_binary(tile_id)
        return Tile(tile_id, body, sniff(body) or self._media_type, "store")

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """One transaction: to begin and end one for each tile costs three times what reading it does."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            try:
                yield
            finally:
                # An I/O error may have ended it.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _not_binary(self, tile_id: TileId) -> DataError:
        return DataError(f"{self.path}: tile {tile_id} is not binary", cause="corrupt_archive")

    def tile_ids(self) -> Iterator[TileId]:
        """By zoom, column, and row as stored; pages of their own, so that no snapshot is held."""
        after: tuple[int, int, int] | None = None
        while places := self._page(after):
            yield from self._table.addresses(places)
            after = places[-1]

    def dead_letters(self, causes: Collection[str] = ()) -> Iterator[DeadLetter]:
        return journal.dead_letters(self._dead_page, causes)

    def _dead_page(self, after: TileId | None) -> list[DeadLetter]:
        with self._reading() as connection:
            return journal.dead_page(connection, after)

    def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        with self._reading() as connection:
            return self._table.states(connection, tile_ids)

    def has_completed(self, area_identity: str) -> bool:
        with self._reading() as connection:
            metadata = self._form.metadata(connection, self._table)
        return has_completed(parse_record(metadata, str(self.path)), area_identity)

    def describe(self) -> StoreInfo:
        """Looks at every row's length; `bytes` is the size of the file with its log."""
        with self._reading() as connection:
            metadata = self._form.metadata(connection, self._table)
            by_zoom = self._table.counts(connection)
            noted = journal.counts(connection)
        return StoreInfo(
            location=str(self.path),
            kind=self._form.kind,
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
            metadata = self._form.metadata(connection, self._table)
            zooms = self._table.zoom_range(connection)
            bounds = None
            if zooms is not None and parse_bounds(metadata.get("bounds", "")) is None:
                bounds = self._table.bounds(connection, zooms[1])
            media_type = self._table.first_media_type(connection)
        named = self._table.name != COMMON_NAME
        where = Path(f"{self.path}#{self._table.name}") if named else self.path
        return source_info_of(
            metadata,
            name=self.path.stem,
            identity=identity_of(self._form.kind, where),
            zooms=zooms,
            bounds=bounds,
            media_type=media_type,
            version=file_version(self.path),
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
            self._table = self._form.table_in(connection, names, self.path)
            # Nothing longer is brought into memory; SQLite's own limit is 1 GB.
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, TILE_BYTES_MAX)
            self._media_type = media_type_of_format(
                self._form.metadata(connection, self._table).get("format", "")
            )
        except apsw.Error as error:
            connection.close(force=True)
            raise from_sqlite(error, self.path, "reading") from error
        except UnicodeDecodeError as error:
            connection.close(force=True)
            raise no_text(self.path) from error
        except BaseException:
            connection.close(force=True)
            raise
        self._connection = connection
        return connection

    def _page(self, after: tuple[int, int, int] | None) -> list[tuple[int, int, int]]:
        with self._reading() as connection:
            return self._table.page(connection, after, journal.PAGE_ROWS)

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        """The connection, with SQLite's errors turned into ours."""
        connection = self._connection or self._open()
        try:
            yield connection
        except apsw.Error as error:
            raise from_sqlite(error, self.path, "reading") from error
        except UnicodeDecodeError as error:
            raise no_text(self.path) from error


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
