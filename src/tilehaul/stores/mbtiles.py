"""An MBTiles 1.3 file as a store: one file, written in place under its final name."""

from pathlib import Path

from tilehaul.stores.free_space import FREE_BYTES_MIN
from tilehaul.stores.mbtiles_dedup import DedupForm, FlatForm
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_file import Durability
from tilehaul.stores.sqlite_reader import SqliteReader
from tilehaul.stores.sqlite_writer import SqliteWriter
from tilehaul.stores.threaded import ThreadedStore


class MbtilesStore(ThreadedStore):
    """`JobStore` and `TileArchive` on one MBTiles file; nothing is opened before the first call.

    While a job writes, the journal tables `tilehaul_*` live in the same file, in the same
    transactions; the metadata rows `tilehaul_source`, `tilehaul_source_name`, `tilehaul_grid` and
    `tilehaul_jobs` stay. After `finish` and after `close` there is no -wal, -shm or .lock beside it
    (a -wal may stay as long as another program has the file open).

    Args:
        path: The file. Missing folders above it are made by `begin`.
        deduplicate: A new file keeps equal tiles once (`map` and `images` behind the view `tiles`). A file
            of ours that does so already goes on to either way; one that does not is refused.
        durability: `full` syncs every commit; `fast` may lose the last commits, never the file, when
            the power goes (a killed process loses nothing either way).
        free_bytes_min: A commit with less free space than this on the disk raises StorageError.
    """

    def __init__(
        self,
        path: Path,
        *,
        deduplicate: bool = False,
        durability: Durability = "full",
        free_bytes_min: int = FREE_BYTES_MIN,
    ) -> None:
        path = real_path(path)
        form = DedupForm() if deduplicate else FlatForm()
        writer = SqliteWriter(path, form, durability=durability, free_bytes_min=free_bytes_min)
        super().__init__(writer, lambda: SqliteReader(path, form), name="mbtiles")
