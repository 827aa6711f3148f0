"""The lanes of a service as JSON values.

A lane's own name has its origin's host in it, which is the operator's business, as in every answer of the
service: here lanes are numbered within their layer. The log has the names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from tilehaul.policy.health import judge_health
from tilehaul.ports.lane import LaneSnapshot

LanesByLayer = Mapping[str, tuple[LaneSnapshot, ...]]


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
    for number, lane in enumerate(lanes, start=1):
        yield replace(lane, name=f"{layer} {number}")
