"""A mirroring job on every kind of store: what its source does not have goes, durably, and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.conftest import Backend
from doubles.bucket import bucket_store
from tilehaul.errors import FuseError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.mirror import MirroringStore
from tilehaul.jobs.stop import Stop
from tilehaul.lab.bucket import LabBucket
from tilehaul.policy.tally import Tally
from tilehaul.ports.store import JobCounts, Outcome
from tilehaul.stores.memory import MemoryStore

KEPT = [TileId(0, 0, 0), TileId(4, 3, 3), TileId(4, 3, 4)]
EXTRA = [TileId(4, x, y) for x in (2, 9) for y in range(6)] + [TileId(7, 100, 1)]
PAGE = 5


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several commits, so that a walk goes on over what it has changed."""
    monkeypatch.setattr("tilehaul.jobs.mirror.PAGE_TILES", PAGE)


async def source_of(make: Any, tile_ids: list[TileId]) -> MemoryStore:
    source = MemoryStore()
    await source.begin(make.job())
    await source.commit([make.png(tile_id) for tile_id in tile_ids])
    return source


async def filled(backend: Any, make: Any, **about: object) -> None:
    store = backend.open()
    await store.begin(make.job("all", planned=len(KEPT + EXTRA), **about))
    await store.commit([make.png(tile_id) for tile_id in (*KEPT, *EXTRA)])
    await store.finish(complete=True, counts=JobCounts(len(KEPT + EXTRA), 0))
    await store.close()


async def left_in(backend: Any) -> list[TileId]:
    store = backend.open()
    try:
        return sorted([tile_id async for tile_id in store.tile_ids()])
    finally:
        await store.close()


async def test_what_the_source_has_not_is_gone_and_the_rest_is_as_it_was(backend: Any, make: Any) -> None:
    await filled(backend, make)
    source, tally = await source_of(make, KEPT), Tally()
    store = backend.open()
    mirror = MirroringStore(store, store, source, lambda _: True, tally)
    await mirror.begin(make.job("few", planned=len(KEPT), mirrors=True))
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    await mirror.close()
    assert (tally.deleted, tally.strangers) == (len(EXTRA), 0)
    assert await left_in(backend) == KEPT
    again = backend.open()
    for tile_id in KEPT:
        assert (await again.get(tile_id)).body == make.png(tile_id).body
    described = await again.describe()
    assert (described.state, described.dead, described.tiles) == ("complete", 0, len(KEPT))
    assert await again.begin(make.job("few", planned=len(KEPT))) == JobCounts(len(KEPT), 0)
    await again.close()


async def test_the_job_that_wrote_what_is_gone_looks_at_every_tile_again(backend: Any, make: Any) -> None:
    """No complete job vouches for a tile that was deleted, and nothing else does."""
    await filled(backend, make)
    wrote = make.job("all", planned=len(KEPT + EXTRA))
    store = backend.open()
    assert await store.begin(wrote) == JobCounts(len(KEPT + EXTRA), 0)
    await store.close()
    store = backend.open()
    mirror = MirroringStore(store, store, await source_of(make, KEPT), lambda _: True, Tally())
    few = make.job("few", planned=len(KEPT), mirrors=True)
    await mirror.begin(few)
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    await mirror.close()
    again = backend.open()
    assert await again.begin(few) == JobCounts(len(KEPT), 0)
    assert await again.begin(wrote) is None
    assert list(await again.settled([*KEPT, *EXTRA])) == ["done"] * len(KEPT) + [None] * len(EXTRA)
    # They come back: bytes, state and count.
    await again.commit([make.png(tile_id) for tile_id in EXTRA])
    await again.finish(complete=True, counts=JobCounts(len(KEPT + EXTRA), 0))
    assert await again.begin(wrote) == JobCounts(len(KEPT + EXTRA), 0)
    assert (await again.get(EXTRA[0])).body == make.png(EXTRA[0]).body
    described = await again.describe()
    assert (described.state, described.tiles, described.absent) == ("complete", len(KEPT + EXTRA), 0)
    await again.close()


async def test_a_job_that_waits_for_dead_letters_vouches_for_nothing_either(backend: Any, make: Any) -> None:
    """Its counts have what is deleted as done: a replay of its last letter must not complete it with them."""
    wrote = make.job("all", planned=len(KEPT + EXTRA))
    store = backend.open()
    await store.begin(wrote)
    await store.commit([*map(make.png, (*KEPT[1:], *EXTRA)), make.dead(KEPT[0])])
    await store.finish(complete=False, counts=JobCounts(len(KEPT + EXTRA) - 1, 0, dead=1))
    mirror = MirroringStore(store, store, await source_of(make, KEPT), lambda i: i in EXTRA, Tally())
    await mirror.begin(make.job("few", planned=2))
    await mirror.finish(complete=True, counts=JobCounts(2, 0))
    await store.begin(make.job("", planned=1, replay=True))
    await store.commit([make.png(KEPT[0])])
    await store.finish(complete=True)
    assert await store.begin(wrote) is None
    assert list(await store.settled([KEPT[0], *EXTRA])) == ["done"] + [None] * len(EXTRA)
    await store.close()


@pytest.mark.parametrize("kind", ["directory", "directory-tms"])
async def test_a_tile_that_went_before_the_journal_knew_is_claimed_by_nobody(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Cut short in between: no job is complete, no tile done, and the next run ends it."""
    backend = Backend(kind, tmp_path)
    await filled(backend, make)
    store, source = backend.open(), await source_of(make, KEPT)

    def cut(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    few = make.job("few", planned=len(KEPT), mirrors=True)
    with monkeypatch.context() as patched:
        patched.setattr("tilehaul.stores.journal.write_outcomes", cut)
        mirror = MirroringStore(store, store, source, lambda _: True, Tally())
        await mirror.begin(few)
        with pytest.raises(StorageError):
            await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
        await mirror.close()
    left = await left_in(backend)
    assert len(KEPT) < len(left) < len(KEPT + EXTRA)
    store = backend.open()
    assert await store.begin(make.job("all", planned=len(KEPT + EXTRA))) is None
    states = await store.settled([*KEPT, *EXTRA])
    assert [state == "done" for state in states] == [i in left for i in (*KEPT, *EXTRA)]
    await store.close()
    tally, store = Tally(), backend.open()
    mirror = MirroringStore(store, store, source, lambda _: True, tally)
    await mirror.begin(few)
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    assert list(await store.settled(EXTRA)) == [None] * len(EXTRA)
    assert (tally.deleted, tally.strangers) == (len(left) - len(KEPT), 0)
    assert (await store.describe()).state == "complete"
    await mirror.close()


async def test_an_object_that_stayed_after_the_journal_let_go_of_it_is_swept(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket's objects go last: cut short in between, no job is complete and the next run deletes them."""
    backend = Backend("bucket", tmp_path)
    await filled(backend, make)
    store, source = backend.open(), await source_of(make, KEPT)

    async def cut(*_: object) -> None:
        raise StorageError("the line is cut")

    few = make.job("few", planned=len(KEPT), mirrors=True)
    with monkeypatch.context() as patched:
        patched.setattr("tilehaul.stores.bucket_objects.BucketObjects.delete", cut)
        mirror = MirroringStore(store, store, source, lambda _: True, Tally())
        await mirror.begin(few)
        with pytest.raises(StorageError):
            await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
        await mirror.close()
    store = backend.open()
    assert await store.begin(make.job("all", planned=len(KEPT + EXTRA))) is None
    gone = [i for i, state in zip(EXTRA, await store.settled(EXTRA), strict=True) if state is None]
    assert gone
    assert not {*gone} & {*await left_in(backend)}
    await store.close()


async def test_only_what_is_wanted_goes(backend: Any, make: Any) -> None:
    await filled(backend, make)
    source, tally = await source_of(make, KEPT), Tally()
    store = backend.open()
    mirror = MirroringStore(store, store, source, lambda tile_id: tile_id.z == 7, tally)
    await mirror.begin(make.job("few", planned=len(KEPT)))
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    await mirror.close()
    assert tally.deleted == 1
    assert await left_in(backend) == sorted([*KEPT, *EXTRA[:-1]])


@pytest.mark.parametrize("deletes", ["", "deletes"])
async def test_the_format_that_is_told_is_that_of_most_tiles(backend: Any, make: Any, deletes: str) -> None:
    """A mirror of another format is of that format; where the old tiles stay, and are more, it is theirs."""
    await filled(backend, make, metadata=(("format", "png"),))
    store, source = backend.open(), await source_of(make, KEPT)
    mirror = MirroringStore(store, store, source, lambda _: bool(deletes), Tally())
    job = make.job("few", source="other", planned=len(KEPT), metadata=(("format", "jpg"),), renews=True)
    await mirror.begin(job, force_source=True)
    await mirror.commit([make.jpeg(tile_id) for tile_id in KEPT])
    # Cut short, it says nothing new.
    await mirror.finish(complete=False)
    assert (await store.describe()).metadata["format"] == "png"
    await mirror.begin(job, force_source=True)
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    assert (await store.describe()).metadata["format"] == ("jpg" if deletes else "png")
    await mirror.close()


async def test_a_job_that_is_not_whole_deletes_nothing(backend: Any, make: Any) -> None:
    await filled(backend, make)
    tally = Tally()
    store = backend.open()
    mirror = MirroringStore(store, store, await source_of(make, KEPT), lambda _: True, tally)
    await mirror.begin(make.job("few", planned=len(KEPT)))
    await mirror.commit([make.dead(KEPT[1])])
    await mirror.finish(complete=False, counts=JobCounts(len(KEPT) - 1, 0, dead=1))
    await mirror.close()
    assert tally.deleted == 0
    assert await left_in(backend) == sorted([*KEPT, *EXTRA])


async def test_cut_short_between_two_commits_the_next_run_deletes_the_rest(
    backend: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(backend, make)
    source, tally = await source_of(make, KEPT), Tally()
    store = backend.open()
    job = make.job("few", planned=len(KEPT))
    commit, left = store.commit, 1

    async def once(outcomes: Sequence[Outcome]) -> None:
        nonlocal left
        if not left:
            raise StorageError("the disk is full")
        left -= 1
        await commit(outcomes)

    monkeypatch.setattr(store, "commit", once)
    mirror = MirroringStore(store, store, source, lambda _: True, tally)
    await mirror.begin(job)
    with pytest.raises(StorageError):
        await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    await mirror.close()
    monkeypatch.undo()
    assert 0 < tally.deleted <= PAGE * 2
    assert len(await left_in(backend)) == len(KEPT + EXTRA) - tally.deleted
    store, more = backend.open(), Tally()
    assert (await store.describe()).state == "partial"
    mirror = MirroringStore(store, store, source, lambda _: True, more)
    assert await mirror.begin(job) is None
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    await mirror.close()
    assert tally.deleted + more.deleted == len(EXTRA)
    assert await left_in(backend) == KEPT


async def test_objects_that_no_job_of_this_machine_wrote_stay(make: Any, tmp_path: Path) -> None:
    """A bucket's journal alone knows whose an object is."""
    bucket = LabBucket()
    others = bucket_store(bucket, tmp_path / "other.journal")
    await others.begin(make.job())
    await others.commit([make.png(tile_id) for tile_id in EXTRA])
    await others.close()
    store, tally = bucket_store(bucket, tmp_path / "ours.journal"), Tally()
    mirror = MirroringStore(store, store, await source_of(make, KEPT), lambda _: True, tally)
    await mirror.begin(make.job("few", planned=len(KEPT)), force_source=True)
    await mirror.commit([make.png(tile_id) for tile_id in KEPT])
    await mirror.finish(complete=True, counts=JobCounts(len(KEPT), 0))
    assert (tally.deleted, tally.strangers) == (0, len(EXTRA))
    assert sorted([tile_id async for tile_id in store.tile_ids()]) == sorted([*KEPT, *EXTRA])
    await mirror.close()


async def test_a_cancelled_stop_ends_the_deleting(make: Any) -> None:
    source, store = await source_of(make, KEPT), await source_of(make, KEPT + EXTRA)
    stop, tally = Stop(), Tally()
    stop.cancel()
    mirror = MirroringStore(store, store, source, lambda _: True, tally, stop)
    with pytest.raises(FuseError, match="run it again"):
        await mirror.finish(complete=True)
    assert tally.deleted == 0


async def test_a_tile_that_the_source_cannot_read_is_not_missing_there(make: Any) -> None:
    """A dead letter says nothing of the bytes that an earlier run kept."""
    source, store, tally = await source_of(make, KEPT), await source_of(make, KEPT), Tally()
    await source.commit([make.dead(KEPT[0])])
    mirror = MirroringStore(store, store, source, lambda _: True, tally)
    await mirror.finish(complete=True)
    assert tally.deleted == 0
