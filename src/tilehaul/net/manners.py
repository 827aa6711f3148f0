"""Whom we may seed from, and what we must say of ourselves first."""

import asyncio
import socket
from collections.abc import Iterable

from tilehaul.errors import PlanError
from tilehaul.net.addresses import host_port_of, is_public
from tilehaul.policy.providers import bulk_refusal


def check_bulk(urls: Iterable[str]) -> None:
    """Raise PlanError, with the reason, when a host of these addresses forbids bulk download."""
    for url in urls:
        if (reason := bulk_refusal(url)) is not None:
            raise PlanError(reason)


async def check_contact(urls: Iterable[str], *, contact: str) -> None:
    """Raise PlanError when a host of these addresses is public and nobody to write to is named."""
    for url in urls:
        if not contact.strip() and await _is_public_host(url):
            raise PlanError(
                "seeding a public server needs a contact, so that its operators can reach you before they"
                " block you: --contact you@example.com, or set TILEHAUL_CONTACT"
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
