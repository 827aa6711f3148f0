"""What `get_batch` promises, over every archive that has it: the same as `get`, many at a time."""

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from contract.conftest import BACKENDS, Backend
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.source import BatchSource
from tilehaul.ports.store import BatchArchive, TileArchive
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.stored import StoredSource
from tilehaul.stores import threaded
from tilehaul.stores.worker_thread import WorkerThread

IDS = [TileId(5, x, y) for x in range(4, 10) for y in range(7)]
OTHER = TileId(6, 1, 1)


@pytest.fixture(params=[kind for kind in BACKENDS if kind not in ("bucket", "memory")])
def backend(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Backend]:
    return Backend(request.param, tmp_path)


def as_it_is(tile: Tile) -> Tile:
    return tile


def whole(tile_id: TileId) -> Tile:
    return Tile(tile_id, plain_png(tile_id, size_bytes=600), "image/png")


async def filled(backend: Any, make: Any, outcomes: Any, *, complete: bool = True) -> Any:
    store = backend.open()
    await store.begin(make.job(metadata=(("format", "png"),)))
    await store.commit(outcomes)
    if complete:
        await store.finish(complete=True)
    await store.close()
    return backend.open()


@pytest.mark.parametrize("complete", [True, False])
async def test_answers_as_get_does(backend: Any, make: Any, complete: Any) -> None:
    """In order; what is not there, off the grid, absent, asked for twice; also of a job that is not done."""
    absent = make.absent(TileId(5, 20, 20))
    archive = await filled(backend, make, [*map(make.png, IDS), absent], complete=complete)
    asked = [*IDS[::-2], OTHER, absent.tile_id, TileId(5, 99, 1), TileId(40, 0, 0), IDS[3], IDS[3], *IDS]
    assert isinstance(archive, BatchArchive)
    assert list(await archive.get_batch(asked, as_it_is)) == [await archive.get(one) for one in asked]
    assert list(await archive.get_batch([], as_it_is)) == []
    await archive.close()


async def test_is_one_errand_of_the_thread(backend: Any, make: Any, monkeypatch: Any) -> None:
    archive = await filled(backend, make, [make.png(one) for one in IDS])
    errands = []
    run = WorkerThread.run
    monkeypatch.setattr(WorkerThread, "run", lambda *given: (errands.append(given[1]), run(*given))[1])
    assert len(await archive.get_batch(IDS, as_it_is)) == len(IDS)
    assert len(errands) == 1
    await archive.close()


async def test_ends_where_its_bytes_are_enough(backend: Any, make: Any, monkeypatch: Any) -> None:
    """With the tile that brings it there, so with one at least; what it left is asked for again."""
    archive = await filled(backend, make, [make.png(one, bytes(100)) for one in IDS])
    monkeypatch.setattr(threaded, "BATCH_BYTES", 250)
    assert [tile.tile_id for tile in await archive.get_batch(IDS, as_it_is)] == IDS[:3]
    monkeypatch.setattr(threaded, "BATCH_BYTES", 1)
    assert [tile.tile_id for tile in await archive.get_batch([OTHER, *IDS], as_it_is)] == [OTHER, IDS[0]]
    await archive.close()


async def test_broken_tile_fails_alone(backend: Any, make: Any) -> None:
    """As a source: each is verified, and the one that is cut short has its error in its place."""
    broken = IDS[4]
    tiles = [whole(one) for one in IDS]
    tiles[4] = Tile(broken, tiles[4].body[:-20], "image/png")
    archive = await filled(backend, make, tiles)
    source = await StoredSource.open(archive, "here")
    assert isinstance(source, BatchSource)
    answers = list(await source.get_batch([OTHER, *IDS]))
    with pytest.raises(DataError) as alone:
        await source.get(broken)
    error = answers.pop(5)
    assert isinstance(error, DataError)
    assert (str(error), error.cause, error.url) == (str(alone.value), "truncated", f"here#{broken}")
    assert answers[0] == NoTile(OTHER, "not_stored", "store")
    assert answers[1:] == [
        Tile(t.tile_id, t.body, "image/png", "store") for t in tiles if t.tile_id != broken
    ]
    await archive.close()


async def test_cancelled_batch_leaves_the_archive_whole(backend: Any, make: Any) -> None:
    archive = await filled(backend, make, [make.png(one) for one in IDS])
    batches = [asyncio.ensure_future(archive.get_batch(IDS, as_it_is)) for _ in range(3)]
    await asyncio.sleep(0)
    for batch in batches[:2]:
        batch.cancel()
    assert len(await batches[2]) == len(IDS)
    assert await archive.get(IDS[0]) == Tile(IDS[0], make.png(IDS[0]).body, "image/png", "store")
    await archive.close()


async def test_sees_what_was_committed_before_it(backend: Any, make: Any) -> None:
    """No look outlives its batch: after each commit, and after the end, the next batch has it all."""
    store = backend.open()
    await store.begin(make.job())
    seen = []
    for at in range(0, len(IDS), 14):
        await store.commit([make.png(one) for one in IDS[at : at + 14]])
        seen.append(sum(isinstance(one, Tile) for one in await store.get_batch(IDS, as_it_is)))
    assert seen == [14, 28, 42]
    await store.finish(complete=True)
    assert [one.body for one in await store.get_batch(IDS, as_it_is)] == [make.png(one).body for one in IDS]
    await store.close()


async def test_error_of_the_check_that_is_none_of_a_tile_is_raised(backend: Any, make: Any) -> None:
    """A mistake of ours is nobody's tile; the archive is usable afterwards."""
    archive = await filled(backend, make, [make.png(one) for one in IDS])

    def check(tile: Tile) -> Tile:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await archive.get_batch(IDS, check)
    assert len(await archive.get_batch(IDS, as_it_is)) == len(IDS)
    await archive.close()


async def test_no_archive_is_told_of(backend: Any) -> None:
    archive: TileArchive = backend.open()
    with pytest.raises(PlanError, match="no such"):
        await archive.get_batch(IDS, as_it_is)  # type: ignore[attr-defined]
    await archive.close()


async def test_damaged_row_fails_alone(tmp_path: Any, make: Any) -> None:
    """What is no blob, in the middle of a file of SQLite."""
    backend = Backend("mbtiles", tmp_path)
    await (await filled(backend, make, [make.png(one) for one in IDS])).close()
    with sqlite3.connect(tmp_path / "store.mbtiles") as connection:
        connection.execute("UPDATE tiles SET tile_data = 'text' WHERE rowid = 5")
    connection.close()
    archive = backend.open()
    answers = await archive.get_batch(IDS, as_it_is)
    assert [type(answer) for answer in answers] == [Tile] * 4 + [DataError] + [Tile] * (len(IDS) - 5)
    assert "corrupt_archive" in str(answers[4].cause)
    await archive.close()
