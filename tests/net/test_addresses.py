"""Which addresses the guard lets through."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

import pytest

from tilehaul.errors import ConfigError
from tilehaul.net.addresses import AddressGuard, host_port_of, is_public, parse_host_port


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_address_passes(address):
    """Public addresses pass, also wrapped ones that end at a public address."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *(
            "100.64.0.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ),
        *("192.88.99.1", "168.63.129.16", "203.0.113.9"),
        *(
            "::",
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "100::1", "3fff::1", "5f00::1", "2001:2::1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:a00::1"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:808:808::f5ff:fffe", "2001:0:7f00:1::f7f7:f7f7"),
    ],
)
def test_address_that_is_not_public_is_refused(address):
    """Every way to spell an inside address is refused: RFC 1918, metadata, multicast, wrapped."""
    assert not is_public(address)


def test_text_that_is_no_address_is_refused():
    """The guard judges numbers only: what it cannot read it does not permit."""
    with pytest.raises(ValueError):
        is_public("localhost")
    assert not AddressGuard().permits("localhost:80", "localhost")


def test_allowed_host_and_port_may_be_private_and_no_other():
    """Permission is for one host and one port."""
    guard = AddressGuard(frozenset({"tiles.local:8080"}))
    assert guard.permits("tiles.local:8080", "10.0.0.1")
    assert not guard.permits("tiles.local:8081", "10.0.0.1")
    assert not guard.permits("other.local:8080", "10.0.0.1")
    assert guard.permits("other.local:8080", "8.8.8.8")


def test_refusal_says_what_to_do():
    """The message names the switch with the very operand that would allow it."""
    error = AddressGuard().refusal("tiles.local:8080", "10.0.0.1", url="http://tiles.local:8080/")
    assert error.cause == "refused_address"
    assert "--allow-private tiles.local:8080" in str(error)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://Tiles.Example.com/{z}/{x}/{y}.png", "tiles.example.com:80"),
        ("https://tiles.example.com", "tiles.example.com:443"),
        ("HTTP://user:pw@127.0.0.1:8080/x", "127.0.0.1:8080"),
        ("http://[FD00:0::1]:81/", "[fd00::1]:81"),
    ],
)
def test_host_port_of_url(url, expected):
    """The default port is filled in and the spelling is the guard's."""
    assert host_port_of(url) == expected


@pytest.mark.parametrize("url", ["ftp://a/", "a/b", "http:///x", "http://a:99999/", "http://a:b/"])
def test_host_port_of_unusable_url_raises(url):
    """A URL without scheme, host or valid port cannot be allowed."""
    with pytest.raises(ConfigError):
        host_port_of(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" Host:80 ", "host:80"), ("[FD00:0::1]:80", "[fd00::1]:80"), ("10.0.0.5:1", "10.0.0.5:1")],
)
def test_allow_private_operand(text, expected):
    """`--allow-private` takes host:port."""
    assert parse_host_port(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "host",
        "host:",
        ":80",
        "host:0",
        "host:70000",
        f"host:{'1' * 5000}",
        "fd00::1:80",
        "http://h:80",
        "u@h:80",
    ],
)
def test_allow_private_nonsense_raises(text):
    """Nothing but host:port is understood: a wider reading would open a door by a typing error."""
    with pytest.raises(ConfigError):
        parse_host_port(text)
