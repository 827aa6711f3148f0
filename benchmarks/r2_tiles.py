"""The old tile cache's figures: `compat.r2_tiles` beside what it replaces, threads over urllib3.

    python benchmarks/r2_tiles.py --python urllib3=PATH [--rounds 40] [--runs 3]

PATH is an interpreter that has urllib3 (2.0.7 is what the old document names); without one this interpreter
is tried, and the peer is named as skipped when it is not there. The lab's server answers each request after
50 ms, in a process of its own; each peer runs in another. Tiles are of 15 kB and never asked for twice, but
for the kept ones. Connections are warm (50 were opened before), except for the line that says so. `plain` is
one connection of the standard library: the origin as Python sees it at best.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import tables
from origin import slow_mock

LATENCY_MS = 50
CHILD = Path(__file__).with_name("r2_tiles_peers.py")
PEERS = {
    "tilehaul": "compat.r2_tiles",
    "urllib3": "urllib3, 50 threads",
    "plain": "one connection, http.client",
}
CASES = {
    "1": "1 tile",
    "10": "10 tiles at once",
    "50": "50 tiles at once",
    "kept": "10 tiles from memory",
    "first": "first 50 of a program, connections cold",
}
Times = dict[str, list[float]]


def interpreters(given: list[str]) -> tuple[dict[str, str], list[str]]:
    """The peers that can run, with their interpreters, and words about the other."""
    paths = dict(word.partition("=")[::2] for word in given)
    if unknown := set(paths) - {"urllib3"}:
        raise SystemExit(f"no such peer: {', '.join(unknown)} (there is urllib3)")
    python = paths.get("urllib3", sys.executable)
    found = {"tilehaul": sys.executable, "urllib3": python, "plain": sys.executable}
    if subprocess.run([python, "-c", "import urllib3"], capture_output=True, check=False).returncode:
        del found["urllib3"]
        return found, ["SKIPPED: urllib3 is not installed (--python urllib3=PATH)"]
    return found, []


def run_peer(name: str, python: str, base: str, rounds: int, salt: int) -> tuple[str, Times]:
    done = subprocess.run(
        [python, str(CHILD), name, base, str(rounds), str(salt)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    return f"{PEERS[name]} {told['version']}".strip(), told["times"]


def measure(pythons: dict[str, str], rounds: int, runs: int) -> str:
    times: dict[str, Times] = {name: {} for name in pythons}
    titles: dict[str, str] = {}
    with slow_mock(LATENCY_MS) as (server, _):
        for number in range(runs):
            for place, (name, python) in enumerate(pythons.items()):
                salt = number * len(pythons) + place
                titles[name], got = run_peer(name, python, server.url, rounds, salt)
                for case, several in got.items():
                    times[name].setdefault(case, []).extend(several)
    rows = [
        [f"{title}: {CASES[case]}", *cells(times[name][case])]
        for name, title in titles.items()
        for case in CASES
        if case in times[name]
    ]
    return f"{aims(times)}\n\n{tables.table(('', 'p50 ms', 'p95 ms', 'worst ms', 'rounds'), rows)}"


def cells(values: list[float]) -> list[str]:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return [f"{value:.2f}" for value in (statistics.median(ordered), p95, ordered[-1])] + [str(len(ordered))]


def aims(times: dict[str, Times]) -> str:
    ours = {case: statistics.median(several) for case, several in times["tilehaul"].items()}
    origin_ms = statistics.median(times["plain"]["1"])
    single = ours["1"] - origin_ms
    return tables.aims(
        [
            ("1 tile, p50, above the origin", "<= 3 ms", f"{single:.1f} ms", single <= 3.0),
            ("10 tiles, p50", "<= 60 ms", f"{ours['10']:.1f} ms", ours["10"] <= 60.0),
            ("50 tiles, p50", "<= 70 ms", f"{ours['50']:.1f} ms", ours["50"] <= 70.0),
            ("10 tiles from memory, p50", "< 1 ms", f"{ours['kept']:.3f} ms", ours["kept"] < 1.0),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH")
    asked = parser.parse_args()
    before = os.getloadavg()[0]
    pythons, skipped = interpreters(asked.python)
    text = measure(pythons, asked.rounds, asked.runs)
    print("\n\n".join((text, *skipped, f"*{asked.runs} runs.* {tables.stamp(before)}")))


if __name__ == "__main__":
    main()
