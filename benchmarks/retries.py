"""What handing out tiles costs, and what waiting ones take of memory.

    python benchmarks/retries.py [--tiles 200000] [--rounds 5]

Cost: CPU per tile between a work list and a source that answers at once: 36 workers on `jobs/feed.py`,
against 36 that pull from one iterator, the cheapest shape in asyncio. A tenth of the tiles failing once, and
being due again at once, shows what a retry adds. A process for each, medians of interleaved rounds.

Memory: a seed of a million tiles whose source fails every second, with errors as the wire raises them. When
10,000 wait on the heap no new work is begun; resident memory then, against that before the first tile.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from pathlib import Path

import tables
from tilehaul.cli.common import run_async
from tilehaul.errors import BrokenError, DataError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.feed import Answer, Feed
from tilehaul.jobs.retries import Origin, Retrying
from tilehaul.jobs.seed import seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.net.clock import SystemClock
from tilehaul.policy.budget import BudgetRule, RetryBudget
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.retry_heap import WAITING_MAX
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.memory import MemoryStore

WORKERS = 36
CHUNK_TILES = 1000
MILLION = 1_000_000
COST_US_MAX = 5.0
HEAP_MB_MAX = 30.0
KINDS = {
    "iterator": "36 workers on one iterator",
    "feed": "feed, nothing fails",
    "tenth": "feed, a tenth fails once",
}


class TroubledSource:
    """Answers at once; every tile whose column divides by `nth` fails the first time it is asked for."""

    info = SourceInfo(name="troubled", identity="troubled")

    def __init__(self, nth: int = 0) -> None:
        self._nth = nth
        self._failed: set[int] = set()

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        if self._nth and tile_id.x % self._nth == 0 and tile_id.x not in self._failed:
            self._failed.add(tile_id.x)
            raise BrokenError("failed (HTTP 500)", cause="http_500")
        return NoTile(tile_id)


def tiles_of(count: int) -> Iterator[TileId]:
    return (TileId(30, x, 0) for x in range(count))


async def chunks_of(count: int) -> AsyncGenerator[Sequence[TileId], None]:
    tiles = tiles_of(count)
    while chunk := list(islice(tiles, CHUNK_TILES)):
        yield chunk


async def through_iterator(count: int) -> None:
    """What cannot be saved: a tile, a coroutine for the source, one for the outcome."""
    tiles, source = tiles_of(count), TroubledSource()

    async def work() -> None:
        for tile_id in tiles:
            await _forget(await source.get(tile_id))

    await asyncio.gather(*(work() for _ in range(WORKERS)))


async def through_feed(count: int, nth: int) -> None:
    budget = RetryBudget(BudgetRule(tokens_max=1e9))
    retrying = Retrying(RetryRule(), lambda: 0.0, lambda _: budget)
    feed = Feed(
        Origin(TroubledSource(nth), retrying),
        chunks_of(count),
        workers=WORKERS,
        tally=Tally(),
        clock=SystemClock(),
        stop=Stop(),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(feed.read())
        for _ in range(WORKERS):
            group.create_task(feed.work_on(_forget))
    await feed.aclose()


async def _forget(_answer: Answer) -> None:
    pass


def run_cost(kind: str, count: int) -> float:
    """CPU us per tile in this process."""

    async def measured() -> float:
        before = resource.getrusage(resource.RUSAGE_SELF)
        if kind == "iterator":
            await through_iterator(count)
        else:
            await through_feed(count, 10 if kind == "tenth" else 0)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count * 1e6

    return run_async(measured)


class FailingSource:
    """Fails every second tile as the wire and its wrappers do: an error from another, with a body's head."""

    info = SourceInfo(name="failing", identity="failing")
    waiting = 0

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        await asyncio.sleep(0)
        if tile_id.x % 2:
            return NoTile(tile_id)
        self.waiting += 1
        url = f"http://tiles.example/{tile_id}.png"
        body = bytes(15_000)
        try:
            raise ValueError(len(body))
        except ValueError as error:
            raise DataError(
                f"{url}: promised 15000 bytes and sent 200", cause="truncated", url=url, head=body
            ) from error


def run_memory() -> dict[str, float]:
    """Resident memory in MB before the first tile and with a full heap, in this process."""

    async def measured() -> dict[str, float]:
        area = Area.from_bbox(-180, -85.05, 180, 85.05, zooms=[10])
        source, stop = FailingSource(), Stop()
        retrying = Retrying(
            RetryRule(delay_s_first=1e6, delay_s_max=1e6), lambda: 0.5, lambda _: RetryBudget()
        )
        plan = SeedPlan(area, area.count(), JobKey("f", "f", "f", area.count()), workers=WORKERS)
        before_mb = _rss_mb()
        job = asyncio.create_task(
            seed(Origin(source, retrying), MemoryStore(), plan, tally=Tally(), clock=SystemClock(), stop=stop)
        )
        seen = -1
        while source.waiting != seen:
            seen = source.waiting
            await asyncio.sleep(0.2)
        full_mb = _rss_mb()
        stop.cancel()
        report = await job
        if seen > WAITING_MAX:
            raise SystemExit(f"{seen} tiles wait")
        return {"pending": report.pending, "waiting": seen, "before_mb": before_mb, "full_mb": full_mb}

    return run_async(measured)


def _rss_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _apart(*words: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(*, tiles: int, rounds: int) -> str:
    """The tables."""
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            costs[kind].append(_apart("--cost", kind, "--tiles", str(tiles))["us"])
    bare, feed, tenth = (statistics.median(costs[kind]) for kind in KINDS)
    memory = _apart("--memory")
    grown_mb = memory["full_mb"] - memory["before_mb"]
    aims = tables.aims(
        [
            (
                "feed, CPU per tile more than one iterator",
                f"<= {COST_US_MAX:.0f} us",
                f"{feed - bare:.1f} us",
                feed - bare <= COST_US_MAX,
            ),
            (
                f"memory of {memory['pending']:,.0f} pending tiles, {memory['waiting']:,.0f} on the heap",
                f"<= {HEAP_MB_MAX:.0f} MB",
                f"{grown_mb:.1f} MB",
                grown_mb <= HEAP_MB_MAX,
            ),
        ]
    )
    rows = [(KINDS[kind], tables.spread(costs[kind], 2)) for kind in KINDS]
    rows.append(("a retry: failure, heap, budget, second attempt", f"{(tenth - feed) * 10:.1f}"))
    return f"{aims}\n\n{tables.table(('way', 'CPU us per tile'), rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiles", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cost", help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cost:
        print(json.dumps({"us": run_cost(asked.cost, asked.tiles)}))
    elif asked.memory:
        print(json.dumps(run_memory()))
    else:
        print(measure(tiles=asked.tiles, rounds=asked.rounds))


if __name__ == "__main__":
    main()
