"""A lazy walk, some tiles at a time: reading them together costs less than one by one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import TileArchive
from tilehaul.ports.tile import NoTile

# Tiles that are read at once; no more of their bodies are in memory.
PAGE_TILES = 64

# Which of two archives holds a tile alone, or whether both do, and with which bytes.
Side = Literal["left", "right", "changed", "same"]


async def pages_of(tile_ids: AsyncIterator[TileId], count: int = PAGE_TILES) -> AsyncIterator[list[TileId]]:
    """Lists of `count` ids, the last one shorter; none is empty."""
    page: list[TileId] = []
    async for tile_id in tile_ids:
        page.append(tile_id)
        if len(page) == count:
            yield page
            page = []
    if page:
        yield page


async def sides(page: list[TileId], ours: TileArchive, theirs: TileArchive) -> list[Side]:
    """What is to be said of tiles that `ours` holds."""
    here, there = await asyncio.gather(
        asyncio.gather(*map(ours.get, page)), asyncio.gather(*map(theirs.get, page))
    )
    found: list[Side] = []
    for one, other in zip(here, there, strict=True):
        if isinstance(one, NoTile):
            found.append("same" if isinstance(other, NoTile) else "right")
        elif isinstance(other, NoTile):
            found.append("left")
        else:
            found.append("same" if one.body == other.body else "changed")
    return found
