"""One writer of a store, across processes."""

import os
from pathlib import Path

from filelock import FileLock, Timeout

from tilehaul.errors import PlanError, StorageError
from tilehaul.stores.disk_errors import cannot_write, from_os


class WriterLock:
    """`NAME.lock` beside a store, held while it is written.

    The lock is the operating system's and ends with the process: a file left by one that was
    killed holds nobody up.
    """

    def __init__(self, store: Path) -> None:
        self.path = Path(f"{store}.lock")
        self._store = store
        # Taken and let go of on the store's thread, closed from wherever it must be.
        self._lock = FileLock(self.path, thread_local=False)

    def take_once(self) -> None:
        """Take the lock unless we have it.

        Raises:
            PlanError: Another writer holds it.
            StorageError: The folder refuses the file.
        """
        if self._lock.is_locked:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            # Also what the lock answers where no file can be made at all, as in /proc.
            self._check_makeable()
            raise PlanError(
                f"another tilehaul is writing {self._store} ({self.path.name} is held): "
                "wait for it, or choose another store"
            ) from error
        except OSError as error:
            raise self._refusal(error) from error
        except NotImplementedError as error:
            raise StorageError(
                f"{self.path.parent} is on a disk without locks ({error}): choose another place for the store"
            ) from error

    def _check_makeable(self) -> None:
        """StorageError when the lock file is not there and cannot be made."""
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644))
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> StorageError:
        # "No such file" about a file that was to be made means a folder that takes none.
        if isinstance(error, FileNotFoundError):
            return cannot_write(self.path, "it takes no files")
        return from_os(error, self.path, "locking")

    def release(self) -> None:
        """Let go and remove the file. Safe to call twice."""
        if not self._lock.is_locked:
            return
        # Removed while held: a writer that opened the old file meanwhile sees, once it has the lock,
        # that the file is gone and starts over (filelock checks the inode).
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass
        self._lock.release()
