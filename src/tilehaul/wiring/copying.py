"""`tilehaul.copy`: what one archive holds, into another."""

from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from tilehaul.codec.safe_url import redact
from tilehaul.config.locations import parse_location
from tilehaul.config.sending import Sending
from tilehaul.errors import PlanError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.seed import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.ports.events import SeedReport, Watch
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import JobStore, TileArchive
from tilehaul.wiring.pages import pages_of, sides
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.seeding import SeedOptions, key_of, plan_with, run_between


@dataclass(frozen=True, slots=True)
class Held:
    """The tiles an archive holds, those of `area` only if there is one. Walked lazily, in its own order."""

    archive: TileArchive
    area: Area | None

    async def __aiter__(self) -> AsyncIterator[TileId]:
        async for tile_id in self.archive.tile_ids():
            if self.area is None or tile_id in self.area:
                yield tile_id

    async def by_zoom(self) -> dict[int, int]:
        """How many they are, by zoom; without an area what the archive counts itself."""
        if self.area is None:
            return dict(sorted((await self.archive.describe()).tiles_by_zoom.items()))
        counts: dict[int, int] = {}
        async for tile_id in self:
            counts[tile_id.z] = counts.get(tile_id.z, 0) + 1
        return dict(sorted(counts.items()))


# Tiles that an update may move: 8 bytes of memory each.
UPDATE_TILES_MAX = 20_000_000


class Changed:
    """The tiles of an archive that another does not hold with the same bytes, by their PMTiles ids."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._by_zoom: Counter[int] = Counter()

    @classmethod
    async def of(cls, held: "Held", store: TileArchive) -> "Changed":
        """Reads both. Raises PlanError when more than UPDATE_TILES_MAX differ; what the archives raise."""
        changed = cls()
        async for page in pages_of(aiter(held)):
            for tile_id, side in zip(page, await sides(page, held.archive, store), strict=True):
                if side in ("left", "changed"):
                    changed._numbers.append(tile_id.pmtiles_id)
                    changed._by_zoom[tile_id.z] += 1
            if len(changed._numbers) > UPDATE_TILES_MAX:
                raise PlanError(
                    f"more than {UPDATE_TILES_MAX:,} tiles differ: copy with --overwrite instead of --update"
                )
        return changed

    def __iter__(self) -> Iterator[TileId]:
        return map(TileId.from_pmtiles_id, self._numbers)

    def by_zoom(self) -> dict[int, int]:
        return dict(sorted(self._by_zoom.items()))


async def copy(
    source: str,
    store: str,
    *,
    area: Area | None = None,
    tiles_of: str | None = None,
    update: bool = False,
    options: SeedOptions | None = None,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> SeedReport:
    """Copy the tiles that an archive holds into a store, exact after any crash.

    Unlike a seed it asks for nothing that is not there, however few tiles of the world that is. Run again it
    goes on; an archive that has grown since is another job, which adds to the same store.

    Args:
        source: An archive: `.mbtiles`, `.pmtiles`, a directory, a bucket. With `tiles_of` any location.
        store: As for `seed`.
        area: Only its tiles.
        tiles_of: Another archive: the tiles that it holds are asked of `source`.
        update: Both are read first, and only tiles that the store lacks or holds with other bytes are moved.
            Tiles that the source does not hold stay.
        options, watch, stop: As for `seed`.

    Returns and raises as `seed`; PlanError when there is nothing to copy, or the source is no archive.
    """
    chosen = options or SeedOptions()
    if update and tiles_of is not None:
        raise PlanError(
            "--update compares with the source itself, and --tiles-of asks another: leave one out"
        )
    listed = tiles_of or source
    archive = open_listed(listed, sending=chosen.sending)
    try:
        held = Held(archive, area)

        async def plan_of(info: SourceInfo, _store: JobStore) -> SeedPlan:
            if update and _is_there(store):
                return await _update_plan(held, info, store, chosen)
            by_zoom = await held.by_zoom()
            if not by_zoom:
                within = "" if area is None else " in this area"
                raise PlanError(f"{listed} holds no tiles{within}: there is nothing to copy")
            told = await archive.source_info()
            planned = sum(by_zoom.values())
            part = "all" if area is None else area.identity
            key = key_of(
                info,
                name=info.name if tiles_of is None else told.name,
                area_identity=f"held:{told.identity if tiles_of else ''}:{planned}:{part}",
                planned=planned,
                zooms=(min(by_zoom), max(by_zoom)),
                bounds_deg=told.bounds_deg if area is None else area.bounds_deg,
            )
            return plan_with(chosen, held, key, store, job="copy")

        return await run_between(source, store, plan_of, options=chosen, watch=watch, stop=stop)
    finally:
        await archive.close()


async def _update_plan(held: Held, info: SourceInfo, store: str, options: SeedOptions) -> SeedPlan:
    there = open_archive(store, sending=options.sending)
    try:
        changed = await Changed.of(held, there)
    finally:
        await there.close()
    by_zoom = changed.by_zoom()
    told = await held.archive.source_info()
    key = key_of(
        info,
        name=info.name,
        area_identity=f"update:{'all' if held.area is None else held.area.identity}",
        planned=sum(by_zoom.values()),
        zooms=(min(by_zoom, default=told.zoom_min), max(by_zoom, default=told.zoom_max)),
        bounds_deg=told.bounds_deg if held.area is None else held.area.bounds_deg,
    )
    # What differs is moved, although an earlier run has settled it.
    return plan_with(replace(options, overwrite=True), changed, key, store, job="update")


def _is_there(store: str) -> bool:
    place = parse_location(store)
    return place.kind == "bucket" or place.path.exists()


def open_listed(location: str, *, sending: Sending) -> TileArchive:
    """An archive whose tiles can be listed. Raises PlanError for a tile service, which lists none."""
    if parse_location(location).kind in ("xyz", "wms", "wmts"):
        raise PlanError(
            f"{redact(location)} is a tile service and cannot say which tiles it has: seed an area of it, "
            "or name an archive that has them with --tiles-of"
        )
    return open_archive(location, sending=sending)
