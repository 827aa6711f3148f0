"""Room on the local disk."""

import shutil
from pathlib import Path

from tilehaul.errors import StorageError
from tilehaul.stores.disk_errors import from_os

# Below this much free space a commit is refused: room to close the store must stay.
FREE_BYTES_MIN = 64 * 1024 * 1024


def check_free(folder: Path, bytes_min: int) -> None:
    """StorageError when the disk of `folder` has less than `bytes_min` bytes left."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise from_os(error, folder, "looking at") from error
    if free_bytes < bytes_min:
        raise StorageError(
            f"{folder}: {free_bytes // 2**20} MiB free, {bytes_min // 2**20} MiB needed; "
            "make room and run again to resume"
        )
