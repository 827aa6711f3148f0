"""A source with a cache in front."""

import logging
from dataclasses import replace

from tilehaul.errors import BusyError, DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import FreshnessRule, allows_stale, was_asked
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.store import TileCache
from tilehaul.ports.tile import NoTile, Tile

log = logging.getLogger(__name__)


class CachedSource:
    """A source that looks into `cache` before it asks `origin`, and keeps what the origin said.

    While the origin fails (`policy.freshness.allows_stale`), a tile that the cache has past its freshness is
    the answer.

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
        """What is known, else the origin's answer, else what was known; raises what the origin raises."""
        known = self._cache.find(self._layer, tile_id, self._clock.now_s())
        if known is not None:
            return known
        try:
            answer = await self._origin.get(tile_id)
        except (BusyError, TransferError, DataError) as error:
            if (stale := self._stale(tile_id, error)) is None:
                raise
            return stale
        # An error has left by exception above, so an outage is never kept as an absence.
        fresh_s = self._rule.fresh_s(absent=isinstance(answer, NoTile), luck=self._luck())
        self._cache.keep(self._layer, answer, fresh_s=fresh_s, now_s=self._clock.now_s())
        return answer

    def _stale(self, tile_id: TileId, error: BusyError | TransferError | DataError) -> Tile | None:
        if not allows_stale(error):
            return None
        tile = self._cache.find_stale(self._layer, tile_id, self._clock.now_s())
        if tile is None:
            return None
        log.debug("layer %s: a stale tile stands in for an origin that fails: %s", self._layer, error)
        return replace(tile, place="stale_asked") if tile.place == "stale" and was_asked(error) else tile
