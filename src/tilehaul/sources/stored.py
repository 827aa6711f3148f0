"""Tiles that are kept already, as a source: copy from an archive, serve an archive."""

from dataclasses import dataclass, replace

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import TileArchive
from tilehaul.ports.tile import NoTile, Tile


@dataclass(frozen=True, slots=True)
class StoredSource:
    """`TileSource` over a `TileArchive`. A tile that is not kept is `NoTile(cause="not_stored")`.

    The archive stays its opener's to close.
    """

    archive: TileArchive
    info: SourceInfo

    @classmethod
    async def open(cls, archive: TileArchive) -> "StoredSource":
        """Read once what the archive says of itself. PlanError, DataError or StorageError."""
        return cls(archive, await archive.source_info())

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        answer = await self.archive.get(tile_id)
        if answer.place == "store":
            return answer
        return replace(answer, place="store")
