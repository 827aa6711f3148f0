"""A journal with wrong bits: told with a way out that works, or without harm."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from disk.small_job import ABSENT, CONTENT, IDS, JOB, KINDS
from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.ports.store import DeadLetter
from tilehaul.ports.tile import NoTile, Tile

WAY_OUT = "run the same command with --force-source"
FLIPS = 60


async def begun(folder: Path, kind: str) -> Path:
    """A job that was ended half-way; its journal."""
    store = KINDS[kind].make(folder / KINDS[kind].name)
    await store.begin(JOB)
    await store.commit([Tile(tile_id, CONTENT[tile_id], "image/png") for tile_id in IDS[:4]])
    await store.commit([NoTile(ABSENT, "http_404"), DeadLetter(IDS[5], "http_500", 6)])
    await store.close()
    return folder / f"{KINDS[kind].name}.journal"


async def ended(path: Path, kind: str, *, force_source: bool = False) -> set[str | None]:
    """Go on with the job to its end; the states that the first four tiles had."""
    store: Any = KINDS[kind].make(path)
    try:
        await store.begin(JOB, force_source=force_source)
        states = await store.settled(IDS)
        assert len([letter async for letter in store.dead_letters()]) <= 1
        rest = [i for i, state in zip(IDS, states, strict=True) if state not in ("done", "absent")]
        await store.commit([Tile(i, CONTENT[i], "image/png") for i in rest if i != ABSENT])
        await store.commit([NoTile(ABSENT, "http_404")])
        await store.finish(complete=True)
        return set(states[:4])
    finally:
        await store.close()


@pytest.mark.parametrize(("kind", "kept"), [("directory", "done"), ("pmtiles", None)])
async def test_55_ledger_corrupt(quick_disk: Path, kind: str, kept: str | None) -> None:
    path = quick_disk / KINDS[kind].name
    journal = await begun(quick_disk, kind)
    body = bytearray(journal.read_bytes())
    # The second half of each page: there its rows are.
    for at in range(8192 + 4096, len(body), 8192):
        body[at : at + 4096] = b"\xa5" * 4096
    journal.write_bytes(body)
    with pytest.raises(DataError, match=WAY_OUT) as told:
        await ended(path, kind)
    assert "journal" in str(told.value)
    journal.rename(quick_disk / "moved-away")
    assert await ended(path, kind, force_source=True) == {kept}
    assert KINDS[kind].read(path) == CONTENT


async def test_bits_of_a_journal_of_a_directory(tmp_path: Path, quick_disk: Path) -> None:
    """No bit makes a tile's bytes others, or ends in anything but an error of ours."""
    whole = quick_disk / "whole"
    whole.mkdir()
    body = (await begun(whole, "directory")).read_bytes()
    used = [at for at in range(1, len(body) - 1) if any(body[at - 1 : at + 2])]
    luck, told = random.Random(55), 0
    for number in range(FLIPS):
        folder = quick_disk / str(number)
        shutil.copytree(whole, folder)
        flipped = bytearray(body)
        flipped[luck.choice(used)] ^= 1 << luck.randrange(8)
        (folder / "small.journal").write_bytes(flipped)
        try:
            await ended(folder / "small", "directory")
        except (DataError, PlanError, StorageError):
            told += 1
        found = KINDS["directory"].read(folder / "small")
        assert found.items() <= CONTENT.items()
        assert {tile_id for tile_id in IDS[:4] if tile_id not in found} == set()
        shutil.rmtree(folder)
    assert FLIPS / 10 < told < FLIPS


@pytest.mark.parametrize("value", ["0", "11", "''"])
async def test_a_state_that_is_none(quick_disk: Path, value: str) -> None:
    journal = await begun(quick_disk, "directory")
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(f"UPDATE OR IGNORE tilehaul_outcome SET state = {value} WHERE x = 0")
    with pytest.raises(DataError, match="state"):
        await ended(quick_disk / "small", "directory")
