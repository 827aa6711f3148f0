"""Whom we may seed from, and what we must say of ourselves first."""

import asyncio
import socket
from collections.abc import Iterable

from tilehaul.errors import PlanError
from tilehaul.net.addresses import host_port_of, is_public
from tilehaul.policy.providers import Providers

_HOW = "--contact you@example.com, or set TILEHAUL_CONTACT"


def check_bulk(urls: Iterable[str], providers: Providers) -> None:
    """Raise PlanError, with the reason, when a host of these addresses forbids bulk download."""
    for url in urls:
        provider = providers.of(url)
        if provider is not None and provider.bulk_refusal is not None:
            raise PlanError(provider.bulk_refusal)


def check_named(urls: Iterable[str], providers: Providers, *, contact: str) -> None:
    """Raise PlanError when a host of these addresses wants to know whom to write to, and nobody is named."""
    for url in urls:
        provider = providers.of(url)
        if provider is not None and provider.contact and not contact.strip():
            written = f" ({provider.source})" if provider.source else ""
            raise PlanError(f"{provider.host} asks every client for a contact{written}: {_HOW}")


async def check_contact(urls: Iterable[str], *, contact: str) -> None:
    """Raise PlanError when a host of these addresses is public and nobody to write to is named."""
    for url in urls:
        if not contact.strip() and await _is_public_host(url):
            raise PlanError(
                "seeding a public server needs a contact, so that its operators can reach you before they"
                f" block you: {_HOW}"
            )


async def _is_public_host(url: str) -> bool:
    host, _, port = host_port_of(url).rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        # A name that does not resolve now may well be public later: the contact is asked for.
        return True
    return any(is_public(str(entry[4][0])) for entry in found)
