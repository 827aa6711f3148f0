"""The place itself that a path names, so that what lies beside it has one name."""

import errno
import os
from pathlib import Path

from tilehaul.errors import PlanError
from tilehaul.stores.disk_errors import from_os

# What names a folder without saying its name: nothing can be put beside it by adding an ending.
_NAMELESS = frozenset({"", ".", ".."})


def real_path(path: Path) -> Path:
    """Where the link leads that `path` is, and what `.` and `..` are called; any other path as it was typed.

    Lock, journal and spool are named after the store. Named after the link they would be others than those of
    its target, and two writers would each have a lock. A link further up leads to the same files anyway.

    Raises:
        PlanError: A link that leads to itself.
        StorageError: The disk refused.
    """
    if path.name not in _NAMELESS and not path.is_symlink():
        return path
    try:
        real = Path(os.path.realpath(path))
        if real.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PlanError(f"{path} is a link that leads to itself: name the file or folder") from error
        raise from_os(error, path, "looking at") from error
    return real
