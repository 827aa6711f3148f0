"""The figures of the whole service, of one process or of several."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

import msgspec

from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.ports.clock import Clock
from tilehaul.ports.lane import ProcessFigures
from tilehaul.ports.store import CacheStats
from tilehaul.server.early_hits import CacheSizes
from tilehaul.server.lanes import LanesByLayer, lanes_of, numbered
from tilehaul.server.meter import Meter
from tilehaul.server.worker_figures import (
    LayerFigures,
    WorkerFigures,
    summed_cache,
    summed_disk,
    summed_lanes,
    summed_process,
    summed_stats,
    worker_figures,
)
from tilehaul.wiring.running_jobs import RunningJobs

# Who asks for lanes more often than this is told the same ones again.
LANES_FRESH_S = 1.0


class OthersFigures(msgspec.Struct, frozen=True):
    """What the other processes of the service have counted.

    `asker`: the number of this process, from 1. `workers`: processes that run, this one too. `answered`:
    those of them whose figures are of now, this one too; of the others they are what they told last.
    `ended`: what processes counted that run no more. `lane_order`: by layer the names of its lanes, the same
    whoever asks.
    """

    asker: int = 0
    workers: int = 1
    answered: int = 1
    others: tuple[WorkerFigures, ...] = ()
    ended: WorkerFigures = WorkerFigures()
    lane_order: dict[str, tuple[str, ...]] = {}


class Others(Protocol):
    """The other worker processes of this service."""

    async def figures(self, own: WorkerFigures) -> OthersFigures:
        """Ask them. Never raises, and waits for a bounded time only."""
        ...

    async def forget(self, layer: str, *, bbox: str | None, zooms: str | None) -> int:
        """Let them drop tiles from their caches too; the greatest number of any of them."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """What all answers about the service tell. `layers` have the statistics of all processes.

    `workers`: those that run, those whose figures are of now, which of them tells; None where there is but
    one process. `refused`: requests of clients that had asked too much.
    """

    layers: Mapping[str, Layer]
    cache: CacheSizes | None
    lanes: LanesByLayer
    process: ProcessFigures | None
    workers: tuple[int, int, int] | None = None
    refused: int = 0
    disk: CacheStats | None = None

    def only(self, names: Container[str]) -> "Whole":
        """The same of these layers alone."""
        return replace(
            self,
            layers={name: layer for name, layer in self.layers.items() if name in names},
            lanes={name: lanes for name, lanes in self.lanes.items() if name in names},
        )


class Figures:
    """Collects what is told.

    Args:
        layers, cache, process, jobs: As for `make_app`; of this process.
        clock: Of what is fresh.
        others: The other processes; None where there are none.
        meter, disk: As for `make_app`.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        cache: CacheSizes | None,
        process: Callable[[], ProcessFigures] | None,
        jobs: RunningJobs | None,
        clock: Clock,
        others: Others | None = None,
        meter: Meter | None = None,
        disk: Callable[[], CacheStats | None] | None = None,
    ) -> None:
        self._layers = layers
        self._cache = cache
        self._process = process
        self._jobs = jobs
        self._clock = clock
        self._others = others
        self._meter = meter
        self._disk = disk or (lambda: None)
        self._told: dict[str, tuple[int, ...]] = {}
        self._told_refused = 0
        self._lanes_seen: LanesByLayer = {}
        self._lanes_until_s = -inf

    async def whole(self) -> Whole:
        """The figures of now, those of other processes too as far as they answer at once."""
        if self._others is None:
            process = None if self._process is None else self._process()
            lanes_seen, disk = self._lanes(), self._disk()
            return Whole(self._layers, self._cache, lanes_seen, process, refused=self._refused(), disk=disk)
        own = self.own()
        told = await self._others.figures(own)
        every: Sequence[WorkerFigures] = (own, *told.others, told.ended)
        layers, lanes = {}, {}
        for name, layer in self._layers.items():
            figures = [one.layers.get(name, LayerFigures()) for one in every]
            layers[name] = replace(layer, stats=summed_stats(figures))
            lanes[name] = tuple(numbered(summed_lanes(figures, told.lane_order.get(name, ()))))
        return Whole(
            layers,
            summed_cache(every),
            lanes,
            summed_process(every),
            (told.workers, told.answered, told.asker),
            sum(one.refused for one in every),
            summed_disk(every),
        )

    def own(self) -> WorkerFigures:
        """Of this process alone."""
        return self._own(self._layers)

    def news(self) -> WorkerFigures | None:
        """Of those layers of this process that have counted since this was asked last; None: of none."""
        marks = {name: _mark(layer.stats) for name, layer in self._layers.items()}
        changed = {name: self._layers[name] for name, mark in marks.items() if self._told.get(name) != mark}
        refused, before = self._refused(), self._told_refused
        self._told, self._told_refused = marks, refused
        return self._own(changed) if changed or refused != before else None

    def _own(self, layers: Mapping[str, Layer]) -> WorkerFigures:
        process = None if self._process is None else self._process()
        return worker_figures(layers, self._cache, process, refused=self._refused(), disk=self._disk())

    def _refused(self) -> int:
        return self._meter.limits.refused if self._meter is not None else 0

    def _lanes(self) -> LanesByLayer:
        """The lanes of each layer, at most LANES_FRESH_S old: reading one costs up to a millisecond."""
        now_s = self._clock.now_s()
        if now_s >= self._lanes_until_s:
            jobs = self._jobs.jobs.values() if self._jobs is not None else ()
            self._lanes_seen = lanes_of(self._layers.values(), jobs)
            self._lanes_until_s = now_s + LANES_FRESH_S
        return self._lanes_seen


def _mark(stats: TileStats) -> tuple[int, ...]:
    counts = (stats.hits, stats.misses, stats.stale, stats.coalesced, stats.in_flight)
    return (*counts, stats.fetches, stats.fetches_failed, stats.errors.total())
