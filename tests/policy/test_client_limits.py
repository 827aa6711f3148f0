"""Each client's own bucket, and whose request it is."""

import pytest

from tilehaul.errors import ConfigError
from tilehaul.policy.client_limits import ClientLimits
from tilehaul.policy.client_names import HOPS_MAX, ClientNames
from tilehaul.policy.rate import RateRule


def test_each_client_has_its_own_bucket():
    limits = ClientLimits(RateRule(10.0, burst=3))
    assert [limits.take("a", 5.0) == 0.0 for _ in range(5)] == [True, True, True, False, False]
    assert limits.take("b", 5.0) == 0.0
    assert limits.take("a", 5.0) == pytest.approx(0.1)
    assert limits.take("a", 5.1) == 0.0
    assert limits.refused == 3


def test_what_is_owed_is_waited_for():
    """A batch of three is three; one owed by nobody known is nothing."""
    limits = ClientLimits(RateRule(10.0, burst=2))
    assert limits.take("a", 0.0) == 0.0
    limits.owe("a", 2)
    limits.owe("stranger", 5)
    assert limits.take("a", 0.0) == pytest.approx(0.2)
    assert limits.take("a", 0.2) == 0.0
    assert len(limits) == 1


def test_the_table_is_bounded_and_never_forgets_the_one_that_floods():
    limits = ClientLimits(RateRule(1.0, burst=1), clients_max=10)
    assert limits.take("flood", 0.0) == 0.0
    for number in range(1000):
        assert limits.take(f"passer-by {number}", 0.0) == 0.0
        assert limits.take("flood", 0.0) > 0.0
    assert len(limits) == 10
    assert limits.take("passer-by 0", 0.0) == 0.0


def served_in(*, flooding: bool) -> tuple[list[float], int]:
    """Virtual seconds in which a client's requests are answered by a server that has one queue.

    It answers 1,000 requests a second, and refuses a hundred times as fast. Ten seconds long the client asks
    100 times a second; one that floods, 5,000 times, from the second second on.
    """
    limits = ClientLimits(RateRule(200.0, burst=50))
    asked = [(number / 100, "calm") for number in range(1000)]
    if flooding:
        asked += [(2.0 + number / 5000, "flood") for number in range(40_000)]
    free_s, waited, refused = 0.0, [], 0
    for at_s, client in sorted(asked):
        let_in = limits.take(client, at_s) == 0.0
        free_s = max(free_s, at_s) + (0.001 if let_in else 0.00001)
        if client == "calm":
            assert let_in
            waited.append(free_s - at_s)
        else:
            refused += not let_in
    return sorted(waited), refused


def test_53_client_flood_in_virtual_time():
    """Most of the flood gets 429; the other client is always let in, its 99th percentile at most doubles."""
    alone, _ = served_in(flooding=False)
    beside, refused = served_in(flooding=True)
    assert refused >= 40_000 - 50 - 8 * 200 - 1
    assert beside[990] <= 2 * alone[990]


NAMES = ClientNames(["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "name"),
    [
        # Nothing is believed of those we do not trust.
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "", "2001:db8:1:2::/64"),
        # This machine, a Unix socket, a proxy's own requests.
        ("127.0.0.1", "", ""),
        ("127.8.8.8", "198.51.100.1", ""),
        ("::1", "", ""),
        ("", "198.51.100.1", ""),
        ("10.1.2.3", "", ""),
        ("10.1.2.3", " , ,", ""),
        ("10.1.2.3", "10.9.9.9, 192.0.2.7", ""),
        # The last that is no proxy of ours: what stands before it may be made up.
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("192.0.2.7", "1.1.1.1, 198.51.100.1, 10.4.4.4", "198.51.100.1"),
        ("::ffff:10.1.2.3", "198.51.100.1:8080", "198.51.100.1"),
        ("2001:db8:ffff::1", "[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("10.1.2.3", "[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("10.1.2.3", "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("10.1.2.3", "127.0.0.1", ""),
        # Unreadable: the proxy's own.
        ("10.1.2.3", "198.51.100.1, unknown", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1, " + "10.0.0.1, " * HOPS_MAX, ""),
    ],
)
def test_whose_request_it_is(peer, forwarded, name):
    assert NAMES.name(peer, forwarded) == name


def test_who_is_a_proxy():
    assert [NAMES.proxy(peer) for peer in ("10.0.0.1", "::ffff:10.0.0.1", "11.0.0.1", "", "?")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("bad", ["proxy.example.com", "10.0.0.1/8", "10.0.0.0/99", ""])
def test_a_proxy_has_an_address(bad):
    with pytest.raises(ConfigError, match="trusted_proxies"):
        ClientNames([bad])
