"""`tilehaul copy`: the tiles that an archive lists, from a location into a store, exact after any crash."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tilehaul.config.locations import SERVICES, parse_location
from tilehaul.config.sending import Sending
from tilehaul.errors import PlanError
from tilehaul.grid.area import Area
from tilehaul.grid.pyramid import grid_of
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.compare import unchanged
from tilehaul.jobs.mirror import MirroringStore, extra_tiles
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import SeedReport, Watch
from tilehaul.ports.source import SourceInfo, SourceVersion
from tilehaul.ports.store import JobKey, JobStore, TileArchive
from tilehaul.stores.archive_metadata import format_of
from tilehaul.stores.real_path import real_path
from tilehaul.stores.source_version import file_version
from tilehaul.wiring.checking import check_location, check_zooms
from tilehaul.wiring.places import AnyStore, open_archive
from tilehaul.wiring.seeding import SeedOptions, metadata_of, plan_with, run_between, seed

# As many as `grid.area.IDENTITY_CHARS`: both name areas in the same list of jobs.
IDENTITY_CHARS = 16
# Tiles to be deleted that a dry run names.
EXTRAS_NAMED = 20


@dataclass(frozen=True, slots=True)
class Listing:
    """What an archive holds, to be planned: how many tiles by zoom, and a name of exactly these.

    `identity` is of the archive's place, and of each id where the archive has no version: with other ids it
    is another job then, and a copy of it adds what is new.
    """

    by_zoom: dict[int, int]
    identity: str

    @property
    def planned(self) -> int:
        return sum(self.by_zoom.values())

    @property
    def zooms(self) -> list[int]:
        """Those that have a tile, ascending."""
        return sorted(zoom for zoom, count in self.by_zoom.items() if count)


@dataclass(slots=True)
class Extras:
    """Tiles that a store has and its source has not; `named` are the first EXTRAS_NAMED of them."""

    by_zoom: dict[int, int] = field(default_factory=dict)
    named: list[TileId] = field(default_factory=list)

    @property
    def tiles(self) -> int:
        return sum(self.by_zoom.values())

    def note(self, tile_id: TileId) -> None:
        self.by_zoom[tile_id.z] = self.by_zoom.get(tile_id.z, 0) + 1
        if len(self.named) < EXTRAS_NAMED:
            self.named.append(tile_id)


async def copy(
    source: str,
    store: str,
    *,
    within: Area | None = None,
    tiles_of: str | None = None,
    update: bool = False,
    delete: bool = False,
    options: SeedOptions | None = None,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> SeedReport:
    """Copy what an archive holds from a location into a store; run it again to go on.

    Args:
        source: A location that answers tiles.
        store: As for `seed`.
        within: Only the tiles that are in this area as well.
        tiles_of: The archive whose tiles are copied; None: those of `source`, which must be an archive then
            unless `within` is given.
        update: Compare bytes first, and move only what differs or is missing. What the source no longer has
            stays, without `delete`. The report counts what is the same as `skipped`.
        delete: With `update`: tiles of the store, those in `within` only, that the source does not have are
            deleted, once all else is there and nothing is dead. The report counts them as `deleted`.
        options, watch, stop: As for `seed`.

    Returns and raises as `seed`. PlanError also when an update is from a tile service, of `tiles_of` or
    re-encodes, when a tile service is to be copied without an area, or when `delete` is asked for without an
    update or from a source that is empty or not complete itself.
    """
    chosen = options or SeedOptions()
    if delete and not update:
        raise PlanError("a copy deletes only what it has compared: --delete goes with --update")
    if update:
        check_update(source, tiles_of, encodes=chosen.encoding is not None)
    if tiles_of is None and parse_location(source).kind in SERVICES:
        if within is None:
            raise PlanError(
                "a tile service does not say which tiles it has: give --bbox, --region, --tiles or -z,"
                " or --tiles-of ARCHIVE"
            )
        return await seed(source, store, within, options=chosen, watch=watch, stop=stop)
    # Before anything is counted, which may take a while.
    await check_location(source, chosen.sending)
    listed = tiles_of or source
    archive = open_archive(listed, sending=chosen.sending)
    try:
        if delete:
            await check_mirrored(archive, source)
        listing = await listing_of(archive, listed, within, is_source=tiles_of is None)

        def wanted(tile_id: TileId) -> bool:
            return within is None or tile_id in within

        def mirroring(keeper: AnyStore, tally: Tally) -> JobStore:
            return MirroringStore(keeper, keeper, archive, wanted, tally, stop)

        async def plan_of(info: SourceInfo, keeper: AnyStore) -> SeedPlan:
            async def same(tile_ids: Sequence[TileId]) -> list[bool]:
                return await unchanged(archive, keeper, tile_ids)

            check_zooms(info, listing.zooms)
            key = _key_of(info, listing, within, chosen)
            key = replace(key, mirrors=delete and within is None, renews=update or chosen.overwrite)
            plan = plan_with(chosen, walked(archive, within), key, store, job="copy")
            return replace(
                plan,
                unchanged=same if update else None,
                listed=tiles_of is None,
                objection=partial(changed_since, source, info.version),
            )

        around = mirroring if delete else None
        return await run_between(
            source, store, plan_of, options=chosen, watch=watch, stop=stop, around=around
        )
    finally:
        await archive.close()


def changed_since(location: str, before: SourceVersion | None) -> str:
    """Says that a file on this disk was changed or replaced since, and what to do; "" when it was not."""
    place = parse_location(location)
    if (
        place.kind not in ("mbtiles", "pmtiles", "geopackage")
        or file_version(real_path(place.path)) == before
    ):
        return ""
    return (
        f"{location} was changed or replaced while it was copied: `tilehaul copy --update` moves what"
        " differs, --overwrite moves all again"
    )


def _key_of(info: SourceInfo, listing: Listing, within: Area | None, options: SeedOptions) -> JobKey:
    return JobKey(
        source_identity=info.identity,
        source_name=info.name,
        area_identity=listing.identity,
        planned=listing.planned,
        version=info.version,
        grid=grid_of(info.pyramid),
        metadata=metadata_of(
            info,
            name=info.name.removesuffix(f" {options.encoding or ''}"),
            zooms=listing.zooms,
            bounds_deg=info.bounds_deg if within is None else within.bounds_deg,
            format_name=format_of(info.media_type),
        )
        + tuple(row for row in info.rows if within is None or row[0] != "center"),
    )


def check_update(source: str, tiles_of: str | None, *, encodes: bool) -> None:
    """Refuse an update that has no two archives to compare. Raises PlanError."""
    if tiles_of or encodes or parse_location(source).kind in SERVICES:
        raise PlanError(
            "an update compares the bytes of two archives: leave out --tiles-of, --format and --compression,"
            " and name an archive as the source"
        )


async def check_mirrored(source: TileArchive, location: str) -> None:
    """Refuse to delete what is not in `source` when it is empty, or lacks tiles itself. PlanError."""
    said = await source.describe()
    if not said.tiles:
        raise PlanError(f"{location} has no tile: --delete would empty the store; remove that yourself")
    if said.state == "partial":
        raise PlanError(
            f"{location} is not complete itself ({said.dead} dead tiles, or some still to come): end its own"
            " job first, or leave out --delete"
        )


async def extras_of(source: TileArchive, store: str, within: Area | None, sending: Sending) -> Extras:
    """What a mirroring copy into `store` would delete now; nothing where there is no store yet."""
    place = parse_location(store)
    extras = Extras()
    kept = open_archive(place, sending=sending)
    try:
        async for page in extra_tiles(source, kept, lambda tile_id: within is None or tile_id in within):
            for tile_id, state in zip(page, await kept.states(page), strict=True):
                if state is not None:
                    extras.note(tile_id)
    except PlanError:
        if place.kind == "bucket" or place.path.exists():
            raise
    finally:
        await kept.close()
    return extras


async def listing_of(
    archive: TileArchive, location: str, within: Area | None, *, is_source: bool = True
) -> Listing:
    """Count what `walked` will give, and name it.

    The ids are walked for that within an area, and where the archive has no version. `is_source`: the tiles
    come from it too, so that the job knows its version.
    """
    info = await archive.source_info()
    ids = hashlib.sha256()
    if within is None and info.version is not None:
        by_zoom = (await archive.describe()).tiles_by_zoom
    else:
        by_zoom = {}
        async for tile_id in walked(archive, within):
            by_zoom[tile_id.z] = by_zoom.get(tile_id.z, 0) + 1
            if info.version is None:
                ids.update(b"%d/%d/%d " % (tile_id.z, tile_id.x, tile_id.y))
    area = "" if within is None else within.identity
    if not by_zoom:
        raise PlanError(f"{location} has no tile" + (" in that area" if area else ""))
    which = ids.hexdigest() if info.version is None else "" if is_source else info.version.token
    named = f"tiles of {info.identity} {which} {area}"
    return Listing(by_zoom, hashlib.sha256(named.encode()).hexdigest()[:IDENTITY_CHARS])


async def walked(archive: TileArchive, within: Area | None) -> AsyncIterator[TileId]:
    """The archive's tiles, those of the area only, in the archive's own order."""
    async for tile_id in archive.tile_ids():
        if within is None or tile_id in within:
            yield tile_id
