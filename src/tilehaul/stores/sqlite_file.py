"""SQLite files: how they are opened, made durable, sealed, and what their errors mean.

The only file of the stores that decides pragmas; `docs/decisions/0003-sqlite.md` has the figures.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import apsw

from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.stores.disk_errors import BUSY_MS_MAX, from_os, from_sqlite, no_text, sqlite_name

log = logging.getLogger(__name__)

Durability = Literal["full", "fast"]

# Small tiles are read at half the cost of 32 KiB pages, and a file of three tiles stays small.
PAGE_BYTES = 8192
# The write-ahead log is folded into the file each time it has grown by this much.
CHECKPOINT_BYTES = 16 * 1024 * 1024
# At the end we ask readers elsewhere to let us fold up the log. Nothing is lost when they do not.
FOLD_BUSY_MS_MAX = 2_000
SEAL_BUSY_MS_MAX = 500


def open_reading(path: Path) -> apsw.Connection:
    """A read-only connection; each statement sees the newest commit.

    What a writer that is gone had not committed is taken back first: for that the file is written.

    Raises:
        PlanError: There is no such file.
        StorageError: It cannot be read.
        DataError: It is not an SQLite file.
    """
    if not path.is_file():
        raise PlanError(f"{path} is no file" if path.exists() else f"{path}: no such file")
    try:
        return _probed(apsw.Connection(sqlite_name(path), flags=apsw.SQLITE_OPEN_READONLY), path)
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK:
            return _rolled_back(path)
        if Path(f"{path}-wal").exists():
            raise from_sqlite(error, path, "reading") from error
    except apsw.Error as error:
        raise from_sqlite(error, path, "reading") from error
    # A file left in WAL mode on a read-only medium: nobody can be writing it, so it may be read as is.
    uri = f"file:{quote(sqlite_name(path.absolute()))}?immutable=1"
    try:
        return _probed(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI), path)
    except apsw.Error as error:
        raise from_sqlite(error, path, "reading") from error


def _rolled_back(path: Path) -> apsw.Connection:
    """Beside the file lies the journal of a transaction that was cut off: half of it may be in the file."""
    try:
        _probed(apsw.Connection(sqlite_name(path), flags=apsw.SQLITE_OPEN_READWRITE), path).close()
        return _probed(apsw.Connection(sqlite_name(path), flags=apsw.SQLITE_OPEN_READONLY), path)
    except apsw.Error as error:
        raise from_sqlite(error, path, "taking back what was not committed in") from error


def _probed(connection: apsw.Connection, path: Path) -> apsw.Connection:
    """Touch the file: SQLite opens lazily, and a wrong file is told of at once. DataError, apsw.Error."""
    try:
        connection.set_busy_timeout(BUSY_MS_MAX)
        connection.execute("PRAGMA mmap_size=0")
        connection.execute("SELECT count(*) FROM sqlite_schema").get  # noqa: B018  `get` steps
        if _ends_within_a_page(path, int(connection.pragma("page_size"))):
            words = f"{path} is damaged: it was cut off; restore it from a copy"
            raise DataError(words, cause="corrupt_archive")
    except BaseException:
        connection.close()
        raise
    return connection


def _ends_within_a_page(path: Path, page_bytes: int) -> bool:
    """SQLite reads zeros where the last page is missing its end.

    A log beside the file may still have to be folded into it; then its end is nobody's business.
    """
    logs = [Path(f"{path}{ending}") for ending in ("-wal", "-journal")]
    try:
        if any(log.exists() for log in logs) or not path.stat().st_size % page_bytes:
            return False
        # A writer that began meanwhile has one now.
        return not any(log.exists() for log in logs)
    except OSError:
        return False  # it is read next, which tells more


class WritableFile:
    """An SQLite file opened for writing by one thread; made if it is not there.

    Opening changes nothing in an existing file: `prepare` does.
    """

    def __init__(self, path: Path, *, durability: Durability = "full") -> None:
        self.path = path
        self._durability = durability
        self.broken = False
        self._in_wal = False
        self._told = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os(error, path.parent, "making the folder") from error
        try:
            self.connection = _probed(apsw.Connection(sqlite_name(path)), path)
        except apsw.Error as error:
            raise from_sqlite(error, path, "opening") from error

    def prepare(self, *, application_id: int = 0, user_version: int = 0) -> None:
        """Make ready for durable, cheap commits. Page size, id and version are set on an empty file only."""
        with self.translated("preparing"):
            if not self.tables():
                self.connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
                self.connection.execute(f"PRAGMA application_id={application_id}")
                self.connection.execute(f"PRAGMA user_version={user_version}")
            self._switch("wal", "preparing")
            # FULL syncs the log at every commit; NORMAL survives a killed process, and may lose the
            # last commits (never the file) when the power goes.
            synchronous = "FULL" if self._durability == "full" else "NORMAL"
            self.connection.execute(f"PRAGMA synchronous={synchronous}")
            page_bytes = int(self.connection.pragma("page_size"))
            self.connection.wal_autocheckpoint(max(1, CHECKPOINT_BYTES // page_bytes))
        self._in_wal = True

    def tables(self) -> dict[str, str]:
        """Name to `table` or `view`."""
        with self.translated("reading"):
            rows = self.connection.execute(
                "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"
            )
            return {str(name): str(kind) for name, kind in rows}

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn SQLite's errors into ours; after a failed write the file is not written again."""
        try:
            yield
        except apsw.Error as error:
            # A failed sync may have dropped the pages it did not write, and a second sync would
            # "succeed" without them: the last commit that was acknowledged stays the last.
            self.broken = self.broken or isinstance(error, (apsw.IOError, apsw.FullError))
            told_by_system = isinstance(error, (apsw.IOError, apsw.CantOpenError))
            number = self.connection.system_errno if told_by_system else 0
            raise from_sqlite(error, self.path, doing, system_errno=number) from error
        except UnicodeDecodeError as error:
            raise no_text(self.path) from error

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All or nothing, durable when it ends without an error."""
        if self.broken:
            raise StorageError(
                f"{self.path}: a write failed before; run again to resume from the last commit"
            )
        connection = self.connection
        with self.translated("writing"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            self.connection.execute("ROLLBACK")
        except apsw.Error:
            # The error that brought us here is the one to tell.
            self.broken = True

    def checkpoint(self) -> bool:
        """Fold the whole log into the file; whether that was done.

        A reader elsewhere that holds a transaction keeps it from us. Everything is durable in the
        -wal then, and the next to open the file folds it: a note in the log, no error. The first
        time we wait `FOLD_BUSY_MS_MAX`, after that `SEAL_BUSY_MS_MAX`.
        """
        if not self._in_wal or self.broken:
            return True
        with self._waiting(SEAL_BUSY_MS_MAX if self._told else FOLD_BUSY_MS_MAX):
            busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        if busy and not self._told:
            self._told = True
            log.warning(
                "%s: another program is reading it, so a part stays in %s-wal; nothing is lost, but "
                "copy both, or close the other program and run again",
                self.path,
                self.path,
            )
        return not busy

    def seal(self) -> None:
        """Leave rollback mode behind, so that the file is one file.

        When another program has it open the -wal stays until that one leaves; nothing is lost, so
        this is no error (see `checkpoint`).
        """
        if self.broken or not self._in_wal or not self.checkpoint():
            return
        with self._waiting(SEAL_BUSY_MS_MAX):
            try:
                self._switch("delete", "closing")
                self._in_wal = False
            except apsw.BusyError:
                pass

    @contextmanager
    def _waiting(self, busy_ms: int) -> Iterator[None]:
        """Wait at most that long for others, with errors translated."""
        with self.translated("closing"):
            self.connection.set_busy_timeout(busy_ms)
            try:
                yield
            finally:
                self.connection.set_busy_timeout(BUSY_MS_MAX)

    def _switch(self, mode: str, doing: str) -> None:
        """Change the journal mode. SQLite answers the old one, not an error, when a write or sync failed."""
        answer = str(self.connection.pragma("journal_mode", mode))
        if answer != mode:
            self.broken = True
            raise StorageError(
                f"{doing} {self.path} failed: the disk reported an error (it stays in mode {answer}); "
                "run the same command again"
            )

    def adopt(self) -> None:
        """Take over a file of ours that a killed run left in WAL mode, so that `seal` tidies it."""
        with self.translated("reading"):
            self._in_wal = str(self.connection.pragma("journal_mode")) == "wal"

    def close(self) -> None:
        """Close; after a failed write without touching the file again."""
        if self.broken:
            self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.connection.close(force=True)
