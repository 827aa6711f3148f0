"""Reading a PMTiles file, ours or anybody's, together with what a job has not merged into it yet."""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from tilehaul.codec.pmtiles import Span
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
from tilehaul.stores.disk_errors import from_os, from_sqlite
from tilehaul.stores.metadata_table import read_metadata
from tilehaul.stores.pmtiles_file import PmtilesFile, read_at
from tilehaul.stores.pmtiles_spool import BASE_KEY, SPOOL, has_spool, part_path, spool_path
from tilehaul.stores.pmtiles_view import View
from tilehaul.stores.record import has_completed, parse_record, state_of
from tilehaul.stores.source_version import file_version
from tilehaul.stores.sqlite_file import open_reading

# In one statement, so that name and place belong together.
_SPOOLED = (
    "SELECT t.key, c.length, (SELECT value FROM tilehaul_mark WHERE name = ?2) FROM tilehaul_tile AS t "
    "JOIN tilehaul_content AS c ON c.key = t.key WHERE t.id = ?1"
)
# A spool that is merged between looking and reading is found in the file at the next look.
_LOOKS_MAX = 10


def journal_path(store: Path) -> Path:
    return Path(f"{store}.journal")


def remove_journal(store: Path) -> None:
    """With the spool, and all that SQLite put beside it, also where a power cut left only that. OSError."""
    shutil.rmtree(part_path(store), ignore_errors=True)
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{journal_path(store)}{ending}").unlink(missing_ok=True)


class PmtilesReader:
    """Blocking reads by one thread; also while a job writes, and while it puts a new file in place.

    The journal is looked at before the file: a tile that has left the journal is in the file by then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal_path = journal_path(path)
        self._connection: apsw.Connection | None = None
        self._journal_inode: tuple[int, int] | None = None
        self._base: PmtilesFile | None = None
        self._spool: tuple[str, int] | None = None
        # What every read sees, within `one_look`.
        self._look: tuple[apsw.Connection | None, PmtilesFile | None] | None = None

    def get(self, tile_id: TileId) -> Tile | NoTile:
        """The tile.

        Raises:
            PlanError: There is nothing; or it needs what tilehaul does not read.
            DataError: The file is damaged (`corrupt_archive`), the tile too large (`too_large`).
            StorageError: The disk refused.
        """
        z, x, y = tile_id.z, tile_id.x, tile_id.y
        if not 0 <= z <= ZOOM_MAX or not 0 <= x < 1 << z or not 0 <= y < 1 << z:
            return NoTile(tile_id, "not_stored", "store")
        for _ in range(_LOOKS_MAX):
            try:
                with self._reading() as (connection, base):
                    found = self._spooled(connection, tile_id)
                    if found is None and base is not None:
                        found = base.tile(tile_id)
                        if found is not None and View(connection, base).removed([tile_id.pmtiles_id]):
                            found = None
                return found or NoTile(tile_id, "not_stored", "store")
            except FileNotFoundError:
                self._end_look()
                continue
        raise DataError(
            f"{self.path}: its journal names a file in {part_path(self.path).name} that is not there: "
            f"restore it, or remove {self._journal_path.name} and run the job again",
            cause="corrupt_archive",
        )

    @contextmanager
    def one_look(self) -> Iterator[None]:
        with self._reading() as look:
            self._look = look
            try:
                yield
            finally:
                self._look = None

    def _spooled(self, connection: apsw.Connection | None, tile_id: TileId) -> Tile | None:
        """FileNotFoundError when the spool is gone meanwhile."""
        if connection is None or not has_spool(connection):
            return None
        row = connection.execute(_SPOOLED, (tile_id.pmtiles_id, SPOOL)).fetchone()
        if row is None or row[0] is None or int(row[0]) >= BASE_KEY:
            return None
        body = read_at(self._spool_descriptor(str(row[2])), self.path, Span(int(row[0]), int(row[1] or 0)))
        return Tile(tile_id, body, sniff(body), "store")

    def _spool_descriptor(self, number: str) -> int:
        if self._spool is None or self._spool[0] != number:
            self._close_spool()
            path = spool_path(self.path, number)
            try:
                self._spool = number, os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                raise
            except OSError as error:
                raise from_os(error, path, "reading") from error
        return self._spool[1]

    def tile_ids(self) -> Iterator[TileId]:
        """By id: zoom by zoom, along the Hilbert curve; each page is a look of its own."""
        after = -1
        while True:
            with self._reading() as (connection, base):
                page = View(connection, base).page(after, journal.PAGE_ROWS)
            if not page:
                return
            yield from map(TileId.from_pmtiles_id, page)
            after = page[-1]

    def dead_letters(self, causes: Collection[str] = ()) -> Iterator[DeadLetter]:
        return journal.dead_letters(self._dead_page, causes)

    def _dead_page(self, after: TileId | None) -> list[DeadLetter]:
        with self._reading() as (connection, _):
            return [] if connection is None else journal.dead_page(connection, after)

    def states(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        with self._reading() as (connection, base):
            return View(connection, base).states(tile_ids)

    def has_completed(self, area_identity: str) -> bool:
        with self._reading() as (connection, base):
            metadata = metadata_in(connection, base)
        return has_completed(parse_record(metadata, str(self.path)), area_identity)

    def describe(self) -> StoreInfo:
        """Reads every directory; `bytes` is the size of the file and of what is not merged into it yet."""
        with self._reading() as (connection, base):
            metadata = metadata_in(connection, base)
            by_zoom = View(connection, base).counts_by_zoom()
            noted = journal.JournalCounts() if connection is None else journal.counts(connection)
            size_bytes = 0 if base is None else base.size_bytes
        record = parse_record(metadata, str(self.path))
        dead = noted.dead
        if connection is None and record is not None:
            # The journal was left behind; the file knows how many were dead.
            dead = sum(job.counts.dead for job in record.unfinished if job.counts is not None)
        return StoreInfo(
            location=str(self.path),
            kind="pmtiles",
            tiles=sum(by_zoom.values()),
            absent=noted.absent,
            dead=dead,
            bytes=size_bytes + _folder_bytes(part_path(self.path)),
            state=state_of(record, dead=dead),
            metadata=metadata,
            tiles_by_zoom=by_zoom,
            dropped=noted.dropped,
            dead_causes=noted.dead_causes,
        )

    def source_info(self) -> SourceInfo:
        """See `source_info_of`; a foreign file's header counts for its zooms."""
        with self._reading() as (connection, base):
            metadata = metadata_in(connection, base)
            view = View(connection, base)
            zooms, media_type = view.zooms(), view.media_type()
            bounds = None
            if zooms is not None and parse_bounds(metadata.get("bounds", "")) is None:
                bounds = view.bounds(zooms[1])
            first = view.page(-1, 1) if not media_type else []
        if first and not media_type_of_format(metadata.get("format", "")):
            tile = self.get(TileId.from_pmtiles_id(first[0]))
            media_type = tile.media_type if isinstance(tile, Tile) else ""
        return source_info_of(
            metadata,
            name=self.path.stem,
            identity=identity_of("pmtiles", self.path),
            zooms=zooms,
            bounds=bounds,
            media_type=media_type,
            version=file_version(self.path),
        )

    def release(self) -> None:
        self._close_journal()
        self._close_spool()
        base, self._base = self._base, None
        if base is not None:
            base.close()

    @contextmanager
    def _reading(self) -> Iterator[tuple[apsw.Connection | None, PmtilesFile | None]]:
        """Journal and file as they are now, errors of SQLite turned into ours. PlanError without either."""
        try:
            if self._look is not None:
                yield self._look
                return
            connection = self._newest_journal()
            if connection is not None:
                # From here on it is what it is at this moment: the file that is opened next is not older.
                connection.execute("BEGIN")
                has_metadata = connection.execute(
                    "SELECT 1 FROM sqlite_schema WHERE name = 'tilehaul_mark'"
                ).get
                connection = connection if has_metadata else None
            base = self._newest_base()
            if connection is None and base is None:
                raise PlanError(
                    f"{self.path} is no file" if self.path.exists() else f"{self.path}: no such file"
                )
            yield connection, base
        except apsw.Error as error:
            raise from_sqlite(error, self._journal_path, "reading") from error
        finally:
            if self._look is None:
                self._end_look()

    def _end_look(self) -> None:
        """The next read sees what is there then."""
        self._look = None
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _newest_journal(self) -> apsw.Connection | None:
        inode = _inode(self._journal_path)
        if inode is None:
            self._close_journal()
        elif self._connection is None or inode != self._journal_inode:
            self._close_journal()
            try:
                self._connection = open_reading(self._journal_path)
            except PlanError:
                # Gone since we looked: it was merged.
                return None
            self._journal_inode = inode
        return self._connection

    def _newest_base(self) -> PmtilesFile | None:
        inode = _inode(self.path)
        if self._base is not None and self._base.inode != inode:
            self._base.close()
            self._base = None
        if inode is not None and self._base is None:
            self._base = PmtilesFile(self.path)
        return self._base

    def _close_journal(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(force=True)

    def _close_spool(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            os.close(spool[1])


def metadata_in(connection: apsw.Connection | None, base: PmtilesFile | None) -> dict[str, str]:
    """The archive's rows: the journal's own, which began as a copy of the file's."""
    if connection is not None:
        return read_metadata(connection)
    return {} if base is None else dict(base.metadata)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  asked for every tile
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise from_os(error, path, "reading") from error
    return status.st_dev, status.st_ino


def _folder_bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0
