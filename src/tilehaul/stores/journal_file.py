"""The journal of a store that keeps its tiles elsewhere: one SQLite file of its own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import apsw

from tilehaul.codec.sniff import media_type_of
from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey, Outcome, State
from tilehaul.stores import journal, leftovers
from tilehaul.stores.archive_metadata import is_format_due, merged_with, with_format_of
from tilehaul.stores.disk_errors import from_sqlite
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
from tilehaul.stores.sqlite_file import Durability, WritableFile, open_reading
from tilehaul.stores.writer_lock import WriterLock

# The store may hold tiles that the journal does not know: a job was forced upon it while it had some.
MIXED = PREFIX + "mixed"


class JournalFile:
    """What became of each tile of `location`, and what that store says of itself. One thread at a time.

    Args:
        path: The file; it and missing folders above it are made by `begin`.
        location: What the journal is about, for messages.
        durability: As `DirectoryStore`.
    """

    def __init__(self, path: Path, *, location: str, durability: Durability = "full") -> None:
        self.path = path
        self._location = location
        self._durability: Durability = durability
        self._lock = WriterLock(path)
        self._file: WritableFile | None = None
        self._job: JobKey | None = None
        self._record: StoreRecord | None = None
        # A job is open in the record: true from `begin` or the first commit until `finish`.
        self._writing = False

    def begin(self, job: JobKey, *, has_tiles: bool, force_source: bool) -> JobCounts | None:
        """As `JobStore.begin`; `has_tiles`: whether one tile is kept, by whomever."""
        self._lock.take_once()
        try:
            file = WritableFile(self.path, durability=self._durability)
            self._file = file
            file.prepare()
            if "metadata" not in file.tables():
                with file.transaction() as connection:
                    connection.execute(metadata_schema())
            before = self.metadata()
            old = parse_record(before, self._location)
            record = decide_begin(
                old, job, has_tiles=has_tiles, force_source=force_source, location=self._location
            )
            self._job = job
            counts = counts_of(record, job)
            anew = begins_anew(old, job, has_tiles=has_tiles)
            with file.transaction() as connection:
                if anew:
                    journal.drop_journal(connection)
                journal.create_journal(connection)
                leftovers.create(connection)
                after = merged_with({} if anew else before, job) | record_rows(record)
                if force_source and has_tiles and not job.replay:
                    after[MIXED] = "1"
                write_metadata(connection, before, after)
            self._record, self._writing = record, counts is None
        except BaseException:
            self.close()
            raise
        return counts

    def settled(self, tile_ids: Sequence[TileId]) -> list[State | None]:
        return [None if note is None else journal.STATES[note[0]] for note in self.notes(tile_ids)]

    def notes(self, tile_ids: Sequence[TileId]) -> list[tuple[int, str] | None]:
        """State number and detail of each id; None where there is no row."""
        file = self._opened()
        with file.translated("reading"):
            found = journal.journalled(file.connection, journal.keys_by_zoom(tile_ids))
        return [found[i.z].get(i.x << journal.KEY_BITS | i.y) for i in tile_ids]

    def commit(
        self,
        outcomes: Sequence[Outcome],
        details: Mapping[TileId, str],
        left_over: Sequence[leftovers.TileObject] = (),
    ) -> None:
        """Journal what is durable in the store already; at most one outcome for each tile.

        `details` is a short text for each done tile: the extension it is kept under. `left_over`: what is to
        go, now that the journal names something else.
        """
        file = self._opened()
        job, before = self._begun()
        record = before
        if not self._writing:
            # The job was complete, or finished a moment ago: it is unfinished again.
            record = reopened(record, job)
        after = committed(record, job, outcomes)
        with file.transaction() as connection:
            journal.write_outcomes(connection, outcomes, journal_done=True, details=details)
            leftovers.note(connection, left_over)
            if after is not before:
                write_metadata(connection, record_rows(before), record_rows(after))
        self._record, self._writing = after, True

    def note_left_over(self, objects: Sequence[leftovers.TileObject]) -> None:
        """Before they are written: until the journal names them they are to go."""
        with self._opened().transaction() as connection:
            leftovers.note(connection, objects)

    def left_over(self) -> list[leftovers.TileObject]:
        """What the store may still hold beside what the journal names."""
        file = self._opened()
        with file.translated("reading"):
            return leftovers.unnamed(file.connection)

    def forget_left_over(self) -> None:
        """All of them are gone from the store."""
        file = self._opened()
        with file.translated("reading"):
            empty = leftovers.is_empty(file.connection)
        if not empty:
            with file.transaction() as connection:
                leftovers.forget(connection)

    def finish(
        self, *, complete: bool, counts: JobCounts | None, metadata: Mapping[str, str]
    ) -> dict[str, str]:
        """End the job and keep `metadata`; what the store says of itself from now on.

        The rows of done tiles stay: without them a later job could not know what is kept.
        """
        file = self._opened()
        job, record = self._begun()
        with file.transaction() as connection:
            before = read_metadata(connection)
            if self._writing:
                dead = journal.has_dead(connection)
                record = finished(record, job, counts, complete=complete, dead=dead)
            told = before | dict(metadata)
            if is_format_due(before, job, complete=complete, counts=counts):
                endings = journal.details_of_done(connection)
                told = with_format_of(told, {media_type_of(name): n for name, n in endings.items()})
            after = told | record_rows(record)
            write_metadata(connection, before, after)
        self._record, self._writing = record, False
        file.checkpoint()
        return self.metadata()

    def metadata(self) -> dict[str, str]:
        file = self._opened()
        with file.translated("reading"):
            return read_metadata(file.connection)

    def close(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                try:
                    file.seal()
                finally:
                    file.close()
        finally:
            self._lock.release()

    def _begun(self) -> tuple[JobKey, StoreRecord]:
        if self._job is None or self._record is None:
            raise PlanError(f"{self._location}: nothing was begun")
        return self._job, self._record

    def _opened(self) -> WritableFile:
        if self._file is None:
            raise PlanError(f"{self._location}: nothing was begun")
        return self._file


def read_journal(path: Path) -> tuple[dict[str, str], journal.JournalCounts]:
    """What the store says of itself, and what is noted in a journal that may not be there."""
    if not path.exists():
        return {}, journal.JournalCounts()
    connection = open_reading(path)
    try:
        return read_metadata(connection), journal.counts(connection)
    except apsw.Error as error:
        raise from_sqlite(error, path, "reading") from error
    finally:
        connection.close(force=True)


def read_notes(path: Path, tile_ids: Sequence[TileId]) -> list[State | None] | None:
    """What the journal says of each id; None where there is no journal. Opens it for reading only."""
    if not path.exists():
        return None
    connection = open_reading(path)
    try:
        found = journal.journalled(connection, journal.keys_by_zoom(tile_ids))
    except apsw.Error as error:
        raise from_sqlite(error, path, "reading") from error
    finally:
        connection.close(force=True)
    notes = [found[i.z].get(i.x << journal.KEY_BITS | i.y) for i in tile_ids]
    return [None if note is None else journal.STATES[note[0]] for note in notes]


def read_dead_letters(path: Path, causes: Collection[str]) -> Iterator[DeadLetter]:
    """See `JobStore.dead_letters`; each page is a read of its own, so that no writer is held up."""

    def read_page(after: TileId | None) -> list[DeadLetter]:
        if not path.exists():
            return []
        connection = open_reading(path)
        try:
            return journal.dead_page(connection, after)
        except apsw.Error as error:
            raise from_sqlite(error, path, "reading") from error
        finally:
            connection.close(force=True)

    return journal.dead_letters(read_page, causes)
