"""Break the N-th call of each kind that the small job's store makes, for every N, and look what is left.

`python -m disk.every_call KIND FAULT FOLDER` prints what it counted as JSON; FAULT is one of `KILL`,
`ENOSPC`, `EIO`, `EIO-READ`. Needs strace. A full disk stays full (`when=N+`), a bad block is met once.
Reads fail in a job that goes on after a kill: a new one has little to read.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from disk.small_job import CONTENT, KINDS, Kind, Life, live
from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.wiring.places import open_archive

CALLS = [
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "pwritev2",
    "copy_file_range",
    "sendfile",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "syncfs",
    "msync",
    "rename",
    "renameat",
    "renameat2",
    "ftruncate",
    "fallocate",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
]
# Calls that need no room: a full disk does not fail them.
ROOMLESS = frozenset({"unlink", "unlinkat"})
# Beside these an empty file may stay, when it could not be removed.
TAILS = ("-wal", "-shm", "-journal", ".journal-wal", ".journal-shm", ".journal-journal", ".lock")
CALLS_MAX = 400
INJECTIONS = {
    "KILL": "signal=KILL:when={}",
    "ENOSPC": "error=ENOSPC:when={}+",
    "EIO": "error=EIO:when={}",
    "EIO-READ": "error=EIO:when={}",
}
READS = ("pread64", "preadv", "preadv2")
CAUSES = re.compile(
    r"disk is full|(I/O|input/output) error|disk reported an error|too many open files|unable to open"
    r"|if its disk had errors",
    re.IGNORECASE,
)


@dataclass
class Counted:
    """`points` by call, `codes` by exit code, `wrong` what must not be."""

    points: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def traced(
    kind: Kind,
    folder: Path,
    log: Path,
    injection: str = "",
    flags: Sequence[str] = (),
    calls: Sequence[str] = (),
) -> Life:
    """The job's life with its store's thread under strace; `flags` and `calls` beyond the usual ones."""
    tracers: list[subprocess.Popen[str]] = []

    def attach(thread: int) -> None:
        wanted = [
            "-e",
            f"trace={','.join('?' + call for call in (*CALLS, *READS, *calls))}",
            "-e",
            "signal=none",
        ]
        inject = ["-e", f"inject={injection}"] if injection else []
        command = ["strace", "-p", str(thread), "-o", str(log), *wanted, *inject, *flags]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        tracers.append(tracer)
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise RuntimeError(f"strace: {line.strip()}")

    try:
        return live(kind, folder, attach)
    finally:
        for tracer in tracers:
            tracer.communicate(timeout=20)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


async def state_of(path: Path) -> str:
    """What `tilehaul info` would say; empty when there is nothing."""
    try:
        archive = open_archive(str(path))
    except PlanError:
        return ""
    try:
        return (await archive.describe()).state
    except PlanError:
        return ""
    finally:
        await archive.close()


def judge(kind: Kind, folder: Path, life: Life, fault: str) -> list[str]:
    """What is wrong right after the fault."""
    path = folder / kind.name
    wrong = []
    if fault == "KILL":
        if life.code != -9:
            wrong.append(f"exit {life.code}, not killed")
    elif life.code not in ({0, 2, 5} if fault == "EIO-READ" else {0, 5}):
        wrong.append(f"exit {life.code} ({life.message})")
    elif life.code and not (str(folder) in life.message and CAUSES.search(life.message)):
        wrong.append(f"message names no file or no cause: {life.message}")
    state = asyncio.run(state_of(path))
    # A directory whose journal was never begun is anybody's, and has no tiles.
    untouched = state == "foreign" and not life.acknowledged and kind.read(path) == {}
    if state not in {"", "partial", "complete"} and not untouched:
        wrong.append(f"info says {state}")
    whole = state == "complete" or life.code == 0 or (path.suffix == ".pmtiles" and path.exists())
    if whole and kind.read(path) != CONTENT:
        wrong.append(f"looks whole ({state}, exit {life.code}) and is not")
    if life.code == 0 and state != "complete":
        wrong.append(f"exit 0, and info says {state}")
    return wrong


def resume(kind: Kind, folder: Path, first: Life, wanted: set[str], call: str) -> list[str]:
    """What is wrong after the same job once more."""
    again = live(kind, folder)
    if again.code != 0:
        return [f"resumed: exit {again.code} {again.message}"]
    wrong = []
    if twice := first.acknowledged & set(again.asked):
        wrong.append(f"acknowledged, and asked for again: {sorted(twice)}")
    if kind.read(folder / kind.name) != CONTENT:
        wrong.append("resumed: other content than an undisturbed run's")
    if (state := asyncio.run(state_of(folder / kind.name))) != "complete":
        wrong.append(f"resumed: info says {state}")
    # A job that was complete although an empty file could not be removed has no reason to look again.
    may_stay = {f"{name}{tail}" for name in wanted for tail in TAILS} if call in ROOMLESS else set()
    if names(folder) - may_stay != wanted:
        wrong.append(f"resumed: left {sorted(names(folder) ^ wanted)}")
    return wrong


def every_call(kind: Kind, fault: str, root: Path) -> Counted:
    """Count the calls of a run without faults, then break one of them in each of as many runs."""
    counted = Counted()
    log = root / "calls"
    folder = root / "undisturbed"
    folder.mkdir(parents=True)
    begun = _begun(kind, root, log) if fault == "EIO-READ" else None
    if begun is not None:
        shutil.copytree(begun[0], folder, dirs_exist_ok=True)
    life = traced(kind, folder, log)
    if (life.code, kind.read(folder / kind.name)) != (0, CONTENT):
        raise RuntimeError(f"undisturbed: exit {life.code} {life.message}")
    wanted = names(folder)
    calls = Counter(re.findall(r"^(\w+)\(", log.read_text(encoding="utf-8"), re.MULTILINE))
    for call in [call for call in calls if _is_hit(call, fault)]:
        for number in range(1, CALLS_MAX):
            folder = root / f"{call}-{number}"
            shutil.copytree(begun[0], folder) if begun is not None else folder.mkdir()
            life = traced(kind, folder, log, f"{call}:{INJECTIONS[fault].format(number)}")
            hit = life.code == -9 or "(INJECTED)" in log.read_text(encoding="utf-8")
            if not hit and life.code == 0:
                break
            life.acknowledged |= begun[1] if begun is not None else set()
            found = judge(kind, folder, life, fault) + resume(kind, folder, life, wanted, call)
            counted.points[call] += 1
            counted.codes[str(life.code)] += 1
            counted.wrong += [f"{fault} at {call} {number}: {what}" for what in found]
            shutil.rmtree(folder)
        if counted.points[call] < calls[call]:
            counted.wrong.append(f"{call}: {counted.points[call]} points, {calls[call]} calls")
    return counted


def _begun(kind: Kind, root: Path, log: Path) -> tuple[Path, set[TileId]]:
    """A job that was killed half-way, and what it had acknowledged."""
    for number in range(1, CALLS_MAX):
        folder = root / f"begun-{number}"
        folder.mkdir()
        life = traced(kind, folder, log, f"fdatasync:signal=KILL:when={number}")
        if life.acknowledged and life.code == -9:
            return folder, life.acknowledged
        shutil.rmtree(folder)
    raise RuntimeError("the job could not be stopped half-way")


def _is_hit(call: str, fault: str) -> bool:
    if fault == "EIO-READ":
        return call in READS
    return call in CALLS and not (fault == "ENOSPC" and call in ROOMLESS)


if __name__ == "__main__":
    kind_name, fault_name, place = sys.argv[1:]
    print(json.dumps(vars(every_call(KINDS[kind_name], fault_name, Path(place)))))
