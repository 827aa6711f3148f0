"""Cut the power after any call of the small job's store, and look what is found when it comes back.

`python -m disk.power_cut KIND FOLDER EVERY` prints what it counted as JSON. Of the calls that write, sync or
name something every EVERY-th is the last one, and each acknowledgement. Needs strace.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from disk.every_call import names, resume, state_of, traced
from disk.lost_writes import CALLS, FLAGS, MARK, Disk
from disk.small_job import CONTENT, KINDS, Kind, Life
from tilehaul.errors import TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import Outcome

FINISHED = "finished"


@dataclass
class Counted:
    """How many cuts, those after the job had ended; tiles acknowledged at the last; what must not be."""

    cuts: int = 0
    after_the_end: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)


def _mark(words: str) -> None:
    descriptor = os.open(MARK, os.O_WRONLY)
    os.write(descriptor, words.encode())
    os.close(descriptor)


def marking(kind: Kind) -> Kind:
    """The same store, which leaves a word among its calls whenever it has acknowledged something."""

    def make(path: Path) -> Any:
        store = kind.make(path)
        commit, finish = store.commit, store.finish

        async def marked_commit(outcomes: Sequence[Outcome]) -> None:
            await commit(outcomes)
            ids = " ".join(str(outcome.tile_id) for outcome in outcomes)
            await store._write_thread.run(_mark, ids)

        async def marked_finish(**ending: Any) -> None:
            await finish(**ending)
            await store._write_thread.run(_mark, FINISHED)

        store.commit, store.finish = marked_commit, marked_finish
        return store

    return replace(kind, make=make)


def judge(kind: Kind, folder: Path, *, acknowledged: set[TileId], ended: bool) -> list[str]:
    """What is wrong with what was found, before anybody mends it."""
    path = folder / kind.name
    try:
        state = asyncio.run(state_of(path))
    except TilehaulError as error:
        return [f"cannot be looked at: {error}"]
    untouched = state == "foreign" and not acknowledged and kind.read(path) == {}
    wrong = []
    if state not in {"", "partial", "complete"} and not untouched:
        wrong.append(f"info says {state}")
    if ended and state != "complete":
        wrong.append(f"was acknowledged as complete, and info says {state or 'nothing'}")
    whole = state == "complete" or (path.suffix == ".pmtiles" and path.exists())
    if whole and kind.read(path) != CONTENT:
        wrong.append(f"looks whole ({state}) and is not")
    return wrong


def power_cuts(kind: Kind, root: Path, every: int) -> Counted:
    """Cut after the calls; what was not synced is lost altogether, and then again by chance."""
    counted, first, log = Counted(), root / "first", root / "calls"
    first.mkdir(parents=True)
    life = traced(marking(kind), first, log, flags=FLAGS, calls=CALLS)
    if (life.code, kind.read(first / kind.name)) != (0, CONTENT):
        raise RuntimeError(f"undisturbed: exit {life.code} {life.message}")
    wanted = names(first)
    disk, words = Disk(first), 0
    for number, _ in enumerate(disk.replay(log.read_text(encoding="utf-8"))):
        if number % every and len(disk.words) == words:
            continue
        words = len(disk.words)
        ended = FINISHED in disk.words
        ids = " ".join(word for word in disk.words if word != FINISHED).split()
        acknowledged = {TileId(*map(int, text.split("/"))) for text in ids}
        for luck in (None, Random(number)):
            folder = root / f"cut-{number}"
            folder.mkdir()
            disk.fall_back(folder, luck)
            found = judge(kind, folder, acknowledged=acknowledged, ended=ended)
            found += resume(kind, folder, Life(acknowledged=set(acknowledged)), wanted, "")
            counted.wrong += [
                f"cut after call {number} ({'luck' if luck else 'none'}): {what}" for what in found
            ]
            counted.cuts += 1
            counted.after_the_end += ended
            shutil.rmtree(folder)
    counted.acknowledged = len(acknowledged)
    _check_model(disk, first, root)
    return counted


def _check_model(disk: Disk, first: Path, root: Path) -> None:
    """The last state of the model is the folder as it is: no call was misread."""
    for file in disk.files:
        file.sync()
    copy = root / "copy"
    copy.mkdir()
    disk.keep_names()
    disk.fall_back(copy, None)
    for path in (path for path in first.rglob("*") if path.is_file()):
        if (copy / path.relative_to(first)).read_bytes() != path.read_bytes():
            raise RuntimeError(f"the model of {path} is wrong")
    if names(copy) != names(first):
        raise RuntimeError(f"the model has other names: {names(copy) ^ names(first)}")


if __name__ == "__main__":
    kind_name, place, step = sys.argv[1:]
    print(json.dumps(vars(power_cuts(KINDS[kind_name], Path(place), int(step)))))
