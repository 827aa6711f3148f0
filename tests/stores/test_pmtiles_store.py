"""PMTiles files: their bytes, what a crash leaves, adding to one, archives of others."""

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilehaul.codec.pmtiles import NONE, PmtilesHeader, Span, header_bytes, packed
from tilehaul.codec.pmtiles_directory import Entry, directory_bytes
from tilehaul.codec.sniff import VECTOR_TILE
from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import pmtiles_layout, pmtiles_merge, pmtiles_spool, pmtiles_writer
from tilehaul.stores.pmtiles import PmtilesStore
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.sqlite_file import PAGE_BYTES

PNG = b"\x89PNG\r\n\x1a\n"
IDS = [TileId(z, x, y) for z in (3, 5) for x in range(8) for y in range(8)]


def job(area: str = "area", planned: int = 10, **others: Any) -> JobKey:
    return JobKey(source_identity="s", source_name="S", area_identity=area, planned=planned, **others)


def tile(tile_id: TileId, text: bytes = b"") -> Tile:
    return Tile(tile_id, PNG + (text or str(tile_id).encode()), "image/png")


def opened(path: Path) -> PmtilesStore:
    return PmtilesStore(path, durability="fast")


async def filled(path: Path, outcomes: Any, area: str = "area", **others: Any) -> None:
    store = opened(path)
    await store.begin(job(area, **others))
    await store.commit(outcomes)
    await store.finish(complete=True)
    await store.close()


async def kept(path: Path) -> dict[TileId, bytes]:
    store = opened(path)
    found = {}
    async for tile_id in store.tile_ids():
        answer = await store.get(tile_id)
        assert isinstance(answer, Tile), tile_id
        found[tile_id] = answer.body
    await store.close()
    return found


async def test_file_is_clustered_and_keeps_equal_tiles_once(tmp_path: Any) -> None:
    """Input in no order; sections follow each other; counts are those of the directories."""
    path = tmp_path / "a.pmtiles"
    shuffled = random.Random(1).sample(IDS, len(IDS))
    tiles = [tile(i, b"sea" if i.x % 2 else str(i).encode()) for i in shuffled]
    await filled(path, tiles)
    file = PmtilesFile(path)
    header = file.header
    assert header.root.offset == 127
    assert header.metadata.offset == header.root.stop
    assert header.leaves.offset == header.metadata.stop
    assert header.data.offset == header.leaves.stop
    assert header.data.stop == path.stat().st_size
    assert (header.clustered, header.tile_type, header.zoom_min, header.zoom_max) == (True, 2, 3, 5)
    entries = list(file.walk())
    assert header.addressed == sum(entry.run for entry in entries) == len(IDS)
    assert header.entries == len(entries)
    assert header.contents == len({entry.offset for entry in entries}) == len(IDS) // 2 + 1
    # Clustered: each body is either seen before or follows the last new one.
    stop = 0
    for entry in entries:
        assert entry.offset <= stop
        stop = max(stop, entry.offset + entry.length)
    assert stop == header.data.length
    file.close()
    assert await kept(path) == {t.tile_id: t.body for t in tiles}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pmtiles"]


async def test_same_tiles_in_any_order_make_the_same_file(tmp_path: Any) -> None:
    tiles = [tile(i) for i in IDS]
    for name, some in (("a", tiles), ("b", tiles[::-1])):
        await filled(tmp_path / f"{name}.pmtiles", some, metadata=(("name", "same"),))
    assert (tmp_path / "a.pmtiles").read_bytes() == (tmp_path / "b.pmtiles").read_bytes()


async def test_equal_digests_of_different_bytes_stay_two_tiles(tmp_path: Any, monkeypatch: Any) -> None:
    """All digests the same: bytes decide, in one commit, in two, and against a file that is added to."""
    monkeypatch.setattr(pmtiles_spool, "digest_of", lambda _: 7)
    path = tmp_path / "a.pmtiles"
    store = opened(path)
    await store.begin(job())
    first, second = [tile(i) for i in IDS[:3]], [tile(i, b"3/0/0") for i in IDS[3:6]]
    await store.commit(first)
    await store.commit(second)
    await store.finish(complete=True)
    await store.close()
    third = [tile(i, text) for i, text in zip(IDS[6:9], (b"3/0/1", b"3/1/9", b"3/0/0"), strict=True)]
    await filled(path, third, "more")
    assert await kept(path) == {t.tile_id: t.body for t in first + second + third}
    file = PmtilesFile(path)
    assert file.header.contents == 4
    file.close()


async def test_many_entries_go_into_leaves_and_the_root_stays_small(tmp_path: Any, monkeypatch: Any) -> None:
    """Also when the first size of leaf was too small."""
    monkeypatch.setattr(pmtiles_layout, "LEAF_ENTRIES_MIN", 2)
    monkeypatch.setattr(pmtiles_layout, "ROOT_BYTES_MAX", 120)
    monkeypatch.setattr(pmtiles_layout, "_PLAN_ITEMS", 4)
    path = tmp_path / "a.pmtiles"
    tiles = [tile(TileId(7, x, y)) for x in range(40) for y in range(40)]
    await filled(path, tiles)
    file = PmtilesFile(path)
    assert file.header.root.length <= 120
    assert file.header.leaves.length > 0
    file.close()
    assert await kept(path) == {t.tile_id: t.body for t in tiles}


async def test_vector_tiles_are_all_zipped_and_said_to_be(tmp_path: Any) -> None:
    """One came zipped and one plain; the header speaks for both."""
    path = tmp_path / "a.pmtiles"
    plain = b"\x1a\x02\x78\x02"
    tiles = [Tile(IDS[0], plain, VECTOR_TILE), Tile(IDS[1], gzip.compress(plain), VECTOR_TILE)]
    await filled(path, tiles, metadata=(("json", '{"vector_layers": [{"id": "x", "fields": {}}]}'),))
    file = PmtilesFile(path)
    assert (file.header.tile_type, file.header.tile_compression) == (1, 2)
    assert file.document["vector_layers"] == [{"id": "x", "fields": {}}]
    file.close()
    assert {gzip.decompress(body) for body in (await kept(path)).values()} == {plain}
    with pytest.raises(PlanError, match="cannot be added"):
        await opened(path).begin(job("pictures", metadata=(("format", "png"),)))


async def test_adding_keeps_what_is_there_replaces_and_removes(tmp_path: Any) -> None:
    path = tmp_path / "a.pmtiles"
    await filled(path, [tile(i) for i in IDS])
    before = path.read_bytes()
    store = opened(path)
    await store.begin(job("more"))
    more = TileId(6, 1, 1)
    await store.commit([tile(IDS[0], b"new"), NoTile(IDS[1], "http_404"), tile(more)])
    expected = {i: tile(i).body for i in IDS} | {IDS[0]: tile(IDS[0], b"new").body, more: tile(more).body}
    del expected[IDS[1]]
    # Until the end the file is what it was, and is read with what waits beside it.
    assert path.read_bytes() == before
    assert await kept(path) == expected
    assert (await store.describe()).tiles_by_zoom == {3: 63, 5: 64, 6: 1}
    await store.finish(complete=True)
    await store.close()
    assert await kept(path) == expected
    assert (await opened(path).describe()).tiles_by_zoom == {3: 63, 5: 64, 6: 1}


class Crash(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


STEPS = [
    (pmtiles_merge, "_import"),
    (pmtiles_merge, "plan_layout"),
    (pmtiles_merge, "write_archive"),
    (pmtiles_merge, "write_marks"),
    (os, "replace"),
    (pmtiles_merge, "sync_folder"),
    (pmtiles_writer.PmtilesWriter, "_forget_spool"),
    (pmtiles_writer.shutil, "rmtree"),
    (pmtiles_writer.PmtilesWriter, "seal"),
]


@pytest.mark.parametrize("step", range(len(STEPS)))
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dead", [False, True])
async def test_crash_while_the_file_is_made_leaves_the_old_or_the_new(
    tmp_path: Any, monkeypatch: Any, step: Any, after: Any, dead: Any
) -> None:
    """Before or after each step: the name holds a whole file, nothing is lost, the same job ends the same."""
    path = tmp_path / "a.pmtiles"
    old = [tile(i) for i in IDS]
    await filled(path, old, "old")
    await filled(tmp_path / "whole.pmtiles", [*old, tile(TileId(6, 1, 1))])
    place, name = STEPS[step]
    inner = getattr(place, name)

    def crash(*args: Any, **kwargs: Any) -> Any:
        if after:
            inner(*args, **kwargs)
        raise Crash

    store = opened(path)
    more = [tile(IDS[0], b"new"), NoTile(IDS[1], "http_404"), tile(TileId(6, 1, 1))]
    letters = [DeadLetter(TileId(6, 2, 2), "http_500", 6)] if dead else []
    counts = JobCounts(2, 1, dead=len(letters))
    key = job("more", planned=counts.total)
    await store.begin(key)
    await store.commit([*more, *letters])
    with monkeypatch.context() as patch:
        patch.setattr(place, name, crash)
        with pytest.raises(Crash):
            await store.finish(complete=not dead, counts=counts)
    # What the system does for a process that was killed; nothing of it is told to the store.
    store._writer._lock.release()  # type: ignore[attr-defined]
    if store._writer._file is not None:  # type: ignore[attr-defined]
        store._writer._file.connection.close(force=True)  # type: ignore[attr-defined]
    expected = {i: tile(i).body for i in IDS}
    expected |= {IDS[0]: tile(IDS[0], b"new").body, TileId(6, 1, 1): tile(TileId(6, 1, 1)).body}
    del expected[IDS[1]]
    file = PmtilesFile(path)
    assert file.header.addressed in (len(old), len(expected))
    file.close()
    assert await kept(path) == expected

    again = opened(path)
    found = await again.begin(key)
    states = list(await again.settled([IDS[0], TileId(6, 1, 1), TileId(6, 2, 2)]))
    assert states == ["done", "done", "dead" if dead else None]
    if found is None:
        await again.finish(complete=not dead, counts=counts)
    else:
        assert (found, dead) == (counts, False)
    await again.close()
    assert await kept(path) == expected
    names = {p.name for p in tmp_path.iterdir()} - {"whole.pmtiles"}
    assert names == ({"a.pmtiles", "a.pmtiles.journal"} if dead else {"a.pmtiles"})
    info = await opened(path).describe()
    assert (info.state, info.tiles, info.dead) == (
        "partial" if dead else "complete",
        len(expected),
        len(letters),
    )


@pytest.mark.parametrize("left", ["nothing", "empty database"])
async def test_journal_of_a_run_that_was_killed_at_once_is_gone_on_with(tmp_path: Any, left: Any) -> None:
    """Its file is there and not one table in it."""
    path = tmp_path / "a.pmtiles"
    journal = tmp_path / "a.pmtiles.journal"
    journal.touch()
    if left == "empty database":
        connection = apsw.Connection(str(journal))
        connection.pragma("journal_mode", "wal")
        connection.close()
    await filled(path, [tile(IDS[0])], planned=1)
    assert await kept(path) == {IDS[0]: tile(IDS[0]).body}
    assert {p.name for p in tmp_path.iterdir()} == {"a.pmtiles"}


async def test_spool_that_nobody_knows_of_goes(tmp_path: Any) -> None:
    """It could not be removed at the end of a job: the next one does it, also when nothing else is due."""
    path = tmp_path / "a.pmtiles"
    await filled(path, [tile(IDS[0])], planned=1)
    (tmp_path / "a.pmtiles.part").mkdir()
    (tmp_path / "a.pmtiles.part" / "tiles-1").write_bytes(b"rest")
    # A power cut may keep the removal of the journal and lose that of what lay beside it.
    (tmp_path / "a.pmtiles.journal-journal").write_bytes(b"rest")
    store = opened(path)
    assert await store.begin(job(planned=1)) == JobCounts(1, 0)
    await store.close()
    assert {p.name for p in tmp_path.iterdir()} == {"a.pmtiles"}


async def test_damaged_journal_is_told_of_when_a_job_begins(tmp_path: Any) -> None:
    """Not as SQLite's own error, whichever page it is that makes no sense."""
    path = tmp_path / "a.pmtiles"
    store = opened(path)
    await store.begin(job())
    await store.commit([tile(i) for i in IDS])
    await store.close()
    journal = tmp_path / "a.pmtiles.journal"
    whole = journal.read_bytes()
    told = 0
    for page in range(1, len(whole) // PAGE_BYTES):
        journal.write_bytes(
            whole[: page * PAGE_BYTES] + b"\xff" * PAGE_BYTES + whole[(page + 1) * PAGE_BYTES :]
        )
        store = opened(path)
        try:
            await store.begin(job())
            await store.settled(IDS)
        except DataError as error:
            told += str(journal) in str(error)
        finally:
            await store.close()
    assert told > 2


async def test_job_without_one_tile_makes_no_file(tmp_path: Any) -> None:
    """The format has no archive of none; the journal knows that the job is complete."""
    path = tmp_path / "a.pmtiles"
    await filled(path, [NoTile(IDS[0], "http_404")], planned=1)
    assert not path.exists()
    store = opened(path)
    assert (await store.describe()).state == "complete"
    assert await store.begin(job(planned=1)) == JobCounts(1, 0)
    await store.close()


@pytest.mark.parametrize("change", ["gone", "other"])
async def test_journal_of_another_file_is_refused(tmp_path: Any, change: Any) -> None:
    """What it says is done is not there: put back or removed, but never believed."""
    path = tmp_path / "a.pmtiles"
    store = opened(path)
    await store.begin(job(planned=2))
    await store.commit([tile(IDS[0]), DeadLetter(IDS[1], "http_500", 6)])
    await store.finish(complete=False, counts=JobCounts(1, 0, dead=1))
    await store.close()
    path.unlink()
    if change == "other":
        await filled(tmp_path / "b.pmtiles", [tile(IDS[3])])
        (tmp_path / "b.pmtiles").rename(path)
    with pytest.raises(PlanError, match=r"a\.pmtiles\.journal and a\.pmtiles\.part"):
        await opened(path).begin(job(planned=2))


async def test_file_without_its_journal_still_says_that_tiles_are_dead(tmp_path: Any) -> None:
    path = tmp_path / "a.pmtiles"
    store = opened(path)
    await store.begin(job(planned=2))
    await store.commit([tile(IDS[0]), DeadLetter(IDS[1], "http_500", 6)])
    await store.finish(complete=False, counts=JobCounts(1, 0, dead=1))
    await store.close()
    (tmp_path / "a.pmtiles.journal").unlink()
    info = await opened(path).describe()
    assert (info.state, info.dead) == ("partial", 1)


def foreign(path: Path, tiles: dict[int, bytes], document: Any = None, **header: Any) -> None:
    """An archive as others write them."""
    entries, data = [], b""
    for number, body in sorted(tiles.items()):
        entries.append(Entry(number, 1, len(data), len(body)))
        data += body
    plain = header.get("internal_compression") == NONE
    root, metadata = directory_bytes(entries), json.dumps(document or {}).encode()
    if not plain:
        root, metadata = packed(root), packed(metadata)
    at = 127 + len(root)
    spans = (Span(127, len(root)), Span(at, len(metadata)), Span(at + len(metadata), 0))
    made = PmtilesHeader(*spans, Span(at + len(metadata), len(data)), **header)
    path.write_bytes(header_bytes(made) + root + metadata + data)


async def test_archives_of_others_are_read(tmp_path: Any) -> None:
    """Without compression; zipped pictures are unzipped; members that are no text survive adding."""
    path = tmp_path / "a.pmtiles"
    numbers = {i.pmtiles_id: tile(i).body for i in IDS[:2]}
    document = {"name": "x", "tilestats": {"layerCount": 1}, "planet": 3}
    foreign(path, numbers, document, internal_compression=NONE, tile_type=2, zoom_min=3, zoom_max=3)
    assert await kept(path) == {i: tile(i).body for i in IDS[:2]}
    store = opened(path)
    info = await store.describe()
    assert (info.state, info.metadata["name"], info.metadata["format"]) == ("foreign", "x", "png")
    assert await store.states([IDS[0], IDS[5]]) == ["done", None]
    with pytest.raises(PlanError, match="--force-source"):
        await store.begin(job())
    await store.begin(job(), force_source=True)
    await store.commit([tile(IDS[5])])
    await store.finish(complete=True)
    await store.close()
    file = PmtilesFile(path)
    assert (file.document["tilestats"], file.document["planet"]) == ({"layerCount": 1}, 3)
    file.close()
    assert set(await kept(path)) == {IDS[0], IDS[1], IDS[5]}

    zipped = {number: gzip.compress(body) for number, body in numbers.items()}
    foreign(path, zipped, tile_type=2, tile_compression=2, zoom_min=3, zoom_max=3)
    assert await kept(path) == {i: tile(i).body for i in IDS[:2]}
    with pytest.raises(PlanError, match="another compression"):
        await opened(path).begin(job(), force_source=True)


async def test_damaged_archives_are_told_of_in_one_line(tmp_path: Any) -> None:
    """Cut anywhere: a DataError that names the file; nothing else, and nothing is taken for absent."""
    path, cut = tmp_path / "a.pmtiles", tmp_path / "cut.pmtiles"
    await filled(path, [tile(i) for i in IDS])
    whole = path.read_bytes()
    for length in (0, 7, 50, 127, 200, len(whole) - 1):
        cut.write_bytes(whole[:length])
        for call in ("describe", "source_info"):
            store = opened(cut)
            with pytest.raises(DataError, match=r"cut\.pmtiles") as caught:
                await getattr(store, call)()
            assert "\n" not in str(caught.value)
            await store.close()
        with pytest.raises(DataError):
            await opened(cut).begin(job("other"))
    assert {p.name for p in tmp_path.iterdir()} == {"a.pmtiles", "cut.pmtiles"}


async def test_folder_of_that_name_is_refused(tmp_path: Any) -> None:
    (tmp_path / "a.pmtiles").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        await opened(tmp_path / "a.pmtiles").begin(job())


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 30), st.integers(0, 2**30), st.integers(0, 2**30)),
        st.binary(max_size=4),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 20),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_tiles_come_back_from_two_jobs(tmp_path_factory: Any, places: Any, cut: Any) -> None:
    """Any set, in two jobs: what went in comes out, nothing else."""
    tiles = [tile(TileId(z, x % (1 << z), y % (1 << z)), body) for (z, x, y), body in places.items()]
    path = tmp_path_factory.mktemp("any") / "a.pmtiles"
    for number, some in enumerate((tiles[:cut], tiles[cut:])):
        if some:
            await filled(path, some, str(number))
    assert await kept(path) == {t.tile_id: t.body for t in tiles}
