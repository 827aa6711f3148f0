"""One sync for many files: Linux's `syncfs`, where its word can be trusted.

A sync for each of 500 new files makes the disk empty its cache 500 times; this does it once.
"""

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

# Before Linux 5.8 `syncfs` does not say that bytes could not be written (syncfs(2), "BUGS").
KERNEL_MIN = (5, 8)
# ext2 to ext4, XFS, Btrfs and memory (statfs(2)). An overlay does not pass errors on, and a network's disk
# is elsewhere.
TRUSTED_TYPES = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})
# More than `struct statfs` has on any system. It begins with the type, a `long`.
_STATFS_BYTES = 512


@dataclass(frozen=True, slots=True)
class WholeDisk:
    """The file system of a folder, kept open: an error since then is told of, whoever's bytes it met."""

    folder: str
    device: int
    _descriptor: int
    _library: "ctypes.CDLL"

    def sync(self) -> None:
        """All that was written to any file on it before is durable. OSError."""
        import ctypes  # noqa: PLC0415  loaded by now

        if self._library.syncfs(self._descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.folder)

    def close(self) -> None:
        os.close(self._descriptor)


def open_whole_disk(folder: str) -> WholeDisk | None:
    """None where files have to be synced one by one. OSError."""
    if sys.platform != "linux" or not _kernel_tells(os.uname().release):
        return None
    import ctypes  # noqa: PLC0415  15 ms, and only this needs it

    library = ctypes.CDLL(None, use_errno=True)
    if not (hasattr(library, "syncfs") and hasattr(library, "fstatfs")):
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = ctypes.create_string_buffer(_STATFS_BYTES)
        failed = library.fstatfs(descriptor, status)
        if not failed and ctypes.c_ulong.from_buffer(status).value in TRUSTED_TYPES:
            return WholeDisk(folder, os.fstat(descriptor).st_dev, os.dup(descriptor), library)
        return None
    finally:
        os.close(descriptor)


def _kernel_tells(release: str) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= KERNEL_MIN
