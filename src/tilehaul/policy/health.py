"""Healthy, or degraded and why: what is told to people and monitors, in words.

`degraded` means that tiles come slower than they should, or not at all. It does not mean that a service
should get no requests: it still answers from its caches (`/health/ready` is for that).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from tilehaul.errors import ConfigError
from tilehaul.policy.breaker import BreakerState
from tilehaul.policy.gate import span_text
from tilehaul.policy.lane_stats import LaneFigures

GateState = Literal["open", "held", "parked"]


class LaneSigns(Protocol):
    """What is judged of a lane; `ports.lane.LaneSnapshot` has it all and says what each is."""

    @property
    def name(self) -> str: ...
    @property
    def gate(self) -> GateState: ...
    @property
    def gate_wait_s(self) -> float: ...
    @property
    def gate_reason(self) -> str: ...
    @property
    def breaker(self) -> BreakerState: ...
    @property
    def breaker_since_s(self) -> float: ...
    @property
    def breaker_wait_s(self) -> float: ...
    @property
    def budget_left(self) -> float: ...
    @property
    def recent(self) -> LaneFigures: ...


@dataclass(frozen=True, slots=True)
class HealthRule:
    """When a lane is degraded.

    Args:
        failure_share: More than this share of the attempts failed, in [0, 1). The older programs called
            a service healthy above 95 % success.
        ended_min: ... of at least so many, answered or failed: one failure of two says nothing.
        held_s: The upstream asked for a wait that has longer than this to go.
    """

    failure_share: float = 0.05
    ended_min: int = 20
    held_s: float = 60.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.failure_share < 1.0 and self.ended_min >= 1 and self.held_s >= 0.0):
            raise ConfigError(
                "health: the failure share must be in 0 to 1, the attempts 1 or more, no negative wait"
            )


HEALTH_DEFAULT = HealthRule()


@dataclass(frozen=True, slots=True)
class Health:
    """`reasons`: one clause each, naming the lane; none when healthy."""

    status: Literal["healthy", "degraded"]
    reasons: tuple[str, ...] = ()


HEALTHY = Health("healthy")


def judge_health(lanes: Iterable[LaneSigns], rule: HealthRule = HEALTH_DEFAULT) -> Health:
    """Healthy when no lane is in trouble; of none at all, too."""
    reasons = tuple(f"{lane.name}: {trouble}" for lane in lanes for trouble in _troubles(lane, rule))
    return Health("degraded", reasons) if reasons else HEALTHY


def _troubles(lane: LaneSigns, rule: HealthRule) -> Iterator[str]:
    if lane.breaker == "open":
        since, wait = span_text(lane.breaker_since_s), span_text(lane.breaker_wait_s)
        yield f"breaker open since {since}, tried again in {wait}"
    elif lane.breaker == "half_open":
        yield f"breaker half open, one attempt at a time; open since {span_text(lane.breaker_since_s)}"
    if lane.gate == "parked":
        yield lane.gate_reason
    elif lane.gate == "held" and lane.gate_wait_s > rule.held_s:
        yield f"asked to wait, {span_text(lane.gate_wait_s)} to go"
    recent = lane.recent
    ended = recent.answered + recent.failed
    if ended >= rule.ended_min and recent.failure_share > rule.failure_share:
        yield (
            f"{_percent(recent.failure_share)} failures over {span_text(recent.window_s)}"
            f" ({recent.failed} of {ended}, most of them {_foremost(recent)})"
        )
    if lane.budget_left < 1.0:
        yield "the retry budget is spent"


def _foremost(recent: LaneFigures) -> str:
    failures = {cause: count for cause, count in recent.causes.items() if cause != "rate_limit"}
    return max(failures, key=lambda cause: failures[cause], default="other")


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %" if share >= 0.1 else f"{100.0 * share:.1f} %"
