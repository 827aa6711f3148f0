"""The one file that names concrete classes: locations and settings become sources, stores and layers."""

import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tilehaul.codec.safe_url import redact
from tilehaul.codec.url_template import parse_template
from tilehaul.config.load import parse_size
from tilehaul.config.locations import Location, parse_location
from tilehaul.config.sending import SENDING_DEFAULT, WORKERS_PER_PERMIT, Sending
from tilehaul.config.settings import LayerSettings, Settings
from tilehaul.errors import ConfigError, PlanError
from tilehaul.grid.area import Area
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.seed import SeedPlan
from tilehaul.jobs.seed import seed as run_seed
from tilehaul.jobs.stop import Stop
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.net.addresses import AddressGuard, host_port_of, parse_host_port
from tilehaul.net.clock import SystemClock
from tilehaul.net.laned import LanedSender, LaneSettings
from tilehaul.net.manners import check_bulk, check_contact
from tilehaul.net.redirected import RedirectedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.net.verified import VerifiedSender
from tilehaul.net.wire import Wire
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.policy.fuse import FAILURES_DEFAULT, FailureLimit
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.events import Event, LaneHeld, SeedReport, Watch
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.store import JobKey, TileArchive
from tilehaul.ports.wire import Sender
from tilehaul.sources.bounded import BoundedSource
from tilehaul.sources.cached import CachedSource
from tilehaul.sources.coalesced import CoalescedSource
from tilehaul.sources.fallback import FallbackSource
from tilehaul.sources.stored import StoredSource
from tilehaul.sources.xyz import XyzSource
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.memory_cache import MemoryCache
from tilehaul.stores.sqlite_file import Durability

OnHold = Callable[[str, float], None]


# Sending


@asynccontextmanager
async def open_sender(
    sending: Sending,
    typed_urls: Sequence[str],
    *,
    tally: Tally,
    on_hold: OnHold | None = None,
) -> AsyncIterator[Sender]:
    """Retried(Laned(Verified(Redirected(wire)))), the order of `contracts`.

    `typed_urls` are the addresses the operator typed: their hosts may be private.
    """
    if sending.tls_roots is not None:
        _check_roots(sending.tls_roots)
    allowed = {host_port_of(url) for url in typed_urls}
    allowed |= {parse_host_port(text) for text in sending.allow_private}
    clock = SystemClock()
    wire = Wire(
        sending.user_agent(),
        timeouts=sending.timeouts(),
        guard=AddressGuard(frozenset(allowed)),
        connections_max=max(256, sending.concurrency),
        tls_roots=sending.tls_roots,
    )
    async with wire:
        verified = VerifiedSender(RedirectedSender(wire), clock, tally)
        laned = LanedSender(
            verified,
            LaneSettings(sending.concurrency, wait_s_max=sending.max_wait_s),
            clock=clock,
            luck=random.random,
            tally=tally,
            on_hold=on_hold,
        )
        rule = RetryRule(attempts_max=sending.retries + 1, wait_s_max=sending.max_wait_s)
        yield RetriedSender(laned, rule, clock, random.random, tally)


def _check_roots(path: str) -> None:
    """Raise ConfigError now for what would otherwise fail at every tile."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--tls-roots {path}: {error.strerror or 'no PEM certificates in it'}") from error


# Sources and stores


@asynccontextmanager
async def open_source(
    location: str,
    *,
    sending: Sending = SENDING_DEFAULT,
    tally: Tally | None = None,
    on_hold: OnHold | None = None,
) -> AsyncIterator[TileSource]:
    """Open whatever a location names, for reading.

    Raises:
        PlanError: Not a location, or there is nothing.
        ConfigError: The URL template is wrong.
        DataError: An archive is damaged.
    """
    place = parse_location(location)
    if place.kind == "xyz":
        source_of = XyzSource.opener(place.text, headers=sending.headers)
        async with open_sender(
            sending, source_of.typed_urls, tally=tally or Tally(), on_hold=on_hold
        ) as sender:
            yield source_of(sender)
        return
    archive = open_archive(place)
    try:
        yield await StoredSource.open(archive)
    finally:
        await archive.close()


def open_archive(location: Location | str) -> TileArchive:
    """An existing archive, for reading; nothing is made. Raises PlanError when there is none."""
    place = parse_location(location) if isinstance(location, str) else location
    if place.kind == "xyz":
        raise PlanError(f"{redact(place.text)} is a tile service, not an archive")
    if not place.path.exists():
        raise PlanError(f"{place.text}: there is no such {_WHAT[place.kind]}")
    return _store(place)


_WHAT = {"mbtiles": "file", "directory": "file or directory"}


def _store(place: Location, *, durability: Durability = "full") -> MbtilesStore | DirectoryStore:
    if place.kind == "mbtiles":
        return MbtilesStore(place.path, durability=durability)
    if place.kind == "directory":
        return DirectoryStore(place.path, durability=durability)
    raise PlanError(f"{redact(place.text)} is a tile service: tiles can be read from it, not kept there")


# The seed


@dataclass(frozen=True, slots=True)
class SeedOptions:
    """How to seed, apart from what and where. See `SeedPlan` and `Sending`."""

    sending: Sending = SENDING_DEFAULT
    overwrite: bool = False
    max_failures: FailureLimit = FAILURES_DEFAULT
    durability: Durability = "full"
    force_source: bool = False


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
        store: An `.mbtiles` file or a directory; made when it does not exist.
        area: Which tiles.
        options: How.
        watch: Called with every event, in the loop's thread; must return quickly.
        stop: Asks the job to end early: `stop.drain()`, then `stop.cancel()`.

    Returns:
        The report: `complete`, `dead_letters` or `interrupted`.

    Raises:
        PlanError: The request makes no sense, the provider forbids bulk download, or the store is another
            source's. Nothing was sent.
        FuseError: Too much failed or the origin is away.
        StorageError: The disk refused.
    """
    options = options or SeedOptions()
    check_places(source, store)
    await check_location(source, options.sending)
    tally = Tally()
    told = watch or _untold
    keeper = _store(parse_location(store), durability=options.durability)
    try:
        async with open_source(
            source,
            sending=options.sending,
            tally=tally,
            on_hold=lambda lane, delay_s: told(LaneHeld(lane, delay_s)),
        ) as origin:
            plan = _plan(origin.info, store, area, options)
            return await run_seed(
                origin, keeper, plan, tally=tally, clock=SystemClock(), watch=told, stop=stop
            )
    finally:
        await keeper.close()


def _untold(_event: Event) -> None:
    pass


def _plan(info: SourceInfo, store: str, area: Area, options: SeedOptions) -> SeedPlan:
    planned = area.count()
    west, south, east, north = area.bounds_deg
    metadata = {
        "name": Path(store).stem,
        "minzoom": str(area.zooms[0]),
        "maxzoom": str(area.zooms[-1]),
        # MBTiles bounds do not cross the antimeridian.
        "bounds": f"{west},{south},{east},{north}" if west <= east else f"-180.0,{south},180.0,{north}",
        "attribution": info.attribution,
        "description": info.description,
    }
    key = JobKey(
        source_identity=info.identity,
        source_name=info.name,
        area_identity=area.identity,
        planned=planned,
        metadata=tuple((name, value) for name, value in metadata.items() if value),
    )
    return SeedPlan(
        tiles=area,
        planned=planned,
        key=key,
        store_name=store,
        workers=WORKERS_PER_PERMIT * options.sending.concurrency,
        overwrite=options.overwrite,
        max_failures=options.max_failures,
        max_wait_s=options.sending.max_wait_s,
        force_source=options.force_source,
    )


def check_places(source: str, store: str) -> None:
    """Refuse what no seed could begin with, without looking at disk or network.

    Raises:
        PlanError: A location is none, both are the same place, the store cannot keep tiles, or the
            provider forbids bulk download.
        ConfigError: The URL template is wrong.
    """
    here, there = parse_location(source), parse_location(store)
    _store(there)
    if here.kind == there.kind and here.path.resolve() == there.path.resolve():
        raise PlanError(f"{store} is the source as well as the store: name another store")
    if here.kind == "xyz":
        check_bulk(parse_template(here.text).samples)


async def check_location(location: str, sending: Sending) -> None:
    """Refuse a tile service that must not be loaded with a job. Raises PlanError, ConfigError."""
    place = parse_location(location)
    if place.kind == "xyz":
        samples = parse_template(place.text).samples
        check_bulk(samples)
        await check_contact(samples, contact=sending.contact)


# The service


@dataclass(frozen=True, slots=True)
class Layers:
    """What a service serves, opened. `cache` holds the answers of all layers."""

    layers: tuple[Layer, ...]
    cache: MemoryCache


@asynccontextmanager
async def open_layers(settings: Settings) -> AsyncIterator[Layers]:
    """Open every layer of the settings. Raises as `open_source`, naming the layer."""
    cache = MemoryCache(bytes_max=parse_size(settings.cache.memory, "cache.memory"))
    async with AsyncExitStack() as stack:
        layers = []
        for name, layer_settings in settings.layers.items():
            try:
                layers.append(await _open_layer(stack, name, layer_settings, settings, cache))
            except PlanError as error:
                raise PlanError(f"layers.{name}: {error}") from error
        yield Layers(tuple(layers), cache)


async def _open_layer(
    stack: AsyncExitStack, name: str, layer: LayerSettings, settings: Settings, cache: MemoryCache
) -> Layer:
    sending = Sending(
        concurrency=layer.concurrency,
        timeout_s=layer.timeout,
        retries=layer.retries,
        # Nobody waits half an hour for a tile of a map: push-back longer than this is told as 503.
        max_wait_s=layer.timeout,
        contact=settings.contact,
        headers=tuple(layer.headers.items()),
        allow_private=tuple(settings.allow_private),
    )
    locations = [layer.source] if isinstance(layer.source, str) else layer.source
    sources = [
        await stack.enter_async_context(open_source(location, sending=sending)) for location in locations
    ]
    origin = sources[0] if len(sources) == 1 else FallbackSource(tuple(sources))
    bounded = _bounded(origin, layer)
    stats = TileStats()
    coalesced = CoalescedSource(bounded, clock=SystemClock(), watch=stats)
    stack.push_async_callback(coalesced.aclose)
    cached = CachedSource(
        coalesced,
        cache=cache,
        layer=name,
        rule=FreshnessRule(tile_s=float(layer.max_age)),
        clock=SystemClock(),
        luck=random.random,
    )
    return Layer(
        name=name,
        source=cached,
        title=layer.title,
        attribution=layer.attribution,
        missing=_missing(layer.missing),
        max_age_s=layer.max_age,
        lane_max=layer.concurrency,
        stats=stats,
    )


def _missing(value: int | str) -> Literal[404, 204, "transparent"]:
    known: Mapping[str, Literal[404, 204, "transparent"]] = {
        "404": 404,
        "204": 204,
        "transparent": "transparent",
    }
    return known[str(value)]


def _bounded(source: TileSource, layer: LayerSettings) -> TileSource:
    """The source with the zooms and bounds that the configuration gives it."""
    if layer.min_zoom is None and layer.max_zoom is None and layer.bounds is None:
        return source
    info = source.info
    return BoundedSource(
        source,
        replace(
            info,
            zoom_min=info.zoom_min if layer.min_zoom is None else layer.min_zoom,
            zoom_max=info.zoom_max if layer.max_zoom is None else layer.max_zoom,
            bounds_deg=layer.bounds or info.bounds_deg,
        ),
    )
