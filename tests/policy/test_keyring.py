"""Which layers keys open."""

import hmac

import pytest

from tilehaul.policy.keyring import KEY_BYTES_MAX, ApiKey, Keyring, hash_of

RING = Keyring(
    [
        ApiKey("one", hash_of(b"first"), frozenset({"a"})),
        ApiKey("two", hash_of(b"second"), frozenset({"b", "c"})),
        ApiKey("jobs", hash_of(b"third"), frozenset()),
    ]
)


@pytest.mark.parametrize(
    ("told", "opened"),
    [
        ([], set()),
        ([b"first"], {"a"}),
        ([b"first", b"second"], {"a", "b", "c"}),
        ([b"third"], set()),
        ([b"First"], None),
        ([b""], None),
        ([b"first", b"wrong"], None),
        ([hash_of(b"first").hex().encode()], None),
        ([b"x" * (KEY_BYTES_MAX + 1)], None),
    ],
)
def test_keys_open_their_layers_together(told, opened):
    """One wrong key spoils the lot; the hash is no key."""
    assert RING.opened(told) == (None if opened is None else frozenset(opened))


@pytest.mark.parametrize("key", [b"first", b"third", b"wrong"])
def test_every_key_is_compared_whatever_is_found(monkeypatch, key):
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a)) or real(a, b))
    RING.opened([key])
    assert compared == [32, 32, 32]


def test_too_long_a_key_is_not_even_hashed(monkeypatch):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)))
    assert RING.opened([b"x" * 10_000_000]) is None
    assert compared == []
