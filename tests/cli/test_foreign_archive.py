"""An archive that others made, at the command line: shown safely, copied only where it is whole."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from tilehaul.cli.common import size_text
from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png

WHOLE = plain_png(TileId(1, 0, 0))


def archive(path: Path, tiles: dict[tuple[int, int, int], bytes], **metadata: str) -> Path:
    """An MBTiles by hand; rows of `tiles` are counted from the south, as in the file."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
    connection.execute("CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data)")
    connection.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
    connection.executemany(
        "INSERT INTO tiles VALUES (?, ?, ?, ?)", [(*at, body) for at, body in tiles.items()]
    )
    connection.close()
    return path


def test_info_shows_no_control_characters(capsys, tmp_path: Path) -> None:
    """Neither colours nor a new title, nor text that runs the other way; `--json` escapes them."""
    path = archive(
        tmp_path / "a.mbtiles",
        {(0, 0, 0): WHOLE},
        name="\x1b]0;owned\x07\x1b[31mRed\u202e",
        description="two\r\nlines\x9b2J",
        **{"odd\x1b[2Jname": "x" * 500},
    )
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "name: ?]0;owned??[31mRed?\n" in shown
    assert "description: two  lines?2J\n" in shown
    assert f"odd?[2Jname: {'x' * 100}\n" in shown
    assert main(["info", str(path), "--json"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_info_tells_the_file_from_its_tiles(capsys, tmp_path: Path) -> None:
    """The size of a file is not the size of its tiles; a directory's size is."""
    path = archive(tmp_path / "a.mbtiles", {(0, 0, 0): WHOLE})
    assert main(["info", str(path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["file", *size_text(path.stat().st_size).split()] in rows
    assert ["tiles", "1"] in rows
    (tmp_path / "tiles/0/0").mkdir(parents=True)
    (tmp_path / "tiles/0/0/0.png").write_bytes(WHOLE)
    assert main(["info", str(tmp_path / "tiles")]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tiles", "1", *size_text(len(WHOLE)).split()] in rows
    assert "file" not in {row[0] for row in rows}


def test_info_of_an_empty_file_says_so(capsys, tmp_path: Path) -> None:
    (tmp_path / "a.mbtiles").touch()
    assert main(["info", str(tmp_path / "a.mbtiles")]) == 2
    told = capsys.readouterr().err
    assert "a.mbtiles is empty" in told
    assert "SQLite" not in told


def test_same_copy_again_tells_the_absent_apart(capsys, tmp_path: Path) -> None:
    """Nothing is asked for a second time, and nothing absent is called done."""
    path = archive(tmp_path / "a.mbtiles", {(1, 0, 1): WHOLE})
    reports = []
    for _ in range(2):
        assert main(["seed", str(path), str(tmp_path / "out.mbtiles"), "-z", "1", "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [(r["done"], r["absent"], r["skipped"]) for r in reports] == [(1, 3, 0), (1, 3, 4)]


@pytest.mark.parametrize("store", ["out.mbtiles", "out"])
def test_damaged_tiles_of_an_archive_are_dead_letters(capsys, tmp_path: Path, store: str) -> None:
    """Half a picture and a page stay where they are; the good ones are copied, and the job says so."""
    path = archive(
        tmp_path / "a.mbtiles",
        {
            (1, 0, 1): WHOLE,
            (1, 0, 0): WHOLE[: len(WHOLE) // 2],
            (1, 1, 0): b"<!doctype html><script>alert(1)</script>",
            (1, 1, 1): b"",
        },
        format="text/html",
    )
    out = tmp_path / store
    assert main(["seed", str(path), str(out), "-z", "1", "--max-failures", "100%"]) == 3
    told = capsys.readouterr().err
    assert "1/0/1 truncated" in told
    assert "1/1/1 error_page" in told
    assert main(["info", str(out), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["tiles"], info["dead"], info["absent"]) == (1, 2, 1)
    assert info["metadata"]["format"] == "png"


@pytest.mark.parametrize("store", ["out.mbtiles", "out"])
def test_copy_of_a_vector_archive_keeps_its_layers(capsys, tmp_path: Path, store: str) -> None:
    """What a map program needs to draw them."""
    layers = [{"id": "roads", "fields": {"kind": "String"}}]
    path = archive(
        tmp_path / "a.mbtiles",
        {(0, 0, 0): gzip.compress(b"")},
        format="pbf",
        json=json.dumps({"vector_layers": layers}),
    )
    out = tmp_path / store
    assert main(["seed", str(path), str(out), "-z", "0"]) == 0
    capsys.readouterr()
    assert main(["info", str(out), "--json"]) == 0
    metadata = json.loads(capsys.readouterr().out)["metadata"]
    assert json.loads(metadata["json"]) == {"vector_layers": layers}


HALF_WAY = """
import os, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
writer.executescript("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN")
for number in range(200):
    writer.execute("INSERT INTO tiles VALUES (8, ?, 0, ?)", (number, os.urandom(4000)))
os._exit(1)
"""


def test_what_a_killed_writer_had_not_committed_is_not_read(capsys, tmp_path: Path) -> None:
    """Its journal lies beside the file, half of its tiles in it: the file alone would be the wrong one."""
    path = archive(tmp_path / "world.mbtiles", {(0, 0, 0): WHOLE})
    before = path.read_bytes()
    subprocess.run([sys.executable, "-c", HALF_WAY, str(path)], check=False)
    assert Path(f"{path}-journal").stat().st_size > 0
    assert path.read_bytes() != before
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiles"] == 1
    assert path.read_bytes()[: len(before)] == before
    assert not Path(f"{path}-journal").exists()
