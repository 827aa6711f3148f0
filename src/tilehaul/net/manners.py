"""Whom we may seed from, and what we must say of ourselves first."""

import asyncio
import socket
from collections.abc import Iterable

from tilehaul.errors import PlanError
from tilehaul.net.addresses import host_port_of, is_public
from tilehaul.policy.providers import bulk_refusal


async def check_manners(urls: Iterable[str], *, contact: str) -> None:
    """Refuse bulk download where it is forbidden, and from public hosts without a contact.

    Args:
        urls: One address for each host that would be asked.
        contact: Mail or page that goes into the User-Agent; empty when not given.

    Raises:
        PlanError: With the reason; nothing was sent.
    """
    for url in urls:
        if (reason := bulk_refusal(url)) is not None:
            raise PlanError(reason)
        if not contact and await _is_public_host(url):
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
