"""A source narrowed to the zooms and bounds that its operator named."""

from dataclasses import dataclass, field

from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile


@dataclass(frozen=True, slots=True)
class BoundedSource:
    """Answers NoTile(cause `out_of_range`) outside `info`'s zooms and bounds, without asking `origin`."""

    origin: TileSource
    info: SourceInfo
    _area: Area = field(init=False)

    def __post_init__(self) -> None:
        info = self.info
        area = Area.from_bbox(*info.bounds_deg, zooms=range(info.zoom_min, info.zoom_max + 1))
        object.__setattr__(self, "_area", area)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        if tile_id not in self._area:
            return NoTile(tile_id, "out_of_range")
        return await self.origin.get(tile_id)
