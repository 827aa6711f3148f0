"""What an answer's headers say of how long it stays good (RFC 9111 as a shared cache reads it, RFC 5861)."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from tilehaul.codec.http_dates import parse_http_date

# A year: what RFC 9111 (1.2.2) lets stand for "as long as you like".
FRESH_S_MAX = 31_536_000.0

# A directive, with its value as a token or quoted (RFC 9111, 5.2).
_DIRECTIVE = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?')
_SECONDS = re.compile(r"[0-9]{1,19}", re.ASCII)


class Lifetime(NamedTuple):
    """What an origin said of one answer. Seconds, >= 0; None: it said nothing.

    `keep`: whether a shared cache may keep it. `fresh_s` counts from when the origin made it, `age_s` seconds
    ago. `revalidate_s`, `stale_s`: how long past its freshness it may stand in while it is asked for again,
    and while the origin fails. `etag` and `last_modified` are exactly as they came, "" when there was none.
    """

    keep: bool = True
    fresh_s: float | None = None
    age_s: float = 0.0
    revalidate_s: float | None = None
    stale_s: float | None = None
    etag: str = ""
    last_modified: str = ""


def parse_lifetime(headers: Mapping[str, str], *, wall_s: float) -> Lifetime:
    """Read the headers of an answer.

    `s-maxage` goes before `max-age`, that before `Expires`; of a directive told twice the first holds
    (RFC 9111, 4.2.1). One whose value is no number of seconds makes the answer stale from the start, as does
    an `Expires` that is no date (5.3). `no-cache` keeps it, to be asked about each time; `no-store`,
    `private` and `Vary: *` do not let it be kept. `must-revalidate`, `proxy-revalidate` and `s-maxage`
    forbid to give it stale (4.2.4).

    Args:
        headers: Names in lower case, repeated ones joined with commas.
        wall_s: The time now, seconds since 1970: for `Expires` where there is no `Date`.
    """
    told = _directives(headers.get("cache-control", ""))
    if "no-store" in told or "private" in told or "*" in headers.get("vary", ""):
        return Lifetime(keep=False)
    fresh_s = _fresh_s(told, headers, wall_s)
    strict = not told.keys().isdisjoint(("must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"))
    return Lifetime(
        fresh_s=fresh_s,
        age_s=_seconds(headers.get("age", "0").partition(",")[0].strip()) or 0.0,
        revalidate_s=0.0 if strict else _seconds(told.get("stale-while-revalidate", "")),
        stale_s=0.0 if strict else _seconds(told.get("stale-if-error", "")),
        etag=headers.get("etag", ""),
        last_modified=headers.get("last-modified", ""),
    )


def _fresh_s(told: Mapping[str, str], headers: Mapping[str, str], wall_s: float) -> float | None:
    if "no-cache" in told:
        return 0.0
    for name in ("s-maxage", "max-age"):
        if name in told:
            return _seconds(told[name]) or 0.0
    if "expires" not in headers:
        return None
    until_s = parse_http_date(headers["expires"], wall_s=wall_s)
    if until_s is None:
        return 0.0
    sent_s = parse_http_date(headers.get("date", ""), wall_s=wall_s)
    return min(max(until_s - (wall_s if sent_s is None else sent_s), 0.0), FRESH_S_MAX)


def _directives(text: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for name, quoted, plain in _DIRECTIVE.findall(text):
        told.setdefault(name.lower(), quoted or plain)
    return told


def _seconds(text: str) -> float | None:
    return min(float(text), FRESH_S_MAX) if _SECONDS.fullmatch(text) else None
