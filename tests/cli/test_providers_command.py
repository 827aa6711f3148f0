"""Rules of hosts at the terminal: shown, laid over, obeyed."""

import json
from pathlib import Path

import pytest

from tilehaul.cli.main import main
from tilehaul.errors import PlanError
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

OSM = "https://tile.openstreetmap.org/{z}/{x}/{y}.png"


def mine(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_known_rules_are_shown_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "tile.openstreetmap.org\n  no bulk download",
        "0.2 requests a second",
        "https://",
        "HTTP 500",
    ):
        assert words in shown


def test_rule_of_one_host_by_name_or_address(capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("A.Tile.openstreetmap.org", OSM):
        assert main(["providers", "--host", host, "--json"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        facts = json.loads(line)
        assert (facts["host"], facts["bulk"], facts["contact"]) == ("tile.openstreetmap.org", False, True)
    assert main(["providers", "--host", "tiles.example.com"]) == 0
    assert "nothing is known" in capsys.readouterr().out


def test_own_rules_are_shown_over_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
tile.openstreetmap.org: {bulk: true, agreement: letter of 2026-10-01}
h.org: {concurrency: 3, push_back: [{status: 403, header: "X-Reason: quota", body: too many}]}
"""
    assert main(["providers", "--providers", mine(tmp_path, text)]) == 0
    shown = capsys.readouterr().out
    assert "bulk download by agreement: letter of 2026-10-01" in shown
    assert 'HTTP 403 with header "x-reason: quota" and body "too many" means too many requests' in shown
    assert "at most 3 under way at once" in shown


def test_own_rule_forbids_and_an_agreement_allows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = mine(tmp_path, "127.0.0.1: {bulk: false, reason: it is mine}\n")
    with MockThread() as server:
        assert (
            main(["seed", server.template, str(tmp_path / "a.mbtiles"), "-z", "0", "--providers", rules]) == 2
        )
        assert server.stats().requests == 0
    assert "127.0.0.1 cannot be seeded: it is mine" in capsys.readouterr().err
    rules = mine(tmp_path, "tile.openstreetmap.org: {bulk: true, agreement: letter}\n")
    dry = ["seed", OSM, str(tmp_path / "b.mbtiles"), "-z", "0", "--dry-run"]
    assert main(dry) == 2
    assert main([*dry, "--providers", rules]) == 0


def test_status_that_means_too_much_costs_no_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the rule a 500 is a failure, and with no retries a dead tile. The seed fails one tile, once."""
    seed = ["-z", "0-2", "--retries", "0", "--max-failures", "100%", "--json", "-c", "1"]
    with MockThread(MockSettings(seed=1, faults=Faults(errors={500: 0.04}))) as server:
        assert main(["seed", server.template, str(tmp_path / "a.mbtiles"), *seed]) == 3
        without = json.loads(capsys.readouterr().out.splitlines()[-1])
    with MockThread(MockSettings(seed=1, faults=Faults(errors={500: 0.04}))) as server:
        rules = mine(tmp_path, "127.0.0.1: {push_back: [500]}\n")
        arguments = ["seed", server.template, str(tmp_path / "b.mbtiles"), *seed, "--providers", rules]
        assert main(arguments) == 0
        with_rule = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (without["dead"], without["pushed_back"]) == (1, 0)
    assert (with_rule["dead"], with_rule["pushed_back"], with_rule["done"]) == (0, 1, 21)


async def test_host_that_wants_a_contact_gets_none_of_our_requests_without_one() -> None:
    import tilehaul  # noqa: PLC0415

    with pytest.raises(PlanError, match=r"tile\.openstreetmap\.org asks every client for a contact"):
        async with tilehaul.open(OSM):
            pass
    async with tilehaul.open(OSM, sending=tilehaul.Sending(contact="me@example.com")):
        pass


def test_service_says_which_layer_wants_a_contact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", f"osm={OSM}", "--port", "0"]) == 2
    assert "layers.osm: tile.openstreetmap.org asks every client for a contact" in capsys.readouterr().err


def test_service_takes_rules_from_its_configuration_and_from_a_file(tmp_path: Path) -> None:
    from tilehaul.cli.main import _parser  # noqa: PLC0415
    from tilehaul.cli.serve import settings_of  # noqa: PLC0415

    config = tmp_path / "tilehaul.yaml"
    config.write_text(
        "layers: {a: {source: x.mbtiles}}\nproviders: {h.org: {rate_limit: 1}, i.org: {rate_limit: 2}}\n"
    )
    rules = mine(tmp_path, "h.org: {rate_limit: 3}\n")
    options = _parser().parse_args(["serve", "--config", str(config), "--providers", rules])
    providers = settings_of(options).providers
    assert {host: terms.rate_limit for host, terms in providers.items()} == {"h.org": 3, "i.org": 2}
