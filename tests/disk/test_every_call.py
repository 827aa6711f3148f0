"""Each write, sync, rename and removal of a small job fails, or is its last: for every one of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from disk.small_job import KINDS

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.skipif(
        not os.environ.get("TILEHAUL_NO_SKIPS"),
        reason="a minute long: run by .ci/run and TILEHAUL_NO_SKIPS=1",
    ),
    pytest.mark.timeout(240),
]


def broken_at_every_call(kind: str, fault: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "disk.every_call", kind, fault, str(folder)]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=False
    )
    assert done.returncode == 0, done.stderr
    counted: dict[str, Any] = json.loads(done.stdout)
    print(f"{kind} {fault}: {sum(counted['points'].values())} points {counted['points']} {counted['codes']}")
    assert counted["wrong"] == []
    if fault != "EIO-READ":
        # The job was broken where bytes, syncs and names go, not only before its first tile.
        assert counted["points"]["pwrite64"] > 50
        assert counted["points"]["fdatasync"] >= 10
    return counted


@pytest.mark.parametrize("kind", KINDS)
def test_32_kill_at_nth(kind: str, quick_disk: Path) -> None:
    counted = broken_at_every_call(kind, "KILL", quick_disk)
    assert set(counted["codes"]) == {"-9"}


@pytest.mark.parametrize("kind", KINDS)
def test_33_enospc_at_nth(kind: str, quick_disk: Path) -> None:
    """From the N-th call of a kind on there is no room."""
    counted = broken_at_every_call(kind, "ENOSPC", quick_disk)
    assert counted["codes"]["5"] > 0.9 * sum(counted["codes"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_34_eio_at_nth(kind: str, quick_disk: Path) -> None:
    """One call fails; a sync that failed is never counted as done by the next one."""
    counted = broken_at_every_call(kind, "EIO", quick_disk)
    assert counted["codes"]["5"] > 0.8 * sum(counted["codes"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_35_eio_read_at_nth(kind: str, quick_disk: Path) -> None:
    """A job that goes on after a kill cannot read a block. SQLite calls some of those malformed (exit 2)."""
    counted = broken_at_every_call(kind, "EIO-READ", quick_disk)
    assert counted["points"]["pread64"] > 10
    assert counted["codes"]["5"] > 5
