"""One layer of the settings, opened."""

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tilehaul.codec.sniff import media_type_of
from tilehaul.config.locations import NEAR_KINDS, parse_location
from tilehaul.config.sending import Sending
from tilehaul.config.settings import LayerSettings, Settings
from tilehaul.errors import ConfigError, PlanError
from tilehaul.jobs.event_log import log_service_event
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import EXTENSION_KINDS
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.net.clock import SystemClock
from tilehaul.net.lane_pool import LanePool
from tilehaul.policy.providers import Providers
from tilehaul.policy.share import WHOLE, Share
from tilehaul.ports.lane import LaneSnapshot
from tilehaul.ports.source import TileSource
from tilehaul.sources.bounded import AllowedSource, BoundedSource
from tilehaul.sources.fallback import FallbackSource
from tilehaul.sources.shedding import SheddingSource
from tilehaul.wiring.caches import Caches, LayerCaching
from tilehaul.wiring.opened import OpenedSource
from tilehaul.wiring.places import open_source
from tilehaul.wiring.ready_checks import Check, archive_check
from tilehaul.wiring.shared_lanes import LaneWish, hosts_of, wish_at, wish_of

# Of the time that anybody waits for a tile, an attempt may take so much: one that is cut because nobody waits
# any more says nothing of the origin, and a lane to one that hangs would never learn.
ATTEMPT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Company:
    """What all layers of a service share.

    `wishes`: see `shared_wishes`. `share`: which part of every lane is this process's.
    """

    settings: Settings
    providers: Providers
    caches: Caches
    pool: LanePool
    wishes: Mapping[str, LaneWish]
    share: Share = WHOLE

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


@dataclass(frozen=True, slots=True)
class OpenedLayer:
    """A layer that answers until its `stack` is closed.

    `readable`: see `archive_check`. `files`: what its archives are on this machine's disks, to tell a file
    that has been put in the place of another.
    """

    layer: Layer
    settings: LayerSettings
    sources: tuple[OpenedSource, ...]
    readable: Check | None
    files: tuple[tuple[int, int], ...]
    stack: AsyncExitStack

    def gives_the_same(self, other: "OpenedLayer") -> bool:
        """Whether a tile of this one is a tile of the other: it comes from the same place."""
        mine, theirs = self.settings, other.settings
        return (mine.source, mine.headers, self.files) == (theirs.source, theirs.headers, other.files)


async def open_layer(
    name: str, layer: LayerSettings, company: Company, *, stats: TileStats | None = None
) -> OpenedLayer:
    """Raises as `open_source`, naming the layer; nothing stays open then. `stats` are counted on."""
    async with AsyncExitStack() as stack:
        try:
            opened = await _open(stack, name, layer, company, stats or TileStats())
        except PlanError as error:
            raise PlanError(f"layers.{name}: {error}") from error
        return replace(opened, stack=stack.pop_all())


def locations_of(layer: LayerSettings) -> list[str]:
    return [layer.source] if isinstance(layer.source, str) else layer.source


def files_of(layer: LayerSettings) -> tuple[tuple[int, int], ...]:
    """Device and number of each file or folder of the layer that exists."""
    places = [parse_location(location) for location in locations_of(layer)]
    found = []
    for place in places:
        if place.kind in NEAR_KINDS and place.path.exists():
            status = place.path.stat()
            found.append((status.st_dev, status.st_ino))
    return tuple(found)


async def _open(
    stack: AsyncExitStack, name: str, layer: LayerSettings, company: Company, stats: TileStats
) -> OpenedLayer:
    settings = company.settings
    sending = Sending(
        concurrency=layer.concurrency,
        timeout_s=min(layer.timeout, ATTEMPT_SHARE * settings.server.deadline_s),
        retries=layer.retries,
        # Nobody waits half an hour for a tile of a map: push-back longer than this is told as 503.
        max_wait_s=layer.timeout,
        contact=settings.contact,
        allow_private=tuple(settings.allow_private),
        providers=company.providers,
        rate_limit=layer.rate_limit,
        share=company.share,
    )
    formats = _formats(name, layer)
    locations = locations_of(layer)
    files = files_of(layer)
    far = any(parse_location(location).kind not in NEAR_KINDS for location in locations)
    caching = LayerCaching(name, layer, company.caches, far=far)
    stack.push_async_callback(caching.background.aclose)
    sources = [
        await stack.enter_async_context(
            open_source(
                location,
                sending=company.modest(replace(sending, headers=_headers(layer, location)), layer, location),
                tell=log_service_event,
                pool=company.pool,
            )
        )
        for location in locations
    ]
    shedding = tuple(
        SheddingSource(
            _allowed(caching.heeding(opened.source), formats),
            lanes=opened.lanes,
            far=parse_location(location).kind not in NEAR_KINDS,
            deadline_s=settings.server.deadline_s,
            clock=SystemClock(),
        )
        for location, opened in zip(locations, sources, strict=True)
    )
    origin = shedding[0] if len(shedding) == 1 else FallbackSource(shedding, background=caching.background)
    bounded = _bounded(origin, layer)
    lane_of = partial(_lanes, sources)
    source = caching.in_front(bounded, stats, stack)
    if layer.prefetch:
        if layer.cache == "none":
            raise PlanError("prefetch needs a cache to put neighbours into: leave out cache: none")
        source = caching.ahead(source, layer.prefetch, lane_of)
    served = Layer(
        name=name,
        source=source,
        title=layer.title,
        attribution=layer.attribution,
        missing=_missing(layer.missing),
        formats=formats,
        max_age_s=layer.max_age,
        private=layer.private,
        lane_max=max(company.wish(layer, location).concurrency for location in locations),
        lanes=lane_of,
        flights=caching.flights,
        stats=stats,
    )
    return OpenedLayer(served, layer, tuple(sources), archive_check(locations, sources), files, stack)


def _lanes(sources: Sequence[OpenedSource]) -> tuple[LaneSnapshot, ...]:
    return tuple(lane for source in sources for lane in source.lanes())


def _missing(value: int | str) -> Literal[404, 204, "transparent"]:
    known: Mapping[str, Literal[404, 204, "transparent"]] = {
        "404": 404,
        "204": 204,
        "transparent": "transparent",
    }
    return known[str(value)]


def _headers(layer: LayerSettings, location: str) -> tuple[tuple[str, str], ...]:
    """Those to send there: they were meant for the first host that is named, and may hold a key."""
    named = (hosts_of(each, os.environ) for each in locations_of(layer))
    first = next((hosts for hosts in named if hosts), ())
    return tuple(layer.headers.items()) if set(hosts_of(location, os.environ)) <= set(first) else ()


def _allowed(source: TileSource, formats: frozenset[str]) -> TileSource:
    return AllowedSource(source, formats) if formats else source


def _formats(name: str, layer: LayerSettings) -> frozenset[str]:
    """Media types. ConfigError: one of the names is no format of tiles."""
    for told in layer.formats:
        if told not in EXTENSION_KINDS:
            known = ", ".join(EXTENSION_KINDS)
            raise ConfigError(f"layers.{name}.formats: {told!r} is no format of tiles: {known} are")
    return frozenset(map(media_type_of, layer.formats))


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
