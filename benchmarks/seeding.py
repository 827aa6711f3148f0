"""Seeding Blue Marble into MBTiles: tilehaul, mapproxy-seed and mapcache_seed against one server, in one run.

    python benchmarks/seeding.py --mapproxy PATH/mapproxy-seed [--rounds 3] [--write]
    python benchmarks/seeding.py --faulty --write          one 404, one 500 for good, 2 % transient errors

The server (seeding_origin.py) and each client are processes of their own, the server new for every client.
mapproxy-seed comes from PyPI (MapProxy, an environment of its own), mapcache_seed from Debian
(mapcache-tools); what is missing is named as skipped. MapCache has no source for XYZ: it moves tiles from
its "rest" cache, which reads one, into its MBTiles cache (`-m transfer`).
"""

import argparse
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

import tables
from seeding_peers import (
    CALM,
    FAULTY,
    MAPCACHE,
    MAPCACHE_NAME,
    MAPCACHE_PATIENT,
    MAPPROXY_NAME,
    TILEHAUL_EIGHT,
    TILEHAUL_FLAGS,
    TILEHAUL_USUAL,
    command_of,
)
from tilehaul import __version__

LATENCY_S = 0.05
ZOOM_MAX, ZOOM_MAX_FAULTY = 6, 4
# A client that takes longer is ended, and what it kept by then counts. MapProxy retries a tile 100 times.
RUN_S_MAX = 120.0
LOOK_S, MEMORY_LOOK_S = 0.02, 0.3
SAID_MAX = 110
STARTS_MAX = 5
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
ORIGIN = Path(__file__).with_name("seeding_origin.py")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run; `elapsed_s` from the first request until it ended, `memory_mb` of all its processes."""

    kept: int
    missing: int
    wrong: int
    requests: int
    elapsed_s: float
    start_s: float
    cpu_s: float
    memory_mb: float
    ended: str
    said: str


def run_one(name: str, *, zoom_max: int, faulty: bool, mapproxy: str) -> Outcome:
    """One client against a new server."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        words = [sys.executable, str(ORIGIN), str(zoom_max), str(folder / "digests"), "faulty" * faulty]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as origin:
            base = origin.stdout.readline().strip()
            try:
                command = command_of(name, base, folder, zoom_max, mapproxy)
                with (folder / "said").open("w+") as said:
                    timed = _timed(command, folder, base, said)
                    said.seek(0)
                    lines = said.read().split("\n")
                requests = _requests(base)
            finally:
                origin.stdin.close()
                origin.wait()
        digests = json.loads((folder / "digests").read_text())
        kept = _kept(folder / "out.mbtiles")
        wrong = sum(digests.get(address) != digest for address, digest in kept.items())
        return Outcome(len(kept), len(digests) - len(kept), wrong, requests, *timed, _words(lines))


def run_whole(name: str, *, zoom_max: int, faulty: bool, mapproxy: str) -> Outcome:
    """One run; MapCache begins again when it could not open its archive, and the starts are told.

    Its threads stumble over one another when they make the file: about one run in seven ends at once with
    "unable to open database file".
    """
    starts = 1
    outcome = run_one(name, zoom_max=zoom_max, faulty=faulty, mapproxy=mapproxy)
    while not faulty and name == MAPCACHE_NAME and outcome.ended != "exit 0" and starts < STARTS_MAX:
        starts += 1
        outcome = run_one(name, zoom_max=zoom_max, faulty=faulty, mapproxy=mapproxy)
    return replace(outcome, said=f"{outcome.said} (start {starts})") if starts > 1 else outcome


def _timed(command: list[str], folder: Path, base: str, said) -> tuple[float, float, float, float, str]:
    """Run it: seconds from the first request, of the start, of the CPU, peak MB, and how it ended."""
    begun_s = time.monotonic()
    # A session of its own: its processes are found, and ended, by it.
    child = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, start_new_session=True)
    first_s, memory_mb, looked_s, ended = 0.0, 0.0, 0.0, ""
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        now_s = time.monotonic()
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            break
        if not first_s and _requests(base):
            first_s = now_s
        if now_s - looked_s > MEMORY_LOOK_S:
            memory_mb, looked_s = max(memory_mb, _memory_mb(child.pid)), now_s
        if now_s - begun_s > RUN_S_MAX and not ended:
            ended = f"ended after {RUN_S_MAX:.0f} s"
            os.killpg(child.pid, signal.SIGKILL)
        time.sleep(LOOK_S)
    first_s = first_s or begun_s
    # Processes of an ended client that it had not waited for are in nobody's account.
    cpu_s = 0.0 if ended else usage.ru_utime + usage.ru_stime
    return now_s - first_s, first_s - begun_s, cpu_s, memory_mb, ended or f"exit {child.returncode}"


def _memory_mb(session: int) -> float:
    """The proportional set size of all processes of a session: shared pages are counted once."""
    total_kb = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                text = (folder / "smaps_rollup").read_text()
                total_kb += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
    return total_kb / 1024


def _requests(base: str) -> int:
    with urllib.request.urlopen(f"{base}/_/stats") as answer:
        return json.load(answer)["requests"]


def _kept(archive: Path) -> dict[str, str]:
    """Digests of the tiles of an MBTiles archive."""
    if not archive.exists():
        return {}
    with closing(sqlite3.connect(archive)) as connection:
        rows = connection.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles")
        return {
            f"{z}/{x}/{(1 << z) - 1 - row}": xxhash.xxh3_64_hexdigest(body)
            for z, x, row, body in rows
            if body
        }


def _words(lines: list[str]) -> str:
    """The last thing it said that is a summary or an error, shortened; how many lines of errors."""
    lines = [line.strip().rpartition("\r")[2] for line in lines if line.strip()]
    errors = [line for line in lines if re.search(r"ERROR|WARNING|[Ee]rror|fail", line)]
    summary = next((line for line in lines if " done" in line or line.startswith("seeded")), "")
    # Where there is no summary, the last line; where it gave up, that too.
    parts = [
        summary or (lines[-1] if lines else ""),
        *(line for line in lines if line.startswith("aborting")),
    ]
    short = (
        re.sub(r"http://\S+|/\S*out\.mbtiles", "...", part).replace("|", "/")[:SAID_MAX] for part in parts
    )
    text = "; ".join(short)
    return f"{text} ({len(errors)} lines of errors)" if errors else text


def versions(mapproxy: str) -> tuple[dict[str, str], list[str]]:
    """The clients there are, with their versions; words about the others."""
    found, skipped = dict.fromkeys(TILEHAUL_FLAGS, __version__), []
    if shutil.which(MAPCACHE):
        words = ["dpkg-query", "-W", "-f", "${Version}", "mapcache-tools"]
        version = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        found[MAPCACHE_NAME] = found[MAPCACHE_PATIENT] = version
    else:
        skipped.append(f"SKIPPED: {MAPCACHE} is not installed (apt-get install mapcache-tools)")
    if shutil.which(mapproxy):
        words = [
            Path(mapproxy).with_name("python"),
            "-c",
            "import importlib.metadata as m; print(m.version('MapProxy'))",
        ]
        found[MAPPROXY_NAME] = subprocess.run(
            words, capture_output=True, text=True, check=False
        ).stdout.strip()
    else:
        skipped.append("SKIPPED: mapproxy-seed is not installed (--mapproxy PATH)")
    return found, skipped


def measure(*, rounds: int, faulty: bool, mapproxy: str, zoom_max: int) -> str:
    """The table, and for the calm run the aims above it."""
    found, skipped = versions(mapproxy)
    names = [name for name in (FAULTY if faulty else CALM) if name in found]
    runs: dict[str, list[Outcome]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(run_whole(name, zoom_max=zoom_max, faulty=faulty, mapproxy=mapproxy))
            print(f"  {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return "\n\n".join((_tables(runs, found, faulty=faulty), *skipped))


def _tables(runs: dict[str, list[Outcome]], found: dict[str, str], *, faulty: bool) -> str:
    text = tables.table(
        (
            "client",
            "version",
            "tiles/s",
            "% of its latency limit",
            "CPU us per tile",
            "peak MB",
            "missing",
            "other bytes",
            "requests per tile",
            "time s",
            "ended",
            "what it said",
        ),
        (_row(name, found[name], several) for name, several in runs.items()),
    )
    return text if faulty else f"{_aims(runs)}\n\n{text}"


def _limit(name: str) -> float:
    return (TILEHAUL_FLAGS[name][1] if name in TILEHAUL_FLAGS else 8) / LATENCY_S


def _rates(runs: list[Outcome]) -> list[float]:
    return [one.kept / one.elapsed_s for one in runs]


def _row(name: str, version: str, runs: list[Outcome]) -> tuple[str, ...]:
    worst = max(runs, key=lambda one: (one.missing + one.wrong, one.elapsed_s))
    cpu = [1e6 * one.cpu_s / max(1, one.kept) for one in runs if one.cpu_s]
    planned = worst.kept + worst.missing
    return (
        name,
        version,
        tables.spread(_rates(runs)),
        tables.spread([100 * rate / _limit(name) for rate in _rates(runs)], 1),
        tables.spread(cpu) if cpu else "",
        tables.spread([one.memory_mb for one in runs]),
        f"{worst.missing:,}",
        f"{worst.wrong:,}",
        f"{statistics.median(one.requests for one in runs) / planned:.2f}",
        tables.spread([one.elapsed_s for one in runs], 1),
        worst.ended,
        worst.said,
    )


def _aims(runs: dict[str, list[Outcome]]) -> str:
    middle = {name: statistics.median(_rates(several)) for name, several in runs.items()}
    peers = {name: rate for name, rate in middle.items() if name not in TILEHAUL_FLAGS}
    rows = []
    for name in (TILEHAUL_EIGHT, TILEHAUL_USUAL):
        if peers:
            best = max(peers, key=peers.get)
            ratio = middle[name] / peers[best]
            rows.append((f"{name} against the best of them ({best})", ">= 3 x", f"{ratio:.2f} x", ratio >= 3))
    for name in TILEHAUL_FLAGS:
        share = 100 * middle[name] / _limit(name)
        rows.append((f"{name}, of {_limit(name):.0f} tiles/s", ">= 95 %", f"{share:.1f}%", share >= 95))
    return tables.aims(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zoom-max", type=int, help="default: 6, with --faulty 4")
    parser.add_argument("--mapproxy", default="mapproxy-seed", metavar="PATH")
    parser.add_argument("--faulty", action="store_true")
    parser.add_argument(
        "--write", action="store_true", help="into docs/benchmarks.md, block seeding(-faults)"
    )
    asked = parser.parse_args()
    before = os.getloadavg()[0]
    zoom_max = asked.zoom_max or (ZOOM_MAX_FAULTY if asked.faulty else ZOOM_MAX)
    text = measure(rounds=asked.rounds, faulty=asked.faulty, mapproxy=asked.mapproxy, zoom_max=zoom_max)
    print(text)
    if asked.write:
        block = "seeding-faults" if asked.faulty else "seeding"
        note = f"*{asked.rounds} {'round' if asked.rounds == 1 else 'rounds'}.* {tables.stamp(before)}"
        tables.write_block(PAGE, block, f"{text}\n\n{note}")


if __name__ == "__main__":
    main()
