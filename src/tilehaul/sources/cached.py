"""A source with a cache in front."""

from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.store import TileCache
from tilehaul.ports.tile import NoTile, Tile


class CachedSource:
    """A source that looks into `cache` before it asks `origin`, and keeps what the origin said.

    Args:
        origin: Asked when nothing fresh is known.
        cache: May be shared by several layers.
        layer: The name under which this source's answers are kept.
        rule: How long they stay fresh.
        clock: Its `now_s` is the cache's time.
        luck: Spreads the lifetimes of absences.
    """

    def __init__(
        self,
        origin: TileSource,
        *,
        cache: TileCache,
        layer: str,
        rule: FreshnessRule,
        clock: Clock,
        luck: Luck,
    ) -> None:
        self._origin = origin
        self._cache = cache
        self._layer = layer
        self._rule = rule
        self._clock = clock
        self._luck = luck

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """What is known, else the origin's answer; raises what the origin raises."""
        known = self._cache.find(self._layer, tile_id, self._clock.now_s())
        if known is not None:
            return known
        answer = await self._origin.get(tile_id)
        # An error has left by exception above, so an outage is never kept as an absence.
        fresh_s = self._rule.fresh_s(absent=isinstance(answer, NoTile), luck=self._luck())
        self._cache.keep(self._layer, answer, fresh_s=fresh_s, now_s=self._clock.now_s())
        return answer
