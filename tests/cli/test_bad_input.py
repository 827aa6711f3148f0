"""Bad input: one clear line that says what to do, the right exit code, nothing sent, nothing lost."""

import json
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.lab.plain_png import plain_png

GOOD = "http://127.0.0.1:9/{z}/{x}/{y}.png"


def outcome(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of one command run in this process."""
    try:
        code = main(arguments)
    except SystemExit as error:  # argparse
        code = int(str(error.code))
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:9/{z}/{x}/{why}.png", "S"], ["{why}", "{y}"]),
        (["http://127.0.0.1:9/{z}/{x}.png", "S"], ["y"]),
        (["http://127.0.0.1:9/%(z)s/%(x)s/%(y)s.png", "S"], ["{z}"]),
        (["http://127.0.0.1:9/tiles", "S"], ["{z}/{x}/{y}"]),
        ([GOOD, "S", "--bbox=10,60,20,50"], ["south", "north"]),
        ([GOOD, "S", "--bbox=10,50,190,60"], ["180"]),
        ([GOOD, "S", "--bbox=10,-91,20,60"], ["90"]),
        ([GOOD, "S", "--bbox=1,2,3"], ["WEST,SOUTH,EAST,NORTH"]),
        ([GOOD, "S", "--bbox=1,2,3,4", "--bbox=nan,0,1,1"], ["'nan,0,1,1'", "WEST,SOUTH,EAST,NORTH"]),
        ([GOOD, "S", "--bbox=1,2,3,4", "--bbox=10,60,20,50"], ["south 60"]),
        ([GOOD, "S", "--bbox=a,b,c,d"], ["WEST,SOUTH,EAST,NORTH"]),
        ([GOOD, "S", "-z", "31"], ["31", "30"]),
        ([GOOD, "S", "-z", "5-3"], ["5-3"]),
        ([GOOD, "S", "-z", "0-5", "--max-zoom", "7"], ["--zooms", "give one"]),
        ([GOOD, "S", "--bbox=1,2,3,4", "--region", "x.geojson"], ["--bbox", "--region"]),
        ([GOOD, "S", "--region", "nowhere.geojson"], ["nowhere.geojson"]),
        (["ftp://h/{z}/{x}/{y}", "S"], ["ftp"]),
        (["s3://B/tiles", "S"], ["no name of a bucket"]),
        (["r2://bucket/tiles", "S"], ["R2_ACCOUNT_ID"]),
        ([GOOD, "s3://bucket/../x"], ["prefix"]),
        ([GOOD, "S", "--journal", "j"], ["--journal", "buckets"]),
        (["nowhere.mbtiles", "S"], ["nowhere.mbtiles", "no such"]),
        ([GOOD, "out.pmtiles", "--deduplicate"], ["--deduplicate", "once anyway"]),
        ([GOOD, "out.gpkg", "--deduplicate"], ["--deduplicate", "each tile by itself"]),
        ([GOOD, "http://127.0.0.1:9/{z}/{x}/{y}.png"], ["tile service"]),
        (["https://tile.openstreetmap.org/{z}/{x}/{y}.png", "S"], ["prohibits bulk download"]),
        (["https://{s}.tile.openstreetmap.org/{z}/{x}/{y}.png", "S"], ["prohibits bulk download"]),
        (["http://93.184.216.34/{z}/{x}/{y}.png", "S"], ["--contact"]),
        ([GOOD, "S", "-H", "nonsense"], ["--header"]),
        ([GOOD, "S", "--providers", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        ([GOOD, "S", "--contact", "a(b)"], ["--contact"]),
        (["http://93.184.216.34/{z}/{x}/{y}.png", "S", "--contact", " "], ["--contact"]),
        ([GOOD, "S", "-H", "User-Agent: Mozilla/5.0"], ["User-Agent", "--contact"]),
        ([GOOD, "S", "--tls-roots", "nowhere.pem"], ["--tls-roots", "nowhere.pem"]),
        (["http://[::1/{z}/{x}/{y}.png", "S"], ["host"]),
        ([GOOD, "alps.mbtile"], [".mbtiles"]),
        ([GOOD, "alps.pmtile"], [".pmtiles"]),
        ([GOOD, "alps.zip"], ['".zip"', ".mbtiles, .pmtiles and .gpkg are known", "alps.zip/"]),
        ([GOOD, "a/alps.SQLiteDB"], ['".sqlitedb"', ".mbtiles, .pmtiles and .gpkg are known"]),
        ([GOOD, "S", "--concurency", "5"], ["--concurency", "--concurrency"]),
        ([GOOD, "S", "more"], ["more"]),
        ([GOOD, "S", "--bbox=5,44,17,91"], ["latitude 91 is beyond 90"]),
        ([GOOD, "S", "--bbox=44,150,48,170"], ["150,44,170,48"]),
        ([GOOD, "S", "--tiles", "x.txt", "-z", "3"], ["--tiles"]),
        ([GOOD, "S", "--min-zoom", "3"], ["--max-zoom"]),
        (["http://h:port/{z}/{x}/{y}.png", "S"], ["host"]),
        (["http:///{z}/{x}/{y}.png", "S"], ["host"]),
        (["https://tile.openstreetmap.org/{z}/{x}/{y}.png", "S", "--dry-run"], ["prohibits"]),
        ([GOOD, "S", "--allow-private", "nonsense"], ["host:port"]),
        ([GOOD, "S", "-c", "0"], ["--concurrency", "from 1 to 1000"]),
        ([GOOD, "S", "-c", "x"], ["--concurrency", '"x": a whole number from 1 to 1000 is wanted']),
        ([GOOD, "S", "-c", "2.5"], ["--concurrency", "from 1 to 1000"]),
        ([GOOD, "S", "-c", "1001"], ["--concurrency", "from 1 to 1000"]),
        ([GOOD, "S", "--timeout", "1e300"], ["--timeout", "up to 86400"]),
        ([GOOD, "S", "--timeout", "x"], ["--timeout", "seconds above 0"]),
        ([GOOD, "S", "--max-wait", "inf"], ["--max-wait", "up to 86400"]),
        ([GOOD, "S", "--rate-limit", "x"], ["--rate-limit", "requests a second"]),
        ([GOOD, "S", "--retries", "x"], ["--retries", "whole number of 0 or more"]),
        ([GOOD, "S", "--max-failures", "many"], ["1%"]),
        ([GOOD, "S", "--timeout", "-3"], ["seconds"]),
        ([GOOD, "S", "--retries", "-1"], ["--retries", "0 or more"]),
        ([GOOD, "S", "--deadline", "0"], ["--deadline", "10m"]),
        ([GOOD, "S", "--deadline=-5m"], ["--deadline", "10m"]),
        ([GOOD, "S", "--deadline", "soon"], ["soon", "10m"]),
        ([GOOD, "S", "--deadline", "inf"], ["inf", "10m"]),
    ],
)
def test_seed_that_makes_no_sense_is_refused_before_anything_is_sent(
    capsys, tmp_path: Path, monkeypatch, arguments: list[str], words: list[str]
) -> None:
    """Exit 2, the offending value named, no file made."""
    monkeypatch.chdir(tmp_path)
    arguments = ["store.mbtiles" if word == "S" else word for word in arguments]
    code, errors = outcome(capsys, "seed", *arguments)
    assert code == 2, errors
    last = errors.strip().splitlines()[-1]
    for word in words:
        assert word in last
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_misspelt_command_is_answered_with_the_nearest(capsys) -> None:
    code, errors = outcome(capsys, "sed", "x")
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert "'seed'" in errors


def test_box_may_begin_with_a_minus(capsys) -> None:
    """As people write it: argparse alone would take the numbers for an option."""
    arguments = ["seed", GOOD, "s.mbtiles", "--bbox", "-5,44,17,48", "-z", "0-3", "--dry-run", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["planned"] == 7


def test_several_boxes_are_one_job(capsys) -> None:
    """What lies in any of them, once; in whatever order."""
    for boxes in (["-5,44,17,48", "10,40,20,50"], ["10,40,20,50", "-5,44,17,48"]):
        flags = [word for box in boxes for word in ("--bbox", box)]
        assert main(["seed", GOOD, "s.mbtiles", *flags, "-z", "0-3", "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["by_zoom"] == {"0": 1, "1": 2, "2": 2, "3": 3}


def test_origin_that_was_never_reached_is_said_to_be(capsys, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/{{z}}/{{x}}/{{y}}.png"
        code, errors = outcome(capsys, "seed", url, str(tmp_path / "a.mbtiles"), "-z", "0", "--retries", "0")
    assert code == 3
    assert "never reached" in errors


def test_what_may_be_a_key_is_not_repeated(capsys, tmp_path: Path) -> None:
    """A header without its colon, a password with a hash in it."""
    store = str(tmp_path / "s.mbtiles")
    for arguments in ([GOOD, store, "-H", "X-Api-Key CANARY1"], ["http://u:CANARY2#x@h/tiles", store]):
        code, errors = outcome(capsys, "seed", *arguments)
        assert code == 2
        assert "CANARY" not in errors


@pytest.mark.parametrize(
    "words",
    [
        "info BAD.mbtiles",
        "verify BAD.pmtiles",
        "info BAD",
        "copy BAD.gpkg out.mbtiles",
        "copy a out/BAD.mbtiles",
        "copy a BAD.pmtiles",
        "copy a BAD",
        "copy a out.mbtiles --tiles-of BAD.mbtiles",
        "copy BAD.png out.mbtiles --pixels",
        "seed http://127.0.0.1:9/BAD/{z}/{x}/{y}.png out.mbtiles -z 0",
        "diff a BAD.mbtiles",
        "retry BAD.mbtiles",
        "serve BAD.mbtiles --port 0",
        "serve a --port 0 --cache-disk 1MB --cache-path BAD",
        "cache info BAD",
    ],
)
def test_name_that_is_no_text_is_refused(capsys, tmp_path: Path, monkeypatch, words: str) -> None:
    """A byte that is not UTF-8, as a file of an old disk may have it. What it names is there, and whole."""
    monkeypatch.chdir(tmp_path)
    bad = os.fsdecode(b"bad\xff")
    picture = plain_png(TileId(0, 0, 0))
    for folder in ("a/0/0", f"{bad}/0/0"):
        Path(folder).mkdir(parents=True)
        Path(folder, "0.png").write_bytes(picture)
    Path(f"{bad}.png").write_bytes(picture)
    Path(bad, "tiles.cache").touch()
    for ending in ("mbtiles", "gpkg", "pmtiles"):
        Path(f"{bad}.{ending}").touch()
    before = sorted(map(bytes, tmp_path.rglob("*")))
    code, errors = outcome(capsys, *words.replace("BAD", bad).split())
    assert (code, len(errors.splitlines())) == (2, 1), errors
    assert "not UTF-8" in errors
    assert sorted(map(bytes, tmp_path.rglob("*"))) == before


@pytest.mark.parametrize(
    "words",
    [
        "info LONG.mbtiles",
        "verify LONG",
        "copy LONG.gpkg out.mbtiles",
        "copy a LONG.pmtiles",
        "copy a LONG.zip",
        "copy a out.mbtiles --report LONG",
        "copy LONG.png out.mbtiles --pixels",
        "cache info LONG",
    ],
)
def test_name_that_is_too_long_for_its_disk_is_refused(
    capsys, tmp_path: Path, monkeypatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a/0/0").mkdir(parents=True)
    Path("a/0/0/0.png").write_bytes(plain_png(TileId(0, 0, 0)))
    code, errors = outcome(capsys, *words.replace("LONG", "l" * 300).split())
    assert (code, len(errors.splitlines()), "too long" in errors) == (2, 1, True), errors
    assert len(errors) < 200
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_folder_whose_name_is_no_text_holds_archives_all_the_same(
    capsys, tmp_path: Path, monkeypatch
) -> None:
    """Only what is typed is a name: what lies further up is the system's."""
    folder = tmp_path / os.fsdecode(b"bad\xff")
    (folder / "a/0/0").mkdir(parents=True)
    (folder / "a/0/0/0.png").write_bytes(plain_png(TileId(0, 0, 0)))
    monkeypatch.chdir(folder)
    for source, store in pairwise(("a", "b.mbtiles", "c.gpkg", "d.pmtiles", "e")):
        assert outcome(capsys, "copy", source, store, "--quiet") == (0, "")


def test_file_that_is_no_mbtiles(capsys, tmp_path: Path) -> None:
    """A file of something else is neither read nor written over."""
    picture = tmp_path / "holiday.mbtiles"
    picture.write_bytes(b"\xff\xd8\xff not an archive" * 1000)
    for arguments in (["info", str(picture)], ["serve", str(picture)], ["seed", GOOD, str(picture)]):
        code, errors = outcome(capsys, *arguments)
        assert code == 2, errors
        assert "holiday.mbtiles" in errors
        assert len(errors.strip().splitlines()) == 1
    assert picture.read_bytes().startswith(b"\xff\xd8\xff not an archive")


def test_folder_that_cannot_be_written(capsys, tmp_path: Path) -> None:
    """A file where the folder should be: root, too, cannot write there."""
    (tmp_path / "occupied").write_text("x")
    code, errors = outcome(capsys, "seed", GOOD, str(tmp_path / "occupied" / "out.mbtiles"))
    assert code == 5
    assert "occupied" in errors


@pytest.mark.parametrize("command", ["serve", "mock"])
def test_port_in_use(capsys, tmp_path: Path, command: str) -> None:
    (tmp_path / "tiles").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = [str(tmp_path / "tiles")] if command == "serve" else ["--tiles", "plain"]
        code, errors = outcome(capsys, command, *arguments, "--port", port)
    assert code == 2
    assert port in errors
    assert "in use" in errors


def test_upstream_that_is_down_stops_the_job_and_says_so(capsys, tmp_path: Path) -> None:
    """Nothing listens: exit 4, one line, resumable."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/{{z}}/{{x}}/{{y}}.png"
        store = tmp_path / "out.mbtiles"
        code, errors = outcome(capsys, "seed", url, str(store), "-z", "0-5", "--retries", "0")
    assert code == 4
    assert "origin" in errors
    assert "again" in errors


def test_upstream_that_answers_html_leaves_dead_letters(capsys, tmp_path: Path) -> None:
    """A login page at 200 is no tile: exit 3, every dead tile named with its cause."""
    with MockThread(MockSettings(faults=Faults(shares={"html_200": 1.0}))) as server:
        store = str(tmp_path / "out.mbtiles")
        code, errors = outcome(capsys, "seed", server.template, store, "-z", "0-1", "--retries", "1")
        assert server.stats().requests == 10
    assert code == 3
    assert errors.count("error_page") == 5
    assert "dead 1/1/1 error_page" in errors


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.mbtiles", "a.mbtiles holds none of them: look at"),
        ("a.pmtiles", "a.pmtiles was not made, for a PMTiles file holds one tile at least: look at"),
    ],
)
def test_source_without_one_of_the_tiles_is_told(capsys, tmp_path: Path, name: str, words: str) -> None:
    """Complete, and mostly not what was meant; of a PMTiles there is then no file."""
    store = str(tmp_path / name)
    with MockThread(MockSettings(faults=Faults(errors={404: 1.0}))) as server:
        for settled in ("", "5 settled before, "):
            code, errors = outcome(capsys, "seed", server.template, store, "-z", "0-1")
            assert code == 0
            assert f"complete: 0 of 5 tiles done, {settled}5 absent" in errors
            assert f"{server.template} has none of these 5 tiles, and {store[:-9]}{words}" in errors
        assert outcome(capsys, "seed", server.template, store, "-z", "0-1", "--quiet") == (0, "")
    assert Path(store).exists() == name.endswith(".mbtiles")
    assert main(["info", store]) == 0
    assert ("file            none" in capsys.readouterr().out) == name.endswith(".pmtiles")


def test_dead_tiles_beyond_twenty_are_counted(capsys, tmp_path: Path) -> None:
    with MockThread(MockSettings(faults=Faults(errors={400: 1.0}))) as server:
        store = str(tmp_path / "out.mbtiles")
        code, errors = outcome(capsys, "seed", server.template, store, "-z", "2,1", "--quiet")
    assert code == 3
    assert errors.count("http_400") == 20
    assert "15" not in errors.splitlines()[0]


def test_disk_that_fills_up_keeps_what_was_committed(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full disk: exit 5, the file named, and it goes on afterwards."""
    store = tmp_path / "out.mbtiles"
    with MockThread(MockSettings(tile_bytes=8000)) as server:
        seed = [sys.executable, "-m", "tilehaul", "seed", server.template, str(store), "-z", "0-5"]
        limited = (
            "import resource, runpy, signal, sys;"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000));"
            f"sys.argv = {seed[2:]!r};"
            "runpy.run_module('tilehaul', run_name='__main__')"
        )
        full = subprocess.run(
            [sys.executable, "-c", limited], capture_output=True, text=True, timeout=60, check=False
        )
        assert full.returncode == 5, full.stderr
        assert "out.mbtiles" in full.stderr
        assert "Traceback" not in full.stderr
        whole = subprocess.run([*seed, "--json"], capture_output=True, text=True, timeout=60, check=True)
        report = json.loads(whole.stdout.splitlines()[-1])
        assert report["done"] == report["planned"] == 1365
