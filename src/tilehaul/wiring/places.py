"""A location becomes a source or a store; settings become a sender."""

import random
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

from tilehaul.codec.safe_url import redact
from tilehaul.codec.wms_request import parse_wms_location
from tilehaul.codec.wmts_request import parse_wmts_location
from tilehaul.config.locations import Location, parse_location
from tilehaul.config.sending import SENDING_DEFAULT, Sending
from tilehaul.errors import ConfigError, PlanError
from tilehaul.jobs.event_log import log_event
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.net.addresses import AddressGuard, host_port_of, parse_host_port
from tilehaul.net.clock import SystemClock
from tilehaul.net.gauges import Gauges
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.net.manners import check_bulk, check_named
from tilehaul.net.redirected import RedirectedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.net.spaced import SpacedSender
from tilehaul.net.verified import VerifiedSender
from tilehaul.net.wire import CONNECTIONS_MAX_DEFAULT, Wire
from tilehaul.policy.answers import AnswerRule
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import TellLane
from tilehaul.ports.store import TileArchive
from tilehaul.ports.wire import Sender, Signing
from tilehaul.sources.stored import StoredSource
from tilehaul.sources.xyz import XyzSource
from tilehaul.stores.bucket import BucketStore
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.pmtiles import PmtilesStore
from tilehaul.stores.pmtiles_reader import journal_path as pmtiles_journal
from tilehaul.stores.sqlite_file import Durability
from tilehaul.wiring.buckets import open_bucket
from tilehaul.wiring.opened import OpenedSource
from tilehaul.wiring.wms import open_wms
from tilehaul.wiring.wmts import open_wmts

AnyStore = BucketStore | MbtilesStore | PmtilesStore | DirectoryStore
# Tiles asked for at once where many share a request: enough for sixteen pictures of 16 x 16.
SHARING_WORKERS_MAX = 4096
# "Please reduce your request rate" (S3's SlowDown) comes without a Retry-After.
BUCKET_ANSWERS = AnswerRule(push_back=frozenset({503}))


@asynccontextmanager
async def open_sender(
    sending: Sending,
    typed_urls: Sequence[str],
    *,
    tally: Tally,
    tell: TellLane | None = None,
    gauges: Gauges | None = None,
) -> AsyncIterator[Sender]:
    """Retried(Laned(Verified(Redirected(wire)))), the order of `contracts`: for calls that wait.

    `typed_urls` are the addresses the operator typed: their hosts may be private. `gauges` are told where to
    read.
    """
    allowed = allowed_hosts(sending, typed_urls)
    async with open_laned(sending, allowed, tally=tally, tell=tell, gauges=gauges) as laned:
        yield RetriedSender(laned, _retry_rule(sending), SystemClock(), random.random, tally)


def _retry_rule(sending: Sending) -> RetryRule:
    return RetryRule(attempts_max=sending.retries + 1, wait_s_max=sending.max_wait_s)


def allowed_hosts(sending: Sending, typed_urls: Iterable[str]) -> set[str]:
    """The "host:port" that may be private: those the operator typed, or allowed by name."""
    return {host_port_of(url) for url in typed_urls} | {
        parse_host_port(text) for text in sending.allow_private
    }


@asynccontextmanager
async def open_laned(
    sending: Sending,
    allowed: AbstractSet[str],
    *,
    tally: Tally,
    tell: TellLane | None = None,
    connections_max: int | None = None,
    pause: bool = False,
    hand_back: bool = False,
    signing: Signing | None = None,
    gauges: Gauges | None = None,
) -> AsyncIterator[LanedSender]:
    """Laned(Verified(Redirected(wire))): for callers that try again by rules of their own.

    `allowed` are the "host:port" that may be private; it may grow while this is open.
    `connections_max`: see `Wire`; None: enough for one lane at its limit. `pause`, `hand_back`:
    see `LaneSettings`.
    `signing`: for a bucket: every request is signed, no redirect is followed, every 503 is push-back, and
    two writes to one key keep their distance.
    """
    if sending.tls_roots is not None:
        _check_roots(sending.tls_roots)
    clock = SystemClock()
    wire = Wire(
        sending.user_agent(),
        timeouts=sending.timeouts(),
        guard=AddressGuard(allowed),
        connections_max=connections_max or max(CONNECTIONS_MAX_DEFAULT, sending.concurrency or 0),
        tls_roots=sending.tls_roots,
        signing=signing,
    )
    async with wire:
        verified: Sender = VerifiedSender(RedirectedSender(wire), clock, tally, providers=sending.rules())
        if signing is not None:
            verified = SpacedSender(VerifiedSender(wire, clock, tally, BUCKET_ANSWERS), clock)
        laned = LanedSender(
            verified,
            LaneSettings(
                sending.concurrency,
                wait_s_max=sending.max_wait_s,
                adaptive=sending.adaptive,
                rate_per_s=sending.rate_limit,
                pause=pause,
                hand_back=hand_back,
            ),
            clock=clock,
            luck=random.random,
            tally=tally,
            tell=tell or log_event,
            providers=sending.rules(),
        )
        if gauges is not None:
            gauges.add(laned.snapshots, lambda: wire.connections_held)
        try:
            yield laned
        finally:
            await laned.aclose()


def _check_roots(path: str) -> None:
    """Raise ConfigError now for what would otherwise fail at every tile."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-roots {path}: {error.strerror or 'no PEM certificates in it'}") from error


@asynccontextmanager
async def open_source(
    location: str,
    *,
    sending: Sending = SENDING_DEFAULT,
    tally: Tally | None = None,
    tell: TellLane | None = None,
) -> AsyncIterator[OpenedSource]:
    """Open whatever a location names, for reading. What its `get` raises is final.

    While an upstream that fails is left alone, a tile is answered by BusyError.

    Raises:
        PlanError: Not a location, or there is nothing; or the host asks every client for a contact.
        ConfigError: The URL template is wrong.
        DataError: An archive is damaged.
    """
    place = parse_location(location)
    gauges = Gauges()
    if place.kind == "xyz":
        source_of = XyzSource.opener(place.text, headers=sending.headers)
        check_named(source_of.typed_urls, sending.rules(), contact=sending.contact)
        async with open_sender(
            sending, source_of.typed_urls, tally=tally or Tally(), tell=tell, gauges=gauges
        ) as sender:
            yield OpenedSource(source_of(sender), gauges)
        return
    if place.kind == "wms":
        wms = parse_wms_location(place.text)
        typed = (wms.capabilities_url(),)
        check_named(typed, sending.rules(), contact=sending.contact)
        async with open_sender(sending, typed, tally=tally or Tally(), tell=tell, gauges=gauges) as sender:
            yield OpenedSource(await open_wms(wms, sender, sending), gauges)
        return
    if place.kind == "wmts":
        wmts = parse_wmts_location(place.text)
        typed = (wmts.capabilities_url(),)
        check_named(typed, sending.rules(), contact=sending.contact)
        async with open_sender(sending, typed, tally=tally or Tally(), tell=tell, gauges=gauges) as sender:
            yield OpenedSource(await open_wmts(wmts, sender, sending), gauges)
        return
    archive = open_archive(place, sending=sending)
    try:
        yield OpenedSource(await StoredSource.open(archive, location=place.text), gauges)
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
    if place.kind == "xyz":
        source_of = XyzSource.opener(place.text, headers=sending.headers)
        check_named(source_of.typed_urls, sending.rules(), contact=sending.contact)
        allowed = allowed_hosts(sending, source_of.typed_urls)
        gauges = Gauges()
        async with open_laned(
            sending, allowed, tally=tally, tell=tell, pause=True, hand_back=True, gauges=gauges
        ) as laned:
            xyz = source_of(laned)
            retrying = Retrying(
                _retry_rule(sending),
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
            sender = RetriedSender(laned, _retry_rule(sending), SystemClock(), random.random, tally)
            yield Origin(await open_wms(wms, sender, sending), lanes=gauges.lanes, turn_away=laned.turn_away)
        return
    if place.kind == "wmts":
        wmts = parse_wmts_location(place.text)
        typed = (wmts.capabilities_url(),)
        check_named(typed, sending.rules(), contact=sending.contact)
        allowed, gauges = allowed_hosts(sending, typed), Gauges()
        async with open_laned(
            sending, allowed, tally=tally, tell=tell, pause=True, hand_back=True, gauges=gauges
        ) as laned:
            asking = RetriedSender(laned, _retry_rule(sending), SystemClock(), random.random, tally)
            tiles = await open_wmts(wmts, asking, sending, tiles=laned)
            # The service may have named a host of its own for tiles.
            check_bulk(tiles.tiles.template.samples, sending.rules())
            retrying = Retrying(
                _retry_rule(sending),
                random.random,
                budget_of=lambda tile_id: laned.budget_of(tiles.request(tile_id)),
            )
            yield Origin(tiles, retrying, lanes=gauges.lanes, turn_away=laned.turn_away)
        return
    async with open_source(location, sending=sending, tally=tally) as source:
        yield Origin(source, lanes=source.lanes)


def lane_class_of(place: Location) -> str:
    """The class of the lane that tiles come through from there; one for tiles, where there is no lane."""
    return {"bucket": "s3-read", "wms": "wms"}.get(place.kind, "tile")


def workers_for(place: Location, sending: Sending) -> int:
    """Tiles a job asks for at once from there: enough to fill the lane, also where many share a request."""
    workers = sending.workers_for(lane_class_of(place))
    if place.kind != "wms":
        return workers
    return max(workers, min(workers * parse_wms_location(place.text).meta ** 2, SHARING_WORKERS_MAX))


def open_archive(location: Location | str, *, sending: Sending = SENDING_DEFAULT) -> TileArchive:
    """An existing archive, for reading; nothing is made. `sending` is how a bucket is spoken to.

    Raises PlanError when there is none (a bucket tells of that when it is first asked).
    """
    place = parse_location(location) if isinstance(location, str) else location
    if place.kind in ("xyz", "wms", "wmts"):
        raise PlanError(f"{redact(place.text)} is a tile service, not an archive")
    # Before its end, a job's tiles are in the journal beside a PMTiles file that is not there yet.
    begun = place.kind == "pmtiles" and pmtiles_journal(place.path).exists()
    if place.kind != "bucket" and not begun and not place.path.exists():
        raise PlanError(f"{place.text}: there is no such {_WHAT[place.kind]}")
    return open_store(place, sending=sending)


_WHAT = {"mbtiles": "file", "pmtiles": "file", "directory": "file or directory"}


def open_store(
    place: Location,
    *,
    durability: Durability = "full",
    sending: Sending = SENDING_DEFAULT,
    journal: str | None = None,
) -> AnyStore:
    """The store at a place; nothing is touched yet. `journal`: see `open_bucket`; for buckets only.

    Raises PlanError, ConfigError.
    """
    if place.kind == "bucket":
        return open_bucket(place, sending, open_laned, durability=durability, journal=journal)
    if journal is not None:
        raise PlanError(f"--journal is for buckets: {place.text} keeps its journal itself")
    if place.kind == "mbtiles":
        return MbtilesStore(place.path, durability=durability)
    if place.kind == "pmtiles":
        return PmtilesStore(place.path, durability=durability)
    if place.kind == "directory":
        return DirectoryStore(place.path, durability=durability)
    raise PlanError(f"{redact(place.text)} is a tile service: tiles can be read from it, not kept there")
