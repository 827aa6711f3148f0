"""A source whose pictures are decoded before they are given: `tilehaul verify --decode`."""

import asyncio
import threading
from typing import Final

from tilehaul.grid.tile_id import TileId
from tilehaul.pixels.decode import check_decodes
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile

# Pictures decoded at once, of which one at most has more than `SHARED_PIXELS_MAX` pixels.
DECODERS_MAX: Final = 4


class DecodedSource:
    """`TileSource` over `inner`; what does not decode is a DataError, as damaged as what does not verify.

    `decoded` counts the pictures that did. Importing this file raises ConfigError without the extra `pixels`.
    """

    def __init__(self, inner: TileSource) -> None:
        self.info: SourceInfo = inner.info
        self.decoded = 0
        self._inner = inner
        self._alone = threading.Lock()
        self._free = asyncio.Semaphore(DECODERS_MAX)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """As `inner`. Raises DataError and ConfigError as `check_decodes` besides."""
        answer = await self._inner.get(tile_id)
        if isinstance(answer, Tile):
            async with self._free:
                is_picture = await asyncio.to_thread(
                    check_decodes, answer.body, answer.media_type, lambda: self._alone
                )
            self.decoded += is_picture
        return answer
