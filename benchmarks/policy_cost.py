"""What deciding costs: the policy layer around a sender that answers at once.

    python benchmarks/policy_cost.py [--rounds 7] [--requests 50000] [--write]

CPU microseconds (user + system) per request of one process, beyond a bare await of the same sender. "Laned"
is what every attempt passes: the lane's queue, gate, limit, pace, rate, breaker and budget. A job adds its
feed of retries, a library call the retrying sender; both cost next to nothing until something fails.

Free: one request after another, a permit is always there. Contended: eight callers share four permits, and
each answer comes a turn of the loop later, so that permits are handed over.
"""

import argparse
import asyncio
import os
import random
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import tables
from tilehaul.cli.common import run_async
from tilehaul.net.clock import SystemClock
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.wire import Request, Response

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PERMITS, CALLERS = 4, 8
REQUEST = Request("http://tiles.test/3/4/2.png")
RESPONSE = Response(REQUEST.url, 200, {"content-type": "image/png"}, b"", ttfb_s=0.05, total_s=0.06)
Send = Callable[[Request], Awaitable[Response]]


class AtOnce:
    """Answers at once, or after one turn of the loop."""

    def __init__(self, *, turns: bool) -> None:
        self._turns = turns

    async def send(self, request: Request) -> Response:
        del request
        if self._turns:
            await asyncio.sleep(0)
        return RESPONSE


def senders(*, turns: bool) -> dict[str, Send]:
    """The bare sender and the same within its wrappers, by name."""
    clock, tally, inner = SystemClock(), Tally(), AtOnce(turns=turns)

    def laned(*, adaptive: bool) -> LanedSender:
        settings = LaneSettings(PERMITS, adaptive=adaptive)
        return LanedSender(inner, settings, clock=clock, luck=random.random, tally=tally)

    def retried(*, adaptive: bool) -> Send:
        return RetriedSender(laned(adaptive=adaptive), RetryRule(), clock, random.random, tally).send

    return {
        "bare": inner.send,
        "laned, fixed limit": laned(adaptive=False).send,
        "laned, adaptive limit": laned(adaptive=True).send,
        "retried, laned, adaptive limit": retried(adaptive=True),
    }


async def cpu_us(send: Send, callers: int, requests: int) -> float:
    """CPU per request of `callers` that ask in turn."""

    async def ask(count: int) -> None:
        for _ in range(count):
            await send(REQUEST)

    await ask(100)
    before = _cpu_s()
    await asyncio.gather(*(ask(requests // callers) for _ in range(callers)))
    return (_cpu_s() - before) / requests * 1e6


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(rounds: int, requests: int) -> str:
    """The table; differences are taken within a round."""
    free, contended = senders(turns=False), senders(turns=True)
    figures: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in free}
    for _ in range(rounds):
        for column, (those, callers) in enumerate(((free, 1), (contended, CALLERS))):
            for name, send in those.items():
                figures[name][column].append(await cpu_us(send, callers, requests))
    bare = figures.pop("bare")
    more = {
        name: [[one - base for one, base in zip(*pair, strict=True)] for pair in zip(both, bare, strict=True)]
        for name, both in figures.items()
    }
    rows = [("bare await, in all", *(tables.spread(column, 1) for column in bare))]
    rows += [(f"{name}: more", *(tables.spread(column, 1) for column in both)) for name, both in more.items()]
    return tables.table(("CPU us per request", "free", "contended"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md, block policy_cost")
    asked = parser.parse_args()
    before = os.getloadavg()[0]
    text = run_async(lambda: measure(asked.rounds, asked.requests))
    print(text)
    if asked.write:
        tables.write_block(PAGE, "policy_cost", f"{text}\n\n{tables.stamp(before)}")


if __name__ == "__main__":
    main()
