"""An MBTiles file that keeps equal tiles once: what is in it, and what leaves no trace."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import mbtiles_dedup
from tilehaul.stores.mbtiles import MbtilesStore

SEA = b"\x89PNG\r\n\x1a\n sea"
LAND = b"\x89PNG\r\n\x1a\n land"
A, B, C, D = (TileId(3, x, 1) for x in range(4))


def tile(tile_id: TileId, body: bytes) -> Tile:
    return Tile(tile_id, body, "image/png")


async def run(
    path: Path, *batches: Sequence[Any], area: str = "a", finish: bool = True, **options: Any
) -> None:
    store = MbtilesStore(path, durability="fast", **options)
    await store.begin(JobKey("s", "S", area, 4))
    for batch in batches:
        await store.commit(batch)
    if finish:
        await store.finish(complete=True)
    await store.close()


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return list(connection.execute(query).fetchall())
    finally:
        connection.close()


def images(path: Path) -> list[bytes]:
    return [row[0] for row in rows(path, "SELECT tile_data FROM images ORDER BY tile_id")]


async def test_equal_tiles_are_kept_once_over_batches_and_jobs(tmp_path: Any) -> None:
    """Also by a job that does not ask for it: the file is what it is."""
    path = tmp_path / "t.mbtiles"
    await run(path, [tile(A, SEA), tile(B, SEA)], [tile(C, SEA), tile(D, LAND)], deduplicate=True)
    await run(path, [tile(TileId(4, 0, 0), SEA)], area="b")
    assert images(path) == [SEA, LAND]
    store = MbtilesStore(path)
    assert [await store.get(i) for i in (A, D)] == [
        Tile(A, SEA, "image/png", "store"),
        Tile(D, LAND, "image/png", "store"),
    ]
    assert (await store.describe()).tiles == 5
    await store.close()
    kinds = dict(rows(path, "SELECT name, type FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))
    assert kinds == {
        "metadata": "table", "metadata_name": "index",
        "images": "table", "images_digest": "index", "map": "table", "tiles": "view",
    }  # fmt: skip


async def test_bytes_decide_not_the_digest(tmp_path: Any, monkeypatch: Any) -> None:
    """Two pictures of one digest, in one batch and in two: each address shows its own."""
    monkeypatch.setattr(mbtiles_dedup.xxhash, "xxh3_128_digest", lambda _body: b"same")
    path = tmp_path / "t.mbtiles"
    await run(path, [tile(A, SEA), tile(B, LAND)], [tile(C, SEA), tile(D, LAND)], deduplicate=True)
    assert images(path) == [SEA, LAND]
    shown = rows(path, "SELECT tile_column, tile_data FROM tiles ORDER BY 1")
    assert shown == [(0, SEA), (1, LAND), (2, SEA), (3, LAND)]


async def test_pictures_that_nothing_shows_any_more_go_at_the_end(tmp_path: Any) -> None:
    """Overwritten or gone, in this run or in one that was interrupted; what another address shows stays."""
    path = tmp_path / "t.mbtiles"
    old = [b"%s %d" % (LAND, number) for number in range(3)]
    await run(path, [tile(A, old[0]), tile(B, old[1]), tile(C, old[1]), tile(D, old[2])], deduplicate=True)
    await run(path, [tile(A, SEA), tile(B, SEA)], area="b", finish=False)
    assert images(path) == [*old, SEA]
    await run(path, [NoTile(D)], area="b")
    assert images(path) == [old[1], SEA]
    assert rows(path, "SELECT name FROM sqlite_schema WHERE name LIKE 'tilehaul%'") == []
    # Back again as it was before, and gone in the same job: nothing is doubled or lost.
    await run(path, [tile(C, SEA)], [tile(C, old[1])], area="c")
    assert images(path) == [old[1], SEA]
    assert rows(path, "SELECT count(*) FROM tiles") == [(3,)]


async def test_dead_letter_of_an_overwrite_keeps_the_picture(tmp_path: Any) -> None:
    """The old bytes stay readable, as in the flat table."""
    path = tmp_path / "t.mbtiles"
    await run(path, [tile(A, SEA)], deduplicate=True)
    await run(path, [DeadLetter(A, "http_500", 6)], area="b")
    assert images(path) == [SEA]
    store = MbtilesStore(path)
    assert await store.get(A) == Tile(A, SEA, "image/png", "store")
    assert list(await store.states([A])) == ["dead"]
    await store.close()


async def test_flat_file_is_not_turned_into_a_deduplicated_one(tmp_path: Any) -> None:
    """Refused with what to do; the file stays as it is."""
    path = tmp_path / "t.mbtiles"
    await run(path, [tile(A, SEA)])
    with pytest.raises(PlanError, match="leave --deduplicate away"):
        await run(path, [tile(B, SEA)], area="b", deduplicate=True)
    assert rows(path, "SELECT count(*) FROM tiles") == [(1,)]


@pytest.mark.parametrize("deduplicate", [False, True])
async def test_tables_of_another_program_are_read_and_not_written(tmp_path: Any, deduplicate: Any) -> None:
    """Its ids are texts, its digests unknown."""
    path = tmp_path / "t.mbtiles"
    connection = apsw.Connection(str(path))
    connection.execute(
        "CREATE TABLE metadata (name TEXT, value TEXT);"
        "CREATE TABLE images (tile_data BLOB, tile_id TEXT);"
        "CREATE TABLE map (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_id TEXT);"
        "CREATE VIEW tiles AS SELECT zoom_level, tile_column, tile_row, tile_data FROM map "
        "JOIN images ON images.tile_id = map.tile_id;"
        f"INSERT INTO images VALUES (x'{SEA.hex()}', 'abc'); INSERT INTO map VALUES (3, 0, 6, 'abc')"
    )
    connection.close()
    store = MbtilesStore(path, deduplicate=deduplicate)
    assert await store.get(A) == Tile(A, SEA, "image/png", "store")
    with pytest.raises(PlanError, match="cannot add to it"):
        await store.begin(JobKey("s", "S", "a", 4), force_source=True)
    await store.close()
