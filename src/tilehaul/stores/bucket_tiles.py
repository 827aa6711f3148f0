"""Which object of a bucket is a tile's: its key names a format, and a bucket may have tiles of several."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from tilehaul.codec.sniff import media_type_of, sniff
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.origin import Heard, Validators
from tilehaul.ports.tile import Tile
from tilehaul.stores import leftovers
from tilehaul.stores.bucket_keys import key_of, tile_of
from tilehaul.stores.bucket_objects import KEYS_A_PAGE, BucketObjects

# Extensions remembered of the keys listed last: a copy asks for its tiles not long after it has listed them.
LISTED_MAX = 20_000
# Between listing and read an object may be replaced by one of another format: then it is listed again.
LISTINGS_A_TILE = 2
NOT_MODIFIED = 304


class BucketTiles:
    """Tiles by their addresses. Every method raises what the sender raises.

    A tile is asked for under the extension it was listed with, else that of the last tile found of its zoom.
    Where it is not there, its own keys are listed: so nothing that is there is missed, for one request more.

    Args:
        objects: The bucket.
        journal: The journal's file, which need not be there: what is left over of a crash is no tile.
    """

    def __init__(self, objects: BucketObjects, journal: Path) -> None:
        self.objects = objects
        self._journal = journal
        # Keys that are to go; None: not looked up yet.
        self.left_over: set[str] | None = None
        self._by_zoom: dict[int, str] = {}
        self._listed: dict[TileId, str] = {}
        self._frequent: list[str] | None = None

    async def ask(self, tile_id: TileId, named: Validators) -> Heard | None:
        """What is said of the tile, place `store`, or None. One request where the extension is guessed."""
        guess = self._guess(tile_id)
        if guess and (heard := await self._read(tile_id, guess, named)) is not None:
            return heard
        for _ in range(LISTINGS_A_TILE):
            extensions = await self.extensions_of(tile_id)
            for extension in extensions:
                if (heard := await self._read(tile_id, extension, named)) is not None:
                    return heard
            if not extensions:
                break
        return None

    async def has(self, tile_id: TileId) -> bool:
        guess = self._guess(tile_id)
        if (
            guess
            and not await self._is_left(tile_id, guess)
            and await self.objects.size(key_of(tile_id, guess))
        ):
            return True
        return bool(await self.extensions_of(tile_id))

    async def extensions_of(self, tile_id: TileId) -> list[str]:
        """Those of the tile's objects, by one listing; what is empty, or left over, is none."""
        found = [
            extension
            async for key, size_bytes in self.objects.keys(key_of(tile_id, ""))
            if size_bytes
            for listed, extension in [tile_of(key) or (None, "")]
            if listed == tile_id
        ]
        kept = [extension for extension in found if not await self._is_left(tile_id, extension)]
        if found and not kept:
            # What was on its way out when the journal was read may be the tile by now.
            self.left_over = None
            kept = [extension for extension in found if not await self._is_left(tile_id, extension)]
        return kept

    async def walk(self) -> AsyncIterator[tuple[TileId, str, int]]:
        """Every tile once, with extension and size in bytes, in the order of their keys."""
        before = None
        async for key, size_bytes in self.objects.keys():
            found = tile_of(key)
            # Keys of one tile follow one another.
            if found is None or not size_bytes or found[0] == before or await self._is_left(*found):
                continue
            before, extension = found
            self._remember(before, extension)
            yield before, extension, size_bytes

    async def frequent(self) -> list[str]:
        """The extensions of the bucket's first tiles, the most frequent first, then of what was written."""
        if self._frequent is None:
            seen: Counter[str] = Counter()
            async for _, extension, _ in self.walk():
                seen[extension] += 1
                if seen.total() >= KEYS_A_PAGE:
                    break
            self._frequent = [extension for extension, _ in seen.most_common()]
        return self._frequent

    def wrote(self, tile_id: TileId, extension: str) -> None:
        """The tile has this object from now on."""
        self._listed.pop(tile_id, None)
        self._by_zoom[tile_id.z] = extension
        if self._frequent is not None and extension not in self._frequent:
            self._frequent.append(extension)

    def _guess(self, tile_id: TileId) -> str:
        """The likely extension; "" while nothing is known."""
        listed = self._listed.get(tile_id) or self._by_zoom.get(tile_id.z)
        return listed or (self._frequent[0] if self._frequent else "")

    def _remember(self, tile_id: TileId, extension: str) -> None:
        self._by_zoom[tile_id.z] = extension
        self._listed[tile_id] = extension
        if len(self._listed) > LISTED_MAX:
            del self._listed[next(iter(self._listed))]

    async def _read(self, tile_id: TileId, extension: str, named: Validators) -> Heard | None:
        if await self._is_left(tile_id, extension):
            return None
        answer = await self.objects.get(key_of(tile_id, extension), named.condition)
        if answer is None or not (answer.body or answer.status == NOT_MODIFIED):
            return None
        self._by_zoom[tile_id.z] = extension
        if tile_id in self._listed:
            self._listed[tile_id] = extension
        if answer.status == NOT_MODIFIED:
            return Heard(None, answer.headers)
        tile = Tile(tile_id, answer.body, sniff(answer.body) or media_type_of(extension), "store")
        return Heard(tile, answer.headers)

    async def _is_left(self, tile_id: TileId, extension: str) -> bool:
        if self.left_over is None:
            found = await asyncio.to_thread(leftovers.read, self._journal)
            self.left_over = {key_of(*one) for one in found}
        return bool(self.left_over) and key_of(tile_id, extension) in self.left_over
