"""Tiles of a WMTS or a TMS: those of XYZ under other names, and fewer of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from tilehaul.codec.wmts_request import ZoomMatrix
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.origin import UNNAMED, Heard, Validators
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.ports.wire import Request
from tilehaul.sources.xyz import XyzSource


@dataclass(frozen=True, slots=True)
class WmtsSource:
    """Answers `outside` without a request for a tile that the service declares not to have."""

    tiles: XyzSource
    matrices: Mapping[int, ZoomMatrix]

    @property
    def info(self) -> SourceInfo:
        return self.tiles.info

    def request(self, tile_id: TileId) -> Request:
        return self.tiles.request(tile_id)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """One tile. Raises as `XyzSource`."""
        return (await self.ask(tile_id)).told

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard:
        """See `Askable.ask`. Raises as `XyzSource`."""
        matrix = self.matrices.get(tile_id.z)
        if matrix is None:
            return Heard(NoTile(tile_id, "out_of_range"))
        if not matrix.has(tile_id.x, tile_id.y):
            return Heard(NoTile(tile_id, "outside"))
        return await self.tiles.ask(tile_id, named)
