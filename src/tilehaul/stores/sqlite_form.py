"""What tells one kind of tile archive in an SQLite file from another: tables, metadata, how a tile is put."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import apsw

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores.tile_table import TileTable


class ReadForm(Protocol):
    """How files of a kind are read. `kind` is that of `StoreInfo`."""

    @property
    def kind(self) -> str: ...

    def table_in(self, connection: apsw.Connection, tables: Collection[str], path: Path, /) -> TileTable:
        """The tiles of an existing file. Raises PlanError when it is no such file, or cannot be read."""
        ...

    def metadata(self, connection: apsw.Connection, table: TileTable, /) -> dict[str, str]:
        """What the file says of its tiles, in the words of MBTiles, with our own rows."""
        ...


class WriteForm(ReadForm, Protocol):
    """How files of a kind are written; every call but `writing_to` and `check` is within a transaction.

    `user_version` is the SQLite header's, 0 for none; `application_id` as well.
    """

    @property
    def application_id(self) -> int: ...

    @property
    def user_version(self) -> int: ...

    def writing_to(
        self, connection: apsw.Connection, tables: Mapping[str, str], path: Path
    ) -> tuple["WriteForm", TileTable]:
        """How this existing file is added to, and its tiles; `tables` are names to `table` or `view`.

        Raises PlanError when it is not of the kind, or cannot be added to.
        """
        ...

    def check_format(self, media_type: str, path: Path, /) -> None:
        """Raises PlanError for tiles that files of this kind do not hold; empty is not known yet."""
        ...

    def create(self, connection: apsw.Connection) -> TileTable:
        """The tables of an empty file."""
        ...

    def adopt(self, connection: apsw.Connection, table: TileTable, path: Path) -> None:
        """Add what an existing file lacks. Raises PlanError when it cannot be added to after all."""
        ...

    def write_metadata(
        self,
        connection: apsw.Connection,
        table: TileTable,
        before: Mapping[str, str],
        after: Mapping[str, str],
        /,
    ) -> None:
        """Write what differs; an empty value removes its row."""
        ...

    def put(self, connection: apsw.Connection, table: TileTable, tiles: Sequence[Tile], /) -> None:
        """Write tiles of different addresses, whose formats were checked, over what is there."""
        ...

    def drop(self, connection: apsw.Connection, table: TileTable, tile_ids: Sequence[TileId]) -> None: ...

    def tidy(self, connection: apsw.Connection, /) -> None:
        """At the end of a job: remove what nothing refers to."""
        ...
