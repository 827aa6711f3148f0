"""One sync for a whole file system: only where its word can be trusted."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tilehaul.stores import whole_disk
from tilehaul.stores.whole_disk import open_whole_disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="syncfs is Linux's")


@pytest.fixture
def any_type(monkeypatch: Any, tmp_path: Path) -> None:
    """The file system of the tests counts as trusted, whatever it is."""
    status = ctypes.create_string_buffer(512)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    ctypes.CDLL(None).fstatfs(descriptor, status)
    os.close(descriptor)
    own = ctypes.c_ulong.from_buffer(status).value
    monkeypatch.setattr(whole_disk, "TRUSTED_TYPES", {own})


@pytest.mark.usefixtures("any_type")
def test_asks_the_system_and_tells_its_error(tmp_path: Path) -> None:
    disk = open_whole_disk(str(tmp_path))
    assert disk is not None
    assert disk.device == tmp_path.stat().st_dev
    disk.sync()
    disk.close()
    with pytest.raises(OSError, match="Bad file descriptor") as refusal:
        disk.sync()
    assert refusal.value.filename == str(tmp_path)


@pytest.mark.usefixtures("any_type")
@pytest.mark.parametrize("release", ["5.7.19-generic", "4.19.0", "no number"])
def test_old_kernels_do_not_tell_of_errors(monkeypatch: Any, tmp_path: Path, release: str) -> None:
    named = os.uname_result(("Linux", "host", release, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: named)
    assert open_whole_disk(str(tmp_path)) is None


def test_unknown_file_systems_are_not_trusted(monkeypatch: Any, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(whole_disk, "TRUSTED_TYPES", frozenset())
    assert open_whole_disk(str(tmp_path)) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
