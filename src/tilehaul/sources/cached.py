"""A source with a cache in front."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from math import inf

from tilehaul.errors import BusyError, DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import PATIENCE_S, FreshnessRule, allows_stale, was_asked
from tilehaul.ports.clock import Luck
from tilehaul.ports.correlation import AT_HAND, RENEWING
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.store import TileCache
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.background import Background
from tilehaul.sources.coalesced import Flights

log = logging.getLogger(__name__)


class CachedSource:
    """A source that looks into `cache` before it asks `origin`, and keeps what the origin said.

    A tile soon past its freshness is given as it is, and renewed in the background. While the origin fails
    (`policy.freshness.allows_stale`), a tile the cache has past its freshness is the answer. How long either
    may be says the tile's own freshness.

    Args:
        origin: Asked when nothing fresh is known.
        cache: May be shared by several layers.
        layer: The name under which this source's answers are kept.
        rule: How long answers stay fresh whose source does not say.
        luck: Spreads the lifetimes of absences.
        background: Where tiles are renewed; may be shared. Whoever made it closes it.
        flights: Fetches on their way, of this source alone: who asks for the same tile meanwhile shares one,
            and what it brings is kept before it has landed, so that nobody comes between. None: each asks.
            Whoever made them closes them.
        forgotten_s: When the layer was last to be forgotten: what was asked for before is not kept.
    """

    def __init__(
        self,
        origin: TileSource,
        *,
        cache: TileCache,
        layer: str,
        rule: FreshnessRule,
        luck: Luck,
        background: Background,
        flights: Flights[TileId, Tile | NoTile] | None = None,
        forgotten_s: Callable[[], float] = lambda: -inf,
    ) -> None:
        self._origin = origin
        self._cache = cache
        self._layer = layer
        self._rule = rule
        self._luck = luck
        self._background = background
        self._flights = flights
        self._forgotten_s = forgotten_s
        # Fetches that take longer than anybody waited for them.
        self._overdue = 0

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """What is known, else the origin's answer, else what was known; raises what the origin raises."""
        known = await self._cache.find(self._layer, tile_id)
        if known is None or known.freshness is None:
            return await self._ask_first(tile_id)
        freshness = known.freshness
        if freshness.left_s > 0:
            return known
        if RENEWING.get():
            return await self._ask_first(tile_id)
        past_s = -freshness.left_s
        at_hand = isinstance(known, Tile) and past_s < freshness.stale_s
        told = AT_HAND.set(at_hand)
        try:
            if isinstance(known, Tile):
                if past_s < freshness.revalidate_s or (at_hand and self._overdue):
                    # Where there is no room to renew it the next asker will: nobody need wait for that.
                    self._renew(tile_id)
                    return replace(known, stale="unasked")
                if at_hand:
                    return await self._ask_in_time(known)
            return await self._ask_first(tile_id)
        finally:
            AT_HAND.reset(told)

    async def _ask_in_time(self, known: Tile) -> Tile | NoTile:
        """`_ask_first`, but what is known once the origin has had PATIENCE_S; the fetch goes on.

        Until it ends the origin is one that hangs: nobody else waits for it who need not.
        """
        asking = asyncio.ensure_future(self._ask_first(known.tile_id))
        try:
            await asyncio.wait({asking}, timeout=PATIENCE_S)
        except asyncio.CancelledError:
            await _given_up(asking)
            raise
        if asking.done():
            return asking.result()
        if self._background.start((id(self), known.tile_id, "overdue"), lambda: asking):
            self._overdue += 1
            asking.add_done_callback(self._ended)
        else:
            await _given_up(asking)
        return replace(known, stale="asked")

    def _ended(self, asking: "asyncio.Future[Tile | NoTile]") -> None:  # noqa: ARG002 - a callback of tasks
        self._overdue -= 1

    async def _ask_first(self, tile_id: TileId) -> Tile | NoTile:
        try:
            return await self._ask(tile_id)
        except (BusyError, TransferError, DataError) as error:
            if (standing_in := await self._stand_in(tile_id, error)) is None:
                raise
            return standing_in

    def _renew(self, tile_id: TileId) -> None:
        """Have the tile asked for, with nobody waiting, unless too many are."""
        self._background.start((id(self), tile_id), lambda: self._renewed(tile_id))

    async def _renewed(self, tile_id: TileId) -> None:
        RENEWING.set(True)
        await self._ask(tile_id)

    async def _stand_in(
        self, tile_id: TileId, error: BusyError | TransferError | DataError
    ) -> Tile | NoTile | None:
        if not allows_stale(error):
            return None
        # Looked for again: another may have got it while this one waited for a failure.
        known = await self._cache.look(self._layer, tile_id)
        if known is None or known.freshness is None:
            return None
        past_s = -known.freshness.left_s
        if past_s < 0:
            return known
        if not (isinstance(known, Tile) and past_s < known.freshness.stale_s):
            return None
        log.debug("layer %s: a stale tile stands in for an origin that fails: %s", self._layer, error)
        return replace(known, stale="asked" if was_asked(error) else "unasked")

    async def _ask(self, tile_id: TileId) -> Tile | NoTile:
        if self._flights is None:
            return await self._fetch(tile_id)
        return await self._flights.join(tile_id, lambda: self._fetch(tile_id))

    async def _fetch(self, tile_id: TileId) -> Tile | NoTile:
        forgotten_s = self._forgotten_s()
        answer = await self._origin.get(tile_id)
        # An error has left by exception, so an outage is never kept as an absence.
        if answer.freshness is None:
            absent = isinstance(answer, NoTile)
            freshness = self._rule.absence(self._luck()) if absent else self._rule.tile()
            answer = replace(answer, freshness=freshness)
        # That a cache behind this one gave it stale is this answer's, not the tile's: it may be renewed.
        kept = replace(answer, stale="") if isinstance(answer, Tile) and answer.stale else answer
        if forgotten_s == self._forgotten_s():
            self._cache.keep(self._layer, kept)
        return answer


async def _given_up(asking: "asyncio.Future[Tile | NoTile]") -> None:
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
