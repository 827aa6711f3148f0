"""A disk that is full, few open files, a store that another process writes: told, and gone on with."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from disk.small_job import CONTENT, IDS, JOB, KINDS
from tilehaul.cli.main import main
from tilehaul.errors import StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.tile import NoTile, Tile

ROOT = Path(__file__).parents[2]
DISK_BYTES = 2 * 1024 * 1024


@pytest.mark.parametrize("kind", KINDS)
def test_36_emfile(kind: str, quick_disk: Path) -> None:
    """One file more each time until the job ends: exit 5 before, nothing lost, nothing left."""
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    command = [sys.executable, "-m", "disk.few_files", kind, str(quick_disk)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=True
    )
    codes, wrong = json.loads(done.stdout)
    assert wrong == []
    assert codes == [5] * (len(codes) - 1) + [0]
    assert len(codes) > 4


def test_no_file_for_the_program_itself(capsys: Any, monkeypatch: Any) -> None:
    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("tilehaul.cli.info.run", refuse)
    assert main(["info", "a.mbtiles"]) == 5
    assert capsys.readouterr().err == (
        "tilehaul: Too many open files: allow more (ulimit -n 1024) and run again\n"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tilehaul-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here (no root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.servers
@pytest.mark.parametrize("kind", KINDS)
async def test_33_enospc_tmpfs(kind: str, small_disk: Path) -> None:
    """A disk that really is full; room is made, and the same job goes on."""
    path = small_disk / KINDS[kind].name
    hog = small_disk / "hog"
    hog.write_bytes(b"x" * (DISK_BYTES - 512 * 1024))

    def opened() -> Any:
        store = KINDS[kind].make(path)
        store._writer._free_bytes_min = 0
        return store

    store = opened()
    await store.begin(JOB)
    acknowledged: dict[TileId, bytes] = {}

    async def fill() -> None:
        for number in range(100):
            some = [Tile(TileId(9, number, y), os.urandom(9000), "image/png") for y in range(4)]
            await store.commit(some)
            acknowledged.update({tile.tile_id: tile.body for tile in some})

    with pytest.raises(StorageError, match="the disk is full: make room") as told:
        await fill()
    assert str(path) in str(told.value)
    # The log beside the store may not be foldable now either.
    with contextlib.suppress(StorageError):
        await store.close()
    hog.unlink()
    again = opened()
    assert await again.begin(JOB) is None
    assert set(await again.settled(list(acknowledged))) == {"done"}
    for tile_id, body in acknowledged.items():
        answer = await again.get(tile_id)
        assert isinstance(answer, Tile)
        assert answer.body == body
    absent = [tile_id for tile_id in IDS if tile_id not in CONTENT]
    await again.commit([Tile(i, body, "image/png") for i, body in CONTENT.items()])
    await again.commit([NoTile(tile_id, "http_404") for tile_id in absent])
    await again.finish(complete=True)
    await again.close()
    assert KINDS[kind].read(path).items() >= (acknowledged | CONTENT).items()
    # The names are those of a run on a disk with room: nothing half-written stays.
    assert {p.name for p in small_disk.iterdir()} <= {path.name, f"{path.name}.journal"}


@pytest.mark.parametrize("kind", KINDS)
async def test_store_that_another_process_writes(kind: str, tmp_path: Path) -> None:
    """It is shown as partial and read from; another job is refused, and changes nothing."""
    path = tmp_path / KINDS[kind].name
    writer = KINDS[kind].make(path)
    await writer.begin(JOB)
    tile_id = TileId(3, 0, 0)
    body = plain_png(tile_id)
    await writer.commit([Tile(tile_id, body, "image/png")])
    run = [sys.executable, "-m", "tilehaul"]

    def told(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*run, *arguments], capture_output=True, text=True, check=False)

    shown = await asyncio.to_thread(told, "info", str(path), "--json")
    assert (shown.returncode, json.loads(shown.stdout)["state"]) == (0, "partial")
    origin = "http://127.0.0.1:9/{z}/{x}/{y}.png"
    refused = await asyncio.to_thread(told, "seed", origin, str(path), "-z", "0")
    assert refused.returncode == 2
    assert "another tilehaul is writing" in refused.stderr
    assert "Traceback" not in refused.stderr
    others = await asyncio.to_thread(told, "seed", str(path), str(tmp_path / "copy"), "-z", "3", "--json")
    assert others.returncode == 0, others.stderr
    assert (tmp_path / "copy/3/0/0.png").read_bytes() == body
    await writer.commit([Tile(i, body, "image/png") for i, body in CONTENT.items()])
    await writer.finish(complete=True)
    await writer.close()
    assert KINDS[kind].read(path) == CONTENT | {tile_id: body}
