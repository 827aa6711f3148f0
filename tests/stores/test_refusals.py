"""What a disk or a folder that refuses is called: the folder, the reason, the way out."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest
from filelock import FileLock

from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.store import JobCounts, JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.disk_errors import from_os, from_sqlite
from tilehaul.stores.geopackage import GeopackageStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.pmtiles import PmtilesStore
from tilehaul.stores.sqlite_file import WritableFile
from tilehaul.stores.writer_lock import WriterLock

JOB = JobKey("s", "S", "a", 1)
REFUSALS = [
    (errno.EACCES, "permission denied"),
    (errno.EPERM, "permission denied"),
    (errno.EROFS, "read-only"),
]


def refused(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


@pytest.mark.parametrize(("number", "reason"), REFUSALS)
def test_folder_that_refuses_is_named_once(tmp_path: Path, number: int, reason: str) -> None:
    """The nearest one that is there, not the file or the folders that could not be made in it."""
    wanted = f"cannot write in {tmp_path} ({reason}): choose another place for the store"
    for path in (tmp_path / "x.mbtiles.lock", tmp_path / "a" / "b" / "1"):
        assert str(from_os(refused(number, path), path, "writing")) == wanted


def test_file_that_cannot_be_read_is_named_itself(tmp_path: Path) -> None:
    """Another place to write helps nobody who only reads."""
    path = tmp_path / "1.png"
    told = str(from_os(refused(errno.EACCES, path), path, "reading"))
    assert told == f"reading {path} failed: Permission denied"


@pytest.mark.parametrize(("number", "reason"), REFUSALS)
@pytest.mark.parametrize("make", [lambda p: MbtilesStore(p / "s.mbtiles"), lambda p: DirectoryStore(p / "s")])
async def test_store_in_a_folder_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, number: int, reason: str
) -> None:
    """No name of a lock file, no number: what was asked for, and what to do."""

    def acquire(lock: FileLock, *_: object, **__: object) -> None:
        raise refused(number, Path(lock.lock_file))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    store = make(tmp_path)
    with pytest.raises(StorageError) as refusal:
        await store.begin(JOB)
    assert str(refusal.value) == f"cannot write in {tmp_path} ({reason}): choose another place for the store"
    await store.close()
    assert list(tmp_path.iterdir()) == []


async def test_column_that_cannot_be_made_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that turned read-only in the middle of a job."""
    root = tmp_path / "tiles"
    store = DirectoryStore(root)
    await store.begin(JOB)

    def mkdir(path: Path, *_: object, **__: object) -> None:
        raise refused(errno.EACCES, path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", mkdir)
        with pytest.raises(StorageError, match="permission denied") as refusal:
            await store.commit([Tile(TileId(1, 0, 0), b"\x89PNG\r\n\x1a\n", "image/png")])
    assert f"cannot write in {root} (" in str(refusal.value)
    await store.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("name", ["x.mbtiles", "a/b/x.mbtiles"])
async def test_lock_that_cannot_be_made_is_not_a_lock_that_is_held(name: str) -> None:
    """Nobody else is writing there, and nobody can."""
    store = MbtilesStore(Path("/proc") / name)
    with pytest.raises(StorageError, match=r"^cannot write in /proc \(.*choose another place"):
        await store.begin(JOB)
    await store.close()


def test_lock_path_that_is_a_folder_is_named(tmp_path: Path) -> None:
    """Told once, without the system's number."""
    (tmp_path / "s.lock").mkdir()
    lock = WriterLock(tmp_path / "s")
    with pytest.raises(StorageError) as refusal:
        lock.take_once()
    assert str(refusal.value) == f"locking {tmp_path / 's.lock'} failed: Is a directory"


def test_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network disks have none."""

    def acquire(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(StorageError, match=r"without locks.*choose another place"):
        WriterLock(tmp_path / "s").take_once()


def test_held_lock_is_still_said_to_be_held(tmp_path: Path) -> None:
    """The look at whether the file can be made changes nothing for the one who holds it."""
    first, second = WriterLock(tmp_path / "s"), WriterLock(tmp_path / "s")
    first.take_once()
    for _ in range(2):
        with pytest.raises(PlanError, match="another tilehaul is writing"):
            second.take_once()
    first.release()
    second.take_once()
    second.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (MbtilesStore, "s.mbtiles"),
        (GeopackageStore, "s.gpkg"),
        (PmtilesStore, "s.pmtiles"),
        (DirectoryStore, "s"),
    ],
)
async def test_link_and_its_target_are_one_store(tmp_path: Path, make: Any, name: str) -> None:
    """Locked, journalled and renamed as the file it leads to; the link stays one."""
    body = plain_png(TileId(0, 0, 0))
    (tmp_path / "kept").mkdir()
    target, link = tmp_path / "kept" / name, tmp_path / name
    link.symlink_to(target)
    by_link, by_name = make(link), make(target)
    await by_link.begin(JOB)
    with pytest.raises(PlanError, match="another tilehaul is writing"):
        await by_name.begin(JOB)
    await by_link.commit([Tile(TileId(0, 0, 0), body, "image/png")])
    await by_link.close()
    assert [path.name for path in tmp_path.iterdir() if path != link] == ["kept"]
    # What was under way by the one name goes on by the other.
    assert await by_name.begin(JOB) is None
    assert await by_name.settled([TileId(0, 0, 0)]) == ["done"]
    await by_name.finish(complete=True, counts=JobCounts(1, 0, 0))
    await by_name.close()
    assert link.is_symlink()
    reader = make(link)
    assert (await reader.get(TileId(0, 0, 0))).body == body
    await reader.close()


def test_link_to_itself_is_told(tmp_path: Path) -> None:
    link = tmp_path / "s.mbtiles"
    link.symlink_to(link)
    with pytest.raises(PlanError, match=r"s\.mbtiles is a link that leads to itself"):
        MbtilesStore(link)


def test_full_disk_says_what_to_do(tmp_path: Path) -> None:
    """However it is noticed: by SQLite, by the system under SQLite, by a file of ours."""
    path = tmp_path / "s.mbtiles"
    wanted = f"closing {path} failed: the disk is full: make room and run the same command again"
    assert str(from_sqlite(apsw.FullError("database or disk is full"), path, "closing")) == wanted
    noted = from_sqlite(apsw.IOError("disk I/O error"), path, "closing", system_errno=errno.ENOSPC)
    assert str(noted) == wanted
    assert str(from_os(refused(errno.ENOSPC, path), path, "closing")) == wanted


def test_file_that_may_grow_no_more_says_what_to_do(tmp_path: Path) -> None:
    """SQLite's own answer, from a file that has reached its limit of pages."""
    file = WritableFile(tmp_path / "s.db", durability="fast")
    file.prepare()
    file.connection.execute("CREATE TABLE t (b BLOB)")
    file.connection.execute("PRAGMA max_page_count=3")
    told = pytest.raises(StorageError, match="make room and run the same command again")
    with told, file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    file.close()


def test_what_sqlite_quotes_of_a_file_is_one_printable_line(tmp_path: Path) -> None:
    """A schema that others wrote must not paint the terminal."""
    told = str(from_sqlite(apsw.CorruptError('malformed "\x1b[31m\n\x1d' + "x" * 999), tmp_path, "reading"))
    assert told.isprintable()
    assert "[31m??" in told
    assert len(told) < 500
    assert "run again if its disk had errors" in told
