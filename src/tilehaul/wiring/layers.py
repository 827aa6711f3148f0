"""Settings become the layers of a service."""

import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tilehaul.config.locations import NEAR_KINDS, parse_location
from tilehaul.config.providers import with_providers
from tilehaul.config.reading import Place
from tilehaul.config.sending import Sending
from tilehaul.config.settings import LayerSettings, Settings
from tilehaul.errors import PlanError
from tilehaul.jobs.event_log import log_service_event
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.net.clock import SystemClock
from tilehaul.net.lane_pool import LanePool
from tilehaul.policy.keyring import ApiKey
from tilehaul.policy.providers import Providers
from tilehaul.ports.lane import LaneSnapshot, ProcessFigures
from tilehaul.ports.source import TileSource
from tilehaul.sources.bounded import BoundedSource
from tilehaul.sources.fallback import FallbackSource
from tilehaul.sources.shedding import SheddingSource
from tilehaul.wiring.caches import Caches, LayerCaching, open_caches
from tilehaul.wiring.opened import OpenedSource
from tilehaul.wiring.places import open_source
from tilehaul.wiring.shared_lanes import LaneWish, hosts_of, shared_wishes, wish_at, wish_of


@dataclass(frozen=True, slots=True)
class Layers:
    """What a service serves, opened. `caches` and `process` are of all layers together."""

    layers: tuple[Layer, ...]
    caches: Caches
    process: Callable[[], ProcessFigures]


@asynccontextmanager
async def open_layers(settings: Settings) -> AsyncIterator[Layers]:
    """Open every layer of the settings. Raises as `open_source`, naming the layer."""
    providers = with_providers(settings.providers, Place("providers"))
    opened: list[OpenedSource] = []
    async with AsyncExitStack() as stack:
        lanes = _SharedLanes(LanePool(), shared_wishes(settings.layers, os.environ))
        # Closed last: until then a layer may still send.
        stack.push_async_callback(lanes.pool.aclose)
        caches = await stack.enter_async_context(open_caches(settings.cache))
        layers = []
        for name, layer_settings in settings.layers.items():
            try:
                one = await _open_layer(
                    stack, name, layer_settings, settings, caches, providers, opened, lanes
                )
                layers.append(one)
            except PlanError as error:
                raise PlanError(f"layers.{name}: {error}") from error
        yield Layers(tuple(layers), caches, lambda: _process(opened))


def api_keys(settings: Settings) -> tuple[ApiKey, ...]:
    """The keys of the settings, each with the private layers it opens."""
    private = frozenset(name for name, layer in settings.layers.items() if layer.private)
    return tuple(
        ApiKey(name, bytes.fromhex(key.sha256), private if "*" in key.layers else frozenset(key.layers))
        for name, key in settings.keys.items()
    )


@dataclass(frozen=True, slots=True)
class _SharedLanes:
    """One lane for each upstream, however many layers ask it, as the most modest of them would have it."""

    pool: LanePool
    wishes: Mapping[str, LaneWish]

    def wish(self, layer: LayerSettings, location: str) -> LaneWish:
        return wish_at(layer, location, hosts_of(location, os.environ), self.wishes)

    def modest(self, sending: Sending, layer: LayerSettings, location: str) -> Sending:
        """`sending` within what the other layers at the location's hosts allow."""
        wish = self.wish(layer, location)
        if wish == wish_of(layer, location):
            return sending
        return replace(
            sending,
            concurrency=wish.concurrency,
            rate_limit=wish.rate_limit,
            # Who is held up in a lane is told of it in the time of the most impatient.
            max_wait_s=min(sending.max_wait_s, wish.timeout_s),
        )


def _process(opened: Sequence[OpenedSource]) -> ProcessFigures:
    return ProcessFigures(threading.active_count(), sum(source.connections() for source in opened))


async def _open_layer(
    stack: AsyncExitStack,
    name: str,
    layer: LayerSettings,
    settings: Settings,
    caches: Caches,
    providers: Providers,
    opened: list[OpenedSource],
    lanes: "_SharedLanes",
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
        providers=providers,
        rate_limit=layer.rate_limit,
    )
    locations = [layer.source] if isinstance(layer.source, str) else layer.source
    far = any(parse_location(location).kind not in NEAR_KINDS for location in locations)
    caching = LayerCaching(name, layer, caches, far=far)
    sources = [
        await stack.enter_async_context(
            open_source(
                location,
                sending=lanes.modest(sending, layer, location),
                tell=log_service_event,
                pool=lanes.pool,
                heed=caching.heeding,
            )
        )
        for location in locations
    ]
    opened += sources
    shedding = tuple(_shedding(source, settings.server.deadline_s) for source in sources)
    origin = shedding[0] if len(shedding) == 1 else FallbackSource(shedding)
    bounded = _bounded(origin, layer)
    stats = TileStats()
    lane_of = partial(_lanes, sources)
    source = caching.in_front(bounded, stats, stack)
    if layer.prefetch:
        if layer.cache == "none":
            raise PlanError("prefetch needs a cache to put neighbours into: leave out cache: none")
        source = caching.ahead(source, layer.prefetch, lane_of)
    return Layer(
        name=name,
        source=source,
        title=layer.title,
        attribution=layer.attribution,
        missing=_missing(layer.missing),
        max_age_s=layer.max_age,
        private=layer.private,
        lane_max=max(lanes.wish(layer, location).concurrency for location in locations),
        lanes=lane_of,
        stats=stats,
    )


def _shedding(source: OpenedSource, deadline_s: float) -> TileSource:
    return SheddingSource(source, lanes=source.lanes, deadline_s=deadline_s, clock=SystemClock())


def _lanes(sources: Sequence[OpenedSource]) -> tuple[LaneSnapshot, ...]:
    return tuple(lane for source in sources for lane in source.lanes())


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
