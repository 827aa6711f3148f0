"""A source that was opened, and what can be seen of its way to the origin."""

from tilehaul.grid.tile_id import TileId
from tilehaul.net.gauges import Gauges
from tilehaul.policy.health import Health, judge_health
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile


class OpenedSource:
    """A `TileSource`; also says how the lanes to its origin fare.

    Those of an archive are none, and healthy. Not for other threads than the loop's.
    """

    def __init__(self, source: TileSource, gauges: Gauges) -> None:
        self._source = source
        self._gauges = gauges

    @property
    def source(self) -> TileSource:
        """The source itself, with what else it can do (`BatchSource`)."""
        return self._source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        return await self._source.get(tile_id)

    def lanes(self) -> tuple[LaneSnapshot, ...]:
        """One value for each lane that was used so far."""
        return self._gauges.lanes()

    def health(self) -> Health:
        """`healthy`, or `degraded` with reasons in words; see `HealthRule` for when."""
        return judge_health(self.lanes())

    def connections(self) -> int:
        """Connections to the origin that are open now, idle ones included."""
        return self._gauges.connections()
