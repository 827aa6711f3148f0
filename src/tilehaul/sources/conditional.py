"""Tiles that are kept already are asked for only if they have changed."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.clock import Clock
from tilehaul.ports.freshness import Note, Notes
from tilehaul.ports.origin import AskableSource, Validators
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.store import TileArchive
from tilehaul.ports.tile import NoTile, Tile

DIGEST_BYTES = 16


class ConditionalSource(TileSource):
    """`TileSource` over one that can be asked so: "not modified" is answered with the bytes that `kept` has,
    whose place is `unchanged` then.

    Args:
        origin: Asked for each tile.
        kept: Where the tiles are that notes are known of; read while it is written.
        known: Notes of tiles that may be unchanged; one that led to an answer is taken out.
        observe: Told what to note of each tile that was answered.
        clock: Says when.
    """

    def __init__(
        self,
        origin: AskableSource,
        kept: TileArchive,
        known: Notes,
        observe: Callable[[TileId, Note], None],
        clock: Clock,
    ) -> None:
        self._origin = origin
        self._kept = kept
        self._known = known
        self._observe = observe
        self._clock = clock

    @property
    def info(self) -> SourceInfo:
        return self._origin.info

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """As the source inside. A second request follows when the bytes kept are not those of the note.

        Raises as the source inside; DataError, StorageError when the kept tile cannot be read.
        """
        note = self._known.get(tile_id, Note(0.0))
        named = Validators(note.etag, note.last_modified)
        heard = await self._origin.ask(tile_id, named)
        if heard.answer is None:
            kept = await self._kept.get(tile_id)
            if isinstance(kept, Tile) and self._digest(kept) == note.digest:
                now = Validators.of(named.kept_by(heard.headers))
                return self._noted(replace(kept, place="unchanged"), now)
            heard = await self._origin.ask(tile_id)
        answer = heard.told
        if isinstance(answer, Tile):
            return self._noted(answer, Validators.of(heard.headers))
        self._known.pop(tile_id, None)
        return answer

    def _noted(self, tile: Tile, named: Validators) -> Tile:
        self._observe(tile.tile_id, Note(self._clock.wall_s(), *named, self._digest(tile)))
        self._known.pop(tile.tile_id, None)
        return tile

    def _digest(self, tile: Tile) -> bytes:
        return digest_of(tile.body, self.info.identity)


def digest_of(body: bytes, source_identity: str) -> bytes:
    """Tells bytes apart, and whose they are: another source may use the same ETag. Not a secret."""
    key = source_identity.encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES, key=key).digest()
