"""What the service tells of its layers and of itself, as JSON values."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tilehaul.codec.sniff import extension_of
from tilehaul.codec.tilejson import tilejson
from tilehaul.errors import DataError, PlanError
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import EXTENSION_KINDS
from tilehaul.jobs.tile_stats import figures_of
from tilehaul.ports.store import CacheStats
from tilehaul.server.early_hits import CacheSizes

# Asked for when a source does not know its own format before the first tile: whatever is stored comes.
EXTENSION_DEFAULT = "png"

# The list of a whole planet's layers with all their fields has about 30 kB.
VECTOR_LAYERS_CHARS_MAX = 1024 * 1024


def layer_json(layer: Layer) -> dict[str, Any]:
    """A layer as `/api/layers` lists it; `tiles` is an address relative to the service. A picture in its own
    pixels has `pixels`, its size; no map does.
    """
    info = layer.source.info
    ending = extension_of(info.media_type)
    if ending not in EXTENSION_KINDS:
        ending = EXTENSION_DEFAULT
    return {
        "name": layer.name,
        "title": layer.title_shown,
        "attribution": layer.attribution_shown,
        "description": info.description,
        "minzoom": info.zoom_min,
        "maxzoom": info.zoom_max,
        "bounds": list(info.bounds_deg),
        "format": ending,
        "tiles": f"/api/tiles/{layer.name}/{{z}}/{{x}}/{{y}}.{ending}",
        **({} if info.pyramid is None else {"pixels": [info.pyramid.width, info.pyramid.height]}),
    }


def layer_tilejson(layer: Layer, base_url: str) -> dict[str, Any]:
    """A layer's TileJSON 3.0 with addresses below `base_url` (no slash at its end).

    Raises:
        DataError: What the source says of itself is no TileJSON (zooms that are none). Nothing the
            client asked for is wrong then.
    """
    told = layer_json(layer)
    info = layer.source.info
    try:
        return tilejson(
            tiles=[base_url + told["tiles"]],
            name=told["title"],
            description=told["description"],
            attribution=told["attribution"],
            bounds=info.bounds_deg,
            minzoom=told["minzoom"],
            maxzoom=told["maxzoom"],
            format=told["format"],
            vector_layers=vector_layers_of(info.vector_layers),
        )
    except PlanError as error:
        raise DataError(f"layer {layer.name}: {error}", cause="corrupt_archive") from error


def vector_layers_of(text: str) -> list[dict[str, Any]] | None:
    """TileJSON's `vector_layers` from their JSON text; None when there are none to tell.

    Written by strangers: what is not a list, or too long, is left out whole, and so is each entry
    without a name in `id`. `fields`, which the specification demands (3.3.2), is added where it is
    missing.
    """
    if not text or len(text) > VECTOR_LAYERS_CHARS_MAX:
        return None
    try:
        told = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, list):
        return None
    return [
        {**one, "fields": one["fields"] if isinstance(one.get("fields"), dict) else {}}
        for one in told
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    ]


def _not_json(word: str) -> None:
    # NaN and Infinity: Python reads and writes them, a browser refuses the whole document.
    raise ValueError(word)


def cache_stats(layer: Layer, cache: CacheSizes | None) -> dict[str, Any]:
    """The fields of `/api/tiles/{layer}/cache-stats`: sizes and counts of this layer.

    `cache_max` is null because the cache is bounded by bytes; `cache_bytes_max` is shared by all
    layers. Times in milliseconds, `hit_rate` in percent.
    """
    figures = layer.stats.figures()
    tiles, size_bytes = cache.layer_size(layer.name) if cache else (0, 0)
    return {
        "enabled": cache is not None,
        "cache_size": tiles,
        "cache_max": None,
        "cache_bytes": size_bytes,
        "cache_bytes_max": cache.stats().bytes_max if cache else 0,
        "total_requests": figures.requests,
        "cache_hits": figures.hits,
        "cache_misses": figures.misses,
        "cache_stale": figures.stale,
        "hit_rate": figures.hit_rate_percent,
        "coalesced": figures.coalesced,
        "thread_workers": layer.lane_max,
        "avg_fetch_time_ms": figures.fetch_avg_ms,
        "p50_fetch_ms": figures.fetch_p50_ms,
        "p95_fetch_ms": figures.fetch_p95_ms,
        "p99_fetch_ms": figures.fetch_p99_ms,
        "current_concurrent_fetches": figures.in_flight,
        "max_concurrent_fetches": figures.in_flight_max,
    }


def service_stats(
    layers: Mapping[str, Layer], cache: CacheSizes | None, disk: CacheStats | None, *, uptime_s: float
) -> dict[str, Any]:
    """The figures of all layers together, of the cache in memory and of that on disk, and of each layer."""
    return {
        "uptime_s": round(uptime_s, 1),
        **asdict(figures_of([layer.stats for layer in layers.values()])),
        "cache": asdict(cache.stats()) if cache else None,
        "disk": asdict(disk) if disk else None,
        "layers": {name: asdict(layer.stats.figures()) for name, layer in layers.items()},
    }
