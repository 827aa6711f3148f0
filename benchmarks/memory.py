"""What a seed takes of memory, whatever its size, and what `tilehaul --help` takes of time.

    python benchmarks/memory.py [--million 1000000] [--folder DIR]

Peak resident memory (ru_maxrss from wait4) of a process that seeds a thousand planned tiles, and a
million, each into an MBTiles file with durability full:

* from a source inside the process that answers at once: the job and the store alone;
* `tilehaul seed` over HTTP from nginx on loopback, which answers every address with the same tile of
  1 kB (a million of 15 kB would be 15 GB on the disk);
* the same command over two zooms when the upper one is there already: a quarter more tiles planned than
  fetched, the others looked up in the journal;
* 15 kB tiles over HTTP, a thousand and twenty thousand: what a tile's size does.

nginx is needed for all but the first. Takes about ten minutes and 3 GB of disk in DIR.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tables
from origin import Running, missing, nginx
from tilehaul.cli.common import run_async
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.seed import seed as run_seed
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.lab.plain_png import plain_png
from tilehaul.net.clock import SystemClock
from tilehaul.policy.tally import Tally
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.mbtiles import MbtilesStore

ZOOM = 11
RSS_MB_MAX = 150
# Flat: a thousand times as many tiles may take this much more.
GROWTH_MB_MAX = 30
HELP_RUNS = 10
SMALL_BYTES, USUAL_BYTES = 1_000, 15_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: peak resident memory, time on the clock, CPU."""

    rss_mb: float
    wall_s: float
    cpu_s: float


class ReadySource:
    """Answers every tile at once with a body of its own."""

    info = SourceInfo(name="ready", identity="ready", media_type="image/png")

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def get(self, tile_id: TileId) -> Tile:
        # A copy: bodies from a wire are not shared either.
        return Tile(tile_id, bytes(bytearray(self._body)), "image/png")


def area_of(count: int, *, zooms: tuple[int, ...] = (ZOOM,)) -> Area:
    """A box of exactly `count` tiles, a multiple of 1,000, at zoom ZOOM."""
    return Area.from_bbox(*_bounds(count), zooms=zooms)


def _bounds(count: int) -> tuple[float, float, float, float]:
    columns = 1_000 if count >= 100_000 else 40
    west, _, _, north = TileId(ZOOM, 0, 100).bounds_deg
    _, south, east, _ = TileId(ZOOM, columns - 1, 100 + count // columns - 1).bounds_deg
    return west, south, east, north


def run_ready(count: int, path: str) -> None:
    """Seed from `ReadySource`, in this process."""

    async def main() -> None:
        area = area_of(count)
        source = ReadySource(plain_png(TileId(0, 0, 0), size_bytes=SMALL_BYTES))
        plan = SeedPlan(area, area.count(), JobKey("ready", "ready", area.identity, area.count()))
        store = MbtilesStore(Path(path))
        report = await run_seed(Origin(source), store, plan, tally=Tally(), clock=SystemClock())
        await store.close()
        if report.state != "complete" or report.done != area.count():
            raise SystemExit(f"the seed ended {report.state} with {report.done} tiles")

    run_async(main)


# Linux counts the starting process's memory into the peak of a started one until it has its own program
# (getrusage(2), `ru_maxrss`, is kept over execve), so a bare interpreter of 9 MB starts what is measured.
_LAUNCH = """
import os, sys, time
start_s = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss / 1024, time.perf_counter() - start_s, usage.ru_utime + usage.ru_stime)
sys.exit(abs(os.waitstatus_to_exitcode(status)))
"""


def cost_of(command: list[str]) -> Cost:
    """Run to the end. A command that fails ends the benchmark."""
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, *command]
    done = subprocess.run(launch, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return Cost(*map(float, done.stdout.split()))


def _seed(server: Running, path: Path, count: int, zooms: str) -> Cost:
    bbox = ",".join(f"{degrees:.9f}" for degrees in _bounds(count))
    return cost_of(
        [
            *(sys.executable, "-m", "tilehaul", "seed", f"{server.url}/{{z}}/{{x}}/{{y}}.png", str(path)),
            *(f"--bbox={bbox}", "-z", zooms, "-c", "50", "--quiet"),
        ]
    )


def measure(*, million: int, folder: Path | None) -> str:
    """The tables of memory."""
    rows: list[tuple[str, int, Cost]] = []
    with tempfile.TemporaryDirectory(dir=folder) as text:
        home = Path(text)
        for count in (1_000, million):
            command = [sys.executable, __file__, "--ready", str(count), "--path", f"{home}/ready.mbtiles"]
            rows.append(
                ("source in the process, 1 kB tiles", area_of(count).count(), _told(cost_of(command)))
            )
            (home / "ready.mbtiles").unlink()
        reason = missing("nginx")
        if not reason:
            _measure_http(home, million, rows)
    return f"{_aims(rows)}\n\n{_table(rows)}\n{reason}"


def _measure_http(home: Path, million: int, rows: list[tuple[str, int, Cost]]) -> None:
    root = home / "root"
    root.mkdir()
    every = f"root {root}; rewrite ^ /tile.png break;"
    with nginx(home, every) as server:
        path = home / "seeded.mbtiles"
        for size, counts in ((SMALL_BYTES, (1_000, million)), (USUAL_BYTES, (1_000, 20_000))):
            (root / "tile.png").write_bytes(plain_png(TileId(0, 0, 0), size_bytes=size))
            for count in counts:
                cost = _told(_seed(server, path, count, str(ZOOM)))
                name = f"over HTTP, {size // 1000} kB tiles"
                rows.append((name, count, cost))
                if (size, count) == (SMALL_BYTES, million):
                    both = area_of(count, zooms=(ZOOM - 1, ZOOM)).count()
                    cost = _told(_seed(server, path, count, f"{ZOOM - 1}-{ZOOM}"))
                    rows.append((f"{name}, four fifths there already", both, cost))
                path.unlink()


def _told(cost: Cost) -> Cost:
    print(f"  {cost.rss_mb:.0f} MB, {cost.wall_s:.1f} s", file=sys.stderr, flush=True)
    return cost


def _aims(rows: list[tuple[str, int, Cost]]) -> str:
    most = max(cost.rss_mb for _, _, cost in rows)
    lines = [
        ("peak RSS of any of the seeds below", f"< {RSS_MB_MAX} MB", f"{most:.0f} MB", most < RSS_MB_MAX)
    ]
    for name in dict.fromkeys(name for name, _, _ in rows):
        same = [(count, cost.rss_mb) for one, count, cost in rows if one == name]
        if len(same) > 1:
            grown = same[-1][1] - same[0][1]
            what = f"growth from {same[0][0]:,} to {same[-1][0]:,} tiles: {name}"
            lines.append((what, f"<= {GROWTH_MB_MAX} MB", f"{grown:+.0f} MB", grown <= GROWTH_MB_MAX))
    return tables.aims(lines)


def _table(rows: list[tuple[str, int, Cost]]) -> str:
    head = ("seed", "planned tiles", "peak RSS MB", "wall s", "CPU us per planned tile")
    return tables.table(
        head,
        (
            (
                name,
                f"{count:,}",
                f"{cost.rss_mb:.0f}",
                f"{cost.wall_s:.1f}",
                f"{cost.cpu_s / count * 1e6:.0f}",
            )
            for name, count, cost in rows
        ),
    )


def measure_help() -> str:
    """The tables of `tilehaul --help`, beside an interpreter that does nothing."""
    commands = {"python -c pass": ["-c", "pass"], "tilehaul --help": ["-m", "tilehaul", "--help"]}
    runs = {
        name: [cost_of([sys.executable, *words]) for _ in range(HELP_RUNS)]
        for name, words in commands.items()
    }
    rows = [
        (
            name,
            tables.spread([1000 * cost.wall_s for cost in costs]),
            tables.spread([1000 * cost.cpu_s for cost in costs]),
        )
        for name, costs in runs.items()
    ]
    wall_ms = statistics.median(1000 * cost.wall_s for cost in runs["tilehaul --help"])
    aim = [("`tilehaul --help`", "<= 300 ms (goal <= 150)", f"{wall_ms:.0f} ms", wall_ms <= 300)]
    return f"{tables.aims(aim)}\n\n{tables.table(('command', 'wall ms', 'CPU ms'), rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--million", type=int, default=1_000_000, help="tiles of the large jobs")
    parser.add_argument("--folder", type=Path, help="where the archives go (default: the temporary folder)")
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ready:
        run_ready(asked.ready, asked.path)
        return
    print(measure(million=asked.million, folder=asked.folder))
    print(measure_help())


if __name__ == "__main__":
    main()
