"""Which addresses a request may reach.

The check is made where a socket is about to connect, on the very address it will connect to
(see `wire.py`). A name that answers a public address when asked and a private one a moment
later (DNS rebinding) therefore gains nothing: there is no moment between check and use.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from tilehaul.errors import ConfigError, RefusedError

PORTS_DEFAULT = {"http": 80, "https": 443}

# Networks that `ipaddress.is_global` of Python 3.11 calls global, or calls differently from one
# patch release to the next. IANA IPv4 and IPv6 Special-Purpose Address Registries.
_NEVER_PUBLIC: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "192.0.0.0/24",  # IETF protocol assignments
        "192.88.99.0/24",  # 6to4 relay anycast, deprecated by RFC 7526
        "168.63.129.16/32",  # Azure's platform address: public by number, inside by nature
        "64:ff9b:1::/48",  # local-use NAT64, RFC 8215: leads into somebody's own network
        "100::/64",  # discard only, RFC 6666
        "2001:2::/48",  # benchmarking, RFC 5180
        "3fff::/20",  # documentation, RFC 9637
        "5f00::/16",  # segment routing, RFC 9602
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address


def _embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses a packet to `address` may come out at."""
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo  # server and client
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def is_public(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether an IP address belongs to the public internet.

    Args:
        address: Numeric, IPv4 in dotted quads or IPv6, with or without a zone. No name.

    Returns:
        True only if it is globally reachable, of one receiver, not reserved, and so is every
        IPv4 address it wraps (mapped, 6to4, Teredo, NAT64).

    Raises:
        ValueError: Not an IP address.
    """
    if isinstance(address, str):
        address = ip_address(address)
    if any(address.version == net.version and address in net for net in _NEVER_PUBLIC):
        return False
    if isinstance(address, IPv6Address):
        wrapped = _embedded(address)
        if wrapped:
            # The wrapper's own registry entry says nothing of where the packet ends.
            return all(map(is_public, wrapped))
        if address.is_site_local or address.scope_id is not None:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def host_port(host: str, port: int) -> str:
    """`host:port` as the guard compares it: lower case, IPv6 short and in brackets."""
    host = host.strip("[]").lower()
    if ":" in host:
        try:
            host = f"[{ip_address(host)}]"
        except ValueError:
            host = f"[{host}]"
    return f"{host}:{port}"


def host_port_of(url: str) -> str:
    """`host:port` of a URL the operator typed, to be put into `AddressGuard.allowed`.

    Raises:
        ConfigError: Neither http nor https, or no host, or a port that is no number.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS_DEFAULT[parts.scheme.lower()]
    except (ValueError, KeyError) as error:
        raise ConfigError("an address must begin with http:// or https:// and have a valid port") from error
    if not parts.hostname:
        raise ConfigError("an address must name a host, as in https://tiles.example.com/")
    return host_port(parts.hostname, port)


def parse_host_port(text: str) -> str:
    """The operand of `--allow-private`, in the guard's spelling.

    Raises:
        ConfigError: Not of the form `host:port`.
    """
    host, colon, port = text.strip().rpartition(":")
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not (colon and host and port.isascii() and port.isdigit()) or bare_ipv6 or "/" in host or "@" in host:
        raise ConfigError(f"allow_private: {text!r} is not host:port (as in 10.0.0.5:8080 or [fd00::1]:80)")
    if len(port) > 5 or not 0 < int(port) < 65536:
        raise ConfigError(f"allow_private: port {port[:20]} is not within 1..65535")
    return host_port(host, int(port))


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Says whether a connection for `host:port` may be made to an address.

    Args:
        allowed: `host:port` in the spelling of `host_port`, those the operator typed (command
            line, configuration) or named with `--allow-private`. They may be private.
            Everything else reaches public addresses only. Looked into at every connection, so its
            owner may add to it.
    """

    allowed: AbstractSet[str] = frozenset()

    def permits(self, asked: str, address: str) -> bool:
        """Whether a request for `asked` ("host:port") may connect to the numeric `address`."""
        if asked in self.allowed:
            return True
        try:
            return is_public(address)
        except ValueError:
            return False

    def refusal(self, asked: str, address: str, *, url: str) -> RefusedError:
        """The error for a connection that `permits` denied; `url` is redacted already."""
        return RefusedError(
            f"{asked} is at {address}, which is not a public address;"
            f" if that is meant: --allow-private {asked}",
            url=url,
            cause="refused_address",
        )
