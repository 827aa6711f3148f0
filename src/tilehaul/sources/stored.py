"""Tiles that are kept already, as a source: copy from an archive, serve an archive."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tilehaul.codec.verify import verify_tile
from tilehaul.errors import DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.origin import UNNAMED, AskableArchive, Heard, Validators
from tilehaul.ports.source import SourceInfo, TileError
from tilehaul.ports.store import BatchArchive, TileArchive
from tilehaul.ports.tile import NoTile, Tile

# Up to here a body is verified where it is, in less than 0.1 ms (a PNG of 50 KB: 36 us, measured); a
# larger one on a thread, because a zipped vector tile takes milliseconds and would hold every other
# answer up. Handing over costs about 0.1 ms itself.
BYTES_MAX_IN_LOOP = 64 * 1024


@dataclass(frozen=True, slots=True)
class StoredSource:
    """`TileSource` over a `TileArchive`. A tile that is not kept is `NoTile(cause="not_stored")`.

    Archives are made by others, and cut short by crashes: every body is verified, as if it came over
    the wire. The archive stays its opener's to close. `location` names it in errors.
    """

    archive: TileArchive
    info: SourceInfo
    location: str = ""

    @classmethod
    async def open(cls, archive: TileArchive, location: str = "") -> "StoredSource":
        """Read once what the archive says of itself. PlanError, DataError or StorageError.

        Args:
            archive: Open; not closed here.
            location: Where it is, for errors; the archive's own name if not given.
        """
        info = await archive.source_info()
        if isinstance(archive, BatchArchive):
            return BatchStoredSource(archive, info, location or info.name)
        if isinstance(archive, AskableArchive):
            return AskableStoredSource(archive, info, location or info.name)
        return cls(archive, info, location or info.name)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """The tile as what its bytes are, `place="store"`.

        Raises:
            DataError: As `verify_tile`, with the archive and the tile in message and `url`; or the
                archive is damaged.
            RefusedError: A zipped vector tile is a bomb (`too_large`).
            PlanError, StorageError: As `TileArchive.get`.
        """
        return await self._verified(await self.archive.get(tile_id))

    async def _verified(self, answer: Tile | NoTile) -> Tile | NoTile:
        if isinstance(answer, NoTile):
            return answer if answer.place == "store" else NoTile(answer.tile_id, answer.cause, "store")
        if len(answer.body) > BYTES_MAX_IN_LOOP:
            return await asyncio.to_thread(self._checked, answer)
        return self._checked(answer)

    def _checked(self, answer: Tile) -> Tile:
        tile_id = answer.tile_id
        try:
            media_type = verify_tile(answer.body)
        except DataError as error:
            place = self._place(tile_id)
            raise DataError(f"{place}: {error}", cause=error.cause, url=place, head=error.head) from error
        except TransferError as error:
            error.url = self._place(tile_id)
            raise
        if answer.place == "store" and answer.media_type == media_type:
            return answer
        return Tile(tile_id, answer.body, media_type, "store")

    def _place(self, tile_id: TileId) -> str:
        return f"{self.location}#{tile_id}"


@dataclass(frozen=True, slots=True)
class BatchStoredSource(StoredSource):
    """A `BatchSource` as well. What is read in a batch is verified where it was read."""

    archive: BatchArchive

    async def get_batch(self, tile_ids: Sequence[TileId]) -> Sequence[Tile | NoTile | TileError]:
        return await self.archive.get_batch(tile_ids, self._checked)


@dataclass(frozen=True, slots=True)
class AskableStoredSource(StoredSource):
    """An `AskableSource` as well: its archive is elsewhere, where a server says how long answers are good."""

    archive: AskableArchive

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard:
        """See `Askable.ask`. Raises as `get`."""
        heard = await self.archive.ask(tile_id, named)
        if heard.answer is None:
            return heard
        return heard._replace(answer=await self._verified(heard.answer))
