"""`copy`, `diff`, `verify` and `--report` as a person meets them."""

import json
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png

TILES = [TileId(0, 0, 0), *(TileId(1, x, y) for x in (0, 1) for y in (0, 1)), TileId(3, 5, 2)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A small MBTiles of another program, with credits."""
    path = tmp_path / "world.mbtiles"
    write(path, {tile_id: plain_png(tile_id) for tile_id in TILES})
    return path


def write(path: Path, bodies: dict[TileId, bytes], **rows: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
    connection.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
    said = {"name": "World", "format": "png", "attribution": "us", "minzoom": "0", "maxzoom": "3"} | rows
    connection.executemany("INSERT INTO metadata VALUES (?, ?)", said.items())
    connection.executemany(
        "INSERT INTO tiles VALUES (?, ?, ?, ?)",
        [(i.z, i.x, (1 << i.z) - 1 - i.y, body) for i, body in bodies.items()],
    )
    connection.commit()
    connection.close()


def ran(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_any_kind_into_any_kind_and_back(capsys, archive: Path, tmp_path: Path) -> None:
    chain = [archive, tmp_path / "a.pmtiles", tmp_path / "b", tmp_path / "c.mbtiles"]
    for source, store in pairwise(chain):
        code, _, err = ran(capsys, "copy", source, store)
        assert code == 0, err
        assert "6 of 6 tiles done" in err
    code, out, _ = ran(capsys, "diff", archive, chain[-1], "--json")
    assert code == 0
    assert json.loads(out)["same"] is True
    _, out, _ = ran(capsys, "info", chain[-1], "--json")
    metadata = json.loads(out)["metadata"]
    said = [metadata[name] for name in ("name", "attribution", "format", "minzoom", "maxzoom")]
    assert said == ["World", "us", "png", "0", "3"]
    for store in chain[1:]:
        code, out, _ = ran(capsys, "verify", store)
        assert (code, out) == (0, "fine: 6 tiles read: 6 image/png\n")


def test_a_second_copy_moves_nothing_and_a_grown_source_only_what_is_new(
    capsys, archive: Path, tmp_path: Path
) -> None:
    store = tmp_path / "copy.mbtiles"
    ran(capsys, "copy", archive, store)
    _, _, err = ran(capsys, "copy", archive, store)
    assert "6 of 6 tiles done, 6 settled before" in err
    new = TileId(3, 0, 0)
    connection = sqlite3.connect(archive)
    connection.execute("INSERT INTO tiles VALUES (3, 0, 7, ?)", (plain_png(new),))
    connection.commit()
    connection.close()
    code, _, err = ran(capsys, "copy", archive, store)
    assert code == 0
    assert "7 of 7 tiles done, 6 settled before" in err
    assert f"{len(plain_png(new))} B" in err


def test_an_area_restricts_to_what_is_there(capsys, archive: Path, tmp_path: Path) -> None:
    code, out, _ = ran(capsys, "copy", archive, tmp_path / "x", "-z", "1-30", "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"planned": 5, "by_zoom": {"1": 4, "3": 1}})
    assert not (tmp_path / "x").exists()
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x", "--bbox=10,10,20,20", "-z", "0-2")
    assert code == 0
    assert "2 of 2 tiles done, 0 absent" in err
    code, _, err = ran(capsys, "copy", archive, tmp_path / "y", "-z", "9")
    assert code == 2
    assert "has no tile in that area" in err


def test_the_tiles_of_another_archive(capsys, archive: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.mbtiles"
    write(few, {TILES[0]: b"never read", TileId(2, 0, 0): b"not in the source"})
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x.pmtiles", "--tiles-of", few)
    assert code == 0
    assert "1 of 2 tiles done, 1 absent" in err


def test_a_tile_service_needs_an_area(capsys, tmp_path: Path) -> None:
    code, _, err = ran(capsys, "copy", "http://127.0.0.1:9/{z}/{x}/{y}.png", tmp_path / "x.mbtiles")
    assert code == 2
    assert "--tiles-of ARCHIVE" in err
    assert not (tmp_path / "x.mbtiles").exists()


def test_damaged_tiles_die_and_the_report_says_so(capsys, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mbtiles"
    write(bad, {TILES[0]: plain_png(TILES[0]), TILES[1]: plain_png(TILES[1])[:-5]})
    report = tmp_path / "report.json"
    code, _, err = ran(capsys, "copy", bad, tmp_path / "x", "--report", report)
    assert code == 3
    assert "dead 1/0/0 truncated" in err
    told = json.loads(report.read_text())
    assert (told["state"], told["done"], told["dead"]) == ("dead_letters", 1, 1)
    code, out, _ = ran(capsys, "verify", bad, "--json")
    assert code == 1
    assert json.loads(out)["named"] == [{"tile": "1/0/0", "cause": "truncated"}]


def test_a_job_that_is_stopped_leaves_a_report_too(capsys, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mbtiles"
    write(bad, dict.fromkeys(TILES, b"<html>no tile</html>"))
    report = tmp_path / "report.json"
    code, _, _ = ran(capsys, "copy", bad, tmp_path / "x", "--max-failures", "1", "--report", report)
    assert code == 4
    assert json.loads(report.read_text())["state"] == "stopped"


def test_a_report_without_a_folder_is_refused_before_anything_is_made(
    capsys, archive: Path, tmp_path: Path
) -> None:
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x", "--report", tmp_path / "no" / "r.json")
    assert code == 2
    assert "--report" in err
    assert not (tmp_path / "x").exists()


def test_diff_names_what_differs(capsys, archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mbtiles"
    bodies = {tile_id: plain_png(tile_id) for tile_id in TILES}
    del bodies[TILES[1]]
    bodies[TILES[2]] = plain_png(TILES[3])
    bodies[TileId(2, 1, 1)] = plain_png(TileId(2, 1, 1))
    write(other, bodies)
    code, out, _ = ran(capsys, "diff", archive, other, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["tiles"] == {
        "only_a": ["1/0/0"],
        "only_b": ["2/1/1"],
        "different": [str(TILES[2])],
        "damaged_a": [],
        "damaged_b": [],
    }
    assert found["by_zoom"]["1"] == {
        "same": 2, "different": 1, "only_a": 1, "only_b": 0, "damaged_a": 0, "damaged_b": 0,
    }  # fmt: skip
    code, out, _ = ran(capsys, "diff", archive, other)
    assert f"only in {archive}: 1/0/0\n" in out
    assert ran(capsys, "diff", archive, other, "-z", "0,3")[0] == 0


def test_diff_goes_on_past_damaged_tiles(capsys, archive: Path, tmp_path: Path) -> None:
    """What cannot be read is counted on its side; all else is compared as if it were not there."""
    other = tmp_path / "other.mbtiles"
    bodies = {tile_id: plain_png(tile_id) for tile_id in TILES}
    write(other, bodies | {TILES[2]: plain_png(TILES[3])})
    unreadable = (
        "UPDATE tiles SET tile_data = 'words' WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
    )
    for path, places in ((archive, [(0, 0, 0), (3, 5, 5)]), (other, [(0, 0, 0), (1, 1, 1)])):
        with closing(sqlite3.connect(path)) as connection, connection:
            assert connection.executemany(unreadable, places).rowcount == 2
    code, out, err = ran(capsys, "diff", archive, other, "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert found["tiles"] == {
        "only_a": [],
        "only_b": [],
        "different": [str(TILES[2])],
        "damaged_a": ["0/0/0", "3/5/2"],
        "damaged_b": ["0/0/0", "1/1/0"],
    }
    assert found["by_zoom"]["1"] == {
        "same": 2, "different": 1, "only_a": 0, "only_b": 0, "damaged_a": 0, "damaged_b": 1,
    }  # fmt: skip
    code, out, _ = ran(capsys, "diff", archive, other)
    assert code == 1
    assert f"damaged in {archive}: 3/5/2\n" in out
    assert "zoom  0  0 same, 0 different, 0 only in A, 0 only in B, 1 damaged in A, 1 damaged in B\n" in out
    # Damage alone is a difference too.
    assert ran(capsys, "diff", archive, archive, "-z", "3")[0] == 1


def test_an_update_replaces_what_is_damaged_and_tells_what_it_cannot(
    capsys, archive: Path, tmp_path: Path
) -> None:
    store = tmp_path / "copy.mbtiles"
    ran(capsys, "copy", archive, store)
    for path, zoom in ((store, 0), (archive, 3)):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE tiles SET tile_data = 'words' WHERE zoom_level = ?", (zoom,))
    code, _, err = ran(capsys, "copy", archive, store, "--update")
    assert code == 3
    assert "5 of 6 tiles done, 4 settled before" in err
    assert "dead 3/5/2 corrupt_archive" in err
    assert ran(capsys, "diff", archive, store, "-z", "0-1")[0] == 0


def test_verify_holds_an_archive_to_its_word(capsys, tmp_path: Path) -> None:
    liar = tmp_path / "liar.mbtiles"
    bodies = {tile_id: plain_png(tile_id) for tile_id in TILES[:5]}
    write(liar, bodies, format="webp", maxzoom="9", bounds="10,10,20,20")
    code, out, _ = ran(capsys, "verify", liar)
    assert code == 1
    assert "wrong: its format is image/webp, 5 tiles are image/png" in out
    assert "wrong: its maxzoom is 9, that of its tiles 1" in out
    assert "wrong: its bounds are 10,10,20,20, 3 tiles of zoom 1 lie outside" in out


def test_verify_counts_a_pmtiles_header_again(capsys, archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pmtiles"
    ran(capsys, "copy", archive, path)
    body = bytearray(path.read_bytes())
    # Bytes 72 to 79 of the header: how many tiles are addressed.
    body[72] = 9
    path.write_bytes(body)
    code, out, _ = ran(capsys, "verify", path)
    assert code == 1
    assert "wrong: its header counts 9 tiles, there are 6" in out


def test_pictures_become_another_format_and_a_resume_in_a_third_is_refused(
    capsys, archive: Path, tmp_path: Path
) -> None:
    store = tmp_path / "small.mbtiles"
    code, _, err = ran(capsys, "copy", archive, store, "--format", "webp", "--quality", "60")
    assert code == 0, err
    assert ran(capsys, "verify", store)[1] == "fine: 6 tiles read: 6 image/webp\n"
    _, out, _ = ran(capsys, "info", store, "--json")
    metadata = json.loads(out)["metadata"]
    assert (metadata["name"], metadata["format"]) == ("World", "webp")
    code, _, err = ran(capsys, "copy", archive, store, "--format", "jpg")
    assert code == 2
    assert "World as webp q60, not of World as jpg q80" in err


def test_a_quality_without_a_format_is_refused(capsys, archive: Path, tmp_path: Path) -> None:
    code, _, err = ran(capsys, "copy", archive, tmp_path / "x", "--quality", "60")
    assert code == 2
    assert "--format" in err


@pytest.mark.parametrize("name", ["x.mbtiles", "x.pmtiles", "x"])
def test_an_update_into_nothing_copies_all(capsys, archive: Path, tmp_path: Path, name: str) -> None:
    code, _, err = ran(capsys, "copy", archive, tmp_path / name, "--update")
    assert code == 0
    assert "6 of 6 tiles done, 0 absent" in err


def test_an_update_moves_only_what_differs(capsys, archive: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy.pmtiles"
    ran(capsys, "copy", archive, store)
    _, _, err = ran(capsys, "copy", archive, store, "--update")
    assert "6 of 6 tiles done, 6 settled before" in err
    assert " 0 B," in err
    connection = sqlite3.connect(archive)
    changed = plain_png(TileId(9, 9, 9))
    connection.execute("UPDATE tiles SET tile_data = ? WHERE zoom_level = 3", (changed,))
    connection.commit()
    connection.close()
    # The counts are the same as before: only bytes can tell.
    assert ran(capsys, "copy", archive, store)[0] == 0
    assert ran(capsys, "diff", archive, store)[0] == 1
    code, _, err = ran(capsys, "copy", archive, store, "--update")
    assert code == 0
    assert "6 of 6 tiles done, 5 settled before" in err
    assert f" {len(changed)} B," in err
    assert ran(capsys, "diff", archive, store)[0] == 0
    code, _, err = ran(capsys, "copy", archive, store, "--update", "--format", "webp")
    assert code == 2
    assert "compares the bytes" in err
