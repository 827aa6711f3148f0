"""Whether an archive is what it says it is: every tile's bytes, and what is declared of them."""

from asyncio import gather
from collections.abc import Callable
from dataclasses import dataclass, field

from tilehaul.errors import DataError, RefusedError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.store import StoreInfo, TileArchive
from tilehaul.ports.tile import Tile

# Bodies held at once.
PAGE_TILES = 128
# Tiles named that are damaged; the rest is a number.
NAMED_MAX = 20
# Bounds are written with seven digits or fewer: what is nearer than this touches them.
NEAR_DEG = 1e-6
Told = Callable[[int], None]


@dataclass(slots=True)
class Verdict:
    """What was looked at and what is wrong with it.

    `wrong` are sentences about the archive; `damaged` counts tiles that are not whole, of which `named` has
    the first NAMED_MAX with their causes.
    `outside` counts tiles that do not meet the archive's bounds, by zoom, `flipped` those that would not
    either if rows were counted from the south; `beside` those that a pyramid's picture does not have; `kinds`
    whole tiles by media type, `decoded` the pictures that were decoded where that was asked for. `metadata`
    is the archive's.
    """

    wrong: list[str] = field(default_factory=list)
    damaged: int = 0
    outside: dict[int, int] = field(default_factory=dict)
    beside: int = 0
    named: list[tuple[TileId, str]] = field(default_factory=list)
    by_zoom: dict[int, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    decoded: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    flipped: dict[int, int] = field(default_factory=dict)

    @property
    def tiles(self) -> int:
        return sum(self.by_zoom.values())

    @property
    def is_fine(self) -> bool:
        return not self.wrong and not self.damaged


async def verify(archive: TileArchive, source: TileSource, told: Told) -> Verdict:
    """Read every tile of an archive that nobody writes.

    Args:
        archive: Walked and counted.
        source: The same archive as a source, which verifies each body, and may decode it.
        told: Called with how many tiles have been looked at, a page at a time.

    Raises:
        DataError: It cannot be walked to its end.
        StorageError: The disk refused.
    """
    verdict = Verdict()
    described = await archive.describe()
    verdict.metadata = described.metadata
    page: list[TileId] = []
    async for tile_id in archive.tile_ids():
        page.append(tile_id)
        if len(page) == PAGE_TILES:
            await _look(source, page, verdict)
            told(verdict.tiles)
            page = []
    await _look(source, page, verdict)
    told(verdict.tiles)
    verdict.wrong += complaints(described, source.info, verdict)
    return verdict


async def _look(source: TileSource, page: list[TileId], verdict: Verdict) -> None:
    for tile_id, cause in zip(page, await gather(*(_cause(source, i) for i in page)), strict=True):
        verdict.by_zoom[tile_id.z] = verdict.by_zoom.get(tile_id.z, 0) + 1
        if not meets(tile_id, source.info.bounds_deg):
            verdict.outside[tile_id.z] = verdict.outside.get(tile_id.z, 0) + 1
        if not meets(_from_south(tile_id), source.info.bounds_deg):
            verdict.flipped[tile_id.z] = verdict.flipped.get(tile_id.z, 0) + 1
        verdict.beside += source.info.pyramid is not None and tile_id not in source.info.pyramid
        if "/" in cause:
            verdict.kinds[cause] = verdict.kinds.get(cause, 0) + 1
            continue
        verdict.damaged += 1
        if len(verdict.named) < NAMED_MAX:
            verdict.named.append((tile_id, cause))


async def _cause(source: TileSource, tile_id: TileId) -> str:
    """The media type of a whole tile, which has a slash in it; else why it is none, which has not."""
    try:
        answer = await source.get(tile_id)
    except (DataError, RefusedError) as error:
        return error.cause
    return answer.media_type if isinstance(answer, Tile) else "listed_but_not_there"


def _from_south(tile_id: TileId) -> TileId:
    return TileId(tile_id.z, tile_id.x, (1 << tile_id.z) - 1 - tile_id.y)


def meets(tile_id: TileId, bounds_deg: tuple[float, float, float, float]) -> bool:
    """Whether a tile has ground in common with bounds, which may cross the antimeridian (west > east)."""
    west, south, east, north = bounds_deg
    left, bottom, right, top = tile_id.bounds_deg
    if top < south - NEAR_DEG or bottom > north + NEAR_DEG:
        return False
    before, behind = right < west - NEAR_DEG, left > east + NEAR_DEG
    return not (before or behind) if west <= east else not (before and behind)


def complaints(described: StoreInfo, info: SourceInfo, found: Verdict) -> list[str]:
    """Where what an archive says differs from the tiles that were found."""
    wrong: list[str] = []
    counted = {zoom: count for zoom, count in described.tiles_by_zoom.items() if count}
    if counted != found.by_zoom:
        wrong.append(f"it counts {described.tiles} tiles, {found.tiles} were found")
    if described.state == "partial":
        wrong.append(f"its job is not complete: {described.dead} dead tiles, or some still to come")
    if info.media_type:
        others = {kind: count for kind, count in found.kinds.items() if kind != info.media_type}
        wrong += [
            f"its format is {info.media_type}, {count} tiles are {kind}" for kind, count in others.items()
        ]
    # Bounds are those of the deepest zoom: overviews of a larger place are usual, and no fault.
    deepest = max(found.by_zoom, default=0)
    outside, bounds = found.outside.get(deepest, 0), described.metadata.get("bounds", "")
    if outside and bounds:
        turned = "" if found.flipped.get(deepest) else "; none if its rows are counted from the south (TMS)"
        wrong.append(f"its bounds are {bounds}, {outside} tiles of zoom {deepest} lie outside{turned}")
    if info.pyramid is not None:
        wanted = sum(map(info.pyramid.count, range(info.zoom_min, info.pyramid.zoom_max + 1)))
        if found.tiles != wanted or found.beside:
            picture = f"its picture of {info.pyramid.width} x {info.pyramid.height} px has {wanted} tiles"
            wrong.append(f"{picture}, {found.tiles} were found, {found.beside} of them outside it")
    for name, pick in (("minzoom", min), ("maxzoom", max)):
        said = described.metadata.get(name, "")
        if found.by_zoom and said and said != str(pick(found.by_zoom)):
            wrong.append(f"its {name} is {said}, that of its tiles {pick(found.by_zoom)}")
    return wrong
