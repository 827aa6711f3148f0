"""`tilehaul retry` as a person meets it: what it says, what it sends, how it ends."""

import json
import shlex
import sqlite3
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

KEY = "sesame4711"
BROKEN = Faults(errors={500: 0.15, 403: 0.1}, shares={"empty_200": 0.1})


@pytest.fixture
def server():
    with MockThread(MockSettings(seed=9, faults=BROKEN)) as running:
        yield running


@pytest.fixture(params=["a.mbtiles", "tiles"])
def archive(request, server, tmp_path: Path, capsys) -> str:
    """Seeded once without retries; the server is in order afterwards."""
    store = str(tmp_path / request.param)
    command = ["seed", source_of(server), store, "-z", "0-3", "--retries", "0", "--max-failures", "100%"]
    assert main([*command, "--quiet"]) == 3
    server.set_faults(Faults())
    capsys.readouterr()
    return store


def source_of(server) -> str:
    return f"{server.template}?key={KEY}"


def listed(capsys, archive: str, *flags: str) -> list[dict]:
    assert main(["retry", archive, "--list", "--json", *flags]) == 3
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_plain_retry_counts_by_cause_and_says_how_to_go_on(capsys, server, archive: str) -> None:
    """Nothing is sent; the commands it names work as they stand, once the key is filled in."""
    letters = listed(capsys, archive)
    before = server.stats().requests
    assert main(["retry", archive]) == 3
    shown = capsys.readouterr()
    assert f"{archive}: {len(letters)} dead tiles" in shown.out
    for name in ("server", "client", "body"):
        count = sum(letter["class"] == name for letter in letters)
        assert f"\n  {name:<12}{count:>10,}  " in shown.out
    assert "http_403" in shown.out
    ways = [line.split(":  ", 1)[1].strip() for line in shown.err.splitlines()]
    assert [shlex.split(way)[3] for way in ways] == ["--list", "--source", "--drop"]
    assert KEY not in shown.out + shown.err
    assert "key=***" in shown.err
    assert "*** stands for a key" in shown.err
    replay = shlex.split(ways[1].partition("   (")[0].replace("***", KEY))
    assert replay[0] == "tilehaul"
    assert server.stats().requests == before
    assert main(replay[1:]) == 0
    assert server.stats().requests - before == len(letters)
    capsys.readouterr()
    assert main(["retry", archive]) == 0
    assert capsys.readouterr().out == f"{archive}: no dead tiles\n"


def test_counts_as_json(capsys, archive: str) -> None:
    letters = listed(capsys, archive)
    assert main(["retry", archive, "--json", "--cause", "client"]) == 3
    shown = capsys.readouterr()
    refused = sum(letter["cause"] == "http_403" for letter in letters)
    told = json.loads(shown.out)
    assert told["event"] == "dead.counts"
    assert (told["dead"], told["by_class"], told["by_cause"]) == (
        refused, {"client": refused}, {"http_403": refused},
    )  # fmt: skip
    assert shown.err == ""
    assert KEY not in shown.out


def test_list_has_a_line_for_each_tile(capsys, archive: str) -> None:
    letters = listed(capsys, archive)
    assert main(["retry", archive, "--list"]) == 3
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["tile", "cause", "attempts", "status", "when", "url", "said"]
    assert len(lines) == len(letters) > 10
    for line, letter in zip(lines, letters, strict=True):
        tile, cause, attempts, status, when, url, *words = line.split(maxsplit=6)
        said = {"empty": "the body is empty", "http_403": "check the key or the permission"}
        assert words == ([said[cause]] if cause in said else [])
        assert (tile, cause, int(attempts)) == (letter["tile"], letter["cause"], 1)
        assert status == ("-" if cause == "empty" else cause.removeprefix("http_"))
        assert letter["status"] == (None if status == "-" else int(status))
        assert (when, url) == (letter["when"], letter["url"])
        assert when.startswith("20")
        assert when.endswith("Z")
        assert f"/{tile}.png?key=***" in url
        assert KEY not in json.dumps(letter)
    some = listed(capsys, archive, "--cause", "body,http_500")
    assert {one["cause"] for one in some} == {"empty", "http_500"}
    some = listed(capsys, archive, "--cause", "body", "--cause", "client")
    assert {one["cause"] for one in some} == {"empty", "http_403"}
    assert listed(capsys, archive, "--cause", "timeout") == []


def test_list_shows_nothing_that_moves_a_terminal(capsys, server, tmp_path: Path) -> None:
    """The archive may come from anybody."""
    store = tmp_path / "a.mbtiles"
    server.set_faults(Faults(errors={500: 1.0}))
    assert main(["seed", server.template, str(store), "-z", "0", "--retries", "0", "--quiet"]) == 3
    connection = sqlite3.connect(store)
    connection.execute(
        "UPDATE tilehaul_dead_letter SET cause = 'a' || char(27) || '[2J', url = 'x' || char(10)"
    )
    connection.commit()
    connection.close()
    capsys.readouterr()
    for flags in ([], ["--list"], ["--drop", "--quiet"]):
        main(["retry", str(store), *flags])
        shown = capsys.readouterr()
        assert "\x1b" not in shown.out + shown.err
        assert "?[2J" in shown.out + shown.err


def test_replay_by_cause_leaves_the_others_and_says_so(capsys, server, archive: str) -> None:
    """Exit 3 as long as any tile of the archive is dead, 0 when none is."""
    letters = listed(capsys, archive)
    refused = [letter for letter in letters if letter["class"] == "client"]
    before = server.stats().requests
    assert main(["retry", archive, "--source", source_of(server), "--cause", "client", "--json"]) == 3
    shown = capsys.readouterr()
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert (events[0]["event"], events[0]["job"]) == ("job.started", "retry")
    assert (events[-1]["event"], events[-1]["done"], events[-1]["planned"]) == (
        "job.report", len(refused), len(refused),
    )  # fmt: skip
    assert server.stats().requests - before == len(refused)
    assert f"{len(letters) - len(refused)} dead tiles of other causes are left" in shown.err
    assert main(["retry", archive, "--source", source_of(server), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert server.stats().requests - before == len(letters)
    assert main(["info", archive]) == 0
    assert ", complete\n" in capsys.readouterr().out


def test_replay_that_fails_again_names_the_tiles(capsys, server, archive: str) -> None:
    letters = listed(capsys, archive)
    server.set_faults(Faults(errors={400: 1.0}))
    assert main(["retry", archive, "--source", source_of(server), "--retries", "1"]) == 3
    shown = capsys.readouterr()
    assert f"dead letters: 0 of {len(letters)} tiles done" in shown.err
    assert f"\ndead {letters[0]['tile']} http_400\n" in shown.err
    assert f"and {len(letters) - 20} dead tiles more" in shown.err
    assert "run the same command again to try the dead ones again" in shown.err
    assert {one["cause"] for one in listed(capsys, archive)} == {"http_400"}
    assert main(["info", archive]) == 0
    assert f"dead    {len(letters):>12}   client " in capsys.readouterr().out


def test_origin_that_is_away_stops_a_replay_and_loses_no_letter(capsys, server, tmp_path: Path) -> None:
    """Exit 4 soon: nobody waits for tile after tile to fail as well."""
    store = str(tmp_path / "a.mbtiles")
    flags = ["--retries", "0", "--max-failures", "100%", "--quiet"]
    main(["seed", server.template, store, "-z", "0-4", *flags])
    capsys.readouterr()
    count = len(listed(capsys, store))
    assert count > 60
    server.set_faults(Faults(shares={"close_before": 1.0}))
    assert main(["retry", store, "--source", server.template, "-c", "1", "--retries", "0"]) == 4
    assert "has answered nothing yet" in capsys.readouterr().err
    assert len(listed(capsys, store)) == count


def test_drop_sends_nothing_and_is_told_by_info_and_seed(capsys, server, archive: str) -> None:
    letters = listed(capsys, archive)
    bad = [letter for letter in letters if letter["class"] == "body"]
    before = server.stats().requests
    assert main(["retry", archive, "--drop", "--cause", "empty", "--json"]) == 3
    shown = capsys.readouterr()
    dropped = [json.loads(line) for line in shown.out.splitlines()]
    assert [one["tile"] for one in dropped] == [one["tile"] for one in bad]
    assert {one["event"] for one in dropped} == {"dead.dropped"}
    assert f"dropped {bad[0]['tile']} empty" in shown.err
    assert f"{len(bad)} tiles dropped; nothing was sent" in shown.err
    assert main(["retry", archive, "--drop"]) == 0
    capsys.readouterr()
    assert main(["info", archive]) == 0
    shown = capsys.readouterr()
    assert "complete, without the tiles that were dropped" in shown.out
    assert f"dropped {len(letters):>12}" in shown.out
    assert main(["seed", source_of(server), archive, "-z", "0-3"]) == 0
    assert f", {len(letters)} dropped, " in capsys.readouterr().err
    assert server.stats().requests == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cause", "timout"], ["'timout'", "did you mean timeout?"]),
        (["--list", "--cause", "http_500,clent"], ["'clent'", "client"]),
        (["--drop", "--cause", "weather"], ["'weather'", "rate_limit, network"]),
        (["--cause", ""], ["''"]),
        (["--retries", "3"], ["--retries", "--source"]),
        (["--list", "--max-failures", "3"], ["--max-failures", "--source"]),
        (["--list", "--durability", "fast"], ["--durability", "--source"]),
        (["--list", "--drop"], ["--drop", "--list"]),
        (["--source", "https://h.example/{z}/{x}/{y}.png"], ["--contact"]),
        (["--source", "https://tile.openstreetmap.org/{z}/{x}/{y}.png"], ["prohibits"]),
        (["--source", "https://h.example/tiles.png"], ["{z}"]),
        (["--source", "http://127.0.0.1:1/{z}/{x}/{y}.png"], ["--force-source", "key=***"]),
        (["--source", "http://127.0.0.1:1/{z}/{x}/{y}.png", "--retries", "-1"], ["0 or more"]),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(capsys, server, archive: str, flags, words) -> None:
    letters = listed(capsys, archive)
    try:
        code = main(["retry", archive, *flags])
    except SystemExit as ended:
        code = ended.code
    shown = capsys.readouterr()
    assert code == 2
    assert len(shown.err.splitlines()) == 1
    assert all(word in shown.err for word in words), shown.err
    assert listed(capsys, archive) == letters


def test_archives_without_dead_letters(capsys, server, tmp_path: Path) -> None:
    """One that is not there, one that another program made, one that is whole."""
    assert main(["retry", str(tmp_path / "none.mbtiles")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    foreign = tmp_path / "foreign"
    (foreign / "0" / "0").mkdir(parents=True)
    (foreign / "0" / "0" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for flags in ([], ["--list"]):
        assert main(["retry", str(foreign), *flags]) == 0
    capsys.readouterr()
    for flags in (["--drop"], ["--source", server.template]):
        assert main(["retry", str(foreign), *flags]) == 2
        assert "not made by tilehaul" in capsys.readouterr().err
    assert not (tmp_path / "foreign.journal").exists()
    server.set_faults(Faults())
    whole = str(tmp_path / "whole.mbtiles")
    assert main(["seed", server.template, whole, "-z", "0-1", "--quiet"]) == 0
    before = server.stats().requests
    assert main(["retry", whole, "--source", server.template]) == 0
    assert "0 of 0 tiles done" in capsys.readouterr().err
    assert main(["retry", whole, "--drop"]) == 0
    assert server.stats().requests == before


def test_replay_writes_its_report(capsys, server, archive: str, tmp_path: Path) -> None:
    """As every run does; without a replay there is none to write."""
    report = tmp_path / "report.json"
    assert main(["retry", archive, "--report", str(report)]) == 2
    assert not report.exists()
    assert main(["retry", archive, "--source", source_of(server), "--report", str(report)]) == 0
    told = json.loads(report.read_text())
    assert (told["state"], told["done"] > 0) == ("complete", True)
    capsys.readouterr()
