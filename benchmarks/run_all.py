"""All published figures, written into docs/benchmarks.md between its markers.

    python benchmarks/run_all.py                 everything, about half an hour on a quiet machine
    python benchmarks/run_all.py --quick         one short round, to see that it works; writes nothing
    python benchmarks/run_all.py --only serving --no-write
    python benchmarks/run_all.py --all           also stores.py and http_clients.py, as text

A block is what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; the rest of the page is
written by hand. What is not installed is named as skipped in its block.
"""

import argparse
import datetime as dt
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pycurl

import engine
import memory
import retries
import serving
import serving_cold
import tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PACKAGES = ("tilehaul", "pycurl", "uvloop", "uvicorn", "httptools", "apsw", "httpx")


def machine() -> str:
    """Date, machine and versions, as a list."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory_kb = int(next((line.split()[1] for line in _read("/proc/meminfo")), "0"))
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in PACKAGES if importlib.util.find_spec(name)
    ]
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return "\n".join(
        (
            f"- {dt.datetime.now(tz=dt.UTC):%d %B %Y, %H:%M} UTC; load average at the start {load}",
            f"- {os.cpu_count()} cores, {cpu}, {memory_kb / 1e6:.0f} GB; Linux {platform.release()}",
            f"- {platform.python_implementation()} {platform.python_version()}; {', '.join(versions)}",
            f"- {pycurl.version.split(' nghttp2')[0]}; {_version('nginx', '-v')}; {_version('wrk', '-v')}",
        )
    )


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _version(*command: str) -> str:
    """What a program says of itself; both ours do so on standard error or with a failing status."""
    if not shutil.which(command[0]):
        return f"{command[0]} not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = (done.stderr or done.stdout).splitlines()[0]
    found = re.search(r"\d+(\.\d+)+", line)
    return f"{command[0]} {found[0]}" if found else line


def script(name: str) -> str:
    """Another benchmark's output as it is."""
    path = Path(__file__).with_name(name)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"SKIPPED: {name} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    return f"```text\n{done.stdout.strip()}\n```"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--no-write", action="store_true")
    asked = parser.parse_args()
    rounds = 1 if asked.quick else asked.rounds
    tiles = 1_000 if asked.quick else 5_000
    million = 100_000 if asked.quick else 1_000_000
    blocks: dict[str, Callable[[], str]] = {
        "machine": machine,
        "engine": lambda: engine.measure_cpu(rounds=rounds, tiles=tiles),
        "latency": lambda: engine.measure_latency(rounds=rounds // 2 + 1, tiles=tiles),
        "serving": lambda: serving.measure(rounds=rounds, seconds=1 if asked.quick else 3),
        "serving-cold": lambda: serving_cold.measure(rounds=rounds, outage_s=5.0 if asked.quick else 20.0),
        "memory": lambda: memory.measure(million=million, folder=Path.cwd()),
        "retries": lambda: retries.measure(tiles=tiles * 40, rounds=rounds),
        "help": memory.measure_help,
    }
    if asked.all:
        blocks["stores"] = lambda: script("stores.py")
        blocks["http_clients"] = lambda: script("http_clients.py")
    names = asked.only or list(blocks)
    if unknown := set(names) - set(blocks):
        raise SystemExit(f"no such block: {', '.join(sorted(unknown))} (there are {', '.join(blocks)})")
    for name in names:
        print(f"{name}:", file=sys.stderr, flush=True)
        before = os.getloadavg()[0]
        text = blocks[name]()
        if name != "machine":
            text = f"{text.strip()}\n\n{tables.stamp(before)}"
        print(f"\n### {name}\n\n{text}\n", flush=True)
        if not (asked.quick or asked.no_write):
            # Written one by one: a failure later does not lose what took minutes.
            tables.write_block(PAGE, name, text)


if __name__ == "__main__":
    main()
