"""What the service tells of its layers and of itself, as JSON values."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tilehaul.codec.sniff import extension_of
from tilehaul.codec.tilejson import tilejson
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import figures_of
from tilehaul.server.early_hits import HotCache

# Asked for when a source does not know its own format before the first tile: whatever is stored comes.
EXTENSION_DEFAULT = "png"


def layer_json(layer: Layer) -> dict[str, Any]:
    """A layer as `/api/layers` lists it; `tiles` is an address relative to the service."""
    info = layer.source.info
    ending = extension_of(info.media_type) or EXTENSION_DEFAULT
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
    }


def layer_tilejson(layer: Layer, base_url: str) -> dict[str, Any]:
    """A layer's TileJSON 3.0 with addresses below `base_url` (no slash at its end)."""
    told = layer_json(layer)
    west, south, east, north = layer.source.info.bounds_deg
    return tilejson(
        tiles=[base_url + told["tiles"]],
        name=told["title"],
        description=told["description"],
        attribution=told["attribution"],
        bounds=(west, south, east, north),
        minzoom=told["minzoom"],
        maxzoom=told["maxzoom"],
        format=told["format"],
    )


def cache_stats(layer: Layer, cache: HotCache | None) -> dict[str, Any]:
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


def service_stats(layers: Mapping[str, Layer], cache: HotCache | None, *, uptime_s: float) -> dict[str, Any]:
    """The figures of all layers together, of the cache, and of each layer."""
    return {
        "uptime_s": round(uptime_s, 1),
        **asdict(figures_of([layer.stats for layer in layers.values()])),
        "cache": asdict(cache.stats()) if cache else None,
        "layers": {name: asdict(layer.stats.figures()) for name, layer in layers.items()},
    }
