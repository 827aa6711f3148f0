"""Which tiles of two archives differ: walked a page at a time, so that memory does not grow with them."""

from asyncio import gather
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from tilehaul.errors import DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import BatchArchive, TileArchive
from tilehaul.ports.tile import NoTile, Tile

Sort = Literal["only_a", "only_b", "different", "damaged_a", "damaged_b"]
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
# Bodies of so many tiles of each archive are held at once.
PAGE_TILES = 128
# Tiles named of each sort; the rest is a number.
NAMED_MAX = 20


@dataclass(slots=True)
class ZoomDifference:
    """Tiles of one zoom, by what comparing them came to. One that is damaged in both counts twice."""

    same: int = 0
    different: int = 0
    only_a: int = 0
    only_b: int = 0
    damaged_a: int = 0
    damaged_b: int = 0


@dataclass(slots=True)
class Difference:
    """What two archives do not have in common. `named` has the first NAMED_MAX tiles of each sort."""

    by_zoom: dict[int, ZoomDifference] = field(default_factory=dict)
    named: dict[Sort, list[TileId]] = field(default_factory=lambda: {sort: [] for sort in SORTS})

    def count(self, sort: Sort | Literal["same"]) -> int:
        return sum(getattr(zoom, sort) for zoom in self.by_zoom.values())

    @property
    def is_same(self) -> bool:
        return not any(self.named.values())

    def note(self, tile_id: TileId, sort: Sort | None) -> None:
        """Count one tile; None: the same in both."""
        zoom = self.by_zoom.setdefault(tile_id.z, ZoomDifference())
        if sort is None:
            zoom.same += 1
            return
        setattr(zoom, sort, getattr(zoom, sort) + 1)
        if len(self.named[sort]) < NAMED_MAX:
            self.named[sort].append(tile_id)


async def compare(a: TileArchive, b: TileArchive, wanted: Callable[[TileId], bool]) -> Difference:
    """Look at every tile of `a` in `b`, then for tiles of `b` that `a` lacks.

    Archives walk in orders of their own, so that each is walked once and the other asked. Bytes decide; a
    tile that is listed and cannot be read is damaged, and the walk goes on.

    Args:
        a, b: Nobody writes them meanwhile.
        wanted: Whether a tile is to be looked at.

    Raises:
        DataError: An archive cannot be walked to its end.
        StorageError: The disk refused.
    """
    difference = Difference()
    async for page in _pages(a, wanted):
        left, right = await _bodies(a, page), await _bodies(b, page)
        for tile_id, here, there in zip(page, left, right, strict=True):
            if isinstance(here, DataError):
                difference.note(tile_id, "damaged_a")
            if isinstance(there, DataError):
                difference.note(tile_id, "damaged_b")
            if isinstance(here, bytes) and not isinstance(there, DataError):
                sort: Sort | None = "only_a" if there is None else "different"
                difference.note(tile_id, None if here == there else sort)
    async for page in _pages(b, wanted):
        for tile_id, here in zip(page, await _bodies(a, page), strict=True):
            if here is None:
                difference.note(tile_id, "only_b")
    return difference


async def unchanged(a: TileArchive, b: TileArchive, tile_ids: Sequence[TileId]) -> list[bool]:
    """For each tile, in order, whether both have the same bytes of it: a damaged one is never the same.

    Raises StorageError.
    """
    same: list[bool] = []
    for at in range(0, len(tile_ids), PAGE_TILES):
        page = tile_ids[at : at + PAGE_TILES]
        for here, there in zip(await _bodies(a, page), await _bodies(b, page), strict=True):
            same.append(isinstance(here, bytes) and here == there)
    return same


async def _pages(archive: TileArchive, wanted: Callable[[TileId], bool]) -> AsyncIterator[list[TileId]]:
    page: list[TileId] = []
    async for tile_id in archive.tile_ids():
        if wanted(tile_id):
            page.append(tile_id)
            if len(page) == PAGE_TILES:
                yield page
                page = []
    if page:
        yield page


async def _bodies(archive: TileArchive, page: Sequence[TileId]) -> list[bytes | DataError | None]:
    if not isinstance(archive, BatchArchive):
        return await gather(*(body_of(archive, tile_id) for tile_id in page))
    bodies: list[bytes | DataError | None] = []
    while len(bodies) < len(page):
        try:
            answers = await archive.get_batch(page[len(bodies) :], _unchecked)
        except DataError:
            # One tile's page is damaged, or several: asked for one by one, only those are.
            return bodies + [await body_of(archive, tile_id) for tile_id in page[len(bodies) :]]
        for answer in answers:
            if isinstance(answer, TransferError):
                raise answer
            bodies.append(answer if isinstance(answer, DataError) else _body(answer))
    return bodies


async def body_of(archive: TileArchive, tile_id: TileId) -> bytes | DataError | None:
    """The bytes of a tile; None where there is none, the error where it cannot be read."""
    try:
        return _body(await archive.get(tile_id))
    except DataError as error:
        return error


def _body(answer: Tile | NoTile) -> bytes | None:
    return answer.body if isinstance(answer, Tile) else None


def _unchecked(tile: Tile) -> Tile:
    return tile
