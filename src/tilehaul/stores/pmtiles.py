"""A PMTiles v3 file as a store: the file appears whole, at the end of the job."""

from pathlib import Path

from tilehaul.stores.free_space import FREE_BYTES_MIN
from tilehaul.stores.pmtiles_reader import PmtilesReader
from tilehaul.stores.pmtiles_writer import PmtilesWriter
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_file import Durability
from tilehaul.stores.threaded import ThreadedStore


class PmtilesStore(ThreadedStore):
    """`JobStore` and `TileArchive` on one PMTiles file; nothing is opened before the first call.

    While a job writes, its tiles are in `NAME.part/` and its journal in `NAME.journal` (SQLite); both are
    read as if they were in the file already. When nothing of the job is pending, `finish` makes the file
    of them and puts it in place with one rename, also when some tiles are dead: then the journal stays.
    A job that adds to a file reads it as it is until its own new file, which holds the tiles of both, takes
    its name; so there must be room for the new tiles twice and for the old ones twice.

    Vector tiles are kept zipped: one that comes plain is zipped, because the header speaks for all.
    Without one tile there is no file, for the format has none such: the journal alone stays.

    Args:
        path: The file. Missing folders above it are made by `begin`.
        durability: `full` syncs every commit; `fast` leaves that to the system until the file is made: a
            killed process loses nothing, a power cut may damage the last tiles of the spool.
        free_bytes_min: A commit with less free space than this on the disk raises StorageError.
    """

    def __init__(
        self, path: Path, *, durability: Durability = "full", free_bytes_min: int = FREE_BYTES_MIN
    ) -> None:
        path = real_path(path)
        writer = PmtilesWriter(path, durability=durability, free_bytes_min=free_bytes_min)
        super().__init__(writer, lambda: PmtilesReader(path), name="pmtiles")
