"""The file of hosts' terms: the one that comes with tilehaul, and what operators put over it."""

from pathlib import Path

import pytest
import yaml

from tilehaul.config.load import load_settings
from tilehaul.config.providers import FILE, known_providers, load_providers
from tilehaul.errors import ConfigError
from tilehaul.policy.answers import AnswerRule, Sign
from tilehaul.policy.providers import Providers

OSM = "https://a.tile.openstreetmap.org/{z}/{x}/{y}.png"
NRCAN = "https://seismescanada.rncan.gc.ca/wms"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str) -> Providers:
    return load_providers(written(folder, text))


def test_known_facts_name_where_they_are_written_and_when_they_were_read() -> None:
    for provider in known_providers():
        assert provider.source.startswith("https://"), provider.host
        assert provider.date[:4].isdigit(), provider.host
        assert provider.bulk or provider.reason, provider.host
        assert not provider.agreement, provider.host


def test_known_facts_of_the_field() -> None:
    """As `resilience` 9 has them."""
    osm = known_providers().of(OSM)
    assert osm is not None
    assert "prohibits bulk download" in (osm.bulk_refusal or "")
    assert osm.contact
    nrcan = known_providers().of(NRCAN)
    assert nrcan is not None
    assert (nrcan.rate_per_s, nrcan.in_flight_max, nrcan.answers) == (0.2, 1, AnswerRule(frozenset({500})))
    estonia = known_providers().of("https://kaart.maaamet.ee/wms/alus")
    assert estonia is not None
    assert estonia.bulk_refusal is not None


def test_file_comes_with_the_package_and_is_plain_yaml() -> None:
    import tilehaul.config  # noqa: PLC0415

    path = Path(tilehaul.config.__file__ or "").parent / FILE
    assert set(yaml.safe_load(path.read_text())) == {provider.host for provider in known_providers()}


def test_own_file_adds_hosts_with_every_term(tmp_path: Path) -> None:
    text = """
tiles.example.org:
  rate_limit: 2.5
  concurrency: 4
  push_back: [500, {status: 403, header: "X-Reason: Quota", body: Too Many}]
  contact: true
  source: https://example.org/terms
  date: 2026-10-01
"""
    found = loaded(tmp_path, text).of("https://b.tiles.example.org/1")
    assert found is not None
    assert (found.rate_per_s, found.in_flight_max, found.bulk, found.contact) == (2.5, 4, True, True)
    assert found.answers == AnswerRule(frozenset({500}), (Sign(403, "x-reason", "quota", "too many"),))
    assert found.date == "2026-10-01"
    assert loaded(tmp_path, text).of(OSM) == known_providers().of(OSM)


def test_own_entry_changes_what_it_says_and_keeps_the_rest(tmp_path: Path) -> None:
    rules = loaded(tmp_path, "seismescanada.rncan.gc.ca: {rate_limit: 0.1}\n")
    found = rules.of(NRCAN)
    assert found is not None
    assert (found.rate_per_s, found.in_flight_max, found.answers.push_back) == (0.1, 1, frozenset({500}))


def test_entry_of_a_subdomain_begins_with_its_parents_terms(tmp_path: Path) -> None:
    """Whatever their order in the file."""
    text = """
fast.example.org: {rate_limit: 50}
example.org: {rate_limit: 2, push_back: [403]}
a.tile.openstreetmap.org: {rate_limit: 1}
"""
    rules = loaded(tmp_path, text)
    fast = rules.of("https://fast.example.org/1")
    assert fast is not None
    assert (fast.rate_per_s, fast.answers.push_back) == (50, frozenset({403}))
    osm = rules.of(OSM)
    assert osm is not None
    assert (osm.rate_per_s, osm.bulk) == (1, False)


@pytest.mark.parametrize(
    "host", ["tile.openstreetmap.org", "a.tile.openstreetmap.org", "TILE.OpenStreetMap.org."]
)
def test_bulk_is_allowed_by_an_agreement_and_by_nothing_else(tmp_path: Path, host: str) -> None:
    for agreement in ("", "  agreement: ''\n", "  agreement: '  '\n"):
        with pytest.raises(ConfigError, match=r"mine.yaml in line 2: .*agreement"):
            loaded(tmp_path, f"{host}:\n  bulk: true\n{agreement}")
    rules = loaded(tmp_path, f"{host}:\n  bulk: true\n  agreement: letter of 2026-10-01\n")
    osm = rules.of(OSM)
    assert osm is not None
    assert (osm.bulk_refusal, osm.agreement) == (None, "letter of 2026-10-01")


def test_bulk_may_be_forbidden_by_anybody(tmp_path: Path) -> None:
    rules = loaded(tmp_path, "tiles.example.org: {bulk: false, reason: our own rule}\n")
    found = rules.of("https://tiles.example.org/1")
    assert found is not None
    assert found.bulk_refusal == "tiles.example.org cannot be seeded: our own rule"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h.org:\n  rate_limt: 1\n", ["line 2", "h.org.rate_limt", '"rate_limit"']),
        ("h.org:\n  rate_limit: -1\n", ["line 2", "h.org.rate_limit", "> 0"]),
        ("h.org:\n  rate_limit: 0\n", ["line 2", "h.org.rate_limit", "> 0"]),
        ("h.org:\n  rate_limit: .inf\n", ["line 2", "h.org.rate_limit"]),
        ("h.org:\n  rate_limit: .nan\n", ["line 2", "h.org.rate_limit"]),
        ("h.org:\n  rate_limit: fast\n", ["line 2", "h.org.rate_limit", "expected float"]),
        ("a.org: {}\nh.org:\n\n  concurrency: 0\n", ["line 4", "h.org.concurrency", ">= 1"]),
        ("h.org:\n  push_back: 500\n", ["line 2", "h.org.push_back", "expected array"]),
        ("h.org:\n  push_back:\n    - 429\n    - 700\n", ["line 2", "h.org.push_back[1]", "599"]),
        ("h.org:\n  push_back: [{status: 500, boddy: x}]\n", ["line 2", "h.org.push_back[0]", "boddy"]),
        ("h.org:\n  push_back: [{body: x}]\n", ["line 2", "h.org.push_back[0]", "status"]),
        ("h.org:\n  bulk: maybe\n", ["line 2", "h.org.bulk", "expected bool"]),
        ("h.org: 5\n", ["line 1", "h.org must be a block of keys"]),
        ("- h.org\n", ["must be a block of keys"]),
        ("just words\n", ["must be a block of keys"]),
        ("https://h.org/tiles: {bulk: false}\n", ["line 1", "https://h.org/tiles", "no host name"]),
        ("a.org: {}\n'h.org:8080': {bulk: false}\n", ["line 2", "h.org:8080", "no host name"]),
        ("'*.h.org': {bulk: false}\n", ["line 1", "*.h.org", "subdomains are included"]),
        ("'': {bulk: false}\n", ["no host name"]),
        ("h.org: {rate_limit: [\n", ["line"]),
        ("h.org: !!python/object/apply:os.system ['true']\n", ["mine.yaml"]),
    ],
)  # fmt: skip
def test_mistake_is_named_with_file_line_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["mine.yaml", *words]:
        assert word in message


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml.*No such file"):
        load_providers(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        load_providers(tmp_path)
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_providers(tmp_path / "bad.yaml")


def test_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert set(loaded(tmp_path, "# nothing yet\n")) == set(known_providers())


def test_configuration_of_the_service_has_the_same_block(tmp_path: Path) -> None:
    path = written(tmp_path, "providers:\n  h.org:\n    rate_limit: 0.5\nlayers: {a: {source: x}}\n")
    assert load_settings(path, {}).providers["h.org"].rate_limit == 0.5
    for text, words in (
        ("layers: {}\nproviders:\n  h.org:\n    rate_limit: -1\n", "line 4: providers.h.org.rate_limit"),
        ("providers:\n  tile.openstreetmap.org: {bulk: true}\n", "line 2: .*agreement"),
        ("providers:\n  h.org:\n    rate_limt: 1\n", 'line 3: unknown key "providers.h.org.rate_limt"'),
        ("layers:\n  a:\n    source: x\n    concurency: 3\n", 'line 4: unknown key "layers.a.concurency"'),
        ("layers:\n  a:\n    source: x\n    retries: many\n", "line 4: layers.a.retries"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_settings(written(tmp_path, text), {})
