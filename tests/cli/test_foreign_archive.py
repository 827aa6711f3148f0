"""An archive that others made, at the command line: shown safely, copied only where it is whole."""

import gzip
import json
from pathlib import Path

import apsw
import pytest

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
    assert main(["seed", str(path), str(out), "-z", "1", "--retries", "0", "--max-failures", "100%"]) == 3
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
