"""What an origin's answer means: one table, from `contracts`.

| seen | meaning |
|---|---|
| 200, 206, 304 | `done`: the body must still verify |
| 404, 410, 204 | `absent` |
| 429; 503 and 509 with Retry-After; a provider's own sign | `pushed_back` |
| other 5xx, 408, 425 | `transient` |
| 401, 403 | `denied` |
| everything else | `permanent` |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Meaning = Literal["done", "absent", "pushed_back", "transient", "denied", "permanent"]

_DONE = frozenset({200, 206, 304})
_ABSENT = frozenset({204, 404, 410})
_PUSH_BACK_WITH_RETRY_AFTER = frozenset({503, 509})
_TRANSIENT = frozenset({408, 425})

# A sign is looked for in so many of a body's first bytes.
SIGN_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Sign:
    """An answer by which a provider says "too much".

    Args:
        status: 200 to 599; also 200, where a provider sends a notice instead of a tile.
        header: The name of a header that must be there, in lower case; empty: any.
        header_value: What that header must contain, in lower case.
        body: What the body's first `SIGN_BYTES_MAX` bytes must contain, in lower case.
    """

    status: int
    header: str = ""
    header_value: str = ""
    body: str = ""

    def is_seen(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the answer bears this sign; letters' case does not matter. `headers` by lower-case name."""
        if status != self.status:
            return False
        if self.header:
            value = headers.get(self.header)
            if value is None or self.header_value not in value.lower():
                return False
        return not self.body or self.body.encode() in body[:SIGN_BYTES_MAX].lower()


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """A provider's own habits: further statuses that mean "too much", always or with more to show for it."""

    push_back: frozenset[int] = frozenset()
    signs: tuple[Sign, ...] = ()

    @property
    def reads_body(self) -> bool:
        return any(sign.body for sign in self.signs)

    def is_push_back(self, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the provider means "too much" by this answer, whatever others mean by it."""
        if status in self.push_back:
            return True
        return any(sign.is_seen(status, headers, body) for sign in self.signs)


ANSWERS_DEFAULT = AnswerRule()


def judge_status(status: int, *, retry_after: bool) -> Meaning:
    """Say what a status means. `retry_after`: the answer carried a usable Retry-After."""
    if status in _DONE:
        return "done"
    if status == 429:
        return "pushed_back"
    if status in _ABSENT:
        return "absent"
    if status in _PUSH_BACK_WITH_RETRY_AFTER and retry_after:
        return "pushed_back"
    if status in _TRANSIENT or 500 <= status <= 599:
        return "transient"
    if status in (401, 403):
        return "denied"
    return "permanent"
