"""A lane seen from outside: what it is now, and when that has changed."""

from math import inf
from typing import TYPE_CHECKING

from tilehaul.policy.health import GateState
from tilehaul.ports.events import LaneChanged
from tilehaul.ports.lane import LaneSnapshot

if TYPE_CHECKING:
    from tilehaul.net.lane import Lane


class LaneView:
    """Remembers what was told of one lane last.

    `troubled`: its gate was not open, or its breaker not closed, when it was looked at last. While that is so
    it should be looked at often, for gates open and breakers half open by the clock alone.
    """

    __slots__ = ("_broken_s", "_told", "troubled")

    def __init__(self, lane: "Lane") -> None:
        self.troubled = False
        self._broken_s = 0.0
        self._told = (lane.limit.limit, "open", "closed")

    def look(self, lane: "Lane", now_s: float) -> LaneChanged | None:
        """What there is to tell since the last look, if anything."""
        gate, breaker = gate_of(lane, now_s), lane.breaker.state(now_s)
        state = (lane.limit.limit, gate, breaker)
        before, self._told = self._told, state
        if state == before:
            return None
        if before[2] == "closed" != breaker:
            self._broken_s = now_s
        self.troubled = gate != "open" or breaker != "closed"
        names = ("limit", "gate", "breaker")
        what = [name for name, old, new in zip(names, before, state, strict=True) if old != new]
        return LaneChanged(lane.name, " ".join(what), *state, pace_per_s=_finite(lane.pace.per_s))

    def snapshot(self, lane: "Lane", now_s: float) -> LaneSnapshot:
        """The lane as it is."""
        breaker = lane.breaker.state(now_s)
        return LaneSnapshot(
            name=lane.name,
            lane_class=lane.lane_class,
            limit=lane.limit.limit,
            in_flight=lane.in_flight,
            queue_depth=lane.queue_depth,
            gate=gate_of(lane, now_s),
            gate_wait_s=lane.gate.wait_s(now_s),
            gate_reason=lane.gate.parked(now_s) or "",
            pace_per_s=_finite(lane.pace.per_s),
            rate_per_s=lane.rate_per_s,
            breaker=breaker,
            breaker_since_s=0.0 if breaker == "closed" else now_s - self._broken_s,
            breaker_wait_s=lane.breaker.retry_after_s(now_s),
            budget_left=lane.budget.tokens,
            requests=lane.stats.requests,
            causes=dict(lane.stats.causes),
            recent=lane.stats.recent(now_s),
        )


def gate_of(lane: "Lane", now_s: float) -> GateState:
    """The state of a lane's gate."""
    if lane.gate.wait_s(now_s) == 0.0:
        return "open"
    return "held" if lane.gate.parked(now_s) is None else "parked"


def _finite(per_s: float) -> float | None:
    return None if per_s == inf else per_s
