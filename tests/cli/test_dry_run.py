"""`seed --dry-run`: what is told before a job is begun, and what is asked for that."""

import json
import socket
from pathlib import Path

import pytest

from tilehaul.cli.estimate import SAMPLE_MAX
from tilehaul.cli.main import main
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

ACCOUNT = "0123456789abcdef0123456789abcdef"


def ran(capsys, *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def bucket_keys(monkeypatch) -> None:
    monkeypatch.setenv("R2_ACCOUNT_ID", ACCOUNT)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_sample_nothing_is_asked(capsys, tmp_path: Path) -> None:
    store = tmp_path / "a.mbtiles"
    with MockThread() as server:
        code, out, _ = ran(capsys, "seed", server.template, store, "-z", "0-2", "--dry-run", "--json")
        assert server.stats().requests == 0
    assert (code, json.loads(out)) == (
        0,
        {"planned": 21, "by_zoom": {"0": 1, "1": 4, "2": 16}, "bytes_guess": 315_000},
    )
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_costs_its_writes(capsys) -> None:
    """Known from the count alone, by the list price of whoever the address names."""
    with MockThread() as server:
        wanted = ("-z", "0-10", "--dry-run")
        code, out, _ = ran(capsys, "seed", server.template, "r2://maps/world", *wanted)
        assert code == 0
        assert "1,398,101 writes at $4.5 a million = $6.29; kept, $0.31 a month at $0.015 a GB" in out
        assert "list price of Cloudflare R2 Standard, read 2026" in out
        assert "look up yours" in out
        _, out, _ = ran(capsys, "seed", server.template, "s3://maps/world", *wanted, "--json")
        cost = json.loads(out)["cost"]
        assert (cost["writes"], cost["price"]["write_usd"]) == (1_398_101, 5.0)
        assert cost["write_usd"] == pytest.approx(6.990505)
        assert server.stats().requests == 0


def test_a_sample_asks_for_so_many_tiles_and_writes_nothing(capsys, tmp_path: Path) -> None:
    """Tiles of 4,000 bytes, none absent: each figure is known."""
    store = tmp_path / "a.mbtiles"
    with MockThread(MockSettings(tile_bytes=4000)) as server:
        wanted = ("seed", server.template, store, "-z", "0-6", "--dry-run", "--sample", 40)
        code, out, err = ran(capsys, *wanted, "--json")
        assert (code, err) == (0, "asking for a sample of 40 tiles ...\n")
        assert server.stats().requests == 40
        first = {zoom: server.requests_of(f"{zoom}/0/0") for zoom in range(7)}
        assert (code, ran(capsys, *wanted, "--quiet")[2]) == (0, "")
        # The same command asks for the same tiles.
        assert {zoom: server.requests_of(f"{zoom}/0/0") for zoom in range(7)} == {
            zoom: 2 * count for zoom, count in first.items()
        }
    told = json.loads(out)
    assert (told["planned"], told["bytes"], told["absent_share"]) == (5461, 5461 * 4000, 0.0)
    assert [zoom["tiles"] for zoom in told["zooms"]] == [4**zoom for zoom in range(7)]
    assert {zoom["mean_bytes"] for zoom in told["zooms"]} == {4000.0}
    assert 0 < told["bytes_margin"] < 5461 * 4000
    sample = told["sample"]
    assert (sample["answered"], sample["failed"], sample["requests"]) == (40, 0, 40)
    assert told["hours"] == pytest.approx(5461 / told["rate_per_s"] / 3600)
    assert told["rate_per_s"] == pytest.approx(40 / sample["elapsed_s"])
    assert told["hours_least"] == pytest.approx(5461 / (32 / sample["fetch_s"]) / 3600)
    assert told["cost"] is None
    assert list(tmp_path.iterdir()) == []


def test_a_sample_is_told_in_words(capsys) -> None:
    """Zooms, bytes, time, and what a bucket costs for the tiles that are there."""
    with MockThread(MockSettings(absence=Absence(above_zoom=1), tile_bytes=2000)) as server:
        wanted = ("seed", server.template, "r2://maps/world", "-z", "0-2", "--dry-run", "--rate-limit", 400)
        code, out, _ = ran(capsys, *wanted, "--sample", 500)
        # All there is, and no more.
        assert server.stats().requests == 21
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:5] == [
        "zoom tiles sampled bytes a tile in all absent",
        "0 1 1 2,000 +- 0 2.0 kB 0.0%",
        "1 4 4 2,000 +- 0 8.0 kB 0.0%",
        "2 16 16 0 +- 0 0 B 100.0%",
        "in all 21 10.0 kB +- 0 B (95 %), 76.2% absent, which count as 0 bytes",
    ]
    assert lines[5].startswith("sample 21 answered in ")
    assert lines[5].endswith(" s, 21 requests")
    assert "tiles/s, as the sample came with " in lines[6]
    assert lines[6].endswith("; 400 requests/s are allowed")
    assert "5 writes at $4.5 a million = $0.00" in out


def test_zooms_without_a_sample_say_whose_figures_they_have(capsys, tmp_path: Path) -> None:
    with MockThread(MockSettings(tile_bytes=1000)) as server:
        wanted = ("seed", server.template, tmp_path / "a.mbtiles", "-z", "0-3", "--dry-run", "--sample", 1)
        _, out, _ = ran(capsys, *wanted)
        assert server.stats().requests == 1
    assert out.count("not sampled, as zoom 3") == 3


def test_an_archive_is_sampled_and_its_tiles_become_what_they_will(capsys, tmp_path: Path) -> None:
    """No lane, so no limit to tell of; re-encoded tiles are measured as they will be kept."""
    pytest.importorskip("PIL")
    archive = tmp_path / "a.mbtiles"
    with MockThread(MockSettings(tiles="painted")) as server:
        assert main(["seed", server.template, str(archive), "-z", "0-2", "--quiet"]) == 0
    wanted = ("seed", archive, tmp_path / "b.mbtiles", "-z", "0-2", "--dry-run", "--sample", 21)
    _, out, _ = ran(capsys, *wanted, "--json")
    plain = json.loads(out)
    assert (plain["in_flight"], plain["in_flight_max"], plain["hours_least"]) == (0, 0, None)
    code, out, _ = ran(capsys, *wanted, "--format", "jpg", "--quality", 30, "--json")
    assert code == 0
    assert json.loads(out)["bytes"] != plain["bytes"]
    code, out, _ = ran(capsys, *wanted)
    assert "tiles/s, as the sample came\n" in out


@pytest.mark.parametrize("number", ["0", "-3", "x", "1.5", "nan"])
def test_a_sample_of_no_number_is_refused(capsys, number: str) -> None:
    code, _, err = ran(capsys, "seed", "a.mbtiles", "b.mbtiles", "--dry-run", f"--sample={number}")
    assert code == 2
    assert "a whole number of 1 or more is wanted" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sample", "5"], "--sample is for --dry-run"),
        (["--dry-run", "--sample", str(SAMPLE_MAX + 1)], "at most 10,000"),
    ],
)
def test_a_sample_out_of_place_is_refused_before_anything_is_asked(capsys, flags, said: str) -> None:
    with MockThread() as server:
        code, _, err = ran(capsys, "seed", server.template, "b.mbtiles", "-z", "0-9", *flags)
        assert server.stats().requests == 0
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_places_and_providers_are_checked_before_a_sample(capsys, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("127.0.0.1: {bulk: false, reason: it is mine}\n")
    with MockThread() as server:
        wanted = ("-z", "0-3", "--dry-run", "--sample", 5, "--providers", rules)
        code, _, err = ran(capsys, "seed", server.template, tmp_path / "a.mbtiles", *wanted)
        assert (code, "it is mine" in err) == (2, True)
        code, _, err = ran(capsys, "seed", server.template, server.template, "--dry-run", "--sample", 5)
        assert (code, "tile service" in err) == (2, True)
        assert server.stats().requests == 0


def test_a_sample_of_which_nothing_comes_is_one_clear_line(capsys, tmp_path: Path) -> None:
    """Exit code 4, as of a job that was stopped: the origin fails, denies, or is not there."""
    wanted = (tmp_path / "a.mbtiles", "-z", "0-2", "--dry-run", "--sample", 5, "--retries", 0, "--quiet")
    for status in (500, 403):
        with MockThread(MockSettings(faults=Faults(errors={status: 1.0}))) as server:
            code, out, err = ran(capsys, "seed", server.template, *wanted)
        assert (code, out) == (4, "")
        assert "no tile of the sample came, 5 failed, the first because" in err
        assert f"HTTP {status}" in err
        assert len(err.splitlines()) == 1
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/{{z}}/{{x}}/{{y}}.png"
        code, out, err = ran(capsys, "seed", url, *wanted)
    assert (code, out) == (4, "")
    assert "sample" in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
