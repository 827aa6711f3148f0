"""What known providers permit.

A provider that forbids bulk download is refused for seeding; serving through a
cache is another thing and stays allowed.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Provider:
    """One host's terms. `host` matches itself and every subdomain of it."""

    host: str
    bulk: bool
    reason: str
    terms: str


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        host="tile.openstreetmap.org",
        bulk=False,
        # OSM Foundation, Tile Usage Policy (text of December 2025).
        reason="its tile usage policy prohibits bulk download and building archives for offline use",
        terms="operations.osmfoundation.org/policies/tiles/",
    ),
)


def bulk_refusal(url: str) -> str | None:
    """Why this address must not be seeded from, or None when nothing is known against it."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    for provider in PROVIDERS:
        if not provider.bulk and (host == provider.host or host.endswith("." + provider.host)):
            return f"{provider.host} cannot be seeded: {provider.reason} ({provider.terms})"
    return None
