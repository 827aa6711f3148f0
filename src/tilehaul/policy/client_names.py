"""Whose request it is: the address of a connection, or what a proxy says that we trust."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tilehaul.errors import ConfigError

Address = IPv4Address | IPv6Address

# One household or machine has a whole /64 of IPv6 to choose addresses from.
IPV6_PREFIX = 64
# Forwarded addresses whose meaning is remembered.
NAMES_MAX = 4_096
# Proxies behind one another; addresses further back are not looked at.
HOPS_MAX = 16

_UNREADABLE = "?"


class ClientNames:
    """Names the client of each request, for counting.

    Args:
        trusted: Addresses and networks (`10.0.0.0/8`) of proxies whose X-Forwarded-For is believed.

    Raises:
        ConfigError: One of them is neither.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        try:
            self._trusted = tuple(ip_network(one) for one in trusted)
        except ValueError as error:
            raise ConfigError(f"trusted_proxies: {error}; write 10.0.0.1 or 10.0.0.0/8") from error
        self._known = lru_cache(NAMES_MAX)(self._read)

    def proxy(self, peer: str) -> bool:
        """Whether what this peer forwards is to be believed."""
        return self._known(peer)[1]

    def name(self, peer: str, forwarded: str = "") -> str:
        """The client's name: its address, of IPv6 the network; "" when it is not to be limited.

        Not limited are this machine (a Unix socket too) and the proxies themselves. A proxy's client is the
        last address it forwards that is no proxy of ours: those before it anybody may have written. What
        cannot be read there is counted as the proxy's own.

        Args:
            peer: The other end of the connection; "" for a Unix socket.
            forwarded: Its X-Forwarded-For, several fields as one list; looked at only of a proxy.
        """
        name, trusted = self._known(peer)
        if not trusted:
            return "" if name == _UNREADABLE else name
        for hop in reversed(forwarded.rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
            if not (told := hop.strip()):
                continue
            client, trusted = self._known(_without_port(told))
            if client == _UNREADABLE:
                return name
            if not trusted:
                return client
        return ""

    def _read(self, text: str) -> tuple[str, bool]:
        """Name and whether it is a proxy of ours."""
        try:
            address: Address = ip_address(text)
        except ValueError:
            return _UNREADABLE, False
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        if any(address in network for network in self._trusted):
            return str(address), True
        if address.is_loopback:
            return "", False
        if address.version == 4:
            return str(address), False
        return str(ip_network((int(address), IPV6_PREFIX), strict=False)), False


def _without_port(text: str) -> str:
    """`1.2.3.4:5`, `[::1]:5` and `[::1]` as some proxies write them."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
