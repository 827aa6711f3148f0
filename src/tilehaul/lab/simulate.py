"""Limits against modelled upstreams, in virtual time: minutes of traffic in seconds.

Demand has no end: every client sends as much as its limit lets it, which is what a seed does. Peers have no
gate and send again at once, as a semaphore with a retry would. `ours` is `AdaptiveLimit` with the Gate, Pace,
Blame and Shed of `policy`, the parts that `net/lane.py` drives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tilehaul.errors import PlanError
from tilehaul.lab.peers_limits import AimdLimit, Gradient2Limit, VegasLimit
from tilehaul.lab.simulated_client import Client, Parts
from tilehaul.lab.upstreams import MODELS, Upstream, World
from tilehaul.policy.gate import Gate
from tilehaul.policy.limit import AdaptiveLimit, FixedLimit
from tilehaul.policy.limit_rule import LimitRule
from tilehaul.policy.pace import Pace

# The ceiling of every limit that finds itself, and the largest fixed one tried: class `cdn`'s.
MOST = 128
# The fixed limits tried to find the best one, known only afterwards.
HINDSIGHT = (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 32, 64, 128)
# Models whose best fixed limit has a gate: where push-back ends by itself, nothing beats hammering, and that
# is no measure for a client that obeys Retry-After.
GATED = frozenset({"bursts"})

LIMITS: dict[str, Callable[[], Parts]] = {
    "fixed 8": lambda: Parts(FixedLimit(8)),
    "fixed 64": lambda: Parts(FixedLimit(64)),
    "AIMD": lambda: Parts(AimdLimit(most=MOST)),
    "Vegas": lambda: Parts(VegasLimit(most=MOST)),
    "Gradient2": lambda: Parts(Gradient2Limit(most=MOST)),
    "ours": lambda: Parts(AdaptiveLimit(LimitRule(start=4, most=MOST)), Gate(), Pace()),
}
OURS = "ours"


@dataclass(slots=True)
class Trace:
    """One number a second: the limit (of all clients), answers that were good, their mean time."""

    limits: list[float] = field(default_factory=list)
    goods: list[float] = field(default_factory=list)
    means_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """What one simulated run came to.

    `wasted_share`: requests that were rejected, of all sent. `inside`: requests that reached the upstream
    within a Retry-After it had given; `in_flight_then`: those under way when the first word of each such
    period reached the client, which nobody could have called back. Times to first byte in seconds.
    `goods_by_client` is for fairness.
    """

    goodput_per_s: float
    wasted_share: float
    inside: int
    in_flight_then: int
    queue_mean: float
    p50_s: float
    p95_s: float
    requests: int
    goods_by_client: tuple[int, ...]
    trace: Trace


def simulate(model: str, make: Callable[[], Parts], *, seconds: float, seed: int = 1) -> Run:
    """Let clients with limits from `make` work on an upstream for `seconds` of virtual time.

    Of several clients each later one begins a tenth of the time after the one before.

    Raises:
        PlanError: no such model, or `seconds` is not above 0.
    """
    if model not in MODELS:
        raise PlanError(f'no model "{model}": one of {", ".join(MODELS)}')
    if not seconds > 0.0:
        raise PlanError(f"a simulation lasts more than 0 seconds, not {seconds}")
    _, count, build = MODELS[model]
    world = World(seed)
    upstream = build(world, seconds)
    clients = []
    for number in range(count):
        client = Client(world, upstream, make())
        clients.append(client)
        world.at(number * seconds / 10.0, client.fill)
    trace = Trace()
    for second in range(1, int(seconds) + 1):
        world.run(float(second))
        _take_down(clients, trace)
    world.run(seconds)
    return _sum_up(clients, upstream, seconds, trace)


def _take_down(clients: Sequence[Client], trace: Trace) -> None:
    good = sum(client.second_good for client in clients)
    sum_s = sum(client.second_sum_s for client in clients)
    trace.limits.append(float(sum(client.limit.limit for client in clients if client.sent)))
    trace.goods.append(float(good))
    trace.means_s.append(sum_s / good if good else 0.0)
    for client in clients:
        client.second_good = 0
        client.second_sum_s = 0.0


def _sum_up(clients: Sequence[Client], upstream: Upstream, seconds: float, trace: Trace) -> Run:
    sent = sum(client.sent for client in clients)
    times = [client.times for client in clients]
    weight = sum(time.count for time in times) or 1
    return Run(
        goodput_per_s=sum(client.good for client in clients) / seconds,
        wasted_share=sum(client.wasted for client in clients) / max(1, sent),
        inside=upstream.inside,
        in_flight_then=sum(client.in_flight_then for client in clients),
        queue_mean=upstream.queue_mean(),
        p50_s=sum(time.percentile_s(0.5) * time.count for time in times) / weight,
        p95_s=max(time.percentile_s(0.95) for time in times),
        requests=sent,
        goods_by_client=tuple(client.good for client in clients),
        trace=trace,
    )


def best_fixed(model: str, *, seconds: float, seed: int = 1) -> tuple[int, float]:
    """The fixed limit with the highest goodput of HINDSIGHT, and that goodput per second.

    With several clients each has the limit. Waste and queue are not looked at: this is the most the upstream
    can be brought to give; of a model in GATED, by a client that obeys Retry-After.
    """
    gated = model in GATED
    best = (0, 0.0)
    for limit in HINDSIGHT:

        def make(limit: int = limit) -> Parts:
            return Parts(FixedLimit(limit), Gate() if gated else None)

        run = simulate(model, make, seconds=seconds, seed=seed)
        # A larger limit must earn its place: a thousandth more is luck.
        if run.goodput_per_s > best[1] * 1.001:
            best = (limit, run.goodput_per_s)
    return best


@dataclass(frozen=True, slots=True)
class Row:
    """One limit against one model: means over the seeds, and the first seed's trace."""

    model: str
    limit: str
    best_limit: int
    best_per_s: float
    goodput_per_s: float
    wasted_share: float
    inside: float
    in_flight_then: float
    queue_mean: float
    p50_s: float
    p95_s: float
    fairness: float
    trace: Trace

    def missed(self) -> list[str]:
        """Which of the four aims of flow control this row does not reach."""
        aims = {
            "goodput": self.goodput_per_s >= 0.95 * self.best_per_s,
            "waste": self.wasted_share <= 0.01,
            "inside": self.inside <= self.in_flight_then,
            "queue": self.queue_mean <= 10.0,
        }
        return [aim for aim, reached in aims.items() if not reached]


def compare(
    model: str, *, seconds: float, seeds: int, said: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Every limit of LIMITS against one model, seeds 1 to `seeds` (>= 1). `said` hears what begins.

    Raises:
        PlanError: as `simulate`; or no seeds.
    """
    if seeds < 1:
        raise PlanError(f"a comparison needs 1 seed or more, not {seeds}")
    said(f"{model}: fixed limits in hindsight")
    best_limit, best_per_s = best_fixed(model, seconds=seconds)
    rows = []
    for name, make in LIMITS.items():
        said(f"{model}: {name}")
        runs = [simulate(model, make, seconds=seconds, seed=seed) for seed in range(1, seeds + 1)]
        rows.append(_row(model, name, best_limit, best_per_s, runs))
    return rows


def _row(model: str, name: str, best_limit: int, best_per_s: float, runs: Sequence[Run]) -> Row:
    return Row(
        model=model,
        limit=name,
        best_limit=best_limit,
        best_per_s=best_per_s,
        goodput_per_s=fmean(run.goodput_per_s for run in runs),
        wasted_share=fmean(run.wasted_share for run in runs),
        inside=fmean(run.inside for run in runs),
        in_flight_then=fmean(run.in_flight_then for run in runs),
        queue_mean=fmean(run.queue_mean for run in runs),
        p50_s=fmean(run.p50_s for run in runs),
        p95_s=fmean(run.p95_s for run in runs),
        fairness=fmean(_fairness(run.goods_by_client) for run in runs),
        trace=runs[0].trace,
    )


def _fairness(shares: Sequence[int]) -> float:
    """Jain's index: 1.0 when all get the same, 1/n when one gets all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
