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

from dataclasses import dataclass
from typing import Literal

Meaning = Literal["done", "absent", "pushed_back", "transient", "denied", "permanent"]

_DONE = frozenset({200, 206, 304})
_ABSENT = frozenset({204, 404, 410})
_PUSH_BACK_WITH_RETRY_AFTER = frozenset({503, 509})
_TRANSIENT = frozenset({408, 425})


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """A provider's own habits. `push_back` lists further statuses that mean "too much"."""

    push_back: frozenset[int] = frozenset()


ANSWERS_DEFAULT = AnswerRule()


def judge_status(status: int, *, retry_after: bool, rule: AnswerRule = ANSWERS_DEFAULT) -> Meaning:
    """Say what a status means. `retry_after`: the answer carried a usable Retry-After."""
    if status in _DONE:
        return "done"
    if status == 429 or status in rule.push_back:
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
