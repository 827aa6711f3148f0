"""What survives: SIGKILL at random moments, a full disk, a folder that refuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest
from crash_child import JOB, TILES_PER_BATCH, batch_of, body_of, open_store

from tilehaul.errors import StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import Tile

CHILD = Path(__file__).with_name("crash_child.py")
DURABLE = ("mbtiles", "mbtiles-dedup", "geopackage", "pmtiles", "directory")
SQLITE = {"mbtiles": "s.mbtiles", "mbtiles-dedup": "s.mbtiles", "geopackage": "s.gpkg"}
# `make soak` kills 200 times.
TRIALS = int(os.environ.get("TILEHAUL_KILLS", "12"))


def run_child(*args: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, CHILD, *map(str, args)],
        check=True,
        capture_output=True,
        text=True,
        timeout=max(50, TRIALS),
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


async def check_kept(kind: str, folder: Path, acknowledged: int, *, size_step: int = 0) -> None:
    """All that was acknowledged is there; what else is there is whole; the job can be completed."""
    store = open_store(kind, folder)
    assert await store.begin(JOB) is None
    for number in range(acknowledged + 2):
        size = size_step * (number + 1)
        outcomes = batch_of(number, size)
        states = list(await store.settled([outcome.tile_id for outcome in outcomes]))
        whole = ["done"] * TILES_PER_BATCH + ["absent", "dead"]
        assert states == whole or (number >= acknowledged and states == [None] * len(states))
        for outcome, state in zip(outcomes, states, strict=True):
            answer = await store.get(outcome.tile_id)
            if state == "done" or isinstance(answer, Tile):
                assert answer == Tile(outcome.tile_id, body_of(outcome.tile_id, size), "image/png", "store")
    revived = [TileId(12, number, TILES_PER_BATCH + 1) for number in range(acknowledged + 2)]
    await store.commit([Tile(tile_id, b"\x89PNG\r\n\x1a\n", "image/png") for tile_id in revived])
    await store.finish(complete=True)
    assert (await store.describe()).state == "complete"
    await store.close()
    left = sorted(
        path.name for path in folder.rglob("*") if path.name.endswith(("-wal", "-shm", ".lock", "tmp"))
    )
    assert left == []


@pytest.mark.parametrize("kind", DURABLE)
async def test_31_kill9_random(kind: Any, tmp_path: Any) -> None:
    """A child killed by SIGKILL in the middle of a commit, many times over."""
    lines = run_child("kill", kind, tmp_path, TRIALS, 20260)
    assert len(lines) == TRIALS
    total = 0
    for line in lines:
        trial, acknowledged = map(int, line.split())
        total += acknowledged
        await check_kept(kind, tmp_path / str(trial), acknowledged)
        if kind in SQLITE:
            connection = apsw.Connection(str(tmp_path / str(trial) / SQLITE[kind]))
            assert connection.pragma("integrity_check") == "ok"
            connection.close()
    # The kills fell among the commits, not before the first or after the last.
    assert total > TRIALS


@pytest.mark.parametrize("kind", DURABLE)
async def test_37_rlimit_fsize(kind: Any, tmp_path: Any) -> None:
    """The message names file and cause, later commits are refused, earlier ones are kept."""
    acknowledged, first, second = run_child("full", kind, tmp_path, 300_000)
    assert int(acknowledged) >= 1
    assert str(tmp_path) in first
    assert "File too large" in first or "full" in first
    assert "failed before" in second
    await check_kept(kind, tmp_path, int(acknowledged), size_step=2000)


@pytest.mark.parametrize("kind", DURABLE)
async def test_folder_that_is_a_file_is_a_storage_error(kind: Any, tmp_path: Any) -> None:
    """An unwritable place that refuses root too."""
    (tmp_path / "file").write_bytes(b"x")
    store = open_store(kind, tmp_path / "file")
    with pytest.raises(StorageError, match="file"):
        await store.begin(JOB)
    await store.close()


@pytest.mark.parametrize("kind", DURABLE)
async def test_read_only_folder_is_a_storage_error(kind: Any, tmp_path: Any, frozen: Any) -> None:
    """Nothing can be made in an immutable folder."""
    store = open_store(kind, frozen)
    with pytest.raises(StorageError, match=str(frozen)):
        await store.begin(JOB)
    await store.close()


async def test_mbtiles_in_wal_mode_is_read_from_a_read_only_folder(tmp_path: Any, frozen_later: Any) -> None:
    """A file of a killed run, folded but in WAL mode, on a medium where no -shm can be made."""
    path = tmp_path / "place" / "s.mbtiles"
    store = open_store("mbtiles", path.parent)
    await store.begin(JOB)
    await store.commit(batch_of(0))
    await store.close()
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.close()
    frozen_later(path.parent)
    archive = open_store("mbtiles", path.parent)
    tile = batch_of(0)[0]
    assert isinstance(tile, Tile)
    assert await archive.get(tile.tile_id) == Tile(tile.tile_id, tile.body, "image/png", "store")
    await archive.close()


@pytest.fixture
def frozen_later() -> Any:
    """Makes folders immutable, which holds for root too; undone at the end."""
    chattr = shutil.which("chattr")
    frozen_folders: list[Path] = []

    def freeze(folder: Path) -> None:
        if (
            chattr is None
            or subprocess.run([chattr, "+i", folder], capture_output=True, check=False).returncode
        ):
            pytest.skip("chattr +i does not work here (no root, or another file system)")
        frozen_folders.append(folder)

    yield freeze
    for folder in frozen_folders:
        subprocess.run([str(chattr), "-i", folder], check=True)


@pytest.fixture
def frozen(tmp_path: Any, frozen_later: Any) -> Any:
    folder = tmp_path / "frozen"
    folder.mkdir()
    frozen_later(folder)
    return folder
