"""How soon a job of millions that was interrupted asks for its next tile, and what that takes of memory.

    python benchmarks/resume.py [--planned 10000000] [--done 0.9] [--kind mbtiles|pmtiles] [--folder DIR]

The store is filled as a job fills it: the first tiles of the area's order, each a body of its own of 60 bytes
(through the store's own commits). Then a new process runs the same job over a source that answers at once:
when it is first asked, how long the rest takes, and the process's peak resident memory (ru_maxrss).
With 10,000,000 planned it takes about five minutes and 1.5 GB in DIR.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import tables
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.seed import seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.lab.plain_png import plain_png
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.pmtiles import PmtilesStore

ZOOM = 12
COLUMNS = 4_000
COMMIT_TILES = 2_000
FIRST_S_MAX = 10.0
KINDS = {"mbtiles": MbtilesStore, "pmtiles": PmtilesStore}


def area_of(planned: int) -> Area:
    """A box of `planned` tiles, a multiple of COLUMNS."""
    west, _, _, north = TileId(ZOOM, 0, 100).bounds_deg
    _, south, east, _ = TileId(ZOOM, COLUMNS - 1, 100 + planned // COLUMNS - 1).bounds_deg
    return Area.from_bbox(west, south, east, north, zooms=[ZOOM])


def key_of(area: Area) -> JobKey:
    return JobKey("bench", "bench", area.identity, area.count())


def body_of(tile_id: TileId, base: bytes) -> bytes:
    # The picture's end stays where it is; what is behind the header's length is not looked at here.
    return base + tile_id.x.to_bytes(4, "big") + tile_id.y.to_bytes(4, "big")


async def fill(path: Path, kind: str, area: Area, done: int) -> float:
    """Commit the first tiles of the area; seconds it took."""
    base, began_s = plain_png(TileId(0, 0, 0))[:52], time.perf_counter()
    store = KINDS[kind](path, durability="fast")
    await store.begin(key_of(area))
    rest = islice(area, done)
    while page := [Tile(one, body_of(one, base), "image/png") for one in islice(rest, COMMIT_TILES)]:
        await store.commit(page)
    await store.close()
    return time.perf_counter() - began_s


class FirstSource:
    """Answers at once, and knows when it was first asked."""

    info = SourceInfo(name="bench", identity="bench", media_type="image/png")

    def __init__(self, began_s: float) -> None:
        self._base = plain_png(TileId(0, 0, 0))[:52]
        self._began_s = began_s
        self.first_s = self.first_cpu_s = 0.0
        self.asked = 0

    async def get(self, tile_id: TileId) -> Tile:
        if not self.asked:
            self.first_s = time.perf_counter() - self._began_s
            self.first_cpu_s = time.process_time()
        self.asked += 1
        return Tile(tile_id, body_of(tile_id, self._base), "image/png")


async def resume(path: Path, kind: str, planned: int) -> dict[str, float]:
    """Run the job to its end."""
    began_s = time.perf_counter()
    source, area = FirstSource(began_s), area_of(planned)
    store = KINDS[kind](path, durability="fast")
    plan = SeedPlan(tiles=area, planned=area.count(), key=key_of(area))
    try:
        report = await seed(Origin(source), store, plan, tally=Tally(), clock=SystemClock())
    finally:
        await store.close()
    assert (report.state, report.done) == ("complete", planned), report
    return {
        "first_s": source.first_s,
        "first_cpu_s": source.first_cpu_s,
        "asked": source.asked,
        "all_s": time.perf_counter() - began_s,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _run(arguments: Sequence[str]) -> None:
    path, kind, planned = arguments
    print(json.dumps(asyncio.run(resume(Path(path), kind, int(planned)))))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planned", type=int, default=10_000_000)
    parser.add_argument("--done", type=float, default=0.9)
    parser.add_argument("--kind", choices=sorted(KINDS), default="mbtiles")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--resume", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.resume:
        _run(options.resume)
        return
    planned = options.planned // COLUMNS * COLUMNS
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / f"big.{options.kind}"
        filled_s = asyncio.run(fill(path, options.kind, area_of(planned), int(planned * options.done)))
        size_mb = sum(one.stat().st_size for one in Path(folder).rglob("*") if one.is_file()) / 1e6
        found = json.loads(
            subprocess.run(
                [sys.executable, __file__, "--resume", str(path), options.kind, str(planned)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
    rows = [
        (
            "planned, done before",
            f"{planned:,}, {options.done:.0%} ({size_mb:,.0f} MB, filled in {filled_s:.0f} s)",
        ),
        ("first request after", f"{found['first_s']:.1f} s (aim: below {FIRST_S_MAX:g} s)"),
        ("CPU of the process until then", f"{found['first_cpu_s']:.1f} s"),
        ("requests", f"{found['asked']:,.0f}"),
        ("complete after", f"{found['all_s']:.0f} s"),
        ("peak RSS", f"{found['rss_mb']:.0f} MB"),
    ]
    print(tables.table(["", options.kind], rows))


if __name__ == "__main__":
    main()
