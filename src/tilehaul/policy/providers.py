"""What known providers permit.

A provider that forbids bulk download is refused for seeding; serving through a
cache is another thing and stays allowed.
"""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


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

# IDNA 2003 (RFC 3490, 3.1) takes these for the dot between labels.
_FULL_STOPS = "\u3002\uff0e\uff61"


def bulk_refusal(url: str) -> str | None:
    """Why this address must not be seeded from, or None when nothing is known against it."""
    # As libcurl reads a host: percent-encoding undone, every full stop of Unicode a dot.
    host = unquote(urlsplit(url).hostname or "").lower()
    for stop in _FULL_STOPS:
        host = host.replace(stop, ".")
    host = host.rstrip(".")
    for provider in PROVIDERS:
        if not provider.bulk and (host == provider.host or host.endswith("." + provider.host)):
            return f"{provider.host} cannot be seeded: {provider.reason} ({provider.terms})"
    return None
