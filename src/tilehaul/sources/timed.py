"""A source whose fetches are counted and timed."""

from typing import Protocol

from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.clock import Clock
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile


class FetchWatch(Protocol):
    """Is told what becomes of each fetch. Calls return at once and never raise.

    `started` is followed by exactly one of `answered`, `failed` (the origin's error) and
    `abandoned` (nobody waited any more, or the service stopped).
    """

    def started(self) -> None: ...

    def answered(self, elapsed_s: float) -> None: ...

    def failed(self, elapsed_s: float) -> None: ...

    def abandoned(self) -> None: ...


class TimedSource:
    """Tells `watch` of every question to `origin`."""

    def __init__(self, origin: TileSource, *, clock: Clock, watch: FetchWatch) -> None:
        self._origin = origin
        self._clock = clock
        self._watch = watch

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The origin's answer; raises what the origin raises."""
        watch = self._watch
        began_s = self._clock.now_s()
        watch.started()
        try:
            answer = await self._origin.get(tile_id)
        except TilehaulError:
            watch.failed(self._clock.now_s() - began_s)
            raise
        except BaseException:
            # Cancelled, or a defect: no sample of the origin, but no longer on its way either.
            watch.abandoned()
            raise
        watch.answered(self._clock.now_s() - began_s)
        return answer
