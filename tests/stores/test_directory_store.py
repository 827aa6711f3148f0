"""A directory store: names, whole files, the journal beside it, and what crashes leave behind."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import atomic_file, directory_tree
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.directory_files import tile_path
from tilehaul.stores.disk_errors import TILE_BYTES_MAX

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"
JOB = JobKey("s", "S", "a", 4)
A, B = TileId(3, 5, 1), TileId(3, 5, 2)


def png(tile_id: TileId, text: bytes = b"") -> Tile:
    return Tile(tile_id, PNG + text, "image/png")


def jpeg(tile_id: TileId) -> Tile:
    return Tile(tile_id, JPEG, "image/jpeg")


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Any) -> Any:
    return tmp_path / "tiles"


async def filled(root: Path, *outcomes: Tile | NoTile | DeadLetter, complete: bool = True) -> None:
    store = DirectoryStore(root)
    await store.begin(JOB)
    await store.commit(outcomes)
    await store.finish(complete=complete)
    await store.close()


async def test_names_are_north_first_and_follow_the_bytes(root: Any) -> None:
    """`{z}/{x}/{y}.{ext}`, nothing else in the folder; the journal lies beside it."""
    await filled(root, png(A), jpeg(B), NoTile(TileId(3, 5, 3)))
    assert names(root) == {"3/5/1.png", "3/5/2.jpg"}
    assert {path.name for path in root.parent.iterdir()} == {"tiles", "tiles.journal"}


@pytest.mark.parametrize("reopen", [False, True])
@pytest.mark.parametrize("complete", [False, True])
async def test_two_extensions_of_one_tile_never_stay(root: Any, reopen: Any, complete: Any) -> None:
    """An overwrite with another format removes the old file, also when the journal is gone."""
    store = DirectoryStore(root)
    await store.begin(JOB)
    await store.commit([png(A), png(B)])
    await store.finish(complete=complete)
    if reopen:
        await store.close()
        store = DirectoryStore(root)
    await store.begin(JOB)
    await store.commit([jpeg(A), NoTile(B)])
    assert names(root) == {"3/5/1.jpg"}
    # Once more over a dead letter: what it left must not be forgotten.
    await store.commit([DeadLetter(A, "http_500", 6)])
    assert names(root) == {"3/5/1.jpg"}
    await store.commit([png(A)])
    assert names(root) == {"3/5/1.png"}
    await store.close()


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"")])
async def test_done_tile_whose_file_is_gone_or_empty_is_pending(root: Any, damage: Any) -> None:
    """The journal's word is not enough: the file must be there."""
    await filled(root, png(A), png(B), complete=False)
    damage(root / "3/5/1.png")
    store = DirectoryStore(root)
    await store.begin(JOB)
    assert list(await store.settled([A, B])) == [None, "done"]
    assert await store.get(A) == NoTile(A, "not_stored", "store")
    await store.close()


async def test_file_without_journal_row_is_fetched_again(root: Any) -> None:
    """A crash came between the file and the journal: whole, but not acknowledged."""
    await filled(root, png(A), complete=False)
    (root / "3/5/2.png").write_bytes(PNG)
    store = DirectoryStore(root)
    await store.begin(JOB)
    assert list(await store.settled([A, B])) == ["done", None]
    await store.close()


async def crash(root: Path) -> None:
    """What a killed writer leaves: its mark in the journal, temporary files, a half change of format."""
    store = DirectoryStore(root)
    await store.begin(JOB)
    await store.commit([png(A), png(B)])
    journal = Path(f"{root}.journal").read_bytes(), Path(f"{root}.journal-wal").read_bytes()
    await store.close()
    Path(f"{root}.journal").write_bytes(journal[0])
    Path(f"{root}.journal-wal").write_bytes(journal[1])
    Path(atomic_file.temp_path(tile_path(root, B, "jpg"))).write_bytes(b"half")
    (root / "3/5/1.jpg").write_bytes(JPEG)
    (root / "3/5/7.jpg").write_bytes(JPEG)
    (root / "3/5/7.png").write_bytes(PNG)
    (root / "3/5/notes.txt").write_text("not ours")


async def test_next_writer_sweeps_after_a_crash(root: Any) -> None:
    """Temporary files go, of two formats the journalled one stays; other people's files are left."""
    await crash(root)
    store = DirectoryStore(root)
    assert await store.begin(JOB) is None
    assert names(root) == {"3/5/1.png", "3/5/2.png", "3/5/notes.txt"}
    assert list(await store.settled([A, B])) == ["done", "done"]
    await store.close()


async def test_clean_end_is_not_swept(root: Any, monkeypatch: Any) -> None:
    """Walking millions of files is for crashes only."""
    await filled(root, png(A), complete=False)
    monkeypatch.setattr(directory_tree.DirectoryTree, "sweep", lambda _: pytest.fail("swept"))
    store = DirectoryStore(root)
    await store.begin(JOB)
    await store.close()
    again = DirectoryStore(root)
    await again.begin(JOB)
    await again.close()


async def test_foreign_directory_is_read_and_added_to_only_when_forced(root: Any) -> None:
    """Any known extension; leading zeros, empty files and strangers are no tiles."""
    for name in ("3/5/1.jpeg", "3/5/02.png", "3/5/4.txt", "3/x/1.png", "40/1/1.png", "readme.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG)
    (root / "3/5/3.png").write_bytes(b"")
    store = DirectoryStore(root)
    assert await store.get(A) == Tile(A, JPEG, "image/jpeg", "store")
    assert [tile_id async for tile_id in store.tile_ids()] == [A]
    info = await store.describe()
    assert (info.state, info.tiles, info.bytes) == ("foreign", 1, len(JPEG))
    source = await store.source_info()
    assert (source.name, source.media_type, source.zoom_min, source.zoom_max) == ("tiles", "image/jpeg", 3, 3)
    with pytest.raises(PlanError, match="--force-source"):
        await store.begin(JOB)
    assert {path.name for path in root.parent.iterdir()} == {"tiles"}
    assert await store.begin(JOB, force_source=True) is None
    assert list(await store.settled([A, B, TileId(3, 5, 3)])) == ["done", None, None]
    await store.commit([png(A)])
    assert names(root) & {"3/5/1.png", "3/5/1.jpeg"} == {"3/5/1.png"}
    await store.close()


async def test_tile_without_a_file_name_is_refused(root: Any) -> None:
    """An unknown kind of body is a DataError that keeps nothing of the batch."""
    store = DirectoryStore(root)
    await store.begin(JOB)
    with pytest.raises(DataError, match="no file name") as refusal:
        await store.commit([png(A), Tile(B, b"?", "text/html")])
    assert refusal.value.cause == "mistyped"
    assert names(root) == set()
    await store.commit([png(A)])
    await store.close()


async def test_address_must_be_numbers(root: Any) -> None:
    """No name leaves the folder, whatever an address is made of."""
    store = DirectoryStore(root)
    await store.begin(JOB)
    with pytest.raises((TypeError, ValueError)):
        await store.commit([png(TileId(3, "../..", 1))])  # type: ignore[arg-type]
    await store.close()
    assert {path.name for path in root.parent.iterdir()} == {"tiles", "tiles.journal"}


async def test_root_that_is_a_file_is_refused(root: Any) -> None:
    """Named, with the way out; nothing is made."""
    root.write_bytes(b"x")
    store = DirectoryStore(root)
    with pytest.raises(StorageError, match="not a folder"):
        await store.begin(JOB)
    await store.close()
    assert [path.name for path in root.parent.iterdir()] == ["tiles"]


async def test_journal_of_others_is_refused(root: Any) -> None:
    """A file of that name that is not our journal is neither used nor changed."""
    beside = Path(f"{root}.journal")
    beside.write_bytes(b"my diary " * 200)
    store = DirectoryStore(root)
    with pytest.raises(DataError, match=r"tiles\.journal"):
        await store.begin(JOB)
    await store.close()
    assert beside.read_bytes() == b"my diary " * 200


class FakeDisk:
    """In place of a `WholeDisk`: notes its syncs in `steps`, and fails when `fails`."""

    def __init__(self, steps: list[str], device: int) -> None:
        self.steps, self.device, self.fails = steps, device, False

    def sync(self) -> None:
        if self.fails:
            raise OSError(5, "Input/output error")
        self.steps.append("disk")

    def close(self) -> None:
        self.steps.append("closed")


@pytest.mark.parametrize("whole", [True, False])
async def test_failed_sync_ends_the_run(root: Any, monkeypatch: Any, whole: Any) -> None:
    """After a failed sync nothing more is acknowledged in this run, not even a good commit."""
    disk = FakeDisk([], root.parent.stat().st_dev)
    monkeypatch.setattr(directory_tree, "open_whole_disk", lambda _: disk if whole else None)
    store = DirectoryStore(root)
    await store.begin(JOB)
    await store.commit([png(A)])
    with monkeypatch.context() as patch:
        disk.fails = True
        if not whole:
            patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(StorageError, match="Input/output error"):
            await store.commit([png(B)])
    with pytest.raises(StorageError, match="failed before"):
        await store.commit([png(B)])
    await store.close()
    disk.fails = False
    again = DirectoryStore(root)
    await again.begin(JOB)
    assert list(await again.settled([A, B])) == ["done", None]
    assert names(root) == {"3/5/1.png"}
    await again.close()


NAMES = ["name", "name"]
# The column's folder, and the two above it that grew.
EACH = ["file", "file", *NAMES, "folder", "folder", "folder"]


@pytest.mark.parametrize(
    ("durability", "disk_of", "wanted"),
    [
        ("full", "none", EACH),
        ("full", "the root", ["disk", *NAMES, "disk"]),
        # A column's folder may be where another disk hangs: its files are synced by themselves.
        ("full", "another", ["closed", *EACH]),
        ("fast", "the root", NAMES),
    ],
)
async def test_full_durability_syncs_files_before_names_and_folders_after(
    root: Any, monkeypatch: Any, durability: Any, disk_of: str, wanted: list[str]
) -> None:
    """Order of a commit: every body synced, then its name, then the names; journal last."""
    steps: list[str] = []
    disk = FakeDisk(steps, -1 if disk_of == "another" else root.parent.stat().st_dev)
    monkeypatch.setattr(directory_tree, "open_whole_disk", lambda _: None if disk_of == "none" else disk)
    store = DirectoryStore(root, durability=durability)
    await store.begin(JOB)
    steps.clear()
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        steps.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        real_sync(descriptor)

    def replace(old: str, new: str) -> None:
        steps.append("name")
        real_replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    await store.commit([png(A), png(B)])
    assert steps == wanted
    await store.close()


async def test_fast_syncs_once_before_it_is_called_finished(root: Any, monkeypatch: Any) -> None:
    """Where the system syncs no whole disk and tells of errors, everything is synced (`os.sync`)."""
    steps: list[str] = []
    disk = FakeDisk(steps, root.parent.stat().st_dev)
    monkeypatch.setattr(directory_tree, "open_whole_disk", lambda _: disk)
    store = DirectoryStore(root, durability="fast")
    await store.begin(JOB)
    await store.commit([png(A)])
    assert steps == []
    disk.fails = True
    with pytest.raises(StorageError, match="Input/output error"):
        await store.finish(complete=True, counts=None)
    await store.close()
    assert await described_state(root) == "partial"
    disk.fails = False
    monkeypatch.setattr(directory_tree, "open_whole_disk", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: steps.append("all"))
    steps.clear()
    store = DirectoryStore(root, durability="fast")
    await store.begin(JOB)
    await store.finish(complete=True, counts=None)
    await store.close()
    assert steps == ["all"]
    assert await described_state(root) == "complete"


async def described_state(root: Any) -> str:
    store = DirectoryStore(root)
    try:
        return (await store.describe()).state
    finally:
        await store.close()


async def test_many_tiles_need_few_open_files(root: Any, monkeypatch: Any) -> None:
    """A batch is written in groups; a removed folder is made again."""
    monkeypatch.setattr(directory_tree, "open_whole_disk", lambda _: None)
    monkeypatch.setattr(directory_tree, "FILES_OPEN_MAX", 3)
    monkeypatch.setattr(directory_tree, "FOLDERS_MAX", 2)
    tiles = [png(TileId(4, x, y), bytes([x, y])) for x in range(4) for y in range(4)]
    await filled(root, *tiles, complete=False)
    assert len(names(root)) == 16
    store = DirectoryStore(root)
    for tile in tiles:
        assert await store.get(tile.tile_id) == Tile(tile.tile_id, tile.body, "image/png", "store")
    await store.close()


def with_pipe(root: Path) -> Path:
    """A pipe where a tile's file could be; opening it for reading waits for a writer, for ever."""
    (root / "3/5").mkdir(parents=True)
    os.mkfifo(root / "3/5/1.png")
    (root / "3/5/2.png").write_bytes(PNG)
    return root


async def test_pipe_is_no_tile_and_holds_nobody_up(root: Any) -> None:
    """Read, walked, described, resumed: as if it were not there; a tile takes its place."""
    store = DirectoryStore(with_pipe(root))
    async with asyncio.timeout(5):
        assert await store.get(A) == NoTile(A, "not_stored", "store")
        assert isinstance(await store.get(B), Tile)
        assert [tile_id async for tile_id in store.tile_ids()] == [B]
        await store.begin(JOB, force_source=True)
        assert list(await store.settled([A, B])) == [None, "done"]
        os.mkfifo(atomic_file.temp_path(tile_path(root, A, "png")))
        with pytest.raises(StorageError):
            await store.commit([png(A)])
        await store.close()


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.symlink_to("/dev/zero")])
async def test_folder_or_device_named_as_a_tile_is_none(root: Any, make: Any) -> None:
    """`/dev/zero` never ends, a folder has a size but no bytes."""
    (root / "3/5").mkdir(parents=True)
    make(root / "3/5/1.png")
    store = DirectoryStore(root)
    assert await store.get(A) == NoTile(A, "not_stored", "store")
    await store.begin(JOB, force_source=True)
    assert list(await store.settled([A])) == [None]
    await store.close()


async def test_linked_tile_is_read(root: Any) -> None:
    """Other programs keep equal tiles once, as links to one file."""
    (root / "3/5").mkdir(parents=True)
    (root / "blue.png").write_bytes(PNG)
    (root / "3/5/1.png").symlink_to("../../blue.png")
    store = DirectoryStore(root)
    assert await store.get(A) == Tile(A, PNG, "image/png", "store")
    assert [tile_id async for tile_id in store.tile_ids()] == [A]
    await store.close()


async def test_huge_file_is_refused_unread(root: Any) -> None:
    """One byte above the limit, in a file that takes no room on the disk."""
    (root / "3/5").mkdir(parents=True)
    with (root / "3/5/1.png").open("wb") as file:
        file.truncate(TILE_BYTES_MAX + 1)
    store = DirectoryStore(root)
    with pytest.raises(DataError, match=r"1\.png has 67108865 bytes") as caught:
        await store.get(A)
    assert caught.value.cause == "too_large"
    await store.close()


@pytest.mark.parametrize("name", ["1/9999999999/9999999999.png", "1/0/2.png", "1/2/0.png", "31/0/0.png"])
async def test_names_off_the_grid_are_no_tiles(root: Any, name: Any) -> None:
    """Skipped wherever names are read, also for the box and the zooms."""
    for each in (name, "1/1/0.png"):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).write_bytes(PNG)
    store = DirectoryStore(root)
    assert [tile_id async for tile_id in store.tile_ids()] == [TileId(1, 1, 0)]
    info, source = await store.describe(), await store.source_info()
    assert (info.tiles, source.zoom_min, source.zoom_max) == (1, 1, 1)
    assert source.bounds_deg == pytest.approx((0.0, 0.0, 180.0, 85.0511288))
    z, x, y = (int(part) for part in name.removesuffix(".png").split("/"))
    assert await store.get(TileId(z, x, y)) == NoTile(TileId(z, x, y), "not_stored", "store")
    await store.close()


@pytest.mark.parametrize("linked", ["3", "3/5"])
@pytest.mark.parametrize("outcome", [png(A), NoTile(A)])
async def test_linked_folder_is_not_written(root: Any, tmp_path: Any, linked: Any, outcome: Any) -> None:
    """It leads out of the store: refused with its name, and nothing outside is made or removed."""
    outside = tmp_path / "outside"
    inner = outside / "5" if linked == "3" else outside
    inner.mkdir(parents=True)
    (inner / "1.png").write_bytes(b"precious")
    (inner / "1.jpg").write_bytes(b"precious")
    (inner / ".1.png.tilehaul-tmp").write_bytes(b"precious")
    (root / linked).parent.mkdir(parents=True)
    (root / linked).symlink_to(outside)
    store = DirectoryStore(root)
    await store.begin(JOB, force_source=True)
    with pytest.raises(StorageError, match=rf"{linked} failed: it is a link"):
        await store.commit([outcome])
    await store.close()
    assert {path.read_bytes() for path in inner.iterdir()} == {b"precious"}
    assert len(list(inner.iterdir())) == 3


async def test_sweep_leaves_linked_folders_alone(root: Any, tmp_path: Any) -> None:
    """After a crash only what is in the store is tidied."""
    await crash(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in (".9.png.tilehaul-tmp", "9.png", "9.jpg"):
        (outside / name).write_bytes(PNG)
    (root / "3/6").symlink_to(outside)
    store = DirectoryStore(root)
    await store.begin(JOB)
    assert {path.name for path in outside.iterdir()} == {".9.png.tilehaul-tmp", "9.png", "9.jpg"}
    await store.close()


async def test_rows_from_the_south(root: Path) -> None:
    """The file's name has the other row; everything else is the same, also for who reads it without us."""
    store = DirectoryStore(root, tms=True)
    await store.begin(JobKey("s", "S", "a", 2))
    north, south = TileId(3, 1, 0), TileId(3, 1, 6)
    await store.commit([Tile(north, PNG, "image/png"), Tile(south, PNG, "image/png")])
    await store.finish(complete=True)
    await store.close()
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.png")) == ["3/1/1.png", "3/1/7.png"]
    again = DirectoryStore(root, tms=True)
    assert [tile_id async for tile_id in again.tile_ids()] == [north, south]
    assert (await again.source_info()).bounds_deg[3] == pytest.approx(85.0511287798066)
    await again.close()


async def test_rows_are_not_taken_for_those_from_the_other_end(root: Path) -> None:
    """Our journal knows; without one it is the operator's word."""
    store = DirectoryStore(root, tms=True)
    await store.begin(JobKey("s", "S", "a", 1))
    await store.commit([Tile(TileId(3, 1, 0), PNG, "image/png")])
    await store.finish(complete=True)
    await store.close()
    other = DirectoryStore(root)
    with pytest.raises(PlanError, match=r"name it .*/\{z\}/\{x\}/\{-y\}"):
        await other.source_info()
    with pytest.raises(PlanError, match="counted from the other end"):
        await other.begin(JobKey("s", "S", "a", 1))
    await other.close()
    Path(f"{root}.journal").unlink()
    foreign = DirectoryStore(root)
    assert isinstance(await foreign.get(TileId(3, 1, 7)), Tile)
    await foreign.close()
