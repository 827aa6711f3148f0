"""A GeoPackage of tiles as a store: one file, written in place under its final name."""

from pathlib import Path

from tilehaul.stores.free_space import FREE_BYTES_MIN
from tilehaul.stores.geopackage_form import GeopackageForm
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_file import Durability
from tilehaul.stores.sqlite_reader import SqliteReader
from tilehaul.stores.sqlite_writer import SqliteWriter
from tilehaul.stores.threaded import ThreadedStore


class GeopackageStore(ThreadedStore):
    """`JobStore` and `TileArchive` on one GeoPackage; nothing is opened before the first call.

    Journal, commits and files beside it are as `MbtilesStore` has them. The rows of our own are in the table
    `tilehaul_metadata`.

    Args:
        path: The file. Missing folders above it are made by `begin`.
        table: Which tile table is meant; empty: the only one, `tiles` in a new file.
        durability: As `MbtilesStore`.
        free_bytes_min: As `MbtilesStore`.
    """

    def __init__(
        self,
        path: Path,
        *,
        table: str = "",
        durability: Durability = "full",
        free_bytes_min: int = FREE_BYTES_MIN,
    ) -> None:
        path = real_path(path)
        form = GeopackageForm(table)
        writer = SqliteWriter(path, form, durability=durability, free_bytes_min=free_bytes_min)
        super().__init__(writer, lambda: SqliteReader(path, form), name="geopackage")
