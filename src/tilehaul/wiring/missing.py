"""`tilehaul.missing`: which tiles of an area a store still lacks."""

from collections.abc import AsyncGenerator
from itertools import islice

from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.wiring.places import open_archive

# Tiles looked up at a time; the walk holds no more.
LOOKED_UP = 1000


async def missing(store: str, area: Area) -> AsyncGenerator[TileId, None]:
    """The tiles that a seed of this area into this store would ask for, in the area's order.

    Those are the pending and the dead ones; not what is kept, known to be absent, or dropped. A job that
    is complete has none, as its seed would find. Nothing is sent or written; a job may write meanwhile.
    Of an archive that tilehaul did not make, the tiles that are not in it.

    Args:
        store: An `.mbtiles`, `.pmtiles` or `.gpkg` file, or a directory.
        area: Walked lazily; may be larger than memory.

    Raises:
        PlanError: There is no such store.
        DataError: It is damaged.
        StorageError: The disk refused.
    """
    archive = open_archive(store)
    try:
        if await archive.has_completed(area.identity):
            return
        rest = iter(area)
        while page := list(islice(rest, LOOKED_UP)):
            for tile_id, state in zip(page, await archive.states(page), strict=True):
                if state is None or state == "dead":
                    yield tile_id
    finally:
        await archive.close()
