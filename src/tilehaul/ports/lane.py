"""What can be seen of a lane and of the process from outside: frozen values, times in seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tilehaul.policy.breaker import BreakerState
from tilehaul.policy.causes import CauseClass
from tilehaul.policy.health import GateState
from tilehaul.policy.lane_stats import LaneFigures


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """One lane at one moment.

    Args:
        name: Host, port when it is not the scheme's own, and class: `tiles.example.com (tile)`. No secrets.
        lane_class: `tile`, `wms`, `cdn`, `s3-read`, `s3-write`.
        limit: Attempts that may be under way at once now, >= 1.
        in_flight: Attempts that are.
        queue_depth: Attempts that wait for a permit.
        gate: `held` while nothing is sent because the upstream asked for it, `parked` when that is long or
            does not end: `gate_reason` then says why.
        gate_wait_s: Until the gate opens; 0.0 when it is open.
        pace_per_s: Requests a second that push-back has taught the lane; None: no bound.
        rate_per_s: The bound that the user or the provider's rules have set; None: none.
        breaker: `open`: the upstream fails and is left alone. `half_open`: it is being tried.
        breaker_since_s: How long ago it was closed last; 0.0 while it is.
        breaker_wait_s: Until it is tried again; 0.0 when it may be.
        budget_left: Retries that can be paid for at once, and fractions of one.
        requests, causes: Attempts that ended, and failures and push-back by class, since the lane was made.
        recent: The same and the times of the last minutes.
    """

    name: str
    lane_class: str
    limit: int
    in_flight: int = 0
    queue_depth: int = 0
    gate: GateState = "open"
    gate_wait_s: float = 0.0
    gate_reason: str = ""
    pace_per_s: float | None = None
    rate_per_s: float | None = None
    breaker: BreakerState = "closed"
    breaker_since_s: float = 0.0
    breaker_wait_s: float = 0.0
    budget_left: float = 100.0
    requests: int = 0
    causes: dict[CauseClass, int] = field(default_factory=dict)
    recent: LaneFigures = field(default_factory=LaneFigures)


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """`threads`: Python's own, in this process. `connections`: open to upstreams, idle ones included."""

    threads: int
    connections: int


# Asked whenever somebody wants to know; cheap enough for once a second, not for once a tile.
Lanes = Callable[[], tuple[LaneSnapshot, ...]]
