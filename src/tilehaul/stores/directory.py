"""A directory of `{z}/{x}/{y}.{ext}` as a store, with its journal in `NAME.journal` beside it."""

from pathlib import Path

from tilehaul.stores.directory_reader import DirectoryReader
from tilehaul.stores.directory_writer import DirectoryWriter
from tilehaul.stores.free_space import FREE_BYTES_MIN
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_file import Durability
from tilehaul.stores.threaded import ThreadedStore


class DirectoryStore(ThreadedStore):
    """`JobStore` and `TileArchive` on one directory; nothing is touched before the first call.

    Rows are counted from the north (XYZ), or with `tms` from the south; extensions follow the bytes.
    `NAME.journal` (SQLite) stays: complete, it holds the source's identity and the list of jobs only. Without
    it the directory is foreign: readable, and added to with `force_source` only.

    Args:
        root: The directory. It and missing folders above it are made by `begin`.
        durability: `full` syncs every file and folder before the journal says done; `fast` once, before a
            job is called finished: a killed process loses nothing, a power cut before that may leave files
            that are empty or damaged and called done (`tilehaul verify` finds them).
        free_bytes_min: A commit with less free space than this on the disk raises StorageError.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: Durability = "full",
        free_bytes_min: int = FREE_BYTES_MIN,
        tms: bool = False,
    ) -> None:
        root = real_path(root)
        writer = DirectoryWriter(root, durability=durability, free_bytes_min=free_bytes_min, tms=tms)
        super().__init__(writer, lambda: DirectoryReader(root, tms=tms), name="directory")
