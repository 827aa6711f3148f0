"""What fetching a tile costs: the whole engine against the bare library and the usual pattern.

    python benchmarks/engine.py [--rounds 5] [--tiles 5000] [--latency-rounds 3]

CPU: microseconds (user + system, `getrusage` of the client's own process) per tile of 15 kB on average,
50 requests in flight, from nginx on loopback. Clients run one after another within each round; medians,
and the range of the rounds in brackets. Ratios are taken within a round.

Latency: tiles per second from `tilehaul mock` in a process of its own that takes 50 ms for each answer (or
40 to 60), as a share of Little's limit: 50 in flight / 50 ms = 1,000 a second.

nginx is needed, wrk for the floor; httpx is optional (`pip install httpx`). What is missing is named.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tables
from engine_clients import ARCHIVE, BARE, CLIENTS, ENGINE, HTTPX, IN_FLIGHT
from origin import TILE_BYTES_MEAN, bytes_of, missing, nginx_files, slow_mock, tile_ids, write_tiles, wrk
from tilehaul.cli.common import run_async

WARM_UP_TILES = 100
LATENCY_MS, JITTER_MS = 50, 10
FLOOR = "wrk -c50 (what the mock gives)"
LITTLE_PER_S = IN_FLIGHT * 1000 / LATENCY_MS
Figures = dict[str, float]


def run_here(name: str, base: str, count: int) -> Figures:
    """One client in this process: warm up, then measure."""
    client = CLIENTS[name][0]

    async def twice() -> Figures:
        await client(base, WARM_UP_TILES)
        before, start_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        got_bytes = await client(base, count)
        elapsed_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "bytes": got_bytes,
            "cpu_us": cpu_s / count * 1e6,
            "per_s": count / elapsed_s,
            "rss_mb": _peak_rss_mb(),
        }

    return run_async(twice)


def _peak_rss_mb() -> float:
    """VmHWM of this process: ru_maxrss would include the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def run_apart(name: str, base: str, count: int, want_bytes: int) -> Figures:
    """One client in a process of its own. `want_bytes` is what it must have got."""
    command = [sys.executable, __file__, "--run", name, "--base", base, "--tiles", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    if figures["bytes"] != want_bytes:
        raise SystemExit(f"{name} got {figures['bytes']:.0f} bytes instead of {want_bytes}")
    print(f"  {name}: {figures['cpu_us']:.0f} us, {figures['per_s']:,.0f}/s", file=sys.stderr, flush=True)
    return figures


def installed() -> tuple[list[str], str]:
    """Clients that can run, and a line about the others."""
    gone = sorted({module for _, module, _ in CLIENTS.values() if not importlib.util.find_spec(module)})
    names = [name for name, (_, module, _) in CLIENTS.items() if module not in gone]
    return names, f"\nSKIPPED: {', '.join(gone)} not installed\n" if gone else ""


def measure_cpu(*, rounds: int, tiles: int) -> str:
    """The tables of CPU per tile."""
    if reason := missing("nginx"):
        return reason
    names, skipped = installed()
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    floor: list[float] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_tiles(folder / "tiles", tiles)
        paths = [(f"/{tile_id}.png", "") for tile_id in tile_ids(200)]
        with nginx_files(folder, folder / "tiles") as server:
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                if not missing("wrk"):
                    floor.append(wrk(folder, server.url, paths, seconds=1).cpu_us)
                for name in names:
                    count = max(4 * IN_FLIGHT, int(tiles * CLIENTS[name][2]))
                    figures[name].append(run_apart(name, server.url, count, bytes_of(count)))
    return f"{_cpu_aims(figures)}\n\n{_cpu_table(figures, floor)}\n{skipped or missing('wrk')}"


def _ratios(figures: dict[str, list[Figures]], over: str, under: str) -> list[float]:
    pairs = zip(figures[over], figures[under], strict=True)
    return [upper["cpu_us"] / lower["cpu_us"] for upper, lower in pairs]


def _cpu_aims(figures: dict[str, list[Figures]]) -> str:
    engine_us = statistics.median(one["cpu_us"] for one in figures[ENGINE])
    bare = _ratios(figures, ENGINE, BARE)
    rows = [
        (
            "whole engine, CPU per tile at 50 in flight",
            "<= 200 us (goal <= 120)",
            f"{engine_us:.0f} us",
            engine_us <= 200,
        ),
        (
            "against the bare library",
            "<= 2.5 x",
            f"{tables.spread(bare, 2)} x",
            statistics.median(bare) <= 2.5,
        ),
    ]
    if HTTPX in figures:
        less = _ratios(figures, HTTPX, ENGINE)
        rows.append(
            (
                "less than httpx with semaphore and gather",
                ">= 10 x",
                f"{tables.spread(less, 1)} x",
                statistics.median(less) >= 10,
            )
        )
    return tables.aims(rows)


def _cpu_table(figures: dict[str, list[Figures]], floor: list[float]) -> str:
    rows = []
    if floor:
        rows.append(("wrk (C, throws bodies away)", tables.spread(floor), "", "", ""))
    for name, runs in figures.items():
        rows.append(
            (
                name,
                tables.spread([one["cpu_us"] for one in runs]),
                tables.spread(_ratios(figures, name, BARE), 2),
                f"{statistics.median(one['per_s'] for one in runs):,.0f}",
                f"{statistics.median(one['rss_mb'] for one in runs):.0f}",
            )
        )
    head = ("client", "CPU us per tile", "x bare library", "tiles/s (wall)", "peak RSS MB")
    return tables.table(head, rows)


def measure_latency(*, rounds: int, tiles: int) -> str:
    """The tables of shares of Little's limit: every answer after LATENCY_MS, and spread around it."""
    names, skipped = installed()
    shares: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory() as text:
        paths = [(f"/{tile_id}.png", "") for tile_id in tile_ids(200)]
        for _ in range(rounds):
            for column, jitter_ms in enumerate((0, JITTER_MS)):
                with slow_mock(LATENCY_MS, jitter_ms) as (server, _):
                    if not missing("wrk"):
                        per_s = wrk(Path(text), server.url, paths, seconds=4).per_s
                        shares.setdefault(FLOOR, ([], []))[column].append(per_s / LITTLE_PER_S)
                    for name in (BARE, ENGINE, ARCHIVE, HTTPX):
                        if name in names:
                            count = max(4 * IN_FLIGHT, int(tiles * CLIENTS[name][2]))
                            got = run_apart(name, server.url, count, count * TILE_BYTES_MEAN)
                            shares.setdefault(name, ([], []))[column].append(got["per_s"] / LITTLE_PER_S)
    fixed, varied = map(statistics.median, shares[ENGINE])
    aim = [
        (f"whole engine, {LATENCY_MS} ms each", ">= 95 %", f"{fixed:.1%}", fixed >= 0.95),
        (f"whole engine, {LATENCY_MS} +- {JITTER_MS} ms", ">= 95 %", f"{varied:.1%}", varied >= 0.95),
    ]
    head = ("client, % of 1,000 tiles/s", f"{LATENCY_MS} ms each", f"{LATENCY_MS} +- {JITTER_MS} ms")
    rows = [
        (name, *(tables.spread([100 * one for one in got], 1) for got in both))
        for name, both in shares.items()
    ]
    return f"{tables.aims(aim)}\n\n{tables.table(head, rows)}\n{skipped or missing('wrk')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=5_000)
    parser.add_argument("--latency-rounds", type=int, default=3)
    for inner in ("--run", "--base"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(run_here(asked.run, asked.base, asked.tiles)))
        return
    print(measure_cpu(rounds=asked.rounds, tiles=asked.tiles))
    print(measure_latency(rounds=asked.latency_rounds, tiles=asked.tiles))


if __name__ == "__main__":
    main()
