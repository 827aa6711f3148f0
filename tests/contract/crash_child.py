"""Run by test_crash.py: children that commit until they are killed, or until the disk says no.

`crash_child.py kill KIND FOLDER TRIALS SEED` forks one child a trial, so that the interpreter starts
once, and kills it at a random moment; it prints one line a trial: the commits acknowledged.
`crash_child.py full KIND FOLDER LIMIT_BYTES` commits until StorageError; it prints the commits
acknowledged and the message.
"""

import asyncio
import os
import random
import resource
import select
import signal
import sys
import time
from pathlib import Path

from tilehaul.errors import StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobKey, Outcome
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.pmtiles import PmtilesStore

JOB = JobKey(source_identity="s", source_name="S", area_identity="a", planned=1000)
TILES_PER_BATCH = 8
CHILD_LIFE_S_MAX = 0.25


Durable = MbtilesStore | GeopackageStore | DirectoryStore | PmtilesStore


def open_store(kind: str, folder: Path) -> Durable:
    if kind == "pmtiles":
        return PmtilesStore(folder / "s.pmtiles")
    if kind == "geopackage":
        return GeopackageStore(folder / "s.gpkg")
    if kind == "directory":
        return DirectoryStore(folder / "s")
    return MbtilesStore(folder / "s.mbtiles", deduplicate=kind == "mbtiles-dedup")


def body_of(tile_id: TileId, size: int = 0) -> bytes:
    """A body whose every byte follows from the address, so that a half one is seen."""
    length = size or 200 + (tile_id.x * 7919 + tile_id.y * 104729) % 9000
    return b"\x89PNG\r\n\x1a\n" + random.Random(f"{tile_id}").randbytes(length)


def batch_of(number: int, size: int = 0) -> list[Outcome]:
    ids = [TileId(12, number, y) for y in range(TILES_PER_BATCH + 2)]
    tiles: list[Outcome] = [Tile(i, body_of(i, size), "image/png") for i in ids[:TILES_PER_BATCH]]
    return [*tiles, NoTile(ids[-2], "http_404"), DeadLetter(ids[-1], "http_500", 6)]


async def commit_on(store: Durable, pipe: int) -> None:
    await store.begin(JOB)
    os.write(pipe, b"+")
    for number in range(1000):
        await store.commit(batch_of(number))
        os.write(pipe, b".")


def kill_trials(kind: str, folder: Path, trials: int, seed: int) -> None:
    luck = random.Random(seed)
    for trial in range(trials):
        place = folder / str(trial)
        place.mkdir()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                asyncio.run(commit_on(open_store(kind, place), writing))
            finally:
                os._exit(1)
        os.close(writing)
        print(trial, kill_at_random(child, reading, luck).count(b"."), flush=True)
        os.close(reading)


def kill_at_random(child: int, pipe: int, luck: random.Random) -> bytes:
    """Let some commits pass, wait a moment inside the next one, kill; every acknowledgement it gave."""
    wanted = luck.randrange(0, 6)
    moment_s = luck.random() * 0.006
    deadline_s = time.monotonic() + CHILD_LIFE_S_MAX
    acknowledged = b""
    while acknowledged.count(b".") < wanted and (left_s := deadline_s - time.monotonic()) > 0:
        if select.select([pipe], [], [], left_s)[0]:
            acknowledged += os.read(pipe, 64)
    time.sleep(moment_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while rest := os.read(pipe, 64):
        acknowledged += rest
    return acknowledged


async def fill(kind: str, folder: Path, limit_bytes: int) -> None:
    """No file may grow beyond the limit from here on: the disk is full, without needing one."""
    store = open_store(kind, folder)
    await store.begin(JOB)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    acknowledged, messages = 0, []
    try:
        for number in range(100):
            # Bodies grow, so that single files reach the limit too.
            await store.commit(batch_of(number, size=2000 * (number + 1)))
            acknowledged += 1
    except StorageError as error:
        messages.append(str(error))
        try:
            await store.commit(batch_of(0))
        except StorageError as again:
            messages.append(str(again))
    await store.close()
    print(acknowledged, *messages, sep="\n")


if __name__ == "__main__":
    mode, backend_kind, where, *numbers = sys.argv[1:]
    if mode == "kill":
        kill_trials(backend_kind, Path(where), int(numbers[0]), int(numbers[1]))
    else:
        asyncio.run(fill(backend_kind, Path(where), int(numbers[0])))
