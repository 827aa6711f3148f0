"""What the disk's and SQLite's refusals mean, as errors of ours."""

import errno
import os
from pathlib import Path

import apsw

from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.stores.journal import WAY_OUT

BUSY_MS_MAX = 10_000
# Most bytes of one tile read from an archive: the largest picture that verifies, 4096 x 4096 pixels of
# four bytes, not compressed at all.
TILE_BYTES_MAX = 64 * 1024 * 1024

_CORRUPT = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_BUSY = (apsw.BusyError, apsw.LockedError)
_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = "the disk is full: make room and run the same command again"
# Where a folder or its disk says no for good. What only looks is told in the system's own words.
_REFUSALS = {errno.EACCES: "permission denied", errno.EPERM: "permission denied", errno.EROFS: "read-only"}
_DETAIL_CHARS_MAX = 200
_LOOKS = frozenset({"reading", "looking at"})
_WORDS = {
    apsw.IOError: "the disk reported an error",
    apsw.ReadOnlyError: "it cannot be written",
    apsw.CantOpenError: "it cannot be opened or created",
    apsw.PermissionsError: "permission denied",
}


def no_text(path: Path) -> DataError:
    return DataError(f"{path}: a text in it is not UTF-8: it is damaged", cause="corrupt_archive")


def sqlite_name(path: Path) -> str:
    """The path as SQLite takes it. Raises PlanError: a name that is no UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise PlanError(f"{shown}: this name is not UTF-8, and SQLite takes no other: rename it") from error
    return str(path)


def from_sqlite(
    error: apsw.Error, path: Path, doing: str, *, system_errno: int = 0
) -> StorageError | DataError:
    """The error of ours that an SQLite error means. `doing` as in "writing"."""
    told = one_line(str(error))
    if isinstance(error, _CORRUPT):
        # SQLite says "malformed" also of a page that the disk could not read (SQLITE_IOERR_CORRUPTFS).
        way_out = WAY_OUT if path.suffix == ".journal" else "move it away, or restore it from a copy"
        if isinstance(error, apsw.CorruptError):
            way_out = f"run again if its disk had errors, else {way_out}"
        return DataError(
            f"{path} is damaged or no SQLite file ({told}): {way_out}",
            cause="corrupt_archive",
        )
    if isinstance(error, apsw.TooBigError):
        return DataError(
            f"{doing} {path} failed: more than the {TILE_BYTES_MAX} bytes allowed ({told})",
            cause="too_large",
        )
    if isinstance(error, _BUSY):
        return StorageError(f"{path}: another program holds it; waited {BUSY_MS_MAX / 1000:g} s ({told})")
    if isinstance(error, apsw.FullError) or system_errno in _FULL_ERRNOS:
        return StorageError(f"{doing} {path} failed: {FULL_WORDS}")
    words = _WORDS.get(type(error), type(error).__name__)
    detail = os.strerror(system_errno) if system_errno else told
    return StorageError(f"{doing} {path} failed: {words} ({detail})")


def one_line(text: str) -> str:
    """One printable line: SQLite quotes a schema, which others may have written."""
    return "".join(c if c.isprintable() else "?" for c in text[:_DETAIL_CHARS_MAX])


def from_os(error: OSError, path: Path, doing: str) -> StorageError:
    """The error of ours for a file or folder that refused; a folder where nothing can be written is named."""
    if error.errno in _FULL_ERRNOS:
        return StorageError(f"{doing} {path} failed: {FULL_WORDS}")
    if error.errno in _REFUSALS and doing not in _LOOKS:
        return cannot_write(path, _REFUSALS[error.errno])
    return StorageError(f"{doing} {path} failed: {error.strerror or error}")


def cannot_write(path: Path, reason: str) -> StorageError:
    """`path` cannot be made or replaced: names the folder, the nearest above it that is there."""
    folder = path.absolute().parent
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110  `Path.exists` may raise
        folder = folder.parent
    return StorageError(f"cannot write in {folder} ({reason}): choose another place for the store")
