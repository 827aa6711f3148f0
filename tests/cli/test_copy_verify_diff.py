"""`tilehaul copy`, `verify` and `diff`, as a person uses them."""

import json
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.wire import MIB

Say = pytest.CaptureFixture[str]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """85 tiles, zooms 0 to 3."""
    path = tmp_path / "world.mbtiles"
    with MockThread() as server:
        assert main(["seed", server.template, str(path), "-z", "0-3", "--quiet"]) == 0
    return path


def _sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_copy_through_every_format_and_back_is_the_same(world: Path, tmp_path: Path, capsys: Say) -> None:
    places = [world, *(tmp_path / name for name in ("b.pmtiles", "c", "d.mbtiles"))]
    for source, store in pairwise(places):
        assert main(["copy", str(source), str(store), "--quiet"]) == 0
        assert main(["verify", str(store)]) == 0
    capsys.readouterr()
    assert main(["diff", str(world), str(places[-1]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["same"]
    assert sum(counts["same"] for counts in told["by_zoom"].values()) == 85


def test_copy_again_copies_nothing_and_an_archive_that_grew_only_what_is_new(
    world: Path, tmp_path: Path, capsys: Say
) -> None:
    copied = str(tmp_path / "copy.mbtiles")
    assert main(["copy", str(world), copied, "--quiet"]) == 0
    assert main(["copy", str(world), copied, "--json"]) == 0
    assert _report(capsys)["skipped"] == 85
    # Row 0 of MBTiles is the southernmost.
    body = "(SELECT tile_data FROM tiles WHERE zoom_level = 0)"
    _sql(world, f"INSERT INTO tiles VALUES (4, 3, 5, {body})")
    assert main(["copy", str(world), copied, "--json"]) == 0
    report = _report(capsys)
    assert (report["planned"], report["skipped"], report["done"]) == (86, 85, 86)


def _report(capsys: Say) -> dict[str, int]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return next(line for line in lines if line["event"] == "job.report")


def test_copy_of_an_area_takes_the_archives_zooms(world: Path, tmp_path: Path, capsys: Say) -> None:
    store = str(tmp_path / "part.pmtiles")
    assert main(["copy", str(world), store, "--bbox=1,1,2,2", "--json"]) == 0
    assert _report(capsys)["planned"] == 4
    assert main(["copy", str(world), str(tmp_path / "two"), "-z", "1-2", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"planned": 20, "by_zoom": {"1": 4, "2": 16}}
    assert not (tmp_path / "two").exists()


def test_tiles_of_another_archive_are_asked_of_a_service(world: Path, tmp_path: Path, capsys: Say) -> None:
    _sql(world, "DELETE FROM tiles WHERE zoom_level <> 2")
    with MockThread() as server:
        arguments = ["copy", server.template, str(tmp_path / "new.mbtiles"), "--tiles-of", str(world)]
        assert main([*arguments, "--json"]) == 0
        assert server.stats().requests == _report(capsys)["done"] == 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["copy", "https://h.test/{z}/{x}/{y}.png?key=canary-9", "x.mbtiles"], "cannot say which tiles"),
        (["copy", "nothing.mbtiles", "x.mbtiles"], "no such file"),
        (["copy", "{world}", "{world}"], "as well as the store"),
        (["copy", "{world}", "x.mbtiles", "--bbox=170,80,171,81", "-z", "9"], "holds no tiles in this area"),
        (["copy", "{world}", "x.mbtiles", "--min-zoom", "9"], "ends at zoom 3"),
        (["diff", "{world}", "nothing.pmtiles"], "no such file"),
        (["verify", "https://h.test/{z}/{x}/{y}.png"], "not an archive"),
    ],
)
def test_nonsense_is_told_in_one_line(
    arguments: list[str], words: str, world: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.parent)
    assert main([word.replace("{world}", str(world)) for word in arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "canary" not in said
    assert len(said.splitlines()) == 1
    assert not Path("x.mbtiles").exists()


def test_diff_names_what_differs(world: Path, tmp_path: Path, capsys: Say) -> None:
    other = str(tmp_path / "other.mbtiles")
    assert main(["copy", str(world), other, "--quiet"]) == 0
    body = "(SELECT tile_data FROM tiles WHERE zoom_level = 0)"
    _sql(
        world,
        "DELETE FROM tiles WHERE zoom_level = 1 AND tile_column = 0 AND tile_row = 0",
        f"UPDATE tiles SET tile_data = {body} WHERE zoom_level = 2 AND tile_column = 1 AND tile_row = 1",
        f"INSERT INTO tiles VALUES (5, 0, 31, {body})",
    )
    capsys.readouterr()
    assert main(["diff", str(world), other]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[:3]) == ["+ 1/0/1", "- 5/0/0", "~ 2/1/2"]
    assert main(["diff", str(world), other, "-z", "0,3", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_verify_says_what_is_wrong_where(world: Path, capsys: Say) -> None:
    half = "substr(tile_data, 1, length(tile_data) / 2)"
    _sql(
        world,
        f"UPDATE tiles SET tile_data = {half} WHERE zoom_level = 2 AND tile_column = 1 AND tile_row = 1",
        "UPDATE tiles SET tile_data = x'3c68746d6c3e' WHERE zoom_level = 0",
        "UPDATE metadata SET value = '5' WHERE name = 'maxzoom'",
        "UPDATE metadata SET value = '0,0,90,60' WHERE name = 'bounds'",
        "UPDATE metadata SET value = 'webp' WHERE name = 'format'",
    )
    assert main(["verify", str(world), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["sound"]
    assert {(one["tile"], one["cause"]) for one in told["wrong"]} == {
        ("2/1/2", "truncated"),
        ("0/0/0", "error_page"),
    }
    text = "\n".join(told["faults"])
    for words in (
        "maxzoom is declared as 5, and is 3",
        "outside its declared bounds",
        "declared as image/webp",
    ):
        assert words in text
    assert main(["verify", str(world)]) == 1
    said = capsys.readouterr()
    assert "wrong 2/1/2 truncated" in said.err
    assert "not sound; 85 tiles read" in said.out


def test_verify_sees_a_page_of_the_database_that_was_overwritten(tmp_path: Path, capsys: Say) -> None:
    path = tmp_path / "big.mbtiles"
    with MockThread() as server:
        assert main(["seed", server.template, str(path), "-z", "0-5", "--quiet"]) == 0
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 8192 * 8192
    data[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    assert len(data) < MIB * 10
    assert main(["verify", str(path)]) in (1, 2)
    assert "damaged" in (said := capsys.readouterr().err) or "SQLite" in said


def test_verify_of_a_header_that_lies(world: Path, tmp_path: Path, capsys: Say) -> None:
    path = tmp_path / "w.pmtiles"
    assert main(["copy", str(world), str(path), "--quiet"]) == 0
    data = bytearray(path.read_bytes())
    # PMTiles v3: the number of addressed tiles is a 64-bit number at byte 72.
    data[72:80] = (99).to_bytes(8, "little")
    path.write_bytes(data)
    assert main(["verify", str(path)]) == 1
    assert "its header says 99 tiles, there are 85" in capsys.readouterr().err


def test_verify_of_an_unfinished_archive_is_not_sound(tmp_path: Path, capsys: Say) -> None:
    path = str(tmp_path / "w.mbtiles")
    with MockThread(MockSettings(faults=Faults(errors={404: 0.0, 403: 0.1}))) as server:
        assert main(["seed", server.template, path, "-z", "0-3", "--quiet"]) in (3, 4)
    assert main(["verify", path, "--quiet"]) == 1
    assert "not complete" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["other.mbtiles", "other.pmtiles", "other"])
def test_update_moves_only_what_differs_and_removes_nothing(
    name: str, world: Path, tmp_path: Path, capsys: Say
) -> None:
    other = str(tmp_path / name)
    arguments = ["copy", str(world), other, "--update", "--json"]
    assert main(arguments) == 0
    assert _report(capsys)["planned"] == 85
    assert main(arguments) == 0
    assert (report := _report(capsys))["planned"] == report["requests"] == 0
    body = "(SELECT tile_data FROM tiles WHERE zoom_level = 0)"
    _sql(
        world,
        "DELETE FROM tiles WHERE zoom_level = 1 AND tile_column = 0 AND tile_row = 0",
        f"UPDATE tiles SET tile_data = {body} WHERE zoom_level = 2 AND tile_column = 1 AND tile_row = 1",
        f"INSERT INTO tiles VALUES (5, 0, 31, {body})",
    )
    assert main(arguments) == 0
    assert (report := _report(capsys))["planned"] == report["done"] == 2
    assert main(["diff", str(world), other]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] in "+-~"] == ["+ 1/0/1"]
    assert main(["verify", other, "--quiet"]) == 0, capsys.readouterr().err


def test_update_and_others_are_not_both_asked_for(world: Path, capsys: Say) -> None:
    assert main(["copy", str(world), "x.mbtiles", "--update", "--overwrite"]) == 2
    assert main(["copy", str(world), "x.mbtiles", "--update", "--tiles-of", str(world)]) == 2
    assert capsys.readouterr().err.count("--update") == 2
