"""A seed of many tiles that keeps nothing, in a process of its own: how much memory does the engine need?

    python million.py COUNT     prints {"done", "early_mib", "peak_mib", "seconds"} as JSON

`early_mib` is the process's peak after a tenth of the tiles, `peak_mib` at the end.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path

from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.seed import seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.net.clock import SystemClock
from tilehaul.net.loops import new_loop
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey, Outcome, State
from tilehaul.ports.tile import NoTile, Tile

BODY = b"x" * 200
KIB_PER_MIB = 1024


def peak_mib() -> float:
    """The most memory this program has had. What `getrusage` says includes the parent before `exec`."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / KIB_PER_MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MIB


class Source:
    """Answers every tile at the loop's next turn."""

    info = SourceInfo(name="fake", identity="fake")

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        await asyncio.sleep(0)
        return Tile(tile_id, BODY, "image/png")


class Store:
    """Counts what it is given, and forgets it."""

    def __init__(self, planned: int) -> None:
        self.done = 0
        self.early_mib = 0.0
        self._planned = planned

    async def begin(self, job: JobKey, *, force_source: bool = False) -> JobCounts | None:
        return None

    async def settled(self, tile_ids: Sequence[TileId]) -> Sequence[State | None]:
        return [None] * len(tile_ids)

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        self.done += len(outcomes)
        if not self.early_mib and self.done >= self._planned // 10:
            self.early_mib = peak_mib()

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        return
        yield

    async def finish(self, *, complete: bool, counts: JobCounts | None = None) -> None:
        assert complete

    async def close(self) -> None:
        pass


async def main(count: int) -> None:
    area = Area.from_bbox(-180, -85, 180, 85, zooms=[11])
    store = Store(count)
    plan = SeedPlan(islice(area, count), count, JobKey("fake", "fake", area.identity, count))
    begun_s = time.monotonic()
    report = await seed(Origin(Source()), store, plan, tally=Tally(), clock=SystemClock())
    figures = {
        "done": report.done,
        "early_mib": round(store.early_mib, 1),
        "peak_mib": round(peak_mib(), 1),
        "seconds": round(time.monotonic() - begun_s, 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(int(sys.argv[1])))
