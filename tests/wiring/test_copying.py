"""Copies between stores of all kinds: what went in comes out, also after an interruption."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.errors import PlanError, StorageError
from tilehaul.grid.area import Area
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.compare import compare
from tilehaul.jobs.stop import Stop
from tilehaul.lab.plain_png import plain_png
from tilehaul.policy.fuse import FailureLimit
from tilehaul.ports.events import Event, JobStarted
from tilehaul.ports.store import Outcome
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.wiring.copying import copy
from tilehaul.wiring.places import open_archive
from tilehaul.wiring.seeding import SeedOptions, seed

FAST = SeedOptions(durability="fast")
tile_ids = st.integers(0, 30).flatmap(
    lambda z: st.builds(TileId, st.just(z), st.integers(0, (1 << z) - 1), st.integers(0, (1 << z) - 1))
)
# Of any tile set some tiles have the same bytes.
tile_sets = st.dictionaries(tile_ids, st.integers(0, 3), min_size=1, max_size=12)


def write(root: Path, tiles: dict[TileId, int]) -> None:
    for tile_id, number in tiles.items():
        folder = root / str(tile_id.z) / str(tile_id.x)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{tile_id.y}.png").write_bytes(plain_png(TileId(0, 0, number)))


async def differ(a: str, b: str) -> tuple[int, int]:
    """Tiles that are the same, and that are not."""
    left, right = open_archive(a), open_archive(b)
    try:
        found = await compare(left, right, lambda _: True)
    finally:
        await left.close()
        await right.close()
    return found.count("same"), sum(map(found.count, ("different", "only_a", "only_b")))


@settings(max_examples=8, deadline=None)
@given(tile_sets)
def test_any_tile_set_comes_back_from_every_kind_of_store(tiles: dict[TileId, int]) -> None:
    async def round_trip(root: Path) -> None:
        chain = [str(root / name) for name in ("a", "b.mbtiles", "c.pmtiles", "d", "e.pmtiles", "f.mbtiles")]
        for source, store in pairwise(chain):
            report = await copy(source, store, options=FAST)
            assert (report.state, report.done, report.planned) == ("complete", len(tiles), len(tiles))
        assert await differ(chain[0], chain[-1]) == (len(tiles), 0)

    with TemporaryDirectory() as folder:
        write(Path(folder) / "a", tiles)
        asyncio.run(round_trip(Path(folder)))


async def test_an_interrupted_copy_goes_on_and_reads_no_tile_twice(tmp_path: Path) -> None:
    tiles = {TileId(8, x, y): 0 for x in range(40) for y in range(40)}
    write(tmp_path / "a", tiles)
    source, store = str(tmp_path / "a"), str(tmp_path / "b.mbtiles")
    stop = Stop()
    loop = asyncio.get_running_loop()

    def end_soon(event: Event) -> None:
        if isinstance(event, JobStarted):
            loop.call_soon_threadsafe(stop.drain)

    first = await copy(source, store, options=FAST, watch=end_soon, stop=stop)
    assert first.done + first.pending == first.planned == len(tiles)
    second = await copy(source, store, options=FAST)
    assert second.state == "complete"
    assert second.skipped == first.done
    assert await differ(source, store) == (len(tiles), 0)


async def test_a_complete_copy_is_known_without_a_walk(tmp_path: Path) -> None:
    write(tmp_path / "a", {TileId(0, 0, 0): 0})
    source, store = str(tmp_path / "a"), str(tmp_path / "b.mbtiles")
    await copy(source, store, options=FAST)
    again = await copy(source, store, options=FAST)
    assert (again.state, again.skipped, again.bytes) == ("complete", 1, 0)


async def cut_short(source: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy into MBTiles that ends when half of its tiles are kept."""
    commit = MbtilesStore.commit

    async def once(self: MbtilesStore, outcomes: Sequence[Outcome]) -> None:
        await commit(self, outcomes[: len(outcomes) // 2])
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(MbtilesStore, "commit", once)
        with pytest.raises(StorageError):
            await copy(source, store, options=FAST)


@pytest.mark.parametrize("kind", ["mbtiles", "gpkg", "pmtiles"])
@pytest.mark.parametrize("more", [0, 1])
async def test_an_unfinished_copy_does_not_go_on_with_another_archive_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, more: int
) -> None:
    tiles = {TileId(3, x, y): x for x in range(4) for y in range(4)}
    write(tmp_path / "old", tiles)
    write(tmp_path / "new", {i: n + 4 for i, n in tiles.items()} | ({TileId(3, 7, 7): 1} if more else {}))
    source, store = str(tmp_path / f"a.{kind}"), str(tmp_path / "b.mbtiles")
    await copy(str(tmp_path / "old"), source, options=FAST)
    await cut_short(source, store, monkeypatch)
    Path(source).unlink()
    await copy(str(tmp_path / "new"), source, options=FAST)
    for _ in range(2):
        with pytest.raises(
            PlanError, match=r"has changed since: then [\d,]+ bytes, written 2.* now .*--update"
        ):
            await copy(source, store, options=FAST)
    # Nor after an update that was cut short, which leaves some tiles of each.
    monkeypatch.setattr("tilehaul.jobs.outbox.COMMIT_TILES", 4)
    stop = Stop()
    stop.drain()
    assert (await copy(source, store, update=True, options=FAST, stop=stop)).state == "interrupted"
    with pytest.raises(PlanError, match="then more than one version, now"):
        await copy(source, store, options=FAST)
    assert (await copy(source, store, update=True, options=FAST)).state == "complete"
    assert await differ(source, store) == (16 + more, 0)
    assert (await copy(source, store, options=FAST)).skipped == 16 + more


def left_by_a_dead_writer(path: Path, log: str) -> None:
    """An MBTiles with all of its tiles in the log, or half a change to be taken back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        if log == "-wal":
            connection.execute("PRAGMA journal_mode = wal")
        connection.execute("BEGIN")
        connection.execute("UPDATE tiles SET tile_data = tile_data")
        connection.execute("INSERT INTO tiles VALUES (9, 1, 1, zeroblob(100000))")
        if log == "-wal":
            connection.execute("DELETE FROM tiles WHERE zoom_level = 9")
            connection.execute("COMMIT")
        bodies = {part: part.read_bytes() for part in (path, Path(f"{path}{log}"))}
    for part, body in bodies.items():
        part.write_bytes(body)


@pytest.mark.parametrize("log", ["-wal", "-journal"])
async def test_our_own_reading_changes_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    """Whatever SQLite does to the file for a reader; a write that is in the log alone is a change."""
    tiles = {TileId(3, x, y): x for x in range(4) for y in range(4)}
    write(tmp_path / "a", tiles)
    path = tmp_path / "a.mbtiles"
    source, store = str(path), str(tmp_path / "b.mbtiles")
    await copy(str(tmp_path / "a"), source, options=FAST)
    left_by_a_dead_writer(path, log)
    before = path.stat().st_mtime_ns
    await cut_short(source, store, monkeypatch)
    assert (path.stat().st_mtime_ns == before) == (log == "-wal")
    assert await differ(source, str(tmp_path / "a")) == (16, 0)
    assert (await copy(source, store, options=FAST)).state == "complete"
    assert (await copy(source, store, options=FAST)).skipped == 16
    assert await differ(source, store) == (16, 0)
    # A source in WAL mode without a log: SQLite makes an empty one for a reader.
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other = str(tmp_path / "c.mbtiles")
    await cut_short(source, other, monkeypatch)
    assert (await copy(source, other, options=FAST)).state == "complete"
    await cut_short(source, str(tmp_path / "d.mbtiles"), monkeypatch)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        before = path.stat().st_mtime_ns
        connection.execute(
            "UPDATE tiles SET tile_data = ? WHERE tile_column = 0", (plain_png(TileId(0, 0, 9)),)
        )
        assert path.stat().st_mtime_ns == before
        with pytest.raises(PlanError, match="has changed since"):
            await copy(source, str(tmp_path / "d.mbtiles"), options=FAST)


@pytest.mark.parametrize("kind", ["", ".mbtiles"])
@pytest.mark.parametrize("within", [None, Area.from_bbox(-180, -85, 180, 85, zooms=[2])])
async def test_as_many_tiles_at_other_addresses_are_another_job(
    tmp_path: Path, kind: str, within: Area | None
) -> None:
    write(tmp_path / "a", {TileId(2, x, 0): 0 for x in range(4)})
    source, store = str(tmp_path / f"a{kind}"), str(tmp_path / "b.mbtiles")
    if kind:
        await copy(str(tmp_path / "a"), source, options=FAST)
    assert (await copy(source, store, within=within, options=FAST)).done == 4
    (tmp_path / "a/2/0/0.png").unlink()
    write(tmp_path / "a", {TileId(2, 3, 3): 1})
    if kind:
        await copy(str(tmp_path / "a"), source, update=True, delete=True, options=FAST)
    report = await copy(source, store, within=within, options=FAST)
    assert (report.state, report.done, report.skipped) == ("complete", 4, 3)
    assert await differ(source, store) == (4, 1)


async def test_what_a_seed_found_absent_is_copied_once_the_source_lists_it(tmp_path: Path) -> None:
    """A journal that lives on, for the sake of a dead letter, knows what was absent then."""
    write(tmp_path / "a", {TileId(1, 0, 0): 0})
    (tmp_path / "a/1/0/1.png").write_bytes(b"no tile")
    source, store = str(tmp_path / "a"), str(tmp_path / "b.mbtiles")
    sending = replace(FAST, max_failures=FailureLimit())
    seeded = await seed(source, store, Area.from_bbox(-180, -85, 180, 85, zooms=[1]), options=sending)
    assert (seeded.absent, seeded.dead) == (2, 1)
    write(tmp_path / "a", {TileId(1, 0, 1): 1, TileId(1, 1, 1): 2})
    copied = await copy(source, store, options=FAST)
    assert (copied.state, copied.done, copied.absent, copied.skipped) == ("complete", 3, 0, 1)
    assert await differ(source, store) == (3, 0)


async def test_what_an_archive_says_besides_is_carried_with_all_of_it(tmp_path: Path) -> None:
    """An overlay stays one. A part has a middle of its own."""
    write(tmp_path / "a", {TileId(1, 1, 1): 0, TileId(2, 3, 3): 0})
    first, last = str(tmp_path / "b.mbtiles"), str(tmp_path / "d.mbtiles")
    await copy(str(tmp_path / "a"), first, options=FAST)
    said = {"type": "overlay", "version": "2.1", "center": "120.5,-70.25,2"}
    with closing(sqlite3.connect(first)) as connection:
        connection.executemany(
            "UPDATE metadata SET value = ? WHERE name = ?", [(v, k) for k, v in said.items()]
        )
        connection.commit()
    await copy(first, str(tmp_path / "c.pmtiles"), options=FAST)
    await copy(str(tmp_path / "c.pmtiles"), last, options=FAST)
    assert said.items() <= (await described(last)).items()
    part = str(tmp_path / "e.mbtiles")
    await copy(first, part, within=Area.from_bbox(100, -80, 170, -70, zooms=[2]), options=FAST)
    carried = await described(part)
    assert (carried["type"], carried["version"]) == ("overlay", "2.1")
    assert carried["center"] == "135,-75,2"


async def described(location: str) -> Mapping[str, str]:
    archive = open_archive(location)
    try:
        return (await archive.describe()).metadata
    finally:
        await archive.close()
