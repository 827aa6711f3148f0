"""What one worker process counts, as plain values, and what several of them count together."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import FETCH_SAMPLES_MAX, TileStats
from tilehaul.policy.causes import CauseClass
from tilehaul.policy.health import GateState
from tilehaul.policy.lane_stats import LaneFigures, Percentiles
from tilehaul.ports.lane import LaneSnapshot, ProcessFigures
from tilehaul.ports.store import CacheStats
from tilehaul.server.early_hits import CacheSizes

_GATES: tuple[GateState, ...] = ("open", "held", "parked")
_BREAKERS = ("closed", "half_open", "open")


class LayerFigures(msgspec.Struct, frozen=True):
    """Of one layer in one process. `fetch_ms`: see `TileStats`. `lanes` have their true names."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    coalesced: int = 0
    fetches: int = 0
    fetches_failed: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    fetch_total_s: float = 0.0
    fetch_ms: tuple[float, ...] = ()
    errors: dict[str, int] = {}
    cache_tiles: int = 0
    cache_bytes: int = 0
    lanes: tuple[LaneSnapshot, ...] = ()


class WorkerFigures(msgspec.Struct, frozen=True):
    """Of one process. `refused`: see `Whole`; `disk`: of the cache on disk, which all processes share."""

    layers: dict[str, LayerFigures] = {}
    cache: CacheStats | None = None
    process: ProcessFigures | None = None
    refused: int = 0
    disk: CacheStats | None = None

    def ended(self) -> "WorkerFigures":
        """What remains when the process has ended: what it has counted, nothing of what it was doing."""
        layers = {name: _ended(layer) for name, layer in self.layers.items()}
        cache = None if self.cache is None else replace(self.cache, tiles=0, bytes=0, bytes_max=0)
        disk = None if self.disk is None else replace(self.disk, tiles=0, bytes=0)
        return WorkerFigures(layers, cache, None, self.refused, disk)


def _ended(layer: LayerFigures) -> LayerFigures:
    lanes = tuple(
        LaneSnapshot(
            lane.name, lane.lane_class, 0, budget_left=0.0, requests=lane.requests, causes=lane.causes
        )
        for lane in layer.lanes
    )
    return msgspec.structs.replace(layer, in_flight=0, cache_tiles=0, cache_bytes=0, lanes=lanes)


def worker_figures(
    layers: Mapping[str, Layer],
    cache: CacheSizes | None,
    process: ProcessFigures | None,
    *,
    refused: int = 0,
    disk: CacheStats | None = None,
) -> WorkerFigures:
    """What this process counts now."""
    return WorkerFigures(
        {name: _of_layer(layer, cache) for name, layer in layers.items()},
        None if cache is None else cache.stats(),
        process,
        refused,
        disk,
    )


def _of_layer(layer: Layer, cache: CacheSizes | None) -> LayerFigures:
    stats = layer.stats
    tiles, size_bytes = (0, 0) if cache is None else cache.layer_size(layer.name)
    return LayerFigures(
        hits=stats.hits,
        misses=stats.misses,
        stale=stats.stale,
        coalesced=stats.coalesced,
        fetches=stats.fetches,
        fetches_failed=stats.fetches_failed,
        in_flight=stats.in_flight,
        in_flight_max=stats.in_flight_max,
        fetch_total_s=stats.fetch_total_s,
        fetch_ms=tuple(stats.fetch_ms),
        errors=dict(stats.errors),
        cache_tiles=tiles,
        cache_bytes=size_bytes,
        lanes=layer.lanes(),
    )


@dataclass(frozen=True, slots=True)
class SummedCache:
    """The sizes of several processes' caches: a tile that two of them have is counted twice."""

    sizes: Mapping[str, tuple[int, int]]
    total: CacheStats

    def layer_size(self, layer: str) -> tuple[int, int]:
        return self.sizes.get(layer, (0, 0))

    def stats(self) -> CacheStats:
        return self.total


def summed_stats(figures: Sequence[LayerFigures]) -> TileStats:
    """`in_flight_max` is the sum of the maxima: an upper bound of the true one."""
    total = TileStats(sum(len(one.fetch_ms) for one in figures))
    for one in figures:
        total.hits += one.hits
        total.misses += one.misses
        total.stale += one.stale
        total.coalesced += one.coalesced
        total.fetches += one.fetches
        total.fetches_failed += one.fetches_failed
        total.in_flight += one.in_flight
        total.in_flight_max += one.in_flight_max
        total.fetch_total_s += one.fetch_total_s
        total.fetch_ms.extend(one.fetch_ms)
        total.errors.update(one.errors)
    return total


def summed_cache(figures: Iterable[WorkerFigures]) -> SummedCache | None:
    """None where no process has a cache."""
    told = [one for one in figures if one.cache is not None]
    if not told:
        return None
    sizes: dict[str, tuple[int, int]] = {}
    for one in told:
        for name, layer in one.layers.items():
            tiles, size_bytes = sizes.get(name, (0, 0))
            sizes[name] = (tiles + layer.cache_tiles, size_bytes + layer.cache_bytes)
    stats = [one.cache for one in told if one.cache is not None]
    return SummedCache(sizes, _summed_stats(stats, held=sum))


def summed_disk(figures: Iterable[WorkerFigures]) -> CacheStats | None:
    """The counts of all processes; what is in the file, as the one knows it that has seen most."""
    told = [one.disk for one in figures if one.disk is not None]
    return _summed_stats(told, held=max) if told else None


def _summed_stats(stats: Sequence[CacheStats], *, held: Callable[[Iterable[int]], int]) -> CacheStats:
    """Counts are summed; `held` is for what is held: the sum of caches, the most known of one file."""
    return CacheStats(
        tiles=held(one.tiles for one in stats),
        bytes=held(one.bytes for one in stats),
        bytes_max=held(one.bytes_max for one in stats),
        hits=sum(one.hits for one in stats),
        misses=sum(one.misses for one in stats),
        evictions=sum(one.evictions for one in stats),
    )


def summed_process(figures: Iterable[WorkerFigures]) -> ProcessFigures | None:
    told = [one.process for one in figures if one.process is not None]
    if not told:
        return None
    return ProcessFigures(sum(one.threads for one in told), sum(one.connections for one in told))


def summed_lanes(figures: Iterable[LayerFigures], order: Sequence[str]) -> tuple[LaneSnapshot, ...]:
    """The lanes of one layer, those of one name together, in the `order` of their names."""
    by_name: dict[str, list[LaneSnapshot]] = {name: [] for name in order}
    for one in figures:
        for lane in one.lanes:
            by_name.setdefault(lane.name, []).append(lane)
    return tuple(summed_lane(lanes) for lanes in by_name.values() if lanes)


def summed_lane(lanes: Sequence[LaneSnapshot]) -> LaneSnapshot:
    """Several processes' lanes to one upstream as one: counts and limits together, of states the worst.

    Percentiles are the highest of any process.
    """
    # Those of processes that have ended only count.
    live = [lane for lane in lanes if lane.limit] or list(lanes)
    gated = max(live, key=lambda lane: (_GATES.index(lane.gate), lane.gate_wait_s))
    broken = max(live, key=lambda lane: (_BREAKERS.index(lane.breaker), lane.breaker_since_s))
    causes: Counter[CauseClass] = Counter()
    for lane in lanes:
        causes.update(lane.causes)
    return LaneSnapshot(
        name=live[0].name,
        lane_class=live[0].lane_class,
        limit=sum(lane.limit for lane in live),
        in_flight=sum(lane.in_flight for lane in live),
        queue_depth=sum(lane.queue_depth for lane in live),
        gate=gated.gate,
        gate_wait_s=gated.gate_wait_s,
        gate_reason=gated.gate_reason,
        pace_per_s=_bound(lane.pace_per_s for lane in live),
        rate_per_s=_bound(lane.rate_per_s for lane in live),
        breaker=broken.breaker,
        breaker_since_s=broken.breaker_since_s,
        breaker_wait_s=broken.breaker_wait_s,
        budget_left=sum(lane.budget_left for lane in live),
        requests=sum(lane.requests for lane in lanes),
        causes=dict(causes),
        recent=_recent([lane.recent for lane in live]),
    )


def _bound(rates: Iterable[float | None]) -> float | None:
    """One process without a bound is one for all."""
    told = list(rates)
    known = [rate for rate in told if rate is not None]
    return sum(known) if len(known) == len(told) else None


def _recent(figures: Sequence[LaneFigures]) -> LaneFigures:
    answered, failed = sum(one.answered for one in figures), sum(one.failed for one in figures)
    causes: Counter[CauseClass] = Counter()
    for one in figures:
        causes.update(one.causes)
    return LaneFigures(
        window_s=figures[0].window_s,
        answered=answered,
        failed=failed,
        failure_share=failed / (answered + failed) if answered + failed else 0.0,
        causes=dict(causes),
        ttfb=_highest([one.ttfb for one in figures]),
        total=_highest([one.total for one in figures]),
    )


def _highest(times: Sequence[Percentiles]) -> Percentiles:
    return Percentiles(
        max(one.p50_ms for one in times), max(one.p95_ms for one in times), max(one.p99_ms for one in times)
    )


def joined_figures(figures: Sequence[WorkerFigures]) -> WorkerFigures:
    """Several processes' figures as those of one."""
    layers = {}
    for name in dict.fromkeys(name for one in figures for name in one.layers):
        mine = [one.layers[name] for one in figures if name in one.layers]
        stats = summed_stats(mine)
        layers[name] = LayerFigures(
            hits=stats.hits,
            misses=stats.misses,
            stale=stats.stale,
            coalesced=stats.coalesced,
            fetches=stats.fetches,
            fetches_failed=stats.fetches_failed,
            in_flight=stats.in_flight,
            in_flight_max=max(one.in_flight_max for one in mine),
            fetch_total_s=stats.fetch_total_s,
            fetch_ms=tuple(stats.fetch_ms)[-FETCH_SAMPLES_MAX:],
            errors=dict(stats.errors),
            cache_tiles=sum(one.cache_tiles for one in mine),
            cache_bytes=sum(one.cache_bytes for one in mine),
            lanes=summed_lanes(mine, ()),
        )
    cache = summed_cache(figures)
    refused = sum(one.refused for one in figures)
    told = None if cache is None else cache.total
    return WorkerFigures(layers, told, summed_process(figures), refused, summed_disk(figures))
