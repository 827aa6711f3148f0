"""`/metrics`: what `/api/stats` and the jobs tell, in the text form that Prometheus reads.

Nothing is counted here: a collection reads the same counters as every other answer. No tile, host, path or
job's name is a label, so the number of series is bounded by layers, lanes, causes and states.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from tilehaul.jobs.followed import moved_by
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Reply
from tilehaul.jobs.tile_stats import StatsFigures
from tilehaul.ports.lane import LaneSnapshot, ProcessFigures
from tilehaul.server.early_hits import CacheSizes
from tilehaul.server.lanes import LanesByLayer
from tilehaul.server.reply import NO_STORE
from tilehaul.wiring.running_jobs import RunningJobs

_LAYER_COUNTS: tuple[tuple[str, str, Callable[[StatsFigures], int]], ...] = (
    ("requests", "Tile requests.", lambda told: told.requests),
    ("hits", "Tile requests answered from memory.", lambda told: told.hits),
    ("misses", "Tile requests that went on to the source.", lambda told: told.misses),
    ("stale", "Answers past their freshness, because the origin failed.", lambda told: told.stale),
    ("coalesced", "Requests that shared the fetch of another.", lambda told: told.coalesced),
    ("fetches", "Fetches that ended with an answer.", lambda told: told.fetches),
    ("fetches_failed", "Fetches that ended with an error.", lambda told: told.fetches_failed),
)
_LANE_GAUGES: tuple[tuple[str, str, Callable[[LaneSnapshot], float]], ...] = (
    ("limit", "Attempts that may be under way at once.", lambda lane: lane.limit),
    ("in_flight", "Attempts under way.", lambda lane: lane.in_flight),
    ("queue_depth", "Attempts that wait for a permit.", lambda lane: lane.queue_depth),
    ("gate_wait_seconds", "Until the gate opens.", lambda lane: lane.gate_wait_s),
    ("retry_budget", "Retries that can be paid for now.", lambda lane: lane.budget_left),
)
PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
GATES = ("open", "held", "parked")
BREAKERS = ("closed", "open", "half_open")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one collection reads."""

    layers: Mapping[str, Layer]
    cache: CacheSizes | None
    lanes: LanesByLayer
    process: ProcessFigures | None
    uptime_s: float
    jobs: RunningJobs | None
    clients_refused: int


def metrics_reply(seen: Seen, *, accept: str) -> Reply:
    """The figures, as OpenMetrics for those who accept it, else in version 0.0.4 of the text form."""
    # A registry of this request's own: the library's global one would be shared by all of a process.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(seen))
    # Not the library's own choice, which repeats words of the client's header.
    open_form = "application/openmetrics-text" in accept
    write = openmetrics.generate_latest if open_form else generate_latest
    media_type = OPEN_TYPE if open_form else PLAIN_TYPE
    return Reply(200, (("content-type", media_type), *NO_STORE, *PUBLIC_HEADERS), write(registry))


class _Figures(Collector):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        seen = self._seen
        yield GaugeMetricFamily("tilehaul_uptime_seconds", "Since the service started.", value=seen.uptime_s)
        yield CounterMetricFamily(
            "tilehaul_clients_refused", "Requests answered 429.", value=seen.clients_refused
        )
        if seen.process is not None:
            yield GaugeMetricFamily("tilehaul_threads", "Python's own.", value=seen.process.threads)
            yield GaugeMetricFamily(
                "tilehaul_origin_connections", "Open to origins.", value=seen.process.connections
            )
        yield from _of_layers(seen)
        yield from _of_cache(seen)
        yield from _of_lanes(seen.lanes)
        if seen.jobs is not None:
            yield from _of_jobs(seen.jobs, seen.layers)


def _of_layers(seen: Seen) -> Iterator[Metric]:
    # Percentiles are sorted for on each call: once for each layer.
    figures = {name: layer.stats.figures() for name, layer in seen.layers.items()}
    for name, text, value in _LAYER_COUNTS:
        family = CounterMetricFamily(f"tilehaul_tile_{name}", text, labels=("layer",))
        for layer, told in figures.items():
            family.add_metric((layer,), value(told))
        yield family
    errors = CounterMetricFamily("tilehaul_tile_errors", "Error replies.", labels=("layer", "cause"))
    in_flight = GaugeMetricFamily("tilehaul_tile_fetches_in_flight", "Fetches now.", labels=("layer",))
    times = GaugeMetricFamily(
        "tilehaul_tile_fetch_seconds", "Times of the last 1,024 fetches.", labels=("layer", "quantile")
    )
    totals = SummaryMetricFamily("tilehaul_tile_fetch_time_seconds", "All fetches.", labels=("layer",))
    for layer, told in figures.items():
        for cause, count in told.errors.items():
            errors.add_metric((layer, cause), count)
        in_flight.add_metric((layer,), told.in_flight)
        for share, value_ms in (
            ("0.5", told.fetch_p50_ms),
            ("0.95", told.fetch_p95_ms),
            ("0.99", told.fetch_p99_ms),
        ):
            times.add_metric((layer, share), value_ms / 1000.0)
        stats = seen.layers[layer].stats
        totals.add_metric((layer,), told.fetches + told.fetches_failed, stats.fetch_total_s)
    yield from (errors, in_flight, times, totals)


def _of_cache(seen: Seen) -> Iterator[Metric]:
    if seen.cache is None:
        return
    tiles = GaugeMetricFamily("tilehaul_cache_tiles", "Tiles in memory.", labels=("layer",))
    size = GaugeMetricFamily("tilehaul_cache_bytes", "Bytes in memory.", labels=("layer",))
    for layer in seen.layers:
        count, size_bytes = seen.cache.layer_size(layer)
        tiles.add_metric((layer,), count)
        size.add_metric((layer,), size_bytes)
    stats = seen.cache.stats()
    yield from (tiles, size)
    yield GaugeMetricFamily("tilehaul_cache_bytes_max", "Of all layers together.", value=stats.bytes_max)
    yield CounterMetricFamily("tilehaul_cache_evictions", "Tiles that had to go.", value=stats.evictions)


def _of_lanes(lanes: LanesByLayer) -> Iterator[Metric]:
    labels = ("layer", "lane")
    numbered = [((layer, lane.name), lane) for layer, ones in lanes.items() for lane in ones]
    for name, text, value in _LANE_GAUGES:
        gauge = GaugeMetricFamily(f"tilehaul_lane_{name}", text, labels=labels)
        for label, lane in numbered:
            gauge.add_metric(label, value(lane))
        yield gauge
    requests = CounterMetricFamily("tilehaul_lane_requests", "Attempts that ended.", labels=labels)
    causes = CounterMetricFamily(
        "tilehaul_lane_causes", "Failures and push-back by class.", labels=(*labels, "cause")
    )
    gate = GaugeMetricFamily("tilehaul_lane_gate", "1 for the state it is in.", labels=(*labels, "state"))
    breaker = GaugeMetricFamily(
        "tilehaul_lane_breaker", "1 for the state it is in.", labels=(*labels, "state")
    )
    for label, lane in numbered:
        requests.add_metric(label, lane.requests)
        for cause, count in lane.causes.items():
            causes.add_metric((*label, cause), count)
        for state in GATES:
            gate.add_metric((*label, state), float(state == lane.gate))
        for state in BREAKERS:
            breaker.add_metric((*label, state), float(state == lane.breaker))
    yield from (requests, causes, gate, breaker)


def _of_jobs(jobs: RunningJobs, layers: Container[str]) -> Iterator[Metric]:
    running = [job for job in jobs.jobs.values() if job.ended is None and job.layer in layers]
    yield GaugeMetricFamily("tilehaul_jobs_running", "Jobs that run now.", value=len(running))
    ended = CounterMetricFamily("tilehaul_jobs_ended", "Jobs that have ended.", labels=("layer", "state"))
    for (layer, state), count in jobs.ended.items():
        if layer in layers:
            ended.add_metric((layer, state), count)
    yield ended
    moved = jobs.moved.copy()
    tiles = GaugeMetricFamily(
        "tilehaul_jobs_tiles", "Tiles of the jobs that run now.", labels=("layer", "store", "outcome")
    )
    for job in running:
        for name, value in moved_by(job).items():
            moved[job.layer, name] += value
        told = job.progress
        if job.planned is not None:
            tiles.add_metric((job.layer, job.store, "planned"), job.planned)
        for outcome in ("done", "unchanged", "absent", "dead", "skipped") if told is not None else ():
            tiles.add_metric((job.layer, job.store, outcome), getattr(told, outcome))
    yield tiles
    for name, text in (("bytes", "Written."), ("retried", "Retries."), ("pushed_back", "Push-back.")):
        family = CounterMetricFamily(f"tilehaul_jobs_{name}", text, labels=("layer",))
        for (layer, what), value in moved.items():
            if what == name and layer in layers:
                family.add_metric((layer,), value)
        yield family
