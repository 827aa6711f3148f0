"""The power goes at any call of a small job: nothing acknowledged is lost, nothing looks whole and is not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from disk.lost_writes import Disk
from disk.small_job import KINDS

ROOT = Path(__file__).parents[2]
# Every call where time does not matter, else some of them; acknowledgements always.
ALL = bool(os.environ.get("TILEHAUL_NO_SKIPS"))
EVERY = 1 if ALL else 40


@pytest.mark.servers
@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("kind", KINDS if ALL else ["mbtiles", "pmtiles", "directory"])
def test_38_power_cut(kind: str, quick_disk: Path) -> None:
    command = [sys.executable, "-m", "disk.power_cut", kind, str(quick_disk), str(EVERY)]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=False
    )
    if not ALL and "RuntimeError: strace: " in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    counted: dict[str, Any] = json.loads(done.stdout)
    print(f"{kind}: {counted['cuts']} cuts")
    assert counted["wrong"] == []
    assert (counted["acknowledged"], counted["after_the_end"] > 0) == (12, True)
    assert counted["cuts"] > (300 if ALL else 12)


def hexed(text: str) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


LOG = f"""\
mkdir({hexed("/d")}, 0777) = -1 EEXIST (File exists)
openat(AT_FDCWD, {hexed("/d/a.tmp")}, O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 5
write(5, {hexed("old ")}, 4) = 4
fsync(5) = 0
write(5, {hexed("new")}, 3) = 3
openat(AT_FDCWD, {hexed("/d")}, O_RDONLY|O_CLOEXEC) = 6
fsync(6) = 0
close(6) = 0
rename({hexed("/d/a.tmp")}, {hexed("/d/a")}) = 0
openat(AT_FDCWD, {hexed("/d/b")}, O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 6
copy_file_range(5, [1], 6, NULL, 5, 0) = 5
ftruncate(6, 2) = 0
fdatasync(6) = 0
"""


def found(disk: Disk, place: Path, luck: Random | None = None) -> dict[str, bytes]:
    disk.fall_back(place, luck)
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_the_model_forgets_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    """Bytes by their file's sync, names by their folder's; by luck any of the rest."""
    disk = Disk(Path("/d"))
    seen = []
    for number, _ in enumerate(disk.replay(LOG)):
        place = tmp_path / str(number)
        place.mkdir()
        seen.append(found(disk, place))
    # The name was synced after the first four bytes were; rename and second file never.
    assert seen[:5] == [{}, {}, {}, {}, {"a.tmp": b"old "}]
    assert seen[-1] == {"a.tmp": b"old "}
    by_luck = []
    for number in range(60):
        place = tmp_path / f"luck-{number}"
        place.mkdir()
        by_luck.append(found(disk, place, Random(number)))
    assert {name for names in by_luck for name in names} == {"a.tmp", "a", "b"}
    assert {names["b"] for names in by_luck if "b" in names} == {b"ld"}
    assert {names["a"] for names in by_luck if "a" in names} == {b"old ", b"old new"}
    disk.keep_names()
    place = tmp_path / "kept"
    place.mkdir()
    assert found(disk, place) == {"a": b"old ", "b": b"ld"}
