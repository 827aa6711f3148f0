"""What becomes of a job when the server misbehaves: tilehaul and what people use today, the same faults.

    python benchmarks/faults.py --python httpx=PATH --python MapProxy=PATH ... [--rounds 3] [--write]
    python benchmarks/faults.py --only random-500 --peers tilehaul httpx     one cell of the table

Each peer runs in a process of its own, with the interpreter given for it (a virtual environment that has it
installed); without one, this interpreter is tried, and a peer that is not there is named as skipped. The
lab's server is new for each run; its faults follow from the seed of the round, the tile, and how often that
tile was asked for, so every peer meets the same ones.

Lost and corrupt are told by comparing what was kept with the server's own tiles, byte for byte.
"""

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import tables
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.fault_words import FaultChange
from tilehaul.lab.faults import Faults, Kind, Latency, RateLimit, RetryAfter
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.script import Script, Step

ZOOMS = "0-4"
AREA = Area.from_bbox(-180.0, -85.05, 180.0, 85.05, zooms=range(5))
TILE_BYTES = 8_000
LATENCY = Latency(40.0, 10.0, "uniform")
# The same for all, where a peer has such a setting; everything else is its default.
CONCURRENCY = 16
TIMEOUT_S = 2.0
SHARE = 0.05
# A peer that takes longer is ended, and what it kept by then counts.
RUN_S_MAX = 90.0
LOOK_S = 0.005
SCRIPT_S = RUN_S_MAX * 2

TILEHAUL = "tilehaul"
PEERS = {
    TILEHAUL: "tilehaul seed",
    "httpx": "httpx, gather + semaphore",
    "urllib3": "urllib3 Retry(5, 0.5), threads",
    "boto3": "boto3, threads",
    "obstore": "obstore HTTPStore",
    "MapProxy": "mapproxy-seed",
}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
CHILD = Path(__file__).with_name("fault_peers.py")


def _again(every_s: float, for_s: float, change: FaultChange) -> Script:
    """`change` for `for_s` of every `every_s` seconds, first after 0.4 s: in the middle of the work."""
    starts = range(int(SCRIPT_S / every_s))
    return Script(tuple(Step(0.4 + n * every_s, 0.4 + n * every_s + for_s, change) for n in starts))


def _kind(kind: Kind) -> MockSettings:
    return MockSettings(faults=Faults(latency=LATENCY, shares={kind: SHARE}))


def _flapping(for_s: float) -> MockSettings:
    down = FaultChange(shares={"reset_before": 1.0})
    return MockSettings(faults=Faults(latency=LATENCY), script=_again(2 * for_s, for_s, down))


ONE_SECOND = RetryAfter("seconds", 1)
SCENARIOS: dict[str, tuple[str, MockSettings]] = {
    "calm": ("nothing is wrong", MockSettings(faults=Faults(latency=LATENCY))),
    "429-storm": (
        "more than 100 requests a second (burst 20): 429, Retry-After: 1",
        MockSettings(faults=Faults(latency=LATENCY, rate_limit=RateLimit(100.0, 20), retry_after=ONE_SECOND)),
    ),
    "503-retry-after": (
        "everything is 503 with Retry-After: 1 for 1 s of every 3 s",
        MockSettings(
            faults=Faults(latency=LATENCY, retry_after=ONE_SECOND),
            script=_again(3.0, 1.0, FaultChange(errors={503: 1.0})),
        ),
    ),
    "flapping-1s": ("connections are reset for 1 s of every 2 s", _flapping(1.0)),
    "flapping-5s": ("connections are reset for 5 s of every 10 s", _flapping(5.0)),
    "random-500": ("5 % answer 500", MockSettings(faults=Faults(latency=LATENCY, errors={500: SHARE}))),
    "black-hole": ("5 % are never answered", _kind("black_hole")),
    "cut-content-length": ("5 % end before their Content-Length", _kind("short_length")),
    "cut-chunked": ("5 % end in the middle of a chunk", _kind("cut_chunked")),
    "cut-close": ("5 % end early, the length undeclared", _kind("cut_close")),
    "cut-gzip": ("5 % are gzip cut short, its length declared", _kind("cut_gzip")),
    "html-200": ("5 % are an HTML page with status 200", _kind("html_200")),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. `lost` were not kept, `corrupt` kept with other bytes than the server's."""

    lost: int
    corrupt: int
    requests: int
    refused: int
    inside: int
    elapsed_s: float
    said: str
    version: str


def run_peer(peer: str, python: str, settings: MockSettings) -> Outcome:
    """One peer against a new server. Time: from its first request until it ended."""
    with MockThread(settings) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if peer == TILEHAUL:
            template = server.template
            flags = ["-z", ZOOMS, "-c", str(CONCURRENCY), "--timeout", f"{TIMEOUT_S:g}"]
            command = [python, "-m", "tilehaul", "seed", template, str(folder / "out.mbtiles"), *flags]
        else:
            command = [python, str(CHILD), peer, server.base_url, name, str(CONCURRENCY), str(TIMEOUT_S)]
        begun_s = time.monotonic()
        with (folder / "said").open("w+") as said, (folder / "asked").open("w+") as asked:
            asked.write("\n".join(map(str, AREA)))
            asked.seek(0)
            # A session of its own, so that a peer's own processes can be ended with it.
            child = subprocess.Popen(
                command, stdin=asked, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
            )
            while server.stats().requests == 0 and child.poll() is None:
                time.sleep(LOOK_S)
            # What is wrong when counts from the first request: a peer's start-up is its own.
            first, first_s = server.reset().requests, time.monotonic()
            try:
                child.wait(RUN_S_MAX - (first_s - begun_s))
                ended = f"exit {child.returncode}"
            except subprocess.TimeoutExpired:
                ended = f"not done after {RUN_S_MAX:.0f} s"
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            elapsed_s = time.monotonic() - first_s
            said.seek(0)
            lines = said.read().strip().splitlines() or [""]
        kept = _kept(folder)
        wrong = [tile_id for tile_id, body in kept.items() if body != server.body_of(tile_id)]
        words, version = _words_of(peer, ended, lines)
        lost = AREA.count() - len(kept)
        stats = server.stats()
        refused = stats.by_status.get(429, 0) + stats.by_status.get(503, 0)
        return Outcome(
            lost,
            len(wrong),
            first + stats.requests,
            refused,
            stats.inside_retry_after,
            elapsed_s,
            words,
            version,
        )


def _kept(folder: Path) -> dict[TileId, bytes]:
    """What a peer took for tiles: in files, or in an MBTiles archive."""
    archive = folder / "out.mbtiles"
    if not archive.exists():
        names = folder.glob("[0-9]*-*-*")
        return {TileId(*map(int, path.name.split("-"))): path.read_bytes() for path in names}
    with closing(sqlite3.connect(archive)) as connection:
        rows = connection.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles").fetchall()
    return {TileId(z, x, (1 << z) - 1 - row): body for z, x, row, body in rows}


def _words_of(peer: str, ended: str, lines: list[str]) -> tuple[str, str]:
    """What it said at its end, shortened, and its version."""
    if peer == TILEHAUL:
        from tilehaul import __version__

        summary = next((line for line in lines if " done" in line and "tiles" in line), lines[-1])
        return f"{ended}: {summary.partition(':')[0]}", __version__
    try:
        told = json.loads(lines[-1])
    except json.JSONDecodeError:
        return f"{ended}: {lines[-1][:80]}".rstrip(": "), ""
    if peer == "MapProxy":
        status = told["failed"].pop("exit status")
        warned = told["failed"].get("lines of warnings and errors", 0)
        return f"exit {status}, {warned} lines of warnings", told["version"]
    errors = ", ".join(f"{count} {name}" for name, count in sorted(told["failed"].items()))
    return errors or "no error", told["version"]


def interpreters(given: list[str]) -> tuple[dict[str, str], list[str]]:
    """The peers that can run with their interpreters, and words about the others."""
    paths = dict(word.partition("=")[::2] for word in given)
    if unknown := set(paths) - set(PEERS):
        raise SystemExit(f"no such peer: {', '.join(unknown)} (there are {', '.join(PEERS)})")
    found, skipped = {TILEHAUL: sys.executable}, []
    for peer in PEERS:
        if peer == TILEHAUL:
            continue
        python = paths.get(peer, sys.executable)
        code = f"import importlib.metadata as m; m.version({peer!r})"
        if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
            skipped.append(f"SKIPPED: {peer} is not installed (--python {peer}=PATH)")
        else:
            found[peer] = python
    return found, skipped


def rounds_of(
    names: list[str], pythons: dict[str, str], rounds: int
) -> Iterator[tuple[str, str, list[Outcome]]]:
    """All runs, the peers after one another within each round."""
    for name in names:
        outcomes: dict[str, list[Outcome]] = {peer: [] for peer in pythons}
        for number in range(rounds):
            settings = replace(SCENARIOS[name][1], tile_bytes=TILE_BYTES, seed=number + 1)
            for peer, python in pythons.items():
                outcome = run_peer(peer, python, settings)
                outcomes[peer].append(outcome)
                print(f"  {name} {number + 1}, {peer}: {_brief(outcome)}", file=sys.stderr, flush=True)
        for peer, several in outcomes.items():
            yield name, peer, several


def _brief(outcome: Outcome) -> str:
    return (
        f"lost {outcome.lost}, corrupt {outcome.corrupt}, {outcome.requests} requests,"
        f" {outcome.elapsed_s:.1f} s, {outcome.said}"
    )


def measure(names: list[str], pythons: dict[str, str], skipped: list[str], rounds: int) -> str:
    """Both tables: over all scenarios but `calm`, and each alone."""
    planned = AREA.count()
    rows, totals = [], {peer: [0, 0, 0, 0, 0, 0.0] for peer in pythons}
    versions = {}
    for name, peer, several in rounds_of(names, pythons, rounds):
        versions[peer] = several[-1].version
        worst = max(several, key=lambda one: (one.lost + one.corrupt, one.elapsed_s))
        middle = {
            "requests": statistics.median(one.requests for one in several),
            "refused": statistics.median(one.refused for one in several),
            "inside": statistics.median(one.inside for one in several),
            "elapsed_s": statistics.median(one.elapsed_s for one in several),
        }
        if name != "calm":
            for place, value in enumerate((worst.lost, worst.corrupt, *middle.values())):
                totals[peer][place] += value
        rows.append(
            (
                name,
                peer,
                f"{worst.lost:,}",
                f"{worst.corrupt:,}",
                f"{middle['requests'] / planned:.2f}",
                f"{100 * middle['refused'] / middle['requests']:.1f}" if middle["requests"] else "",
                f"{middle['inside']:,.0f}",
                f"{middle['elapsed_s']:.1f}",
                worst.said,
            )
        )
    head = ("lost", "corrupt kept", "requests per tile", "refused %", "inside Retry-After", "time s")
    faulty = [name for name in names if name != "calm"]
    sums = [
        (
            PEERS[peer],
            versions.get(peer, ""),
            f"{lost:,}",
            f"{corrupt:,}",
            f"{requests / (planned * max(1, len(faulty))):.2f}",
            f"{100 * refused / max(1, requests):.1f}",
            f"{inside:,.0f}",
            f"{elapsed_s:.0f}",
        )
        for peer, (lost, corrupt, requests, refused, inside, elapsed_s) in totals.items()
    ]
    parts = [tables.table(("all faults together", "version", *head), sums)] if faulty else []
    parts.append("\n".join(f"- **{name}**: {SCENARIOS[name][0]}" for name in names))
    parts.append(tables.table(("faults", "peer", *head, "what it said (worst run)"), rows))
    return "\n\n".join((*parts, *skipped))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH")
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", default=list(SCENARIOS))
    parser.add_argument("--peers", nargs="+", metavar="PEER", default=list(PEERS))
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md, block faults")
    asked = parser.parse_args()
    for kind, words, known in (("scenario", asked.only, SCENARIOS), ("peer", asked.peers, PEERS)):
        if unknown := set(words) - set(known):
            raise SystemExit(f"no such {kind}: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    pythons, skipped = interpreters(asked.python)
    pythons = {peer: python for peer, python in pythons.items() if peer in asked.peers}
    before = os.getloadavg()[0]
    text = measure(asked.only, pythons, skipped, asked.rounds)
    print(text)
    if asked.write:
        tables.write_block(PAGE, "faults", f"{text}\n\n*{asked.rounds} rounds.* {tables.stamp(before)}")


if __name__ == "__main__":
    main()
