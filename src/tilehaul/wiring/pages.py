"""A lazy walk, some at a time: reading them together costs less than one by one."""

from collections.abc import AsyncIterator

from tilehaul.grid.tile_id import TileId


async def pages_of(tile_ids: AsyncIterator[TileId], count: int) -> AsyncIterator[list[TileId]]:
    """Lists of `count` ids, the last one shorter; none is empty."""
    page: list[TileId] = []
    async for tile_id in tile_ids:
        page.append(tile_id)
        if len(page) == count:
            yield page
            page = []
    if page:
        yield page
