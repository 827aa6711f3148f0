"""The lanes of a service as JSON values.

A lane's own name has its origin's host in it, which is the operator's business, as in every answer of the
service: here lanes are numbered within their layer, a job's behind its store's name. The log has the names.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from tilehaul.jobs.followed import RunningJob
from tilehaul.jobs.layer import Layer
from tilehaul.policy.health import judge_health
from tilehaul.ports.lane import LaneSnapshot

# The lanes' names are "1", "2", ... for the layer's own, "STORE 1", ... for those of a job that seeds it.
LanesByLayer = Mapping[str, tuple[LaneSnapshot, ...]]


def lanes_of(layers: Iterable[Layer], jobs: Iterable[RunningJob]) -> LanesByLayer:
    """The lanes of each layer and of the jobs that run on it now."""
    lanes = {layer.name: list(numbered(layer.lanes())) for layer in layers}
    for job in jobs:
        if job.layer in lanes:
            lanes[job.layer] += numbered(job.lanes(), prefix=f"{job.store} ")
    return {name: tuple(ones) for name, ones in lanes.items()}


def lanes_json(by_layer: LanesByLayer) -> dict[str, list[dict[str, Any]]]:
    """Every field of `ports.lane.LaneSnapshot`, for each lane of each layer."""
    return {layer: [asdict(lane) for lane in _named(layer, lanes)] for layer, lanes in by_layer.items()}


def health_json(by_layer: LanesByLayer) -> dict[str, Any]:
    """`status`, `reasons`, and the status of each layer."""
    named = {layer: tuple(_named(layer, lanes)) for layer, lanes in by_layer.items()}
    health = judge_health(lane for lanes in named.values() for lane in lanes)
    return {
        "status": health.status,
        "reasons": list(health.reasons),
        "layers": {layer: judge_health(lanes).status for layer, lanes in named.items()},
    }


def _named(layer: str, lanes: tuple[LaneSnapshot, ...]) -> Iterator[LaneSnapshot]:
    for lane in lanes:
        yield replace(lane, name=f"{layer} {lane.name}")


def numbered(lanes: Iterable[LaneSnapshot], prefix: str = "") -> Iterator[LaneSnapshot]:
    """The lanes with numbers for names, from 1."""
    for number, lane in enumerate(lanes, start=1):
        yield replace(lane, name=f"{prefix}{number}")
