"""Several sources in order: the next is asked when one has no tile or cannot answer."""

import logging
from dataclasses import dataclass, replace

from tilehaul.errors import BusyError, DataError, StorageError, TilehaulError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.freshness import STALE_S, Freshness
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile

log = logging.getLogger(__name__)

# A tile of another source, given because one before it failed, is soon asked for again where it belongs.
FALLBACK_FRESH_S = 60.0


@dataclass(frozen=True, slots=True)
class FallbackSource:
    """Asks `sources` in order, at least one, until one has the tile.

    When none has it: NoTile if every source said so; else the first failure is raised, for a tile
    that one source could not answer must not be taken for absent.
    A tile from any but the first says `fallback` as its place.
    """

    sources: tuple[TileSource, ...]

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
        failure: TilehaulError | None = None
        absent: NoTile | None = None
        for number, source in enumerate(self.sources):
            try:
                answer = await source.get(tile_id)
            except (BusyError, TransferError, DataError, StorageError) as error:
                failure = failure or error
                log.debug("source %s failed, asking the next: %s", source.info.name, error)
                continue
            if isinstance(answer, Tile):
                return answer if number == 0 else _instead(answer, failed=failure is not None)
            absent = absent or answer
        if failure is not None:
            raise failure
        assert absent is not None  # noqa: S101 - at least one source, and none failed
        return absent


def _instead(tile: Tile, *, failed: bool) -> Tile:
    """A tile of any but the first source; `failed`: one before it could not answer."""
    if not failed:
        return replace(tile, place="fallback")
    known = tile.freshness or Freshness(FALLBACK_FRESH_S, stale_s=STALE_S)
    soon = known._replace(fresh_s=min(known.fresh_s, known.age_s + FALLBACK_FRESH_S))
    return replace(tile, place="fallback", freshness=soon)
