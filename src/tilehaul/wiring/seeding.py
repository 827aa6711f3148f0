"""`tilehaul.seed`: two locations and an area become a job."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tilehaul.codec.safe_url import redact
from tilehaul.config.locations import parse_location
from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.errors import ConfigError, PlanError
from tilehaul.grid.area import Area
from tilehaul.grid.bounds import BoundsDeg
from tilehaul.grid.pyramid import grid_of, pyramid_rows
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.event_log import log_event
from tilehaul.jobs.seed import seed as run_seed
from tilehaul.jobs.seed_plan import SeedPlan, check_deadline
from tilehaul.jobs.stop import Stop
from tilehaul.net.clock import SystemClock
from tilehaul.policy.fuse import FAILURES_DEFAULT, FailureLimit
from tilehaul.policy.tally import Tally
from tilehaul.ports.correlation import JOB_ID
from tilehaul.ports.events import Event, JobStarted, LaneChanged, LaneHeld, SeedReport, Watch
from tilehaul.ports.lane import Lanes
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import JobKey, JobStore
from tilehaul.sources.reencoded import Encoding, ReencodedSource
from tilehaul.stores.sqlite_file import Durability
from tilehaul.stores.vector_layers import json_row_of
from tilehaul.wiring.checking import check_location, check_places, check_zooms
from tilehaul.wiring.places import (
    AnyStore,
    open_origin,
    open_store,
    placed_name,
    workers_for,
)
from tilehaul.wiring.reading import reading
from tilehaul.wiring.refreshing import check_refresh, refreshing

# Eight hex digits tell a year's jobs apart, and are read aloud without a mistake.
JOB_ID_BYTES = 4
_JOB_ID = re.compile(r"[A-Za-z0-9._-]{0,64}\Z", re.ASCII)

# What to do, once it is known what the source says of itself.
PlanOf = Callable[[SourceInfo, AnyStore], Awaitable[SeedPlan]]
Around = Callable[[AnyStore, Tally], JobStore]


@dataclass(frozen=True, slots=True)
class SeedOptions:
    """How to seed, apart from what and where. See `SeedPlan` and `Sending`.

    `job_id` names the run in events, report and log: at most 64 of `A-Z a-z 0-9 . _ -`; empty: a random one.
    `encoding`: what tiles become on their way; None: they stay as they are.
    `journal` is where a bucket's journal lies; None: in the state folder. Other stores take none.
    `deduplicate`: a new MBTiles file keeps equal tiles once. Other stores take none: see `open_store`.
    `refresh_older_s`: tiles that were last checked longer ago than this are asked for again, if they have
    changed; None: none is. `keep_freshness`: note when tiles were checked, for that; a refresh does anyway.
    `on_lanes` is given, once the source is open, what tells of its lanes: a call that answers at any time.
    Raises ConfigError when the deadline, the refresh's age or the job's name is out of range.
    """

    sending: Sending = SENDING_DEFAULT
    overwrite: bool = False
    max_failures: FailureLimit = FAILURES_DEFAULT
    durability: Durability = "full"
    force_source: bool = False
    deadline_s: float | None = None
    job_id: str = ""
    journal: str | None = None
    deduplicate: bool = False
    encoding: Encoding | None = None
    refresh_older_s: float | None = None
    keep_freshness: bool = False
    on_lanes: Callable[[Lanes], object] | None = None

    def __post_init__(self) -> None:
        # A mistake is told when the options are made, before anything is opened.
        check_deadline(self.deadline_s)
        if self.refresh_older_s is not None and not self.refresh_older_s >= 0.0:
            raise ConfigError(f"refresh_older_s: 0 seconds or more, not {self.refresh_older_s:g}")
        if not _JOB_ID.match(self.job_id):
            raise ConfigError("job_id: use at most 64 letters, digits, '.', '_' or '-'")


async def seed(
    source: str,
    store: str,
    area: Area,
    *,
    options: SeedOptions | None = None,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> SeedReport:
    """Copy the tiles of an area from a location into a store, exact after any crash.

    Run it again with the same arguments to go on after an interruption: what is there is not asked for.

    Args:
        source: A location that answers tiles.
        store: An `.mbtiles`, `.pmtiles` or `.gpkg` file, or a directory; made when it does not exist.
        area: Which tiles.
        options: How.
        watch: Called with every event, in a thread of its own, one after another; or a `Mailbox`, which is
            read elsewhere. The job does not wait for either: a slow reader loses events that have become old
            (see `Mailbox`). At the end it has LAST_WORDS_S to read the report. What it raises ends the job
            as an interruption would, and is raised here.
        stop: Asks the job to end early: `stop.drain()`, then `stop.cancel()`.

    Returns:
        The report: `complete`, `dead_letters` or `interrupted`.

    Raises:
        PlanError: The request makes no sense, the provider forbids bulk download, or the store is another
            source's. Nothing was sent.
        FuseError: Too much failed or the origin is away.
        StorageError: The disk refused.
    """
    chosen = options or SeedOptions()

    async def plan_of(info: SourceInfo, _keeper: JobStore) -> SeedPlan:
        # Counting a fine polygon takes seconds, and the loop may be a service's.
        planned = await asyncio.to_thread(area.count)
        check_zooms(info, area.zooms)
        return _plan(info, store, area, planned, chosen)

    return await run_between(source, store, plan_of, options=chosen, watch=watch, stop=stop)


async def run_between(
    source: str,
    store: str,
    plan_of: PlanOf,
    *,
    options: SeedOptions,
    watch: Watch | None,
    stop: Stop | None,
    around: Around | None = None,
) -> SeedReport:
    """Open both places, plan, and move. `plan_of` may look into the store, which is not taken yet.

    `around` makes what the job writes to of the store and of the tally that its report is made from.

    Returns and raises as `seed`, and what `plan_of` raises.
    """
    check_places(source, store, options.sending, options.encoding)
    refreshes = options.refresh_older_s is not None or options.keep_freshness
    if refreshes:
        check_refresh(source, store, encodes=options.encoding is not None)
    if options.overwrite and options.refresh_older_s is not None:
        raise PlanError("--overwrite fetches all again, --refresh-older-than what is old: give one")
    await check_location(source, options.sending)
    tally = Tally()
    job_id = options.job_id or secrets.token_hex(JOB_ID_BYTES)
    keeper = open_store(
        parse_location(store),
        durability=options.durability,
        sending=options.sending,
        journal=options.journal,
        deduplicate=options.deduplicate,
    )
    job = JOB_ID.set(job_id)
    try:
        async with reading(watch) as tell:
            note = ""

            def told(event: Event) -> None:
                if note and isinstance(event, JobStarted):
                    event = replace(event, note=note)
                log_event(event)
                tell.job(event)

            def lane_told(event: LaneHeld | LaneChanged) -> None:
                named = replace(event, job_id=job_id)
                log_event(named)
                tell.lane(named)

            async with open_origin(
                source,
                sending=options.sending,
                tally=tally,
                tell=lane_told,
            ) as opened:
                origin = opened
                if options.on_lanes is not None:
                    options.on_lanes(opened.lanes)
                if options.encoding is not None:
                    options.encoding.check_kind(opened.source.info.media_type, redact(source))
                    origin = replace(opened, source=ReencodedSource(opened.source, options.encoding))
                workers = workers_for(parse_location(source), options.sending)
                note = origin.source.info.note
                plan = await plan_of(origin.source.info, keeper)
                key = replace(plan.key, source_name=placed_name(plan.key.source_name, source))
                plan = replace(plan, key=key, job_id=job_id, workers=workers)
                clock = SystemClock()
                if not refreshes:
                    kept = keeper if around is None else around(keeper, tally)
                    return await run_seed(origin, kept, plan, tally=tally, clock=clock, watch=told, stop=stop)
                with refreshing(store, keeper, options.refresh_older_s, clock) as fresh:
                    origin = replace(origin, source=fresh.source(origin.source))
                    if options.refresh_older_s is not None:
                        plan = replace(plan, stale=fresh.stale)
                    return await run_seed(
                        origin, fresh.store, plan, tally=tally, clock=clock, watch=told, stop=stop
                    )
    finally:
        JOB_ID.reset(job)
        await keeper.close()


def _plan(info: SourceInfo, store: str, area: Area, planned: int, options: SeedOptions) -> SeedPlan:
    key = JobKey(
        source_identity=info.identity,
        source_name=info.name,
        area_identity=area.identity,
        planned=planned,
        grid=grid_of(info.pyramid),
        metadata=metadata_of(info, name=Path(store).stem, zooms=area.zooms, bounds_deg=area.bounds_deg),
        version=info.version,
        renews=options.overwrite,
    )
    return plan_with(options, area, key, store)


def metadata_of(
    info: SourceInfo, *, name: str, zooms: Sequence[int], bounds_deg: BoundsDeg, format_name: str = ""
) -> tuple[tuple[str, str], ...]:
    """What an archive says of itself after a job: rows that are not empty, see `JobKey.metadata`.

    Args:
        info: The source's; attribution, description and vector layers are carried over.
        name: Of the archive.
        zooms: Of the job, ascending; may be none.
        bounds_deg: Of the job.
        format_name: MBTiles' word for the tiles' format; empty: the first tile says.
    """
    west, south, east, north = bounds_deg
    metadata = {
        "name": name,
        "minzoom": str(zooms[0]) if zooms else "",
        "maxzoom": str(zooms[-1]) if zooms else "",
        # MBTiles bounds do not cross the antimeridian.
        "bounds": f"{west},{south},{east},{north}" if west <= east else f"-180.0,{south},180.0,{north}",
        "format": format_name,
        "attribution": info.attribution,
        "description": info.description,
        "json": json_row_of(info.vector_layers),
    }
    if info.pyramid is not None and zooms:
        metadata |= pyramid_rows(info.pyramid.down_to(zooms[-1]))
    return tuple((row, value) for row, value in metadata.items() if value)


def plan_with(
    options: SeedOptions,
    tiles: Iterable[TileId] | AsyncIterable[TileId],
    key: JobKey,
    store: str,
    *,
    job: str = "seed",
) -> SeedPlan:
    """The plan to move `tiles`, `key.planned` of them, as the options say; `workers` is `run_between`'s."""
    return SeedPlan(
        tiles=tiles,
        planned=key.planned,
        key=key,
        store_name=store,
        job=job,
        overwrite=options.overwrite,
        max_failures=options.max_failures,
        max_wait_s=options.sending.max_wait_s,
        force_source=options.force_source,
        deadline_s=options.deadline_s,
    )
