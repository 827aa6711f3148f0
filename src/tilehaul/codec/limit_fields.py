"""What an upstream says of its quota: RateLimit fields and their many forerunners.

| form | fields | reset |
|---|---|---|
| IETF draft 10 | `RateLimit: "a";r=50;t=30`, `RateLimit-Policy: "a";q=100;w=60` | seconds to go |
| its draft 07 | `RateLimit: limit=100, remaining=50, reset=30` | seconds to go |
| its drafts up to 06 | `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` | seconds to go |
| common | `X-RateLimit-Limit`, `-Remaining`, `-Reset` | seconds to go, a time since 1970, or a date |
| GeoServer control-flow | `X-Rate-Limit-Limit`, `-Remaining`, `-Reset` | a time since 1970 |

The draft is draft-ietf-httpapi-ratelimit-headers. The first form present wins, in this order. As the draft
asks, a malformed field is ignored, and what came out of a cache (`Age`) is not believed.
Retry-After, where there is one, goes before all of this;
that is the caller's affair, as is a reset of a year.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tilehaul.codec.http_dates import WAIT_S_MAX, parse_http_date

# A longer field is no quota. Also bounds the parser's work.
FIELD_CHARS_MAX = 1024
# A number above this is a time since 1970 (2001 in seconds, and in milliseconds), not seconds to go.
_EPOCH_S_MIN = 1e9
_EPOCH_MS_MIN = 1e12
# RFC 9651, 3.3.1: integers have at most 15 digits.
_INTEGER = re.compile(r"[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?", re.ASCII)

# RFC 9651: a string, token or integer as an item or dictionary key; `;key` or `;key=value` behind it.
_BARE = (
    r'"(?:[ !#-\[\]-~]|\\["\\])*"'
    r"|:[A-Za-z0-9+/=]*:"
    r"|\?[01]"
    r"|-?[0-9]{1,15}(?:\.[0-9]{1,3})?"
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
)
_ITEM = re.compile(rf"(?P<bare>{_BARE})", re.ASCII)
_PARAMETER = re.compile(rf"; *(?P<key>[a-z*][a-z0-9_.*-]*)(?:=(?P<value>{_BARE}))?", re.ASCII)
_MEMBER = re.compile(r"(?P<key>limit|remaining|reset) *= *(?P<value>[0-9]{1,15})", re.ASCII)

_REQUESTS = '"requests"'
# Prefixes of the fields that come in threes, best first.
_TRIPLES = ("ratelimit", "x-ratelimit", "x-rate-limit")
# Every field that is read here, in lower case: an answer that has none of them says nothing of a quota.
LIMIT_FIELDS = frozenset(
    {"ratelimit", "ratelimit-policy"}
    | {f"{prefix}-{part}" for prefix in _TRIPLES for part in ("limit", "remaining", "reset")}
)


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left, as far as was said: None where it was not.

    Args:
        remaining: Requests left, >= 0.
        reset_s: Seconds until there are more, in [0, WAIT_S_MAX].
        limit: Requests of a window.
        window_s: Length of a window.
    """

    remaining: int
    reset_s: float | None = None
    limit: int | None = None
    window_s: float | None = None

    @property
    def hold_s(self) -> float | None:
        """Seconds to close the gate for: nothing is left and there is a time when there will be."""
        return self.reset_s if self.remaining == 0 and self.reset_s else None

    def pace_per_s(self, in_flight: int) -> float | None:
        """Requests a second that what is left allows, when fewer are left than are under way; else None."""
        if self.reset_s and 0 < self.remaining < in_flight:
            return self.remaining / self.reset_s
        return None


@dataclass(frozen=True, slots=True)
class LimitReading:
    """`quota`: None when nothing usable was said."""

    quota: Quota | None = None


_NOTHING = LimitReading()


def parse_limit_fields(headers: Mapping[str, str], *, wall_s: float) -> LimitReading:
    """Read the quota of an answer. Never raises.

    Args:
        headers: Names in lower case; repeated ones joined with ", ".
        wall_s: The time now, seconds since 1970, for resets that are a time. The answer's own Date is
            used instead where there is one, so that wrong clocks do not matter.
    """
    if LIMIT_FIELDS.isdisjoint(headers):
        return _NOTHING
    if headers.get("age", "0").strip() not in ("", "0"):
        return _NOTHING
    quota = _modern(headers)
    for prefix in _TRIPLES:
        if quota is not None:
            break
        quota = _triple(headers, prefix, wall_s)
    return LimitReading(quota)


def _modern(headers: Mapping[str, str]) -> Quota | None:
    """The structured fields. Of several policies the one that binds: least left, then longest wait."""
    text = headers.get("ratelimit")
    if text is None:
        return None
    by_name = _members(text)
    if by_name is not None:
        return by_name
    policies = dict(_items(headers.get("ratelimit-policy", "")) or ())
    found = []
    for name, parameters in _items(text) or ():
        quota = _quota_of(parameters, policies.get(name, {}))
        if quota is not None and policies.get(name, {}).get("qu", _REQUESTS) == _REQUESTS:
            found.append(quota)
    # A quota of bytes or of connections is another thing than the number of requests: passed over.
    return min(found, key=lambda quota: (quota.remaining, -(quota.reset_s or 0.0)), default=None)


def _quota_of(parameters: Mapping[str, str], policy: Mapping[str, str]) -> Quota | None:
    remaining = _integer(parameters, "r")
    if remaining is None or ("t" in parameters and _integer(parameters, "t") is None):
        return None
    return Quota(remaining, _seconds(parameters, "t"), _integer(policy, "q"), _seconds(policy, "w"))


def _integer(parameters: Mapping[str, str], key: str) -> int | None:
    text = parameters.get(key, "")
    return int(text) if _INTEGER.fullmatch(text) else None


def _seconds(parameters: Mapping[str, str], key: str) -> float | None:
    value = _integer(parameters, key)
    return None if value is None else min(float(value), WAIT_S_MAX)


def _items(text: str) -> list[tuple[str, dict[str, str]]] | None:
    """A structured list of items with parameters, values as written; None when it is none."""
    if len(text) > FIELD_CHARS_MAX:
        return None
    items: list[tuple[str, dict[str, str]]] = []
    at = 0
    text = text.strip(" \t")
    while True:
        item = _ITEM.match(text, at)
        if item is None:
            return None
        at = item.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAMETER.match(text, at)) is not None:
            parameters[parameter["key"]] = parameter["value"] or "?1"
            at = parameter.end()
        items.append((item["bare"], parameters))
        rest = text[at:].lstrip(" \t")
        if not rest:
            return items
        if rest[0] != ",":
            return None
        at = len(text) - len(rest[1:].lstrip(" \t"))


def _members(text: str) -> Quota | None:
    """`limit=100, remaining=50, reset=30` in any order, other members passed over; else None."""
    if len(text) > FIELD_CHARS_MAX:
        return None
    found: dict[str, str] = {}
    for part in text.split(","):
        member = _MEMBER.fullmatch(part.strip())
        if member:
            found[member["key"]] = member["value"]
    remaining = _integer(found, "remaining")
    if remaining is None:
        return None
    return Quota(remaining, _seconds(found, "reset"), _integer(found, "limit"))


def _triple(headers: Mapping[str, str], prefix: str, wall_s: float) -> Quota | None:
    """`PREFIX-limit`, `-remaining`, `-reset`; without a sound `-remaining` nothing was said."""
    values: dict[str, float | None] = {}
    for part in ("limit", "remaining", "reset"):
        text = headers.get(f"{prefix}-{part}")
        values[part] = None
        if text is not None:
            # Older drafts list the policies behind the number: `100, 100;w=60`. The number is first.
            text = text[:FIELD_CHARS_MAX]
            first = text.split(",")[0].split(";")[0].strip()
            if _NUMBER.fullmatch(first):
                values[part] = float(first)
            elif part == "reset":
                values[part] = parse_http_date(text, wall_s=wall_s)
    remaining, limit, reset = values["remaining"], values["limit"], values["reset"]
    if remaining is None:
        return None
    return Quota(
        remaining=int(remaining),
        reset_s=None if reset is None else _to_go_s(reset, headers.get("date"), wall_s),
        limit=None if limit is None else int(limit),
    )


def _to_go_s(reset: float, date_header: str | None, wall_s: float) -> float:
    """Seconds until a reset that is either that, or a time since 1970."""
    if reset >= _EPOCH_MS_MIN:
        reset /= 1000.0
    if reset >= _EPOCH_S_MIN:
        sent_s = parse_http_date(date_header, wall_s=wall_s) if date_header else None
        reset -= wall_s if sent_s is None else sent_s
    return min(max(reset, 0.0), WAIT_S_MAX)
