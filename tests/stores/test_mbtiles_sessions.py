"""How an MBTiles store behaves while it is written: locks, durability, readers, cancellation, threads."""

import asyncio
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import JobCounts, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import sqlite_file
from tilehaul.stores.directory import DirectoryStore
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.memory import TILE_OVERHEAD_BYTES, MemoryStore
from tilehaul.stores.sqlite_file import WritableFile
from tilehaul.stores.worker_thread import WorkerThread

PNG = b"\x89PNG\r\n\x1a\n"
JOB = JobKey("s", "S", "a", 4)
ALL_DONE = JobCounts(4, 0)


def tiles(count: int, *, z: int = 9) -> list[Tile]:
    return [Tile(TileId(z, x, 1), PNG + bytes([x % 256]) * 3000, "image/png") for x in range(count)]


@pytest.mark.parametrize("make", [lambda p: MbtilesStore(p / "s.mbtiles"), lambda p: DirectoryStore(p / "s")])
async def test_second_writer_is_refused_until_the_first_closes(tmp_path: Any, make: Any) -> None:
    """In one process or two: the lock is the file's. Reading is never locked out."""
    first, second = make(tmp_path), make(tmp_path)
    await first.begin(JOB)
    await first.commit(tiles(1))
    with pytest.raises(PlanError, match="another tilehaul is writing"):
        await second.begin(JOB)
    assert isinstance(await second.get(TileId(9, 0, 1)), Tile)
    await second.close()
    # Refusing the second has not loosened the first's hold.
    third = make(tmp_path)
    with pytest.raises(PlanError, match="another tilehaul is writing"):
        await third.begin(JOB)
    await first.close()
    assert await third.begin(JOB) is None
    await third.close()


async def test_stale_lock_file_holds_nobody_up(tmp_path: Any) -> None:
    """A killed process leaves the file, not the lock."""
    Path(tmp_path / "s.mbtiles.lock").write_text("4711")
    store = MbtilesStore(tmp_path / "s.mbtiles")
    assert await store.begin(JOB) is None
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s.mbtiles"]


async def test_refused_begin_lets_the_lock_go(tmp_path: Any) -> None:
    """A PlanError leaves nothing beside the store, and the right job may follow at once."""
    store = MbtilesStore(tmp_path / "s.mbtiles")
    await store.begin(JOB)
    await store.commit(tiles(1))
    await store.close()
    with pytest.raises(PlanError):
        await store.begin(JobKey("other", "O", "a", 4))
    assert [path.name for path in tmp_path.iterdir()] == ["s.mbtiles"]
    assert await store.begin(JOB) is None
    await store.close()


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("fast", 1)])
def test_durability_sets_what_a_commit_syncs(tmp_path: Any, durability: Any, level: Any) -> None:
    """PRAGMA synchronous: 2 FULL, 1 NORMAL; always a write-ahead log, never a memory map."""
    file = WritableFile(tmp_path / "t.db", durability=durability)
    file.prepare()
    assert file.connection.pragma("synchronous") == level
    assert file.connection.pragma("journal_mode") == "wal"
    assert file.connection.pragma("mmap_size") == 0
    assert file.connection.pragma("page_size") == sqlite_file.PAGE_BYTES
    assert (
        file.connection.pragma("wal_autocheckpoint") * sqlite_file.PAGE_BYTES == sqlite_file.CHECKPOINT_BYTES
    )
    file.close()


async def test_reader_of_another_program_does_not_break_the_end(tmp_path: Any) -> None:
    """The file is whole and no error is raised; only the switch of mode is left to the next run."""
    path = tmp_path / "s.mbtiles"
    store = MbtilesStore(path)
    await store.begin(JOB)
    await store.commit(tiles(3))
    with closing(apsw.Connection(str(path))) as other:
        assert other.execute("SELECT count(*) FROM tiles").get == 3
        await store.finish(complete=True)
        # The log is folded up: a copy of the one file alone has everything.
        copy = tmp_path / "copy.mbtiles"
        copy.write_bytes(path.read_bytes())
        assert (await MbtilesStore(copy).describe()).tiles == 3
    await store.close()
    assert not Path(f"{path}-wal").exists()


@pytest.mark.parametrize("make", [lambda p: MbtilesStore(p / "s"), lambda p: DirectoryStore(p / "s")])
async def test_reader_that_holds_a_transaction_does_not_break_the_end(
    tmp_path: Any, monkeypatch: Any, caplog: Any, make: Any
) -> None:
    """All is committed: the job ends well and soon, with one note; a later run folds the log up."""
    monkeypatch.setattr(sqlite_file, "FOLD_BUSY_MS_MAX", 5)
    monkeypatch.setattr(sqlite_file, "SEAL_BUSY_MS_MAX", 5)
    store = make(tmp_path)
    await store.begin(JOB)
    await store.commit(tiles(3))
    path = tmp_path / "s" if isinstance(store, MbtilesStore) else tmp_path / "s.journal"
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM metadata").get  # noqa: B018  `get` steps
        await store.commit(tiles(3, z=8))
        await store.finish(complete=True)
        assert (await store.describe()).state == "complete"
        await store.close()
        notes = [record.message for record in caplog.records if "nothing is lost" in record.message]
        assert len(notes) == 1
        assert notes[0].startswith(str(path))
    again = make(tmp_path)
    assert await again.begin(JOB) == ALL_DONE
    assert (await again.describe()).tiles == 6
    await again.close()
    assert not Path(f"{path}-wal").exists()


async def test_39_db_locked(tmp_path: Any, monkeypatch: Any) -> None:
    """Another program holds a write transaction: waited for, then told; nothing is acknowledged."""
    monkeypatch.setattr(sqlite_file, "BUSY_MS_MAX", 30)
    path = tmp_path / "s.mbtiles"
    store = MbtilesStore(path)
    await store.begin(JOB)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program holds it"):
            await store.commit(tiles(2))
        other.execute("ROLLBACK")
    # A wait that was too short is no failed write: the next commit may try.
    assert list(await store.settled([TileId(9, 0, 1)])) == [None]
    await store.commit(tiles(2))
    assert list(await store.settled([TileId(9, 0, 1)])) == ["done"]
    await store.close()


async def test_cancelled_commit_is_whole_or_nothing(tmp_path: Any) -> None:
    """The task goes at once; the batch is either all there or not at all; the store stays usable."""
    store = MbtilesStore(tmp_path / "s.mbtiles")
    await store.begin(JOB)
    batch = tiles(200)
    for _ in range(5):
        task = asyncio.create_task(store.commit(batch))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    states = set(await store.settled([tile.tile_id for tile in batch]))
    assert len(states) == 1
    await store.commit(batch)
    await store.finish(complete=True)
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s.mbtiles"]


async def test_cancelled_close_has_closed_when_it_ends(tmp_path: Any) -> None:
    """Lock and log are gone although the closing task was cancelled, and again; no task goes on."""
    store = MbtilesStore(tmp_path / "s.mbtiles")
    await store.begin(JOB)
    await store.commit(tiles(1))
    task = asyncio.create_task(store.close())
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [path.name for path in tmp_path.iterdir()] == ["s.mbtiles"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await store.close()


async def test_get_does_not_wait_for_a_write(tmp_path: Any) -> None:
    """A transaction is open on the writing side; a reader sees the last commit meanwhile."""
    path = tmp_path / "s.mbtiles"
    store = MbtilesStore(path)
    await store.begin(JOB)
    await store.commit(tiles(1))
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(1):
            assert isinstance(await store.get(TileId(9, 0, 1)), Tile)
            assert isinstance(await store.get(TileId(9, 5, 1)), NoTile)
        other.execute("ROLLBACK")
    await store.close()


async def test_memory_store_is_bounded(tmp_path: Any) -> None:
    """A commit beyond the limit changes nothing; freed room can be used again."""
    body = PNG + bytes(992)
    store = MemoryStore(bytes_max=2 * (len(body) + TILE_OVERHEAD_BYTES))
    await store.begin(JOB)
    a, b, c = (TileId(2, x, 0) for x in range(3))
    await store.commit([Tile(a, body, "image/png"), Tile(b, body, "image/png")])
    with pytest.raises(StorageError, match="full"):
        await store.commit([Tile(c, body, "image/png"), NoTile(TileId(2, 3, 3))])
    assert list(await store.settled([a, b, c, TileId(2, 3, 3)])) == ["done", "done", None, None]
    await store.commit([NoTile(a), Tile(c, body, "image/png"), Tile(b, body, "image/png")])
    assert (await store.describe()).bytes == 2 * len(body)


async def test_worker_thread_keeps_order_and_errors_apart() -> Any:
    """One thread, calls in the order they were made, each error to its own caller."""
    worker = WorkerThread("test")
    seen: list[int] = []

    def work(number: int) -> int:
        seen.append(number)
        if number % 7 == 3:
            raise ValueError(str(number))
        return number * 2

    answers = await asyncio.gather(*(worker.run(work, n) for n in range(100)), return_exceptions=True)
    assert seen == list(range(100))
    for number, answer in enumerate(answers):
        assert (str(answer) == str(number)) if number % 7 == 3 else (answer == number * 2)
    assert (
        await worker.run(threading.get_ident)
        == await worker.run(threading.get_ident)
        != threading.get_ident()
    )
    await worker.stop()
    assert await worker.run(work, 1) == 2
    await worker.stop()


async def test_worker_thread_skips_what_was_cancelled_before_it_began() -> None:
    """And carries on with the rest."""
    worker = WorkerThread("test")
    ran: list[int] = []
    gate = threading.Event()
    first = worker.run(gate.wait)
    second, third = worker.run(ran.append, 2), worker.run(ran.append, 3)
    second.cancel()
    gate.set()
    await first
    await third
    assert ran == [3]
    await worker.stop()


async def test_answer_does_not_wait_for_other_work() -> None:
    """A quick answer is told before slow work of another kind begins."""
    worker = WorkerThread("test")
    gate = threading.Event()
    hold = threading.Event()
    first = worker.run(hold.wait)
    quick, slow = worker.run(int, "7"), worker.run(gate.wait)
    hold.set()
    async with asyncio.timeout(1):
        assert (await first, await quick) == (True, 7)
    assert not slow.done()
    gate.set()
    await slow
    await worker.stop()


def test_worker_thread_outlives_a_closed_loop() -> Any:
    """A loop that ended while work was under way does not take the thread down."""
    worker = WorkerThread("test")
    gate, done = threading.Event(), threading.Event()

    def wait_then_tell() -> None:
        gate.wait()
        done.set()

    async def leave() -> None:
        worker.run(wait_then_tell)

    asyncio.run(leave())
    gate.set()
    assert done.wait(2)

    async def again() -> int:
        answer = await worker.run(int, "5")
        await worker.stop()
        return answer

    assert asyncio.run(again()) == 5
