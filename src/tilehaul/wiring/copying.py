"""`tilehaul copy`: the tiles that an archive lists, from a location into a store, exact after any crash."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tilehaul.config.locations import SERVICES, parse_location
from tilehaul.errors import PlanError
from tilehaul.grid.area import Area
from tilehaul.grid.pyramid import grid_of
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.compare import unchanged
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.ports.events import SeedReport, Watch
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import JobKey, TileArchive
from tilehaul.stores.archive_metadata import format_of
from tilehaul.wiring.places import AnyStore, open_archive
from tilehaul.wiring.seeding import SeedOptions, check_location, metadata_of, plan_with, run_between, seed

# As many as `grid.area.IDENTITY_CHARS`: both name areas in the same list of jobs.
IDENTITY_CHARS = 16


@dataclass(frozen=True, slots=True)
class Listing:
    """What an archive holds, to be planned: how many tiles by zoom, and a name of exactly these.

    `identity` follows from the archive's place and its counts, without reading the ids again: an archive
    that has grown is another job, and a copy of it adds what is new.
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


async def copy(
    source: str,
    store: str,
    *,
    within: Area | None = None,
    tiles_of: str | None = None,
    update: bool = False,
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
            stays. The report counts what is the same as `skipped`.
        options, watch, stop: As for `seed`.

    Returns and raises as `seed`. PlanError also when an update is from a tile service, of `tiles_of` or
    re-encodes, or when a tile service is to be copied without an area.
    """
    chosen = options or SeedOptions()
    if update and (tiles_of or chosen.encoding is not None or parse_location(source).kind in SERVICES):
        raise PlanError(
            "an update compares the bytes of two archives: leave out --tiles-of, --format and --compression,"
            " and name an archive as the source"
        )
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
    before = stamp_of(source)
    archive = open_archive(listed, sending=chosen.sending)
    try:
        listing = await listing_of(archive, listed, within)

        async def plan_of(info: SourceInfo, keeper: AnyStore) -> SeedPlan:
            async def same(tile_ids: Sequence[TileId]) -> list[bool]:
                return await unchanged(archive, keeper, tile_ids)

            key = JobKey(
                source_identity=info.identity,
                source_name=info.name,
                area_identity=listing.identity,
                planned=listing.planned,
                grid=grid_of(info.pyramid),
                metadata=metadata_of(
                    info,
                    name=info.name.removesuffix(f" {chosen.encoding or ''}"),
                    zooms=listing.zooms,
                    bounds_deg=info.bounds_deg if within is None else within.bounds_deg,
                    format_name=format_of(info.media_type),
                ),
            )
            plan = plan_with(chosen, walked(archive, within), key, store, job="copy")
            return replace(
                plan,
                unchanged=same if update else None,
                listed=tiles_of is None,
                objection=partial(changed_since, source, before),
            )

        return await run_between(source, store, plan_of, options=chosen, watch=watch, stop=stop)
    finally:
        await archive.close()


def stamp_of(location: str) -> tuple[tuple[int, int, int], ...]:
    """What tells one state of a file on this disk from the next; nothing for what is no such file."""
    place = parse_location(location)
    if place.kind not in ("mbtiles", "pmtiles", "geopackage"):
        return ()
    stamps = []
    # A write to an SQLite file may be in its log alone.
    for path in (place.path, Path(f"{place.path}-wal")):
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_size:
            stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamps)


def changed_since(location: str, before: tuple[tuple[int, int, int], ...]) -> str:
    """Says that a file has been changed or replaced since, and what to do; "" when it has not."""
    if stamp_of(location) == before:
        return ""
    return (
        f"{location} was changed or replaced while it was copied: `tilehaul copy --update` moves what differs"
    )


async def listing_of(archive: TileArchive, location: str, within: Area | None) -> Listing:
    """Count what `walked` will give. Within an area the ids are walked for that, without one they are not."""
    info = await archive.source_info()
    if within is None:
        by_zoom = (await archive.describe()).tiles_by_zoom
    else:
        by_zoom = {}
        async for tile_id in walked(archive, within):
            by_zoom[tile_id.z] = by_zoom.get(tile_id.z, 0) + 1
    area = "" if within is None else within.identity
    if not by_zoom:
        raise PlanError(f"{location} has no tile" + (" in that area" if area else ""))
    named = f"tiles of {info.identity} {sorted(by_zoom.items())} {area}"
    return Listing(by_zoom, hashlib.sha256(named.encode()).hexdigest()[:IDENTITY_CHARS])


async def walked(archive: TileArchive, within: Area | None) -> AsyncIterator[TileId]:
    """The archive's tiles, those of the area only, in the archive's own order."""
    async for tile_id in archive.tile_ids():
        if within is None or tile_id in within:
            yield tile_id
