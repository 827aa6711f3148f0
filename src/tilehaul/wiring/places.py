"""A location becomes a source or a store."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tilehaul.codec.safe_url import redact
from tilehaul.codec.wms_request import parse_wms_location
from tilehaul.codec.wmts_request import parse_wmts_location
from tilehaul.config.locations import SERVICES, Location, parse_location
from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.errors import PlanError
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.net.clock import SystemClock
from tilehaul.net.gauges import Gauges
from tilehaul.net.lane_pool import LanePool
from tilehaul.net.manners import check_bulk, check_contact, check_named
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import TellLane
from tilehaul.ports.store import TileArchive
from tilehaul.ports.wire import Sender
from tilehaul.sources.stored import StoredSource
from tilehaul.sources.wmts import WmtsSource
from tilehaul.stores.bucket import BucketStore
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.pmtiles import PmtilesStore
from tilehaul.stores.pmtiles_reader import journal_path as pmtiles_journal
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_file import Durability
from tilehaul.wiring.buckets import open_bucket
from tilehaul.wiring.named import xyz_opener
from tilehaul.wiring.opened import OpenedSource
from tilehaul.wiring.remote import is_bucket, open_remote, remote_urls
from tilehaul.wiring.senders import allowed_hosts, open_laned, open_sender, retry_rule
from tilehaul.wiring.tms import open_tms, tilemap_url
from tilehaul.wiring.wms import open_wms
from tilehaul.wiring.wmts import open_wmts

AnyStore = BucketStore | MbtilesStore | GeopackageStore | PmtilesStore | DirectoryStore
# Tiles asked for at once where many share a request: enough for sixteen pictures of 16 x 16.
SHARING_WORKERS_MAX = 4096


@asynccontextmanager
async def open_source(
    location: str,
    *,
    sending: Sending = SENDING_DEFAULT,
    tally: Tally | None = None,
    tell: TellLane | None = None,
    pool: LanePool | None = None,
) -> AsyncIterator[OpenedSource]:
    """Open whatever a location names, for reading. What its `get` raises is final. `pool`: see `open_laned`.

    While an upstream that fails is left alone, a tile is answered by BusyError.

    Raises:
        PlanError: Not a location, or there is nothing; or the host asks every client for a contact.
        ConfigError: The URL template is wrong.
        DataError: An archive is damaged.
    """
    place = parse_location(location)
    gauges = Gauges()
    if place.kind in ("xyz", "provider"):
        source_of = xyz_opener(place, headers=sending.headers)
        check_named(source_of.typed_urls, sending.rules(), contact=sending.contact)
        async with open_sender(
            sending, source_of.typed_urls, tally=tally or Tally(), tell=tell, gauges=gauges, pool=pool
        ) as sender:
            yield OpenedSource(source_of(sender), gauges)
        return
    if place.kind == "wms":
        wms = parse_wms_location(place.text)
        typed = (wms.capabilities_url(),)
        check_named(typed, sending.rules(), contact=sending.contact)
        async with open_sender(
            sending, typed, tally=tally or Tally(), tell=tell, gauges=gauges, pool=pool
        ) as sender:
            yield OpenedSource(await open_wms(wms, sender, sending), gauges)
        return
    if place.kind in DECLARED:
        typed = (document_url(place),)
        check_named(typed, sending.rules(), contact=sending.contact)
        async with open_sender(
            sending, typed, tally=tally or Tally(), tell=tell, gauges=gauges, pool=pool
        ) as sender:
            yield OpenedSource(await _open_declared(place, sender, sending), gauges)
        return
    if place.kind == "remote":
        check_named(remote_urls(place), sending.rules(), contact=sending.contact)
        archive: TileArchive = open_remote(place, sending, tally=tally, tell=tell, gauges=gauges, pool=pool)
    else:
        archive = open_archive(place, sending=sending, pool=pool)
    try:
        yield OpenedSource(await StoredSource.open(archive, location=redact(place.text)), gauges)
    finally:
        await archive.close()


@asynccontextmanager
async def open_origin(
    location: str, *, sending: Sending, tally: Tally, tell: TellLane | None = None
) -> AsyncIterator[Origin]:
    """Open a location for a job, which has time: failed attempts come back to it and wait on its heap, and an
    upstream that is left alone is waited for. Raises as `open_source`.
    """
    place = parse_location(location)
    if place.kind in ("xyz", "provider"):
        source_of = xyz_opener(place, headers=sending.headers)
        check_named(source_of.typed_urls, sending.rules(), contact=sending.contact)
        allowed = allowed_hosts(sending, source_of.typed_urls)
        gauges = Gauges()
        async with open_laned(
            sending, allowed, tally=tally, tell=tell, pause=True, hand_back=True, gauges=gauges
        ) as laned:
            xyz = source_of(laned)
            retrying = Retrying(
                retry_rule(sending),
                random.random,
                budget_of=lambda tile_id: laned.budget_of(xyz.request(tile_id)),
            )
            yield Origin(xyz, retrying, lanes=gauges.lanes, turn_away=laned.turn_away)
        return
    if place.kind == "wms":
        wms = parse_wms_location(place.text)
        typed = (wms.capabilities_url(),)
        check_named(typed, sending.rules(), contact=sending.contact)
        gauges = Gauges()
        async with open_laned(
            sending, allowed_hosts(sending, typed), tally=tally, tell=tell, pause=True, gauges=gauges
        ) as laned:
            # One picture is many tiles: tried again as one, or each of them would ask for a broken one.
            sender = RetriedSender(laned, retry_rule(sending), SystemClock(), random.random, tally)
            yield Origin(await open_wms(wms, sender, sending), lanes=gauges.lanes, turn_away=laned.turn_away)
        return
    if place.kind in DECLARED:
        typed = (document_url(place),)
        check_named(typed, sending.rules(), contact=sending.contact)
        allowed, gauges = allowed_hosts(sending, typed), Gauges()
        async with open_laned(
            sending, allowed, tally=tally, tell=tell, pause=True, hand_back=True, gauges=gauges
        ) as laned:
            asking = RetriedSender(laned, retry_rule(sending), SystemClock(), random.random, tally)
            tiles = await _open_declared(place, asking, sending, tiles=laned)
            # The service may have named a host of its own for tiles.
            check_bulk(tiles.tiles.template.samples, sending.rules())
            await check_contact(tiles.tiles.template.samples, contact=sending.contact)
            retrying = Retrying(
                retry_rule(sending),
                random.random,
                budget_of=lambda tile_id: laned.budget_of(tiles.request(tile_id)),
            )
            yield Origin(tiles, retrying, lanes=gauges.lanes, turn_away=laned.turn_away)
        return
    if place.kind == "remote":
        check_named(remote_urls(place), sending.rules(), contact=sending.contact)
        gauges = Gauges()
        archive = open_remote(place, sending, tally=tally, tell=tell, gauges=gauges, pause=True)
        try:
            stored = await StoredSource.open(archive, location=redact(place.text))
            yield Origin(stored, lanes=gauges.lanes, turn_away=archive.turn_away)
        finally:
            await archive.close()
        return
    async with open_source(location, sending=sending, tally=tally) as opened:
        yield Origin(opened.source, lanes=opened.lanes)


# Services that say in a document where their tiles are.
DECLARED = frozenset({"wmts", "tms"})


def document_url(place: Location) -> str:
    """Where the document of a service of DECLARED is."""
    if place.kind == "tms":
        return tilemap_url(place.text)
    return parse_wmts_location(place.text).capabilities_url()


async def _open_declared(
    place: Location, asking: Sender, sending: Sending, *, tiles: Sender | None = None
) -> WmtsSource:
    """See `open_wmts` and `open_tms`."""
    if place.kind == "tms":
        return await open_tms(tilemap_url(place.text), asking, sending, tiles=tiles)
    return await open_wmts(parse_wmts_location(place.text), asking, sending, tiles=tiles)


def placed_name(name: str, location: str) -> str:
    """A source for people: an archive's name is its maker's, and says nothing of where it lies."""
    place = parse_location(location)
    where = redact(place.text)
    return name if place.kind in SERVICES or name.startswith(where) else f"{name} ({where})"


def lane_class_of(place: Location) -> str:
    """The class of the lane that tiles come through from there; one for tiles, where there is no lane."""
    if place.kind == "remote":
        return "s3-read" if is_bucket(place) else "tile"
    return {"bucket": "s3-read", "wms": "wms"}.get(place.kind, "tile")


def workers_for(place: Location, sending: Sending) -> int:
    """Tiles a job asks for at once from there: enough to fill the lane, also where many share a request."""
    workers = sending.workers_for(lane_class_of(place))
    if place.kind != "wms":
        return workers
    return max(workers, min(workers * parse_wms_location(place.text).meta ** 2, SHARING_WORKERS_MAX))


def tiles_per_request(place: Location) -> int:
    """Tiles that one request to there brings, away from the edges of an area."""
    return parse_wms_location(place.text).meta ** 2 if place.kind == "wms" else 1


def open_archive(
    location: Location | str, *, sending: Sending = SENDING_DEFAULT, pool: LanePool | None = None
) -> TileArchive:
    """An existing archive, for reading; nothing is made. `sending` and `pool` are how a bucket is spoken to.

    Raises PlanError when there is none (a bucket tells of that when it is first asked).
    """
    place = parse_location(location) if isinstance(location, str) else location
    if place.kind in SERVICES:
        raise PlanError(f"{redact(place.text)} is a tile service, not an archive")
    if place.kind == "remote":
        return open_remote(place, sending, pool=pool)
    if place.kind == "bucket":
        return open_bucket(place, sending, partial(open_laned, pool=pool), rated=True)
    # Before its end, a job's tiles are in the journal beside a PMTiles file that is not there yet.
    begun = place.kind == "pmtiles" and pmtiles_journal(real_path(place.path)).exists()
    if not begun and not place.path.exists():
        raise PlanError(f"{place.text}: there is no such {_WHAT[place.kind]}")
    return open_store(place, sending=sending, pool=pool)


_WHAT = {"mbtiles": "file", "pmtiles": "file", "geopackage": "file", "directory": "file or directory"}


def open_store(
    place: Location,
    *,
    durability: Durability = "full",
    sending: Sending = SENDING_DEFAULT,
    journal: str | None = None,
    pool: LanePool | None = None,
    deduplicate: bool = False,
) -> AnyStore:
    """The store at a place; nothing is touched yet. `journal` (see `open_bucket`), `pool`: for buckets only.
    `deduplicate`: see `MbtilesStore`; for MBTiles only.

    Raises PlanError, ConfigError.
    """
    if deduplicate and place.kind != "mbtiles":
        already = "keeps equal tiles once anyway" if place.kind == "pmtiles" else "keeps each tile by itself"
        raise PlanError(f"--deduplicate is for .mbtiles files: {redact(place.text)} {already}")
    if place.kind == "bucket":
        laned = partial(open_laned, pool=pool)
        return open_bucket(place, sending, laned, durability=durability, journal=journal)
    if journal is not None:
        raise PlanError(f"--journal is for buckets: {place.text} keeps its journal itself")
    if place.kind == "mbtiles":
        return MbtilesStore(place.path, deduplicate=deduplicate, durability=durability)
    if place.kind == "geopackage":
        return GeopackageStore(place.path, table=place.table, durability=durability)
    if place.kind == "pmtiles":
        return PmtilesStore(place.path, durability=durability)
    if place.kind == "directory":
        return DirectoryStore(place.path, durability=durability, tms=place.tms)
    if place.kind == "remote":
        raise PlanError(f"{redact(place.text)} is a file elsewhere: make it here, then upload it")
    raise PlanError(f"{redact(place.text)} is a tile service: tiles can be read from it, not kept there")
