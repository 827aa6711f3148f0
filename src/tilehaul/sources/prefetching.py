"""A source that fetches the neighbours of what is asked for, before anybody asks for them."""

import logging
from collections.abc import Iterator
from functools import partial

from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.clock import Clock
from tilehaul.ports.lane import Lanes
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.background import Background

log = logging.getLogger(__name__)

# What a viewer asks for comes first: neighbours have this share of what the lanes allow at once.
PREFETCH_SHARE = 0.25
# Neighbours that wait for room: those of eight views.
WISHED_MAX = 64
# Lanes are looked at this often: to look costs up to a millisecond, and limits move in seconds.
LOOK_S = 1.0


class PrefetchingSource:
    """Answers as `source`, a cached one; a tile that was in no cache brings its neighbours along.

    Neighbours have the lowest priority: at most PREFETCH_SHARE of the lanes' limits at once, and none
    while more than the rest of them is asked for by others. What finds no room waits for some, at most
    WISHED_MAX of them: the oldest wishes are dropped, for their viewer has moved on.

    Args:
        source: Keeps what it answers; asked for neighbours too.
        ring: How many tiles away neighbours are, >= 1: 1 is the eight around.
        lanes: Those to the origin.
        background: Where neighbours are fetched. Whoever made it closes it.
        clock: Says when to look at the lanes again.
    """

    def __init__(
        self, source: TileSource, *, ring: int, lanes: Lanes, background: Background, clock: Clock
    ) -> None:
        self._source = source
        self._ring = ring
        self._lanes = lanes
        self._background = background
        self._clock = clock
        self._asked = 0
        self._ahead: set[TileId] = set()
        self._wished: dict[TileId, None] = {}
        self._limit = 0
        self._look_s = 0.0

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The source's answer; raises as it does. Nobody waits for neighbours or hears of their failures."""
        self._asked += 1
        try:
            answer = await self._source.get(tile_id)
        finally:
            self._asked -= 1
            if self._wished:
                self._go_on()
        if answer.place != "memory" and isinstance(answer, Tile):
            self._fetch_around(tile_id)
        return answer

    def _fetch_around(self, tile_id: TileId) -> None:
        for neighbour in self._around(tile_id):
            if neighbour not in self._ahead:
                # Wished for again, it is as new as the others.
                self._wished.pop(neighbour, None)
                self._wished[neighbour] = None
        while len(self._wished) > WISHED_MAX:
            del self._wished[next(iter(self._wished))]
        self._go_on()

    def _go_on(self) -> None:
        """Fetch what is wished for, as long as there is room."""
        while self._wished and self._has_room():
            neighbour = next(iter(self._wished))
            if not self._background.start((id(self), neighbour), partial(self._fetch, neighbour)):
                return
            del self._wished[neighbour]
            self._ahead.add(neighbour)

    def _has_room(self) -> bool:
        now_s = self._clock.now_s()
        if now_s >= self._look_s:
            self._limit = sum(int(lane.limit) for lane in self._lanes())
            self._look_s = now_s + LOOK_S
        share = int(self._limit * PREFETCH_SHARE)
        return len(self._ahead) < share and self._asked <= self._limit - share

    async def _fetch(self, tile_id: TileId) -> None:
        try:
            await self._source.get(tile_id)
        except TilehaulError as error:
            log.debug("a neighbour was not to be had: %s", error)
        finally:
            self._ahead.discard(tile_id)
            self._go_on()

    def _around(self, tile_id: TileId) -> Iterator[TileId]:
        """Neighbours of the grid and the source's zooms, the nearest first; columns go round the world."""
        info = self._source.info
        if not info.zoom_min <= tile_id.z <= info.zoom_max:
            return
        side = 1 << tile_id.z
        ring = range(-self._ring, self._ring + 1)
        steps = sorted(
            ((dx, dy) for dx in ring for dy in ring if dx or dy), key=lambda at: at[0] ** 2 + at[1] ** 2
        )
        seen = {tile_id}
        for dx, dy in steps:
            row = tile_id.y + dy
            neighbour = TileId(tile_id.z, (tile_id.x + dx) % side, row)
            if 0 <= row < side and neighbour not in seen:
                seen.add(neighbour)
                yield neighbour
