"""Fuzz every parser, each in a process of its own.

    make fuzz                                     a minute each
    make fuzz ARGS="--minutes 10"                 ten minutes each
    make fuzz ARGS="--minutes 10 --only geojson"  one of them

What was found lies in `out/fuzz` as `NAME-crash-...` (or `oom`, `timeout`); `python -m fuzz.one NAME
out/fuzz 1 FILE` meets it again. What was learnt stays there too, and the next run begins from it.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.parsers import PARSERS

# Python's traceback is on standard output, what libFuzzer says of it on the other.
TAIL_LINES = 20


def fuzzed(name: str, folder: Path, seconds: int) -> tuple[str, int, str]:
    """Name, executions, and what was found, empty for nothing."""
    command = [sys.executable, "-m", "fuzz.one", name, str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    count = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    executions = int(count[1]) if count else 0
    edges = re.findall(r"\bcov: (\d+)", done.stderr) or ["0"]
    verdict = "ok" if done.returncode == 0 else "FOUND"
    print(f"{name:20} {executions:>12,} executions  {edges[-1]:>6} edges  {verdict}", flush=True)
    tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:] + done.stderr.splitlines()[-TAIL_LINES:])
    return name, executions, "" if done.returncode == 0 and executions else tail


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="for each parser; default 1")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="parsers at once; default 2")
    parser.add_argument("--only", choices=sorted(PARSERS), action="append", help="may be given again")
    asked = parser.parse_args()
    folder = Path("out", "fuzz")
    folder.mkdir(parents=True, exist_ok=True)
    os.nice(10)
    with ThreadPoolExecutor(asked.jobs) as pool:
        seconds = max(1, int(60 * asked.minutes))
        runs = [pool.submit(fuzzed, name, folder, seconds) for name in asked.only or PARSERS]
        found = [(name, tail) for name, _, tail in (run.result() for run in runs) if tail]
    for name, tail in found:
        print(f"\n== {name}\n{tail}")
    print(f"\n{len(runs)} parsers, {asked.minutes:g} minutes each, {len(found)} with findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
