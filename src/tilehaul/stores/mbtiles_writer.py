"""Writing an MBTiles 1.3 file: tiles and journal in one file and one transaction."""

from collections.abc import Sequence
from pathlib import Path

import apsw

from tilehaul.codec.sniff import VECTOR_TILE
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobCounts, JobKey, Outcome, State
from tilehaul.ports.tile import NoTile
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    bounds_text,
    completed_metadata,
    format_of,
    media_type_of_format,
    merged,
)
from tilehaul.stores.atomic_file import sync_folder
from tilehaul.stores.free_space import check_free
from tilehaul.stores.mbtiles_reader import first_media_type, states_in, tile_bounds, zoom_range
from tilehaul.stores.metadata_table import SCHEMA as METADATA_SCHEMA
from tilehaul.stores.metadata_table import read_metadata, write_metadata
from tilehaul.stores.record import (
    StoreRecord,
    begins_anew,
    counts_of,
    decide_begin,
    finished,
    parse_record,
    record_rows,
    reopened,
    replayed,
)
from tilehaul.stores.sqlite_file import Durability, WritableFile, from_os
from tilehaul.stores.writer_lock import WriterLock

# "MPBX" (MBTiles 1.3, "Database"; registered in SQLite's magic.txt).
APPLICATION_ID = 0x4D504258

_SCHEMA = """
CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB);
CREATE UNIQUE INDEX tile_index ON tiles (zoom_level, tile_column, tile_row);
"""
_PUT = "INSERT OR REPLACE INTO tiles (zoom_level, tile_column, tile_row, tile_data) VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"


class MbtilesWriter:
    """Blocking writes to one file over one connection, used by one thread at a time."""

    def __init__(self, path: Path, *, durability: Durability, free_bytes_min: int) -> None:
        self.path = path
        self._durability: Durability = durability
        self._free_bytes_min = free_bytes_min
        self._lock = WriterLock(path)
        self._file: WritableFile | None = None
        self._job: JobKey | None = None
        self._record: StoreRecord | None = None
        self._prepared = False
        self._has_format = False
        # What the file remembers is of another source, without one tile: the next `_prepare` drops it.
        self._anew = False

    def begin(self, job: JobKey, *, force_source: bool) -> JobCounts | None:
        self._lock.take_once()
        try:
            if self._file is None:
                self._file = WritableFile(self.path, durability=self._durability)
            record = self._decide(self._file, job, force_source=force_source)
            self._file.adopt()
            self._job, self._record, self._prepared = job, record, False
            counts = counts_of(record, job)
            if counts is None:
                self._prepare(self._file, job, record)
        except BaseException:
            self.close()
            raise
        return counts

    def _decide(self, file: WritableFile, job: JobKey, *, force_source: bool) -> StoreRecord:
        self._anew = False
        tables = file.tables()
        if not tables:
            return decide_begin(
                None, job, has_tiles=False, force_source=force_source, location=str(self.path)
            )
        if not {"tiles", "metadata"} <= tables.keys():
            raise PlanError(
                f"{self.path} is an SQLite file but not an MBTiles (no tables tiles, metadata): "
                "choose another name"
            )
        if tables["tiles"] != "table":
            raise PlanError(
                f"{self.path} keeps equal tiles once (tiles is a view): tilehaul reads it but "
                "cannot add to it; copy it into a new file first"
            )
        with file.translated("reading"):
            metadata = read_metadata(file.connection)
            has_tiles = file.connection.execute("SELECT 1 FROM tiles LIMIT 1").fetchone() is not None
        old = media_type_of_format(metadata.get("format", ""))
        new = media_type_of_format(dict(job.metadata).get("format", "")) or old
        if has_tiles and old and (old == VECTOR_TILE) != (new == VECTOR_TILE):
            raise PlanError(
                f"{self.path} holds {format_of(old)} tiles; {format_of(new)} cannot be added to them"
            )
        record = parse_record(metadata, str(self.path))
        self._anew = begins_anew(record, job, has_tiles=has_tiles)
        return decide_begin(
            record, job, has_tiles=has_tiles, force_source=force_source, location=str(self.path)
        )

    def _prepare(self, file: WritableFile, job: JobKey, record: StoreRecord) -> None:
        """Make the file ready for commits of `job`, in one transaction."""
        check_free(self.path.parent, self._free_bytes_min)
        fresh = not file.tables()
        file.prepare(application_id=APPLICATION_ID)
        with file.transaction() as connection:
            if fresh:
                connection.execute(METADATA_SCHEMA + _SCHEMA)
            else:
                self._ensure_index(connection)
            if self._anew:
                journal.drop_journal(connection)
            journal.create_journal(connection)
            before = read_metadata(connection)
            kept = {} if self._anew else _with_bounds(connection, before)
            metadata = merged(kept, dict(job.metadata)) | record_rows(record)
            write_metadata(connection, before, metadata)
            self._has_format = bool(metadata.get("format"))
        if fresh:
            try:
                sync_folder(str(self.path.parent))
            except OSError as error:
                raise from_os(error, self.path.parent, "syncing") from error
        self._record = record
        self._prepared = True
        self._anew = False

    def _ensure_index(self, connection: apsw.Connection) -> None:
        for _, name, unique, *_ in connection.execute("PRAGMA index_list(tiles)").fetchall():
            columns = {row[2] for row in connection.execute(f'PRAGMA index_info("{name}")')}
            if unique and columns == {"zoom_level", "tile_column", "tile_row"}:
                return
        try:
            connection.execute(
                "CREATE UNIQUE INDEX tilehaul_tile_index ON tiles (zoom_level, tile_column, tile_row)"
            )
        except apsw.ConstraintError as error:
            raise PlanError(
                f"{self.path} has several tiles at one address: tilehaul reads it but cannot add to it"
            ) from error

    def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        file = self._opened()
        with file.translated("reading"):
            return states_in(file.connection, tile_ids) if file.tables() else [None] * len(tile_ids)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        file = self._opened()
        job, record = self._reopen(file)
        check_free(self.path.parent, self._free_bytes_min)
        after = replayed(record, outcomes) if job.replay else record
        with file.transaction() as connection:
            for run in journal.distinct_runs(outcomes):
                tiles = journal.tiles_of(run)
                connection.executemany(
                    _PUT,
                    [(t.tile_id.z, t.tile_id.x, _tms_row(t.tile_id), t.body) for t in tiles],
                )
                gone = [o.tile_id for o in run if isinstance(o, NoTile)]
                connection.executemany(_DROP, [(g.z, g.x, _tms_row(g)) for g in gone])
                journal.write_outcomes(connection, run, journal_done=False)
                name = format_of(tiles[0].media_type) if tiles and not self._has_format else ""
                if name:
                    connection.execute("INSERT INTO metadata (name, value) VALUES ('format', ?)", (name,))
                    self._has_format = True
            if after is not record:
                write_metadata(connection, record_rows(record), record_rows(after))
        self._record = after

    def _reopen(self, file: WritableFile) -> tuple[JobKey, StoreRecord]:
        """A job that was complete, or finished a moment ago, writes again: it is unfinished again."""
        if self._job is None or self._record is None:
            raise PlanError(f"{self.path}: nothing was begun")
        job, record = self._job, self._record
        if not self._prepared:
            record = reopened(record, job)
            self._prepare(file, job, record)
        return job, record

    def finish(self, *, complete: bool, counts: JobCounts | None) -> None:
        file = self._opened()
        if self._job is None or self._record is None or not self._prepared:
            return
        with file.transaction() as connection:
            dead = journal.has_dead(connection)
            record = finished(self._record, self._job, counts, complete=complete, dead=dead)
            before = read_metadata(connection)
            zooms = zoom_range(connection)
            metadata = completed_metadata(
                before,
                name=self.path.stem,
                zooms=zooms,
                bounds=tile_bounds(connection, zooms[1]) if zooms and "bounds" not in before else None,
                media_type=first_media_type(connection),
            )
            write_metadata(connection, before, metadata | record_rows(record))
            if not record.unfinished and not dead and not journal.has_dropped(connection):
                journal.drop_journal(connection)
        self._record = record
        self._prepared = False
        file.checkpoint()

    def seal(self) -> None:
        if self._file is not None:
            self._file.seal()

    def close(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                try:
                    file.seal()
                finally:
                    file.close()
        except DataError:
            # A damaged file was told of when it was opened; here it only has to be let go.
            pass
        finally:
            self._lock.release()

    def _opened(self) -> WritableFile:
        if self._file is None:
            raise PlanError(f"{self.path}: nothing was begun")
        return self._file


def _tms_row(tile_id: TileId) -> int:
    """MBTiles counts rows from the south."""
    return (1 << tile_id.z) - 1 - tile_id.y


def _with_bounds(connection: apsw.Connection, metadata: dict[str, str]) -> dict[str, str]:
    """The metadata with bounds of the tiles that are there, so that a job's bounds widen them."""
    zooms = zoom_range(connection)
    if "bounds" in metadata or zooms is None:
        return metadata
    bounds = tile_bounds(connection, zooms[1])
    return metadata if bounds is None else metadata | {"bounds": bounds_text(bounds)}
