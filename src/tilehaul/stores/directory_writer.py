"""Writing a directory of tiles: whole files first, then the journal beside it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tilehaul.codec.sniff import media_type_of
from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, Dropped, JobCounts, JobKey, Outcome, State
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import (
    Bounds,
    completed_metadata,
    is_format_due,
    merged_with,
    with_format_of,
)
from tilehaul.stores.directory_files import (
    SOUTH,
    TRUSTED,
    check_rows,
    column_bounds,
    extension_for,
    extensions_of,
    journal_path,
    kinds_kept,
    state_of_file,
    walk,
    zooms_kept,
)
from tilehaul.stores.directory_tree import DirectoryTree
from tilehaul.stores.disk_errors import from_os
from tilehaul.stores.free_space import check_free
from tilehaul.stores.metadata_table import read_metadata, write_metadata
from tilehaul.stores.metadata_table import schema as metadata_schema
from tilehaul.stores.record import (
    PREFIX,
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

# A writer is at work; found by the next one, it means that the last did not end cleanly.
WRITING = PREFIX + "writing"


class DirectoryWriter:
    """Blocking writes to one directory, used by one thread at a time.

    Order of a commit: bodies under temporary names, synced; names, synced; journal. A crash
    at any point leaves whole files only, and a file without its journal row is fetched again.
    """

    def __init__(self, root: Path, *, durability: Durability, free_bytes_min: int, tms: bool = False) -> None:
        self.root = root
        self._tms = tms
        self._path = journal_path(root)
        self._durability: Durability = durability
        self._free_bytes_min = free_bytes_min
        self._lock = WriterLock(root)
        self._tree = DirectoryTree(root, sync=durability == "full", tms=tms)
        self._file: WritableFile | None = None
        self._job: JobKey | None = None
        self._record: StoreRecord | None = None
        self._prepared = False
        self._trusted = False
        # What the journal remembers is of another source, without one tile: the next `_prepare` drops it.
        self._anew = False
        self._broken = False

    def begin(self, job: JobKey, *, force_source: bool) -> JobCounts | None:
        self._lock.take_once()
        try:
            metadata = self._read_journal()
            check_rows(metadata, self.root, tms=self._tms)
            with self._translated("reading"):
                has_tiles = next(walk(self.root, tms=self._tms), None) is not None
            old = parse_record(metadata, str(self.root))
            record = decide_begin(
                old,
                job,
                has_tiles=has_tiles,
                force_source=force_source,
                location=str(self.root),
            )
            self._job, self._record, self._prepared = job, record, False
            self._anew = begins_anew(old, job, has_tiles=has_tiles)
            trusted = TRUSTED in metadata or (PREFIX + "source" not in metadata and has_tiles)
            self._trusted = trusted and not self._anew
            counts = counts_of(record, job)
            if counts is None:
                self._prepare(job, record)
        except BaseException:
            self.close()
            raise
        return counts

    def _read_journal(self) -> dict[str, str]:
        """The journal's metadata, without making a journal."""
        if self.root.exists() and not self.root.is_dir():
            raise StorageError(f"{self.root} is a file, not a folder: choose another name")
        if not self._path.exists():
            return {}
        if self._file is None:
            self._file = WritableFile(self._path, durability=self._durability)
        self._file.adopt()
        tables = self._file.tables()
        if not tables:
            return {}
        if "metadata" not in tables:
            raise PlanError(f"{self._path} is no journal of tilehaul: move it away")
        with self._file.translated("reading"):
            return read_metadata(self._file.connection)

    def _prepare(self, job: JobKey, record: StoreRecord) -> None:
        with self._translated("making"):
            self.root.mkdir(parents=True, exist_ok=True)
        check_free(self.root, self._free_bytes_min)
        if self._file is None:
            self._file = WritableFile(self._path, durability=self._durability)
        file = self._file
        file.prepare()
        if "metadata" not in file.tables():
            with file.transaction() as connection:
                connection.execute(metadata_schema())
        with file.transaction() as connection:
            if self._anew:
                journal.drop_journal(connection)
            journal.create_journal(connection)
            before = read_metadata(connection)
            after = merged_with({} if self._anew else before, job) | record_rows(record)
            marks = {WRITING: "1", SOUTH: "1" if self._tms else "", TRUSTED: "1" if self._trusted else ""}
            write_metadata(connection, before, after | marks)
        if WRITING in before:
            self._sweep()
        with self._translated("syncing"):
            self._tree.open()
            self._tree.sync_folders({str(self.root), str(self.root.parent)})
        self._record = record
        self._prepared = True
        self._anew = False

    def _sweep(self) -> None:
        """After a crash: temporary files go, and of two extensions of a tile the one not journalled."""
        with self._translated("sweeping"):
            for tile_id, extensions in self._tree.sweep():
                note = self._noted([tile_id])[0]
                keep = note[1] if note is not None and note[1] in extensions else ""
                if not keep and self._trusted:
                    keep = extensions[0]
                self._tree.remove(tile_id, [other for other in extensions if other != keep])

    def _noted(self, tile_ids: Sequence[TileId]) -> list[tuple[int, str] | None]:
        """State number and extension of each id; None where there is no journal row."""
        file = self._file
        if file is None:
            return [None] * len(tile_ids)
        with file.translated("reading"):
            if not journal.has_journal(file.connection):
                return [None] * len(tile_ids)
            notes = journal.journalled(file.connection, journal.keys_by_zoom(tile_ids))
        return [notes[i.z].get(i.x << journal.KEY_BITS | i.y) for i in tile_ids]

    def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        notes = self._noted(tile_ids)
        with self._translated("reading"):
            return [
                state_of_file(self.root, tile_id, note, trusted=self._trusted, tms=self._tms)
                for tile_id, note in zip(tile_ids, notes, strict=True)
            ]

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        if self._broken or (self._file is not None and self._file.broken):
            raise StorageError(
                f"{self.root}: a write failed before; run again to resume from the last commit"
            )
        if self._job is None or self._record is None:
            raise PlanError(f"{self.root}: nothing was begun")
        job, record = self._job, self._record
        if not self._prepared:
            record = reopened(record, job)
            self._prepare(job, record)
        check_free(self.root, self._free_bytes_min)
        for run in journal.distinct_runs(outcomes):
            after = committed(record, job, run)
            if after is not record and not job.replay:
                # Before a file goes, no other job may vouch for it any more.
                with self._opened().transaction() as connection:
                    write_metadata(connection, record_rows(record), record_rows(after))
                record = after
            self._commit_run(self._opened(), run, record, after)
            self._record = record = after

    def _commit_run(
        self, file: WritableFile, run: Sequence[Outcome], before: StoreRecord, after: StoreRecord
    ) -> None:
        notes = self._noted([outcome.tile_id for outcome in run])
        tiles = [(tile, extension_for(tile)) for tile in journal.tiles_of(run)]
        details = {tile.tile_id: extension for tile, extension in tiles}
        stale: list[tuple[TileId, list[str]]] = []
        for outcome, note in zip(run, notes, strict=True):
            if isinstance(outcome, DeadLetter | Dropped):
                details[outcome.tile_id] = note[1] if note is not None and note[0] != journal.ABSENT else ""
                continue
            old = self._old_extensions(outcome.tile_id, note)
            gone = [extension for extension in old if extension != details.get(outcome.tile_id)]
            if gone:
                stale.append((outcome.tile_id, gone))
        with self._translated("writing", fatal=True):
            touched = self._tree.write(tiles)
            for tile_id, extensions in stale:
                touched |= self._tree.remove(tile_id, extensions)
            self._tree.sync_folders(touched)
        with file.transaction() as connection:
            journal.write_outcomes(connection, run, journal_done=True, details=details)
            if after is not before:
                write_metadata(connection, record_rows(before), record_rows(after))

    def _old_extensions(self, tile_id: TileId, note: tuple[int, str] | None) -> list[str]:
        if note is not None and note[0] != journal.ABSENT and note[1]:
            return [note[1]]
        return extensions_of(self.root, tile_id, tms=self._tms) if self._trusted else []

    def finish(self, *, complete: bool, counts: JobCounts | None) -> None:
        if self._job is None or self._record is None or not self._prepared:
            return
        file = self._opened()
        with self._translated("syncing", fatal=True):
            self._tree.sync_everything()
        with self._translated("reading"):
            kept = zooms_kept(self.root)
            first = next(walk(self.root, tms=self._tms), None)
        with file.transaction() as connection:
            dead = journal.has_dead(connection)
            record = finished(self._record, self._job, counts, complete=complete, dead=dead)
            before = read_metadata(connection)
            told = before
            if is_format_due(before, self._job, complete=complete, counts=counts):
                with self._translated("reading"):
                    told = with_format_of(before, kinds_kept(self.root, tms=self._tms))
            after = completed_metadata(
                told,
                name=self.root.name,
                zooms=(kept[0], kept[-1]) if kept else None,
                bounds=self._bounds(kept) if "bounds" not in before else None,
                media_type=media_type_of(first[1]) if first else "",
            )
            after |= record_rows(record)
            settled = not record.unfinished and not dead and not journal.has_dropped(connection)
            if settled:
                journal.drop_journal(connection)
                after[TRUSTED] = "1"
                self._trusted = True
            write_metadata(connection, before, after | {WRITING: ""})
        if settled:
            with file.translated("closing"):
                file.connection.execute("VACUUM")
        self._record = record
        self._prepared = False
        file.checkpoint()

    def _bounds(self, kept: list[int]) -> Bounds | None:
        """Looks at every file of the deepest zoom, so only where no job said its bounds."""
        with self._translated("reading"):
            return column_bounds(self.root, kept[-1], tms=self._tms) if kept else None

    def seal(self) -> None:
        if self._file is not None:
            self._file.seal()

    def close(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                try:
                    self._say_clean(file)
                    file.seal()
                finally:
                    file.close()
        except DataError:
            # A damaged journal was told of when it was opened; here it only has to be let go.
            pass
        finally:
            self._prepared = False
            self._tree.close()
            self._lock.release()

    def _say_clean(self, file: WritableFile) -> None:
        if self._prepared and not self._broken and not file.broken:
            with file.transaction() as connection:
                connection.execute("DELETE FROM metadata WHERE name = ?", (WRITING,))

    def _opened(self) -> WritableFile:
        if self._file is None:
            raise PlanError(f"{self.root}: nothing was begun")
        return self._file

    @contextmanager
    def _translated(self, doing: str, *, fatal: bool = False) -> Iterator[None]:
        """Turn the system's errors into ours; after a `fatal` one the directory is not written again."""
        try:
            yield
        except OSError as error:
            self._broken = self._broken or fatal
            raise from_os(error, Path(os.fsdecode(error.filename or self.root)), doing) from error
