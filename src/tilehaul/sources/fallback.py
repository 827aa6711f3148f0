"""Several sources in order: the next is asked when one has no tile or cannot answer."""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import inf

from tilehaul.errors import BusyError, DataError, StorageError, TilehaulError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import PATIENCE_S, STALE_S, Freshness
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.background import Background

log = logging.getLogger(__name__)

# A tile of another source, given because one before it failed, is soon asked for again where it belongs.
FALLBACK_FRESH_S = 60.0
# One slow answer says little of a source, three in a row that it hangs.
HANGS_MIN = 3
# One that is passed by is asked all the same so often, with nobody waiting for it.
PROBE_S = 5.0


class FallbackSource:
    """Asks `sources` in order until one has the tile.

    When none has it: NoTile if every source said so; else the first failure is raised, for a tile
    that one source could not answer must not be taken for absent.
    A tile from any but the first says `fallback` as its place.

    A source that hangs is no reason to let anybody wait for it: after PATIENCE_S the next is asked, and only
    if none has the tile the first one's answer is waited for. What it was asked goes on, so that its lane
    learns. Once HANGS_MIN askers in a row have waited in vain it is passed by, until one is answered,
    or a question every PROBE_S that nobody waits for.

    Args:
        sources: At least one.
        background: Where overdue fetches go on. Whoever made it closes it.
    """

    def __init__(self, sources: Sequence[TileSource], *, background: Background) -> None:
        self.sources = tuple(sources)
        self._background = background
        self._overdue = [0] * len(self.sources)
        self._hangs = [0] * len(self.sources)
        self._probe_s = [inf] * len(self.sources)

    @property
    def info(self) -> SourceInfo:
        """The first source's, with the zooms and bounds of all: the next may have what it has not."""
        infos = [source.info for source in self.sources]
        boxes = [info.bounds_deg for info in infos]
        return replace(
            infos[0],
            zoom_min=min(info.zoom_min for info in infos),
            zoom_max=max(info.zoom_max for info in infos),
            bounds_deg=(
                min(box[0] for box in boxes),
                min(box[1] for box in boxes),
                max(box[2] for box in boxes),
                max(box[3] for box in boxes),
            ),
        )

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        told = _Told()
        # Of the sources that were left for the next: what they were asked, None if they were passed by.
        late: dict[int, asyncio.Task[Tile | NoTile] | None] = {}
        try:
            for number, source in enumerate(self.sources):
                answer = await self._answer(number, tile_id, late)
                if answer is not None and await told.by(answer, source, number, late=bool(late)):
                    return told.tile
            for number, overdue in late.items():
                source = self.sources[number]
                if await told.by(overdue or source.get(tile_id), source, number, late=False):
                    return told.tile
            return told.absence()
        finally:
            self._let_go(late.values())

    async def _answer(
        self, number: int, tile_id: TileId, late: "dict[int, asyncio.Task[Tile | NoTile] | None]"
    ) -> Awaitable[Tile | NoTile] | None:
        """What a source says, if it does in time; None: it is `late`. The last has all the time it wants."""
        if number == len(self.sources) - 1:
            return self.sources[number].get(tile_id)
        if self._overdue[number] and self._hangs[number] >= HANGS_MIN:
            late[number] = None
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._probe_s[number]:
                self._probe_s[number] = now_s + PROBE_S
                self._background.start((id(self), number), partial(self._probe, number, tile_id))
            return None
        asking = late[number] = asyncio.create_task(self.sources[number].get(tile_id))
        done, _ = await asyncio.wait({asking}, timeout=PATIENCE_S)
        if done:
            del late[number]
            self._hangs[number] = 0
            return asking
        self._hangs[number] += 1
        self._overdue[number] += 1
        self._probe_s[number] = asyncio.get_running_loop().time() + PROBE_S

        def ended(asking: "asyncio.Task[Tile | NoTile]") -> None:
            self._overdue[number] -= 1
            if not asking.cancelled() and asking.exception() is None:
                self._hangs[number] = 0

        asking.add_done_callback(ended)
        return None

    async def _probe(self, number: int, tile_id: TileId) -> None:
        """With nobody waiting: a source that answers again is asked first again."""
        await self.sources[number].get(tile_id)
        self._hangs[number] = 0

    def _let_go(self, late: "Iterable[asyncio.Task[Tile | NoTile] | None]") -> None:
        """What is still asked for goes on for the lane's sake; not when whoever asked has gone."""
        asker = asyncio.current_task()
        gone = asker is not None and asker.cancelling()
        for asking in (asking for asking in late if asking is not None and not asking.done()):
            if gone or not self._background.start(asking, partial(_end_of, asking)):
                asking.cancel()


class _Told:
    """What the sources have said of one tile."""

    def __init__(self) -> None:
        self.tile: Tile
        self._absent: NoTile | None = None
        self._failure: TilehaulError | None = None

    async def by(
        self, asking: Awaitable[Tile | NoTile], source: TileSource, number: int, *, late: bool
    ) -> bool:
        """Whether it is the tile. `late`: a source before it has yet to answer."""
        try:
            answer = await asking
        except (BusyError, TransferError, DataError, StorageError) as error:
            self._failure = self._failure or error
            log.debug("source %s failed, asking the next: %s", source.info.name, error)
            return False
        if isinstance(answer, NoTile):
            self._absent = self._absent or answer
            return False
        failed = late or self._failure is not None
        self.tile = answer if number == 0 else _instead(answer, failed=failed)
        return True

    def absence(self) -> NoTile:
        """Raises the first failure."""
        if self._failure is not None:
            raise self._failure
        assert self._absent is not None  # noqa: S101 - at least one source, and none failed
        return self._absent


async def _end_of(asking: "asyncio.Task[Tile | NoTile]") -> None:
    await asking


def _instead(tile: Tile, *, failed: bool) -> Tile:
    """A tile of any but the first source; `failed`: one before it could not answer."""
    if not failed:
        return replace(tile, place="fallback")
    known = tile.freshness or Freshness(FALLBACK_FRESH_S, stale_s=STALE_S)
    soon = known._replace(fresh_s=min(known.fresh_s, known.age_s + FALLBACK_FRESH_S))
    return replace(tile, place="fallback", freshness=soon)
