"""Writing a PMTiles file: spool and journal first, the file itself at the end of a job."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobCounts, JobKey, Outcome, State
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import is_format_due, media_type_of_format, merged_with
from tilehaul.stores.atomic_file import sync_folder
from tilehaul.stores.disk_errors import from_os, from_sqlite
from tilehaul.stores.free_space import check_free
from tilehaul.stores.metadata_table import read_metadata, schema, write_metadata
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.pmtiles_merge import check_addable, ends_here, final_rows, holds_all, merge
from tilehaul.stores.pmtiles_reader import journal_path, metadata_in, remove_journal
from tilehaul.stores.pmtiles_spool import (
    BASE,
    DROP,
    NEXT,
    SCHEMA,
    SPOOL,
    Spool,
    marks_in,
    part_path,
    write_index,
    write_marks,
)
from tilehaul.stores.pmtiles_view import View
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
from tilehaul.stores.writer_lock import WriterLock

_MARK_TABLE = "tilehaul_mark"


class PmtilesWriter:
    """Blocking writes, used by one thread at a time. A crash loses no outcome.

    Order of a commit: bodies into the spool, synced; their index and the journal in one transaction. Of a
    finish: the new file, synced; its fingerprint into the journal; its name; the spool forgotten.
    """

    def __init__(self, path: Path, *, durability: Durability, free_bytes_min: int) -> None:
        self.path = path
        self._durability: Durability = durability
        self._free_bytes_min = free_bytes_min
        self._lock = WriterLock(path)
        self._base: PmtilesFile | None = None
        self._file: WritableFile | None = None
        self._spool: Spool | None = None
        self._job: JobKey | None = None
        self._record: StoreRecord | None = None
        self._prepared = self._broken = False
        # The journal is of another source, without one tile: the next `_prepare` drops it.
        self._anew = False
        # The file says all there is to say: the journal goes at the next `seal`.
        self._journal_done = False

    def begin(self, job: JobKey, *, force_source: bool) -> JobCounts | None:
        self._lock.take_once()
        try:
            with self._translated("reading"):
                self._open()
                # A run that was killed before its first transaction left a journal without a table.
                file = self._file
                connection = file.connection if file is not None and _MARK_TABLE in file.tables() else None
                metadata = metadata_in(connection, self._base)
                view = View(connection, self._base)
                has_tiles = view.zooms() is not None
                kept = media_type_of_format(metadata.get("format", "")) or view.media_type()
            old = parse_record(metadata, str(self.path))
            record = decide_begin(
                old, job, has_tiles=has_tiles, force_source=force_source, location=str(self.path)
            )
            if has_tiles:
                check_addable(self.path, kept, self._base, job)
            self._job, self._record, self._prepared = job, record, False
            self._anew = begins_anew(old, job, has_tiles=has_tiles)
            counts = counts_of(record, job)
            if counts is None:
                self._prepare(job, record)
            return counts
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """File and journal as they are, nothing made; a merge that a crash cut short is ended."""
        if self.path.is_dir():
            raise StorageError(f"{self.path} is a folder, not a file: choose another name")
        self._close_base()
        if self.path.exists():
            self._base = PmtilesFile(self.path)
        if self._file is None and journal_path(self.path).exists():
            self._file = WritableFile(journal_path(self.path), durability=self._durability)
            self._file.adopt()
        if self._file is None:
            # Without a journal nothing there counts: what a job could not remove at its end goes now.
            with self._translated("removing"):
                remove_journal(self.path)
            return
        tables = self._file.tables()
        if _MARK_TABLE not in tables:
            if tables:
                raise PlanError(f"{self._file.path} is no journal of tilehaul: move it away")
            return
        with self._file.translated("reading"):
            marks = marks_in(self._file.connection)
        here = self._base.fingerprint if self._base is not None else ""
        if here and marks[NEXT] == here:
            self._tidy(self._file)
        elif marks[BASE] != here:
            raise PlanError(
                f"{self.path} is not the file that tilehaul left: put that one back, or remove "
                f"{journal_path(self.path).name} and {part_path(self.path).name} to go on with what is there"
            )
        elif self._base is not None and self._spool is None:
            self._look_for_rest(self._file, self._base)

    def _prepare(self, job: JobKey, record: StoreRecord) -> None:
        """Make journal and spool ready for commits of `job`."""
        with self._translated("making"):
            check_free(self.path.parent, self._free_bytes_min)
            if self._file is None:
                self._file = WritableFile(journal_path(self.path), durability=self._durability)
            file = self._file
            file.prepare()
            known = metadata_in(file.connection if _MARK_TABLE in file.tables() else None, self._base)
            with file.transaction() as connection:
                if _MARK_TABLE not in file.tables():
                    connection.execute(schema() + SCHEMA)
                    base = "" if self._base is None else self._base.fingerprint
                    write_marks(connection, **{SPOOL: "1", BASE: base, NEXT: ""})
                if self._anew:
                    journal.drop_journal(connection)
                    self._forget_spool(connection)
                connection.execute(SCHEMA)
                journal.create_journal(connection)
                after = merged_with({} if self._anew else known, job) | record_rows(record)
                write_metadata(connection, read_metadata(connection), after)
            if self._spool is None:
                self._spool = Spool(self.path, file.connection, sync=self._durability == "full")
                self._spool.sweep()
            if self._durability == "full":
                sync_folder(str(self.path.parent))
        self._record = record
        self._prepared = True
        self._anew = self._journal_done = False

    def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        if self._file is None:
            return View(None, self._base).states(tile_ids)
        with self._file.translated("reading"):
            return View(self._file.connection, self._base).states(tile_ids)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        if self._broken or (self._file is not None and self._file.broken):
            raise StorageError(
                f"{self.path}: a write failed before; run again to resume from the last commit"
            )
        job, record = self._begun()
        if not self._prepared:
            record = reopened(record, job)
            self._prepare(job, record)
        file, spool = self._opened()
        check_free(self.path.parent, self._free_bytes_min)
        after = committed(record, job, outcomes)
        runs = list(journal.distinct_runs(outcomes))
        with self._translated("writing", fatal=True), file.translated("reading"):
            placed = spool.place([tile for run in runs for tile in journal.tiles_of(run)])
        with file.transaction() as connection:
            placed.write(connection)
            keys = iter(placed.keys)
            for run in runs:
                write_index(connection, run, keys)
                journal.write_outcomes(connection, run, journal_done=False)
            if after is not record:
                write_metadata(connection, record_rows(record), record_rows(after))
        self._record = after

    def finish(self, *, complete: bool, counts: JobCounts | None) -> None:
        job, record = self._begun()
        if not self._prepared:
            return
        file, spool = self._opened()
        with self._translated("reading"), file.translated("reading"):
            dead = journal.has_dead(file.connection)
            record = finished(record, job, counts, complete=complete, dead=dead)
            before = read_metadata(file.connection)
            view = View(file.connection, self._base)
            # A word in its metadata is not worth a copy of the whole file.
            due = ends_here(job, record, complete=complete, counts=counts) and view.changes_base()
            named = not (due and is_format_due(before, job, complete=complete, counts=counts))
            rows = final_rows(self.path, before, view, spool, job, names_format=named) | record_rows(record)
        made = False
        if due:
            # The record ends the job in the file, and in the journal once that is in place: a job that
            # is complete without its file would never be looked at again.
            with self._translated("writing", fatal=True):
                told = {name: value for name, value in rows.items() if value}
                made = merge(self.path, file, spool, self._base, told, free_bytes_min=self._free_bytes_min)
                if made:
                    self._close_base()
                    self._base = PmtilesFile(self.path)
                    self._tidy(file)
        if not made:
            with file.transaction() as connection:
                write_metadata(connection, before, rows)
        self._record, self._prepared = record, False
        file.checkpoint()

    def _tidy(self, file: WritableFile) -> None:
        """The file that is in place holds all of the spool: the journal keeps what else it knows."""
        if (base := self._base) is None:
            return
        with file.transaction() as connection:
            self._forget_spool(connection)
            connection.execute(SCHEMA)
            write_marks(connection, **{BASE: base.fingerprint, NEXT: ""})
            write_metadata(connection, read_metadata(connection), base.metadata)
        self._look_for_rest(file, base)
        if not self._journal_done:
            with file.translated("tidying"):
                file.connection.execute("VACUUM")

    def _look_for_rest(self, file: WritableFile, base: PmtilesFile) -> None:
        """Whether the journal knows anything that the file does not; an empty spool goes."""
        with file.translated("reading"):
            if View(file.connection, None).page_of_spool(-1, 1):
                return
            self._journal_done = holds_all(base, file.connection, str(self.path))
        shutil.rmtree(part_path(self.path), ignore_errors=True)

    def _forget_spool(self, connection: apsw.Connection) -> None:
        """In a transaction: no tile of it counts any more; the next one has another name."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        connection.execute(DROP)
        write_marks(connection, **{SPOOL: str(int(marks_in(connection)[SPOOL]) + 1)})

    def seal(self) -> None:
        if (file := self._file) is None:
            return
        file.seal()
        if self._journal_done and not file.broken and not self._prepared:
            self._file = None
            file.close()
            with self._translated("removing"):
                remove_journal(self.path)
            self._journal_done = False

    def close(self) -> None:
        try:
            if self._spool is not None:
                spool, self._spool = self._spool, None
                spool.close()
                if not spool.stop:
                    shutil.rmtree(part_path(self.path), ignore_errors=True)
            self.seal()
        except DataError:
            pass  # A damaged journal was told of when it was opened; here it only has to be let go.
        finally:
            file, self._file = self._file, None
            self._prepared = False
            self._close_base()
            try:
                if file is not None:
                    file.close()
            finally:
                self._lock.release()

    def _close_base(self) -> None:
        base, self._base = self._base, None
        if base is not None:
            base.close()

    def _begun(self) -> tuple[JobKey, StoreRecord]:
        if self._job is None or self._record is None:
            raise PlanError(f"{self.path}: nothing was begun")
        return self._job, self._record

    def _opened(self) -> tuple[WritableFile, Spool]:
        if self._file is not None and self._spool is not None:
            return self._file, self._spool
        raise PlanError(f"{self.path}: nothing was begun")

    @contextmanager
    def _translated(self, doing: str, *, fatal: bool = False) -> Iterator[None]:
        """Turn the system's and SQLite's errors into ours; after a `fatal` one nothing is written again."""
        try:
            yield
        except apsw.Error as error:
            self._broken = self._broken or fatal
            raise from_sqlite(error, journal_path(self.path), doing) from error
        except OSError as error:
            self._broken = self._broken or fatal
            raise from_os(error, Path(error.filename or self.path), doing) from error
