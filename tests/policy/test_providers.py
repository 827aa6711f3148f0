"""Who may not be seeded from."""

import pytest

from tilehaul.policy.providers import bulk_refusal


@pytest.mark.parametrize(
    "url",
    [
        "https://tile.openstreetmap.org/{z}/{x}/{y}.png",
        "https://a.tile.openstreetmap.org/{z}/{x}/{y}.png",
        "HTTPS://{s}.TILE.OPENSTREETMAP.ORG:443/{z}/{x}/{y}.png",
        "http://user:word@tile.openstreetmap.org./{z}/{x}/{y}.png",
        "https://tile.openstreetmap%2Eorg/{z}/{x}/{y}.png",
        "https://tile\u3002openstreetmap\uff0eorg/{z}/{x}/{y}.png",
    ],
)
def test_openstreetmap_is_refused_with_the_reason(url: str) -> None:
    assert "prohibits bulk download" in (bulk_refusal(url) or "")


@pytest.mark.parametrize(
    "url",
    [
        "https://tile.openstreetmap.org.example.com/{z}/{x}/{y}.png",
        "https://mytile.openstreetmap.org.uk/{z}",
        "http://127.0.0.1:8001/{z}",
    ],
)
def test_others_are_not(url: str) -> None:
    assert bulk_refusal(url) is None
