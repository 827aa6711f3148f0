"""A GeoPackage as others see it: written by the standard, read from anybody."""

import struct
import zlib
from pathlib import Path
from typing import Any

import apsw
import pytest

from tilehaul.errors import DataError, PlanError
from tilehaul.grid.mercator import HALF_WORLD_M
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import DeadLetter, JobKey
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.stores import geopackage_schema as gpkg
from tilehaul.stores.geopackage import GeopackageStore

PNG = b"\x89PNG\r\n\x1a\n rest"
WEBP = b"RIFF\x04\0\0\0WEBP"
JOB = JobKey("s", "S", "a", 4, metadata=(("name", "Alps"), ("bounds", "0,0,90,66.5132604")))
A = TileId(3, 5, 1)


def picture(side: int) -> bytes:
    """A whole grey PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 1) * side))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def written(path: Path, *tiles: Tile, job: JobKey = JOB) -> None:
    store = GeopackageStore(path, durability="fast")
    await store.begin(job)
    await store.commit(tiles)
    await store.finish(complete=True)
    await store.close()


def rows(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return list(connection.execute(query, values).fetchall())
    finally:
        connection.close()


def foreign(path: Path, *statements: str) -> Path:
    """A file by the standard, changed by the statements, that knows nothing of tilehaul."""
    connection = apsw.Connection(str(path))
    connection.execute(gpkg.schema(gpkg.TILES))
    connection.execute("UPDATE gpkg_contents SET identifier = 'Theirs', description = 'of them'")
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return path


def matrix(zoom: int, columns: int, lines: int) -> str:
    return f"INSERT INTO gpkg_tile_matrix VALUES ('tiles', {zoom}, {columns}, {lines}, 256, 256, 1, 1)"


def tile_row(zoom: int, column: int, line: int) -> str:
    return f"INSERT INTO tiles VALUES (NULL, {zoom}, {column}, {line}, x'{PNG.hex()}')"


def extent(min_x: float, min_y: float, max_x: float, max_y: float) -> str:
    return (
        f"UPDATE gpkg_tile_matrix_set SET min_x={min_x!r}, min_y={min_y!r}, max_x={max_x!r}, max_y={max_y!r}"
    )


async def told_by(path: Path, table: str = "") -> str:
    """The message with which a file is refused."""
    store = GeopackageStore(path, table=table)
    with pytest.raises((PlanError, DataError)) as caught:
        await store.describe()
    await store.close()
    return str(caught.value)


async def test_file_follows_the_standard(tmp_path: Any) -> None:
    """Ids, the four systems of reference, the world's matrix set, the row as XYZ counts it."""
    path = tmp_path / "t.gpkg"
    await written(path, Tile(A, picture(512), "image/png"))
    assert rows(path, "PRAGMA application_id") == [(0x47504B47,)]
    assert rows(path, "PRAGMA user_version") == [(10300,)]
    assert rows(path, "PRAGMA journal_mode") == [("delete",)]
    assert rows(path, "PRAGMA foreign_key_check") == []
    ids = rows(path, "SELECT srs_id FROM gpkg_spatial_ref_sys ORDER BY 1")
    assert ids == [(-1,), (0,), (3857,), (4326,)]
    contents = rows(path, "SELECT table_name, data_type, identifier, srs_id FROM gpkg_contents")
    assert contents == [("tiles", "tiles", "Alps", 3857)]
    box = rows(path, "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents")[0]
    assert box == pytest.approx((0, 0, HALF_WORLD_M / 2, HALF_WORLD_M / 2), abs=0.02)
    world = rows(path, "SELECT min_x, min_y, max_x, max_y FROM gpkg_tile_matrix_set")
    assert world == [(-HALF_WORLD_M, -HALF_WORLD_M, HALF_WORLD_M, HALF_WORLD_M)]
    pixel_m = 2 * HALF_WORLD_M / 8 / 512
    assert rows(path, "SELECT * FROM gpkg_tile_matrix") == [("tiles", 3, 8, 8, 512, 512, pixel_m, pixel_m)]
    assert rows(path, "SELECT zoom_level, tile_column, tile_row FROM tiles") == [(3, 5, 1)]
    extensions = rows(path, "SELECT table_name, extension_name, scope FROM gpkg_extensions")
    assert extensions == [("tilehaul_metadata", "tilehaul_job_record", "write-only")]
    assert [left.name for left in tmp_path.iterdir()] == ["t.gpkg"]


async def test_webp_is_registered_once_and_a_zoom_has_one_matrix(tmp_path: Any) -> None:
    """Over several commits and jobs."""
    path = tmp_path / "t.gpkg"
    for area in ("a", "b"):
        job = JobKey("s", "S", area, 4)
        await written(path, Tile(A, WEBP, "image/webp"), Tile(TileId(2, 0, 0), PNG, "image/png"), job=job)
    registered = rows(path, "SELECT * FROM gpkg_extensions WHERE extension_name = 'gpkg_webp'")
    assert [row[:3] for row in registered] == [("tiles", "tile_data", "gpkg_webp")]
    assert registered[0][4] == "read-write"
    assert rows(path, "SELECT zoom_level, tile_width FROM gpkg_tile_matrix") == [(2, 256), (3, 256)]


async def test_vector_tiles_are_refused_before_and_while_writing(tmp_path: Any) -> None:
    """By name when the source says so, else at the first tile; what else came with it is not kept."""
    path = tmp_path / "t.gpkg"
    store = GeopackageStore(path)
    with pytest.raises(PlanError, match=r"PNG, JPEG and WebP, not application/vnd.mapbox-vector-tile"):
        await store.begin(JobKey("s", "S", "a", 4, metadata=(("format", "pbf"),)))
    assert not path.exists()
    await store.begin(JOB)
    with pytest.raises(PlanError, match=r"mbtiles or .pmtiles"):
        await store.commit([Tile(A, PNG, "image/png"), Tile(TileId(3, 0, 0), b"?", "image/gif")])
    assert await store.get(A) == NoTile(A, "not_stored", "store")
    await store.close()


async def test_journal_goes_with_the_last_dead_letter(tmp_path: Any) -> None:
    """The tables of a job stay while something is dead, not longer."""
    path = tmp_path / "t.gpkg"
    store = GeopackageStore(path)
    await store.begin(JOB)
    await store.commit([Tile(A, PNG, "image/png"), DeadLetter(TileId(3, 0, 0), "http_500", 6)])
    await store.finish(complete=False)
    query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('tilehaul_outcome', 'tilehaul_dead_letter')"
    assert rows(path, query) == [(2,)]
    await store.commit([NoTile(TileId(3, 0, 0))])
    await store.finish(complete=True)
    await store.close()
    assert rows(path, query) == [(0,)]


async def test_overwriting_keeps_the_row(tmp_path: Any) -> None:
    """AUTOINCREMENT would else give a new id to every tile fetched again."""
    path = tmp_path / "t.gpkg"
    await written(path, Tile(A, PNG, "image/png"))
    await written(path, Tile(A, PNG + b"new", "image/png"), job=JobKey("s", "S", "b", 4))
    assert rows(path, "SELECT id, tile_data FROM tiles") == [(1, PNG + b"new")]


async def test_foreign_file_is_read_and_added_to_when_forced(tmp_path: Any) -> None:
    """Name and description of `gpkg_contents`; nothing of what was there is lost."""
    path = foreign(tmp_path / "t.gpkg", matrix(3, 8, 8), tile_row(3, 5, 1))
    store = GeopackageStore(path)
    info = await store.describe()
    assert (info.state, info.tiles_by_zoom) == ("foreign", {3: 1})
    assert info.metadata == {"name": "Theirs", "description": "of them"}
    assert await store.get(A) == Tile(A, PNG, "image/png", "store")
    with pytest.raises(PlanError, match="--force-source"):
        await store.begin(JOB)
    assert await store.begin(JOB, force_source=True) is None
    new = TileId(4, 1, 1)
    await store.commit([Tile(new, PNG, "image/png")])
    await store.finish(complete=True)
    assert [tile_id async for tile_id in store.tile_ids()] == [A, new]
    assert (await store.source_info()).name == "Theirs"
    await store.close()
    assert rows(path, "SELECT zoom_level FROM gpkg_tile_matrix") == [(3,), (4,)]


async def test_matrix_set_of_a_part_of_the_world_is_mapped(tmp_path: Any) -> None:
    """Columns and rows from the part's own corner, zooms numbered from 0: addresses are XYZ all the same."""
    quarter = HALF_WORLD_M / 2
    path = foreign(
        tmp_path / "t.gpkg",
        extent(0, 0, quarter, HALF_WORLD_M),  # two columns of zoom 3 from 4 on, four rows from 0 on
        matrix(0, 2, 4),
        matrix(1, 4, 8),
        tile_row(0, 1, 1),
        tile_row(1, 3, 2),
        tile_row(0, 2, 0),  # beyond its matrix
    )
    store = GeopackageStore(path)
    low, high = TileId(3, 5, 1), TileId(4, 11, 2)
    assert [tile_id async for tile_id in store.tile_ids()] == [low, high]
    assert (await store.describe()).tiles_by_zoom == {3: 1, 4: 1}
    assert await store.get(high) == Tile(high, PNG, "image/png", "store")
    assert isinstance(await store.get(TileId(5, 0, 0)), NoTile)
    assert list(await store.states([low, TileId(3, 4, 1), TileId(5, 0, 0), high])) == [
        "done", None, None, "done",
    ]  # fmt: skip
    source = await store.source_info()
    assert (source.zoom_min, source.zoom_max) == (3, 4)
    assert source.bounds_deg == pytest.approx(high.bounds_deg, abs=1e-9)
    with pytest.raises(PlanError, match="numbered in its own way"):
        await store.begin(JOB, force_source=True)
    await store.close()


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["UPDATE gpkg_tile_matrix_set SET srs_id = 4326"], "WGS 84 geodetic; tilehaul reads web mercator"),
        (["UPDATE gpkg_tile_matrix_set SET srs_id = 99"], "in an unknown projection"),
        ([matrix(3, 7, 7)], "zoom 3 of tiles is not cut along"),
        ([matrix(3, 8, 4)], "zoom 3 of tiles is not cut along"),
        ([matrix(3, 0, 8)], "zoom 3 of tiles is not cut along"),
        ([extent(2e4, 0, 2e4 + HALF_WORLD_M, HALF_WORLD_M), matrix(3, 4, 4)], "zoom 3 of tiles is not cut"),
        ([matrix(3, 16, 16), matrix(4, 8, 8)], "zooms of tiles are not in order"),
        (["UPDATE gpkg_tile_matrix_set SET min_x = 'west'"], "extent of tiles makes no sense"),
        (["DELETE FROM gpkg_contents"], "holds no tiles"),
        (["DROP TABLE gpkg_tile_matrix"], "has no table gpkg_tile_matrix"),
        (["DROP TABLE tiles"], "its tile table tiles is missing"),
        (["DROP TABLE gpkg_contents"], "not a GeoPackage"),
    ],
)
async def test_what_is_no_web_mercator_pyramid_is_refused_in_one_line(
    tmp_path: Any, statements: Any, words: Any
) -> None:
    """Each says what is wrong, and with which table."""
    message = await told_by(foreign(tmp_path / "t.gpkg", *statements))
    assert words in message
    assert "\n" not in message


async def test_one_of_several_tile_tables_is_named(tmp_path: Any) -> None:
    """Whatever is in its name."""
    other = "my \"tiles\" '2'"
    quoted = other.replace("'", "''")
    path = foreign(
        tmp_path / "t.gpkg",
        f"INSERT INTO gpkg_contents (table_name, data_type) VALUES ('{quoted}', 'tiles')",
        f"INSERT INTO gpkg_tile_matrix_set SELECT '{quoted}', srs_id, min_x, min_y, max_x, max_y "
        "FROM gpkg_tile_matrix_set",
        'CREATE TABLE "my ""tiles"" \'2\'" AS SELECT * FROM tiles',
        f'INSERT INTO "my ""tiles"" \'2\'" VALUES (1, 3, 5, 1, x\'{PNG.hex()}\')',
    )
    assert f"{path}#{other}, {path}#tiles" in await told_by(path)
    assert f"has no tile table third: {other}, tiles" in await told_by(path, "third")
    store = GeopackageStore(path, table=other)
    assert await store.get(A) == Tile(A, PNG, "image/png", "store")
    named = (await store.source_info()).identity
    with pytest.raises(PlanError, match="several tiles at one address"):
        await store.begin(JOB, force_source=True)
    await store.close()
    store = GeopackageStore(path, table="tiles")
    assert (await store.source_info()).identity != named
    await store.close()


async def test_new_file_gets_the_table_that_is_asked_for(tmp_path: Any) -> None:
    """And is found under that name, and as the only one."""
    path, name = tmp_path / "t.gpkg", 'it\'s "one"'
    store = GeopackageStore(path, table=name)
    await store.begin(JOB)
    await store.commit([Tile(A, PNG, "image/png")])
    await store.finish(complete=True)
    await store.close()
    assert rows(path, "SELECT table_name FROM gpkg_tile_matrix") == [(name,)]
    for table in ("", name):
        again = GeopackageStore(path, table=table)
        assert await again.get(A) == Tile(A, PNG, "image/png", "store")
        await again.close()


async def test_damaged_file_is_told_of(tmp_path: Any) -> None:
    """Not an SQLite file, a file cut short, a tile that is text."""
    (tmp_path / "no.gpkg").write_bytes(b"no SQLite here" * 100)
    assert "damaged or no SQLite file" in await told_by(tmp_path / "no.gpkg")
    path = tmp_path / "cut.gpkg"
    await written(path, *(Tile(TileId(6, x, 0), PNG * 200, "image/png") for x in range(40)))
    path.write_bytes(path.read_bytes()[:30_000])
    assert "damaged" in await told_by(path)
    text = foreign(tmp_path / "text.gpkg", "INSERT INTO tiles VALUES (NULL, 3, 5, 1, 'words')")
    store = GeopackageStore(text)
    with pytest.raises(DataError, match="tile 3/5/1 is not binary"):
        await store.get(A)
    await store.close()


async def test_a_text_that_is_none_ends_reading_and_adding_in_a_line(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.gpkg", "UPDATE gpkg_contents SET description = CAST(x'ff' AS TEXT)")
    assert "not UTF-8" in await told_by(path)
    store = GeopackageStore(path)
    with pytest.raises(DataError, match="not UTF-8") as caught:
        await store.begin(JOB, force_source=True)
    assert caught.value.cause == "corrupt_archive"
    await store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE gpkg_contents SET table_name = 'a' || char(10) || char(27) || 'b'",
        "UPDATE gpkg_spatial_ref_sys SET srs_name = 'a' || char(10) || 'b', organization = 'X'",
        "INSERT INTO gpkg_contents (table_name, data_type) VALUES ('a' || char(10), 'tiles')",
        "INSERT INTO gpkg_tile_matrix VALUES ('tiles', 'a' || char(10), 1, 1, 1, 1, 1, 1)",
    ],
)
async def test_names_of_others_are_told_in_one_line(tmp_path: Path, change: str) -> None:
    said = await told_by(foreign(tmp_path / "a.gpkg", change))
    assert said.isprintable(), repr(said)
