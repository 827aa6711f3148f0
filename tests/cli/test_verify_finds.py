"""`tilehaul verify` finds what is wrong with an archive of each kind, and says where."""

import io
import json
import random
import shutil
import sqlite3
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

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


def verified(capsys, path: Path, *flags: str) -> tuple[int, str]:
    code = main(["verify", str(path), *flags])
    out, err = capsys.readouterr()
    return code, out + err


@pytest.mark.parametrize("name", ["a", "b", "b.mbtiles", "c.mbtiles", "b.gpkg", "b.pmtiles"])
def test_what_is_whole_is_fine(capsys, whole: Path, name: str) -> None:
    assert verified(capsys, whole / name) == (0, "fine: 21 tiles read: 21 image/png\n")


def encoded(kind: str, side_px: int = 64, **options: object) -> bytes:
    """Noise, the same each time."""
    file = io.BytesIO()
    pixels = random.Random(kind).randbytes(side_px * side_px * 3)
    Image.frombytes("RGB", (side_px, side_px), pixels).save(file, kind, **options)
    return file.getvalue()


def broken_off(body: bytes) -> bytes:
    """A JPEG without the second half of its data, with its end marker."""
    return body[: len(body) // 2] + body[-2:]


def shortened(body: bytes) -> bytes:
    """A WebP without the second half of its picture's data, with lengths that say so."""
    at = body.index(b"VP8")
    half = int.from_bytes(body[at + 4 : at + 8], "little") // 4 * 2
    chunk = body[at : at + 4] + struct.pack("<I", half) + body[at + 8 : at + 8 + half]
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def overwritten(body: bytes) -> bytes:
    """Wrong bytes where they hit no length: in the middle, or in the first block of a GIF's picture."""
    at = len(body) // 2
    if body.startswith(b"GIF"):
        # Behind its own header, the size of its codes and the first block's length (GIF89a, 20 to 22).
        at = body.index(b",\0\0\0\0") + 12
    return body[:at] + bytes(100) + body[at + 100 :]


def checked_again(body: bytes) -> bytes:
    """A PNG whose data were damaged before its checksum was taken."""
    at = body.index(b"IDAT")
    size = int.from_bytes(body[at - 4 : at], "big")
    data = body[at : at + size // 2] + bytes(20) + body[at + size // 2 + 20 : at + 4 + size]
    return body[:at] + data + struct.pack(">I", zlib.crc32(data)) + body[at + 8 + size :]


DAMAGE = [
    ("JPEG", {}, broken_off),
    ("JPEG", {"progressive": True}, broken_off),
    ("WEBP", {}, shortened),
    ("WEBP", {"lossless": True}, shortened),
    ("GIF", {}, overwritten),
    ("AVIF", {}, overwritten),
    ("PNG", {}, checked_again),
]


@pytest.mark.parametrize(("kind", "options", "damage"), DAMAGE)
def test_damage_within_a_picture_is_found_by_decoding(
    capsys, tmp_path: Path, kind: str, options: dict[str, object], damage: Callable[[bytes], bytes]
) -> None:
    """Its frame is whole: what is not decoded passes."""
    good, ending = encoded(kind, **options), {"JPEG": "jpg"}.get(kind, kind.lower())
    for name, body in (("a/1/0/0", good), ("a/1/0/1", damage(good))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.{ending}").write_bytes(body)
    assert main(["copy", str(tmp_path / "a"), str(tmp_path / "b.mbtiles"), "--quiet"]) == 0
    for name in ("a", "b.mbtiles"):
        code, told = verified(capsys, tmp_path / name)
        assert (code, told.startswith("fine: 2 tiles read: 2 image/")) == (0, True), told
        code, told = verified(capsys, tmp_path / name, "--decode")
        wanted = f"damaged 1/0/1 corrupt\nnot fine: 2 tiles read, 1 decoded: 1 image/{kind.lower()}\n"
        assert (code, told) == (1, wanted)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "restart_marker_rows": 1}),
        ("JPEG", {"exif": b"Exif\0\0of no camera", "icc_profile": b"of no screen"}),
        ("WEBP", {"save_all": True, "append_images": [Image.new("RGB", (64, 64), "red")] * 2}),
        ("GIF", {"save_all": True, "append_images": [Image.new("RGB", (64, 64), "red")] * 2}),
        ("AVIF", {}),
        ("PNG", {}),
    ],
)
def test_whole_pictures_decode(capsys, tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    """Padding behind them is none of their damage."""
    folder = tmp_path / "a/0/0"
    folder.mkdir(parents=True)
    (folder / f"0.{'jpg' if kind == 'JPEG' else kind.lower()}").write_bytes(
        encoded(kind, **options) + b"\0\r\n"
    )
    wanted = f"fine: 1 tile read, 1 decoded: 1 image/{kind.lower()}\n"
    assert verified(capsys, tmp_path / "a", "--decode") == (0, wanted)


def test_vector_tiles_are_not_decoded(capsys, tmp_path: Path) -> None:
    (tmp_path / "a/0/0").mkdir(parents=True)
    (tmp_path / "a/0/0/0.pbf").write_bytes(b"\x1a\x05\x0a\x01a\x78\x02")
    code, told = verified(capsys, tmp_path / "a", "--decode", "--json")
    said = json.loads(told)
    assert (code, said["tiles"], said["decoded"], said["fine"]) == (0, 1, 0, True)


def test_decoding_without_its_extra_is_told_in_one_line(capsys, whole: Path, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "tilehaul.sources.decoded", raising=False)
    monkeypatch.delitem(sys.modules, "tilehaul.pixels.decode", raising=False)
    monkeypatch.setitem(sys.modules, "pyvips", None)
    code, told = verified(capsys, whole / "a", "--decode")
    assert (code, len(told.splitlines())) == (2, 1)
    assert "pip install 'tilehaul[pixels]', or leave out --decode" in told


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
