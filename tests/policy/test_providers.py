"""Which host's terms hold for an address."""

import pytest

from tilehaul.policy.answers import AnswerRule, Sign
from tilehaul.policy.providers import NO_PROVIDERS, Provider, Providers, host_name

OSM = Provider("tile.openstreetmap.org", bulk=False, reason="it prohibits bulk download", source="policy")
SLOW = Provider("slow.example.org", rate_per_s=0.2)
FAST = Provider("fast.slow.example.org", rate_per_s=50)
KNOWN = Providers([OSM, SLOW, FAST])


@pytest.mark.parametrize(
    "url",
    [
        "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
        "https://a.tile.openstreetmap.org/{z}/{x}/{y}.png",
        "HTTPS://{s}.TILE.OPENSTREETMAP.ORG:443/{z}/{x}/{y}.png",
        "http://user:word@tile.openstreetmap.org./{z}/{x}/{y}.png",
        "https://tile.openstreetmap%2Eorg/{z}/{x}/{y}.png",
        "https://tile\u3002openstreetmap\uff0eorg/{z}/{x}/{y}.png",
        "https://tile.openstreetmap.org?z={z}",
        "https://tile.openstreetmap.org",
    ],
)
def test_terms_hold_for_the_host_and_its_subdomains_however_spelled(url: str) -> None:
    assert KNOWN.of(url) == OSM


@pytest.mark.parametrize(
    "url",
    [
        "https://tile.openstreetmap.org.example.com/{z}/{x}/{y}.png",
        "https://mytile.openstreetmap.org.uk/{z}",
        "https://openstreetmap.org/{z}",
        "https://xtile.openstreetmap.org/{z}",
        "http://127.0.0.1:8001/{z}",
        "https://example.com/tile.openstreetmap.org/{z}",
    ],
)
def test_terms_do_not_hold_for_others(url: str) -> None:
    assert KNOWN.of(url) is None
    assert NO_PROVIDERS.of(url) is None


def test_entry_of_a_subdomain_goes_before_its_parents() -> None:
    assert KNOWN.of("https://a.fast.slow.example.org/1") == FAST
    assert KNOWN.of("https://other.slow.example.org/1") == SLOW
    assert KNOWN.of_host(host_name("SLOW.example.org.")) == SLOW


def test_refusal_names_host_reason_and_where_it_is_written() -> None:
    assert OSM.bulk_refusal == (
        "tile.openstreetmap.org cannot be seeded: it prohibits bulk download (policy)"
    )
    assert Provider("h", bulk=False).bulk_refusal == "h cannot be seeded: it forbids bulk download"
    assert SLOW.bulk_refusal is None


@pytest.mark.parametrize(
    ("rule", "suspects"),
    [
        (AnswerRule(), False),
        (AnswerRule(frozenset({500}), (Sign(503, body="busy"),)), False),
        (AnswerRule(frozenset({200})), True),
        (AnswerRule(signs=(Sign(200, body="quota"),)), True),
    ],
)
def test_plain_tiles_are_looked_at_only_where_a_rule_says_so(rule: AnswerRule, suspects: object) -> None:
    assert Providers([SLOW, Provider("h", answers=rule)]).suspects_200 is suspects


def test_all_that_are_known_can_be_walked() -> None:
    assert list(KNOWN) == [OSM, SLOW, FAST]
    assert list(NO_PROVIDERS) == []


@pytest.mark.parametrize("stop", ["\u3002", "\uff0e", "\uff61", "%2e", "."])
def test_every_full_stop_is_a_dot(stop: str) -> None:
    """As libcurl takes them; else a host with a rule could be written so that it has none."""
    assert host_name(f"Tile{stop}example{stop}ORG{stop}") == "tile.example.org"
