"""Writing a tile archive that is an SQLite file: tiles and journal in one file and one transaction."""

from collections.abc import Sequence
from pathlib import Path

import apsw

from tilehaul.codec.sniff import VECTOR_TILE
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobCounts, JobKey, Outcome, State
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    bounds_text,
    completed_metadata,
    format_of,
    is_format_due,
    media_type_of_format,
    merged_with,
    with_format_of,
)
from tilehaul.stores.atomic_file import sync_folder
from tilehaul.stores.disk_errors import from_os
from tilehaul.stores.free_space import check_free
from tilehaul.stores.record import (
    StoreRecord,
    committed,
    counts_of,
    finished,
    parse_record,
    record_rows,
    reopened,
)
from tilehaul.stores.record_begin import begins_anew, decide_begin
from tilehaul.stores.sqlite_file import Durability, WritableFile
from tilehaul.stores.sqlite_form import WriteForm
from tilehaul.stores.tile_table import TileTable
from tilehaul.stores.writer_lock import WriterLock


class SqliteWriter:
    """Blocking writes to one file over one connection, used by one thread at a time."""

    def __init__(self, path: Path, form: WriteForm, *, durability: Durability, free_bytes_min: int) -> None:
        self.path = path
        self._form = form
        # Known from `begin` or the first `_prepare` on.
        self._table: TileTable | None = None
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
        self._form.check_format(dict(job.metadata).get("format", ""), self.path)
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
        self._table = None
        tables = file.tables()
        if not tables:
            return decide_begin(
                None, job, has_tiles=False, force_source=force_source, location=str(self.path)
            )
        with file.translated("reading"):
            self._form, table = self._form.writing_to(file.connection, tables, self.path)
            metadata = self._form.metadata(file.connection, table)
            has_tiles = table.has_tiles(file.connection)
        self._table = table
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
        form = self._form
        file.prepare(application_id=form.application_id, user_version=form.user_version)
        with file.transaction() as connection:
            if fresh or self._table is None:
                table = form.create(connection)
            else:
                table = self._table
                form.adopt(connection, table, self.path)
            if self._anew:
                journal.drop_journal(connection)
            journal.create_journal(connection)
            before = form.metadata(connection, table)
            kept = {} if self._anew else _with_bounds(connection, table, before)
            metadata = merged_with(kept, job) | record_rows(record)
            form.write_metadata(connection, table, before, metadata)
            self._has_format = bool(metadata.get("format"))
        if fresh:
            try:
                sync_folder(str(self.path.parent))
            except OSError as error:
                raise from_os(error, self.path.parent, "syncing") from error
        self._table = table
        self._record = record
        self._prepared = True
        self._anew = False

    def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        file = self._opened()
        with file.translated("reading"):
            if self._table is None:
                return [None] * len(tile_ids)
            return self._table.states(file.connection, tile_ids)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        file = self._opened()
        job, record = self._reopen(file)
        form, table = self._form, self._tiles()
        check_free(self.path.parent, self._free_bytes_min)
        after = committed(record, job, outcomes)
        with file.transaction() as connection:
            for run in journal.distinct_runs(outcomes):
                tiles = journal.tiles_of(run)
                for kind in {tile.media_type for tile in tiles}:
                    form.check_format(kind, self.path)
                form.put(connection, table, tiles)
                form.drop(connection, table, journal.gone_of(run))
                journal.write_outcomes(connection, run, journal_done=False)
                name = format_of(tiles[0].media_type) if tiles and not self._has_format else ""
                if name:
                    form.write_metadata(connection, table, {}, {"format": name})
                    self._has_format = True
            if after is not record:
                form.write_metadata(connection, table, record_rows(record), record_rows(after))
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
        form, table = self._form, self._tiles()
        with file.transaction() as connection:
            dead = journal.has_dead(connection)
            record = finished(self._record, self._job, counts, complete=complete, dead=dead)
            before = told = form.metadata(connection, table)
            if is_format_due(before, self._job, complete=complete, counts=counts):
                told = with_format_of(before, table.kinds(connection))
            zooms = table.zoom_range(connection)
            metadata = completed_metadata(
                told,
                name=self.path.stem,
                zooms=zooms,
                bounds=table.bounds(connection, zooms[1]) if zooms and "bounds" not in before else None,
                media_type=table.first_media_type(connection),
            )
            form.write_metadata(connection, table, before, metadata | record_rows(record))
            form.tidy(connection)
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

    def _tiles(self) -> TileTable:
        if self._table is None:
            raise PlanError(f"{self.path}: nothing was begun")
        return self._table


def _with_bounds(connection: apsw.Connection, table: TileTable, metadata: dict[str, str]) -> dict[str, str]:
    """The metadata with bounds of the tiles that are there, so that a job's bounds widen them."""
    zooms = table.zoom_range(connection)
    if "bounds" in metadata or zooms is None:
        return metadata
    bounds = table.bounds(connection, zooms[1])
    return metadata if bounds is None else metadata | {"bounds": bounds_text(bounds)}
