"""A source narrowed to the zooms, bounds and formats that its operator named."""

from dataclasses import dataclass, field

from tilehaul.codec.sniff import plain_media_type
from tilehaul.errors import DataError
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


@dataclass(frozen=True, slots=True)
class AllowedSource:
    """Refuses what `origin` sends in a format that its operator does not want: DataError `mistyped`.

    Beneath caches and fallbacks: what is refused is not kept, and the next source is asked.
    """

    origin: TileSource
    media_types: frozenset[str]

    @property
    def info(self) -> SourceInfo:
        return self.origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        answer = await self.origin.get(tile_id)
        if isinstance(answer, Tile) and plain_media_type(answer.media_type) not in self.media_types:
            raise DataError(
                f"{self.info.name} sent {answer.media_type[:40]}, which the layer does not allow",
                cause="mistyped",
            )
        return answer
