"""An MBTiles file as others see it: written by the 1.3 specification, read from anybody."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from tilehaul.errors import DataError, PlanError, StorageError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import journal
from tilehaul.stores import sqlite_reader as reading
from tilehaul.stores.archive_metadata import (
    bounds_text,
    center_text,
    format_of,
    media_type_of_format,
    merged,
    parse_bounds,
    widened,
)
from tilehaul.stores.mbtiles import MbtilesStore
from tilehaul.stores.vector_layers import merged_json_row, vector_layers_of

PNG = b"\x89PNG\r\n\x1a\n rest"
JPEG = b"\xff\xd8\xff\xe0 rest"
JOB = JobKey("s", "S", "a", 4, metadata=(("name", "Alps"), ("bounds", "5,40,15,50"), ("minzoom", "2")))
A = TileId(3, 5, 1)


async def written(path: Path, *tiles: Tile, job: JobKey = JOB) -> MbtilesStore:
    store = MbtilesStore(path, durability="fast")
    await store.begin(job)
    await store.commit(tiles or [Tile(A, PNG, "image/png")])
    await store.finish(complete=True)
    await store.close()
    return MbtilesStore(path)


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(query).fetchall())
    finally:
        connection.close()


def foreign(path: Path, *statements: str) -> Path:
    """A file made by somebody else; the tile 3/5/1 (row 6 from the south) is a JPEG."""
    connection = apsw.Connection(str(path))
    for statement in statements or (
        "CREATE TABLE metadata (name TEXT, value TEXT)",
        "CREATE TABLE tiles (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, tile_data BLOB)",
        "INSERT INTO metadata VALUES ('name', 'Theirs'), ('format', 'jpeg'), ('empty', NULL)",
        f"INSERT INTO tiles VALUES (3, 5, 6, x'{JPEG.hex()}')",
    ):
        connection.execute(statement)
    connection.close()
    return path


async def test_file_follows_the_specification(tmp_path: Any) -> None:
    """Tables, index, application id, format name, TMS row, and no table of ours once complete."""
    path = tmp_path / "t.mbtiles"
    await written(path, Tile(A, JPEG, "image/jpeg"))
    assert rows(path, "PRAGMA application_id") == [(0x4D504258,)]
    assert rows(path, "PRAGMA journal_mode") == [("delete",)]
    assert rows(path, "SELECT * FROM tiles") == [(3, 5, 6, JPEG)]
    names = {row[0] for row in rows(path, "SELECT name FROM sqlite_schema")}
    assert names == {"tiles", "metadata", "tile_index", "metadata_name"}
    indexes = rows(path, "SELECT name, \"unique\" FROM pragma_index_list('tiles')")
    assert indexes == [("tile_index", 1)]
    columns = rows(path, "SELECT name FROM pragma_index_info('tile_index') ORDER BY seqno")
    assert columns == [("zoom_level",), ("tile_column",), ("tile_row",)]
    metadata = {row[0]: row[1] for row in rows(path, "SELECT name, value FROM metadata")}
    assert {name: value for name, value in metadata.items() if not str(name).startswith("tilehaul_")} == {
        "name": "Alps", "format": "jpg", "bounds": "5,40,15,50", "center": "10,45,2",
        "minzoom": "2", "maxzoom": "3", "type": "baselayer", "version": "1",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["t.mbtiles"]


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("image/png", "png"),
        ("image/webp", "webp"),
        ("application/vnd.mapbox-vector-tile", "pbf"),
        ("image/avif", "image/avif"),
    ],
)
async def test_format_is_named_at_the_first_tile(tmp_path: Any, media_type: Any, name: Any) -> None:
    """Already while the job runs, so that a partial file can be looked at."""
    store = MbtilesStore(tmp_path / "t.mbtiles")
    await store.begin(JobKey("s", "S", "a", 4))
    await store.commit([NoTile(TileId(3, 0, 0))])
    await store.commit([Tile(A, b"?", media_type)])
    assert (await store.describe()).metadata["format"] == name
    await store.finish(complete=True)
    assert ("json" in (await store.describe()).metadata) == (name == "pbf")
    await store.close()


async def test_journal_stays_while_something_is_dead(tmp_path: Any) -> None:
    """The tables go with the last dead letter, not before."""
    path = tmp_path / "t.mbtiles"
    store = MbtilesStore(path)
    await store.begin(JOB)
    await store.commit([Tile(A, PNG, "image/png"), DeadLetter(TileId(3, 0, 0), "http_500", 6)])
    await store.finish(complete=False)
    await store.close()
    ours = "SELECT name FROM sqlite_schema WHERE name LIKE 'tilehaul%' AND type = 'table' ORDER BY name"
    assert rows(path, ours) == [("tilehaul_dead_letter",), ("tilehaul_outcome",)]
    assert not Path(f"{path}-wal").exists()


async def test_foreign_file_is_read_without_index(tmp_path: Any) -> None:
    """`jpeg` is understood, a NULL metadata row is nothing, the state is foreign."""
    archive = MbtilesStore(foreign(tmp_path / "theirs.mbtiles"))
    assert await archive.get(A) == Tile(A, JPEG, "image/jpeg", "store")
    info, source = await archive.describe(), await archive.source_info()
    assert (info.state, info.tiles, info.metadata) == ("foreign", 1, {"name": "Theirs", "format": "jpeg"})
    assert (source.name, source.media_type, source.zoom_min, source.zoom_max) == (
        "Theirs",
        "image/jpeg",
        3,
        3,
    )
    assert source.bounds_deg == pytest.approx((45.0, 66.5132604, 90.0, 79.1713346), abs=1e-6)
    await archive.close()


DEDUPLICATED = (
    "CREATE TABLE metadata (name TEXT, value TEXT)",
    "CREATE TABLE map (zoom_level INTEGER, tile_column INTEGER, tile_row INTEGER, id TEXT)",
    "CREATE TABLE images (id TEXT, tile_data BLOB)",
    "CREATE VIEW tiles AS SELECT map.*, tile_data FROM map JOIN images USING (id)",
    f"INSERT INTO images VALUES ('one', x'{PNG.hex()}')",
    "INSERT INTO map VALUES (3, 5, 6, 'one'), (3, 5, 5, 'one')",
)


async def test_deduplicated_view_is_read_and_not_added_to(tmp_path: Any) -> None:
    """map + images behind the view `tiles`."""
    path = foreign(tmp_path / "dedup.mbtiles", *DEDUPLICATED)
    archive = MbtilesStore(path)
    assert await archive.get(TileId(3, 5, 2)) == Tile(TileId(3, 5, 2), PNG, "image/png", "store")
    assert {tile_id async for tile_id in archive.tile_ids()} == {A, TileId(3, 5, 2)}
    with pytest.raises(PlanError, match="view"):
        await archive.begin(JOB, force_source=True)
    await archive.close()


async def test_foreign_file_is_added_to_only_when_forced(tmp_path: Any) -> None:
    """What is there stays and counts as done; the file gets its unique index and our record."""
    path = foreign(tmp_path / "theirs.mbtiles")
    before = path.read_bytes()
    store = MbtilesStore(path)
    with pytest.raises(PlanError, match="--force-source"):
        await store.begin(JOB)
    await store.close()
    assert path.read_bytes() == before

    forced = MbtilesStore(path)
    assert await forced.begin(JOB, force_source=True) is None
    assert list(await forced.settled([A, TileId(3, 0, 0)])) == ["done", None]
    await forced.commit([Tile(A, PNG, "image/png")])
    await forced.finish(complete=True)
    await forced.close()
    assert rows(path, "SELECT tile_row, tile_data FROM tiles") == [(6, PNG)]
    # Their box is widened by ours, not replaced by it.
    assert rows(path, "SELECT value FROM metadata WHERE name = 'bounds'") == [("5,40,90,79.1713346",)]


async def test_file_with_two_tiles_at_one_address_is_refused(tmp_path: Any) -> None:
    """Without uniqueness an overwrite would leave the old tile behind the new one."""
    path = foreign(tmp_path / "theirs.mbtiles")
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO tiles SELECT * FROM tiles")
    connection.close()
    store = MbtilesStore(path)
    with pytest.raises(PlanError, match="one address"):
        await store.begin(JOB, force_source=True)
    await store.close()


async def test_vector_tiles_are_not_mixed_with_pictures(tmp_path: Any) -> None:
    """No force helps: no reader could make sense of the file."""
    path = tmp_path / "t.mbtiles"
    await written(path)
    store = MbtilesStore(path)
    with pytest.raises(PlanError, match="pbf"):
        await store.begin(JobKey("s", "S", "b", 1, metadata=(("format", "pbf"),)), force_source=True)
    await store.close()


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000]
)
async def test_file_that_is_no_database_is_corrupt(tmp_path: Any, content: Any) -> None:
    """Both doors say so, say what to do, and leave the file as it was."""
    path = tmp_path / "t.mbtiles"
    path.write_bytes(content)
    calls: list[Any] = [lambda s: s.begin(JOB), lambda s: s.get(A), lambda s: s.describe()]
    for call in calls:
        store = MbtilesStore(path)
        with pytest.raises(DataError, match=r"t\.mbtiles.*move it away") as refusal:
            await call(store)
        assert refusal.value.cause == "corrupt_archive"
        await store.close()
    assert path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["t.mbtiles"]


async def test_truncated_file_is_corrupt(tmp_path: Any) -> None:
    """The tail is missing: told at begin or at the first read, never an empty answer."""
    path = tmp_path / "t.mbtiles"
    await written(path, *(Tile(TileId(9, x, 7), PNG * 200, "image/png") for x in range(200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    store = MbtilesStore(path)
    with pytest.raises(DataError):
        await store.begin(JobKey("s", "S", "b", 1))
    with pytest.raises(DataError):
        await store.get(TileId(9, 150, 7))
    await store.close()


async def test_other_database_is_no_mbtiles(tmp_path: Any) -> None:
    """A GeoPackage, say: neither written nor read."""
    path = foreign(tmp_path / "t.mbtiles", "CREATE TABLE gpkg_contents (table_name TEXT)")
    store = MbtilesStore(path)
    with pytest.raises(PlanError, match="not an MBTiles"):
        await store.begin(JOB, force_source=True)
    with pytest.raises(PlanError, match="not an MBTiles"):
        await store.get(A)
    await store.close()


async def test_empty_file_is_called_empty(tmp_path: Any) -> None:
    """Not "an SQLite file", which it is only to SQLite; a job may still fill it."""
    path = tmp_path / "t.mbtiles"
    path.touch()
    store = MbtilesStore(path)
    calls: list[Any] = [lambda s: s.get(A), lambda s: s.describe(), lambda s: s.source_info()]
    for call in calls:
        with pytest.raises(PlanError, match=r"t\.mbtiles is empty"):
            await call(store)
    await store.close()
    assert isinstance(await (await written(path)).get(A), Tile)


async def test_record_of_an_older_tilehaul_is_read(tmp_path: Any) -> None:
    """It noted names only: all tiles count as done, and the name stays as it is."""
    path = tmp_path / "t.mbtiles"
    await written(path)
    noted = "SELECT value FROM metadata WHERE name = 'tilehaul_jobs'"
    assert rows(path, noted) == [('["s:a"]',)]
    store = MbtilesStore(path)
    assert await store.begin(JOB) == JobCounts(4, 0)
    await store.begin(JobKey("s", "S", "b", 3))
    await store.finish(complete=True, counts=JobCounts(1, 2))
    await store.close()
    assert rows(path, noted) == [('["s:a", ["s:b", 1, 2]]',)]


@pytest.mark.parametrize(
    "text",
    [
        "{oops",
        "{}",
        "[1]",
        '[["s:a"]]',
        '[["s:a", 1, -1]]',
        '[["s:a", true, 1]]',
        "[[1, 1, 1]]",
        "[" * 100_000,
    ],
)
async def test_damaged_record_is_told(tmp_path: Any, text: Any) -> None:
    """A list of jobs that is none is not taken for an empty one."""
    path = tmp_path / "t.mbtiles"
    await written(path)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE metadata SET value = ? WHERE name = 'tilehaul_jobs'", (text,))
    connection.close()
    store = MbtilesStore(path)
    with pytest.raises(DataError, match="list of jobs"):
        await store.begin(JOB)
    await store.close()


@pytest.mark.parametrize(
    "text", ['[["s:a", 1, 2, 3]]', '[["s:a", 1, 2, 3, -1]]', '[["s:a", 1, 2, 3, true]]', "[1]"]
)
async def test_damaged_list_of_open_jobs_is_told(tmp_path: Any, text: Any) -> None:
    """A job that waits for its dead letters has five figures, or only its name."""
    path = tmp_path / "t.mbtiles"
    await written(path)
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO metadata VALUES ('tilehaul_jobs_open', ?)", (text,))
    connection.close()
    store = MbtilesStore(path)
    with pytest.raises(DataError, match="list of jobs"):
        await store.begin(JOB)
    await store.close()


async def test_journal_of_an_earlier_version_is_read_and_gone_on_with(tmp_path: Any) -> None:
    """Its dead letters had no time: it is not known, and new ones have theirs."""
    path = tmp_path / "t.mbtiles"
    dead = DeadLetter(TileId(3, 5, 2), "http_500", 6, "http://h/", "failed", b"<html>", at_s=1.8e9)
    store = MbtilesStore(path)
    await store.begin(JOB)
    await store.commit([Tile(A, PNG, "image/png"), dead])
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("ALTER TABLE tilehaul_dead_letter DROP COLUMN at_s")
    connection.close()
    store = MbtilesStore(path)
    assert [letter async for letter in store.dead_letters()] == [replace(dead, at_s=0.0)]
    await store.begin(JOB)
    other = replace(dead, tile_id=TileId(3, 5, 3))
    await store.commit([other])
    assert [letter async for letter in store.dead_letters()] == [replace(dead, at_s=0.0), other]
    await store.close()


async def test_little_free_space_stops_before_the_disk_is_full(tmp_path: Any) -> None:
    """Named with what is needed; nothing of the batch is kept."""
    store = MbtilesStore(tmp_path / "t.mbtiles", free_bytes_min=1 << 60)
    with pytest.raises(StorageError, match="MiB free"):
        await store.begin(JOB)
    await store.close()


def test_bounds_widen_and_cross_the_antimeridian() -> None:
    """A box that crosses makes the whole width; an equal one stays."""
    assert widened((0, 0, 1, 1), (2, -3, 4, 0)) == (0, -3, 4, 1)
    assert widened((170, -20, -170, 0), (170, -20, -170, 0)) == (170, -20, -170, 0)
    assert widened((170, -20, -170, 0), (0, 0, 1, 1)) == (-180.0, -20, 180.0, 1)
    assert bounds_text((-0.0, 1.123456789, 180, 85.0511287798066)) == "0,1.1234568,180,85.0511288"
    assert center_text((170, -20, -170, 0), 4) == "180,-10,4"


def test_merged_keeps_what_was_there_first() -> None:
    """Names and formats stay, nonsense in old bounds is replaced, an attribution is told once."""
    old = {"name": "A", "bounds": "what?", "format": "jpeg", "attribution": "(c) us and them", "minzoom": "x"}
    new = {
        "name": "B",
        "bounds": "0,0,1,1",
        "format": "png",
        "attribution": "(c) us and them",
        "minzoom": "3",
    }
    assert merged(old, new) == {
        "name": "A", "bounds": "0,0,1,1", "format": "jpg", "attribution": "(c) us and them", "minzoom": "3",
    }  # fmt: skip


ODD = {
    "fraction": "0.5, 0, 0, x'00'",
    "text": "'abc', 'x', 'y', x'00'",
    "text digits": "'0', '0', '0', x'00'",
    "null": "NULL, NULL, NULL, x'00'",
    "negative zoom": "-1, 0, 0, x'00'",
    "huge zoom": "999999999999, 0, 0, x'00'",
    "huge row": "3, 5, 9223372036854775807, x'00'",
    "off the grid": "3, 8, 0, x'00'",
    "negative column": "3, -1, 0, x'00'",
    "null body": "3, 0, 0, NULL",
    "empty body": "3, 0, 1, x''",
}


@pytest.mark.parametrize("deduplicated", [False, True])
@pytest.mark.parametrize("name", [*ODD, "all"])
async def test_odd_rows_are_no_tiles(tmp_path: Any, monkeypatch: Any, name: Any, deduplicated: Any) -> None:
    """In columns without a type: walked once each, counted, described, and none but the good one is told."""
    monkeypatch.setattr(journal, "PAGE_ROWS", 1)
    odd = list(ODD.values()) if name == "all" else [ODD[name]]
    path = foreign(
        tmp_path / "odd.mbtiles",
        "CREATE TABLE metadata (name TEXT, value TEXT)",
        f"CREATE TABLE {'kept' if deduplicated else 'tiles'} (zoom_level, tile_column, tile_row, tile_data)",
        *(["CREATE VIEW tiles AS SELECT * FROM kept"] if deduplicated else []),
        *(f"INSERT INTO {'kept' if deduplicated else 'tiles'} VALUES ({values})" for values in odd),
        f"INSERT INTO {'kept' if deduplicated else 'tiles'} VALUES (3, 5, 6, x'{JPEG.hex()}')",
    )
    archive = MbtilesStore(path)
    seen = []
    async for tile_id in archive.tile_ids():
        seen.append(tile_id)
        assert len(seen) < 10
    assert seen == [A]
    info, source = await archive.describe(), await archive.source_info()
    assert (info.tiles, info.tiles_by_zoom) == (1, {3: 1})
    assert (source.zoom_min, source.zoom_max, source.media_type) == (3, 3, "image/jpeg")
    for gone in (TileId(3, 0, 7), TileId(3, 0, 6), TileId(3, 8, 7), TileId(0, 0, 0), TileId(3, 1 << 70, 0)):
        assert await archive.get(gone) == NoTile(gone, "not_stored", "store")
    await archive.close()


async def test_archive_of_odd_rows_only_is_empty(tmp_path: Any) -> None:
    """No zoom, no box, no kind: an empty archive, not a traceback."""
    path = foreign(
        tmp_path / "odd.mbtiles",
        "CREATE TABLE metadata (name, value)",
        "INSERT INTO metadata VALUES ('minzoom', 'deep'), (CAST(x'ff41' AS TEXT), CAST(x'ff42' AS TEXT))",
        "CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data)",
        "INSERT INTO tiles VALUES ('x', 0, 0, x'00'), (-1, 0, 0, x'00')",
    )
    archive = MbtilesStore(path)
    source, info = await archive.source_info(), await archive.describe()
    assert (source.zoom_min, source.zoom_max, info.tiles) == (0, 30, 0)
    assert info.metadata == {"minzoom": "deep", "\ufffdA": "\ufffdB"}
    assert [tile_id async for tile_id in archive.tile_ids()] == []
    await archive.close()


@pytest.mark.parametrize("value", ["'words'", "CAST(x'ff' AS TEXT)", "7"])
async def test_tile_that_is_no_blob_is_corrupt(tmp_path: Any, value: Any) -> None:
    """Something is there, and it is not bytes: told, neither a tile nor an absence."""
    path = foreign(tmp_path / "odd.mbtiles")
    connection = apsw.Connection(str(path))
    connection.execute(f"UPDATE tiles SET tile_data = {value}")
    connection.close()
    archive = MbtilesStore(path)
    with pytest.raises(DataError, match="3/5/1 is not binary"):
        await archive.get(A)
    assert (await archive.source_info()).zoom_max == 3
    await archive.close()


async def test_huge_tile_is_not_brought_into_memory(tmp_path: Any, monkeypatch: Any) -> None:
    """Above the limit SQLite itself stops; the other tiles are read as ever."""
    path = foreign(tmp_path / "t.mbtiles")
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO tiles VALUES (3, 5, 5, zeroblob(20000))")
    connection.close()
    monkeypatch.setattr(reading, "TILE_BYTES_MAX", 10_000)
    archive = MbtilesStore(path)
    with pytest.raises(DataError, match="3/5/2") as caught:
        await archive.get(TileId(3, 5, 2))
    assert caught.value.cause == "too_large"
    assert isinstance(await archive.get(A), Tile)
    assert (await archive.describe()).tiles == 2
    await archive.close()


@pytest.mark.parametrize("body", ["NULL", "x''"])
async def test_row_without_bytes_is_pending(tmp_path: Any, body: Any) -> None:
    """It is fetched, and replaced by what came."""
    path = tmp_path / "t.mbtiles"
    await written(path, Tile(A, PNG, "image/png"), Tile(TileId(3, 5, 2), PNG, "image/png"))
    connection = apsw.Connection(str(path))
    connection.execute(f"UPDATE tiles SET tile_data = {body} WHERE tile_row = 6")
    connection.close()
    store = MbtilesStore(path)
    await store.begin(JobKey("s", "S", "b", 4))
    assert list(await store.settled([A, TileId(3, 5, 2)])) == [None, "done"]
    await store.commit([Tile(A, JPEG, "image/jpeg")])
    assert rows(path, "SELECT tile_data FROM tiles WHERE tile_row = 6") == [(JPEG,)]
    await store.close()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("png", "image/png"), ("JPG", "image/jpeg"), ("jpeg", "image/jpeg"), (" webp ", "image/webp"),
        ("pbf", "application/vnd.mapbox-vector-tile"),
        ("application/x-protobuf", "application/vnd.mapbox-vector-tile"),
        ("image/avif", "image/avif"), ("image/jpg", "image/jpeg"), ("gif", "image/gif"),
        ("image/svg+xml", ""), ("text/html", ""), ("image/x\r\ncontent-type: text/html", ""),
        ("image/png\r\nx: y", ""), ("", ""), ("tif", ""),
    ],
)  # fmt: skip
async def test_only_known_formats_are_believed(tmp_path: Any, said: Any, meant: Any) -> None:
    """A `format` row reaches an HTTP header: one of six media types, or nothing."""
    assert media_type_of_format(said) == meant
    path = foreign(tmp_path / "t.mbtiles")
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE metadata SET value = ? WHERE name = 'format'", (said,))
    connection.execute("UPDATE tiles SET tile_data = x'0001'")
    connection.close()
    archive = MbtilesStore(path)
    assert (await archive.source_info()).media_type == meant
    answer = await archive.get(A)
    assert isinstance(answer, Tile)
    assert answer.media_type == meant
    await archive.close()


def test_format_that_is_no_tile_is_neither_written_nor_kept() -> None:
    """What a source says is written in MBTiles' names; a foreign row that means nothing goes."""
    assert format_of("text/html") == ""
    assert format_of("image/jpg; q=1") == "jpg"
    assert "format" not in merged({"format": "text/html", "name": "A"}, {})


def test_credits_are_compared_whole() -> None:
    """`OSM` is another credit than `OSM contributors`; one that stands there already is told once."""

    def joined(old: str, new: str) -> str:
        return merged({"attribution": old}, {"attribution": new})["attribution"]

    assert joined("OSM contributors", "OSM") == "OSM contributors; OSM"
    assert joined("OSM", "OSM contributors") == "OSM; OSM contributors"
    assert joined("us; OSM", "OSM") == "us; OSM"
    assert joined("OSM", "us; OSM; them") == "us; OSM; them"
    assert joined("&copy; A", "&copy; B") == "&copy; A; &copy; B"
    assert joined("", "A") == "A"
    assert joined("A", "") == "A"


def test_bounds_are_cut_to_the_world() -> None:
    """The latitudes of Web Mercator; a box outside is none, one across the antimeridian stays."""
    assert parse_bounds("-181,-90,190,90") == (-180.0, -85.0511287798066, 180.0, 85.0511287798066)
    assert parse_bounds("170,-20,-170,0") == (170.0, -20.0, -170.0, 0.0)
    assert parse_bounds("5,40,5,40") == (5.0, 40.0, 5.0, 40.0)
    assert parse_bounds("0,86,1,89") is None
    assert parse_bounds("0,0,inf,1") is None


@pytest.mark.parametrize(
    "row",
    [
        "", "no json", "[]", "{}", '{"vector_layers": {}}', '{"vector_layers": [1, {"id": 2}]}',
        '{"vector_layers": [{"id": "a", "x": NaN}]}', '{"vector_layers": [{"id": "a", "x": 1e999}]}',
        '{"vector_layers": ' + "[" * 100_000, '{"vector_layers": []}' + " " * (4 << 20),
    ],
)  # fmt: skip
def test_layers_that_make_no_sense_are_not_said(row: str) -> None:
    """No exception, and nothing that another reader of JSON would refuse."""
    assert vector_layers_of(row) == ""
    assert merged_json_row('{"vector_layers": []}', row) == '{"vector_layers": []}'


def test_layers_can_be_sent() -> None:
    """Half a surrogate pair, which UTF-8 has no bytes for, is replaced."""
    text = vector_layers_of('{"vector_layers": [{"id": "\\ud800 Wälder"}]}')
    assert text == '[{"id": "? Wälder", "fields": {}}]'
    assert text.encode()
