"""Which layers a caller's keys open. Keys are kept as hashes only, and compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

# A longer one is none of ours: nobody has us hash megabytes.
KEY_BYTES_MAX = 256
# The hash is a plain one, made for speed: what could be guessed must not be a key at all.
KEY_CHARS_MIN = 16


def hash_of(key: bytes) -> bytes:
    """SHA-256 of a key, 32 bytes."""
    return hashlib.sha256(key).digest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: `name` is for people, `sha256` its hash (32 bytes), `layers` the private ones it opens."""

    name: str
    sha256: bytes
    layers: frozenset[str]


class Keyring:
    """All keys of a service.

    Each question goes through all of them, so that the time it takes says nothing of which one was near.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def opened(self, told: Iterable[bytes]) -> frozenset[str] | None:
        """The private layers that these keys open together; None when one of them is no key at all."""
        opened: frozenset[str] = frozenset()
        for key in told:
            if len(key) > KEY_BYTES_MAX:
                return None
            found, hashed = None, hash_of(key)
            for known in self._keys:
                if hmac.compare_digest(known.sha256, hashed):
                    found = known
            if found is None:
                return None
            opened |= found.layers
        return opened
