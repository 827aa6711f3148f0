"""`tilehaul verify` finds what is wrong with an archive of each kind, and says where."""

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png

IDS = [TileId(z, x, y) for z in (0, 1, 2) for x in range(1 << z) for y in range(1 << z)]
PNG = plain_png(TileId(0, 0, 0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tiles in every kind of archive on a disk, made by tilehaul but `a`."""
    folder = tmp_path_factory.mktemp("whole")
    for tile_id in IDS:
        path = folder / f"a/{tile_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain_png(tile_id))
    for name in ("b.mbtiles", "b.gpkg", "b.pmtiles", "b"):
        assert main(["copy", str(folder / "a"), str(folder / name), "--quiet"]) == 0
    assert main(["copy", str(folder / "a"), str(folder / "c.mbtiles"), "--deduplicate", "--quiet"]) == 0
    return folder


def verified(capsys, path: Path) -> tuple[int, str]:
    code = main(["verify", str(path)])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.parametrize("name", ["a", "b", "b.mbtiles", "c.mbtiles", "b.gpkg", "b.pmtiles"])
def test_what_is_whole_is_fine(capsys, whole: Path, name: str) -> None:
    assert verified(capsys, whole / name) == (0, "fine: 21 tiles read: 21 image/png\n")


# Where in the header (specification, 3.1), how it is written, what is written there, what is said.
HEADER = [
    (72, "<Q", 9, "its header counts 9 tiles, there are 21"),
    (80, "<Q", 9, "its header counts 9 entries, there are 21"),
    (88, "<Q", 9, "its header counts 9 different tiles, there are 21"),
    (99, "B", 3, "its header's tile type is image/jpeg, some tiles are image/png"),
    (99, "B", 99, "its header's tile type is number 99, which does not exist"),
    (100, "B", 1, "its header says zooms 1 to 2, its tiles are of 0 to 2"),
    (101, "B", 9, "its header says zooms 0 to 9, its tiles are of 0 to 2"),
    (102, "<i", 1_900_000_000, "its header's bounds are 190,"),
    (118, "B", 20, "its header's center is 0,0 at zoom 20"),
]


@pytest.mark.parametrize(("at", "form", "value", "said"), HEADER)
def test_a_pmtiles_header_that_lies(
    capsys, whole: Path, tmp_path: Path, at: int, form: str, value: int, said: str
) -> None:
    body = bytearray((whole / "b.pmtiles").read_bytes())
    struct.pack_into(form, body, at, value)
    path = tmp_path / "x.pmtiles"
    path.write_bytes(body)
    code, told = verified(capsys, path)
    assert (code, f"wrong: {said}" in told) == (1, True), told


ROW = "INSERT INTO tiles (zoom_level, tile_column, tile_row, tile_data) VALUES ({}, x'89')"
MAPPED = "INSERT INTO map SELECT {}, tile_id FROM map LIMIT 1"
CLAIMS = [
    ("UPDATE metadata SET value = 'here' WHERE name = 'bounds'", "its bounds are here:"),
    ("UPDATE metadata SET value = '20,30,10,10' WHERE name = 'bounds'", "its bounds are 20,30,10,10:"),
    ("UPDATE metadata SET value = 'deep' WHERE name = 'maxzoom'", "its maxzoom is deep:"),
    ("UPDATE metadata SET value = '1' WHERE name = 'minzoom'", "its minzoom is 1, that of its tiles 0"),
    ("UPDATE metadata SET value = 'image/tiff' WHERE name = 'format'", "its format is image/tiff:"),
    ("UPDATE metadata SET value = '500,0,3' WHERE name = 'center'", "its center is 500,0,3:"),
    ("DELETE FROM metadata WHERE name = 'format'", "its metadata has no format"),
    (
        "DROP INDEX metadata_name; INSERT INTO metadata VALUES ('name', 'b')",
        "metadata has name more than once",
    ),
]
MBTILES = [
    *(("b.mbtiles", *claim) for claim in CLAIMS),
    *(("c.mbtiles", *claim) for claim in CLAIMS[:1]),
    ("b.mbtiles", ROW.format("1, 9, 9"), "rows outside the grid: 1"),
    ("b.mbtiles", ROW.format("1, -1, 0"), "rows outside the grid: 1"),
    ("b.mbtiles", ROW.format("40, 1, 0"), "rows outside the grid: 1"),
    ("c.mbtiles", MAPPED.format("1, 9, 9"), "rows outside the grid: 1"),
    ("b.mbtiles", "UPDATE tiles SET tile_data = x'' WHERE zoom_level = 2", "rows without bytes: 16"),
    (
        "b.mbtiles",
        "DROP INDEX tile_index; INSERT INTO tiles SELECT * FROM tiles WHERE zoom_level = 1",
        "addresses that stand in several rows: 4",
    ),
    ("c.mbtiles", "DELETE FROM images WHERE tile_id = 1", "rows of its table map that point to no image: 1"),
]
GEOPACKAGE = [
    ("b.gpkg", ROW.format("1, 9, 9"), "rows outside their matrix: 1"),
    ("b.gpkg", "UPDATE tiles SET tile_data = x'' WHERE zoom_level = 2", "rows without bytes: 16"),
    (
        "b.gpkg",
        "DELETE FROM gpkg_tile_matrix WHERE zoom_level = 2",
        "zoom 2 has tiles and no row in gpkg_tile_m",
    ),
    (
        "b.gpkg",
        "UPDATE gpkg_tile_matrix SET pixel_x_size = 1 WHERE zoom_level = 2",
        "zoom 2: tiles times pixels",
    ),
    (
        "b.gpkg",
        "UPDATE gpkg_contents SET srs_id = 4326",
        "gpkg_contents says srs 4326, gpkg_tile_matrix_set 3857",
    ),
    ("b.gpkg", "PRAGMA application_id = 0", "its application id is not that of a GeoPackage"),
]


@pytest.mark.parametrize(("name", "sql", "said"), MBTILES + GEOPACKAGE)
def test_tables_that_are_wrong(capsys, whole: Path, tmp_path: Path, name: str, sql: str, said: str) -> None:
    path = tmp_path / f"x{Path(name).suffix}"
    shutil.copy(whole / name, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
    code, told = verified(capsys, path)
    assert (code, said in told) == (1, True), told


def test_an_index_that_lost_its_rows(capsys, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mbtiles"
    shutil.copy(whole / "b.mbtiles", path)
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tile_index'").fetchone()[
            0
        ]
    with path.open("r+b") as file:
        # The page says how many entries it has in its fourth and fifth byte.
        file.seek((root - 1) * size + 3)
        file.write(b"\x00\x02")
    code, told = verified(capsys, path)
    assert (code, "wrong: SQLite: " in told) == (1, True), told


DIRECTORY = [
    ("2/0/thumbs.db", b"x", "files that are no tiles: 1, the first is 2/0/thumbs.db"),
    ("2/notes.txt", b"x", "files that are no tiles: 1, the first is 2/notes.txt"),
    ("1/0/7.png", PNG, "files outside the grid: 1, the first is 1/0/7.png"),
    ("2/9/0.png", PNG, "folders of no column: 1, the first is 2/9"),
    ("40/0/0.png", PNG, "folders of no zoom: 1, the first is 40"),
    ("2/0/0.png", b"", "files that are empty: 1, the first is 2/0/0.png"),
    ("2/0/0.webp", PNG, "tiles that are there with another ending as well: 1, the first is 2/0/0.webp"),
    ("2/0/0.webp", PNG, "files that end in .webp and are image/png: 1, the first is 2/0/0.webp"),
    ("index.html", b"a page", "fine: 21 tiles read"),
]


@pytest.mark.parametrize(("name", "body", "said"), DIRECTORY)
def test_what_lies_in_a_directory(
    capsys, whole: Path, tmp_path: Path, name: str, body: bytes, said: str
) -> None:
    shutil.copytree(whole / "a", tmp_path / "x")
    path = tmp_path / "x" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    code, told = verified(capsys, tmp_path / "x")
    assert (code, said in told) == (int("fine" not in said), True), told


def test_rows_from_the_south_are_guessed(capsys, whole: Path, tmp_path: Path) -> None:
    """Bounds in the north, tiles in the south: all of them would be inside the other way up."""
    path = tmp_path / "x.mbtiles"
    shutil.copy(whole / "b.mbtiles", path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DELETE FROM tiles WHERE NOT (zoom_level = 2 AND tile_row = 0);"
            "UPDATE metadata SET value = '-180,67,180,85' WHERE name = 'bounds';"
            "UPDATE metadata SET value = '2' WHERE name = 'minzoom'"
        )
    code, told = verified(capsys, path)
    words = (
        "wrong: its bounds are -180,67,180,85, 4 tiles of zoom 2 lie outside; none if its rows are counted"
    )
    assert (code, words in told) == (1, True), told
