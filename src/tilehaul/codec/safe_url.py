"""An address that can be shown: credentials masked, on one line.

Everything that prints, logs, counts or keeps an address goes through `redact` first.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, unquote_plus

MASK = "***"

# How deep addresses inside query values (`?url=https%3A%2F%2F...`) are followed.
NESTING_MAX = 4

# Compared in lower case without `-`, `_` and `.`, so `X-Api_Key` and `apiKey` are one name.
_SECRET_NAMES = frozenset(
    {"ak", "appcode", "appid", "auth", "authorization", "bearer", "code", "googleaccessid", "hmac", "jwt"}
    | {"keypairid", "pass", "pw", "pwd", "policy", "sas", "session", "sessionid", "sid", "sig", "tk"}
    | {"user", "username"}
)
_SECRET_PIECES = ("token", "secret", "passw", "signature", "credential", "apikey", "accesskey")
_SIGNING_PREFIXES = ("xamz", "xgoog")
# Names that end in "key" and say where a tile is, not who asks.
_PLAIN_KEYS = frozenset({"quadkey", "tilekey", "sortkey"})

_AUTHORITY = re.compile(r"\A((?:[A-Za-z][A-Za-z0-9+.\-]*:)?//)([^/?#]*)(.*)\Z", re.DOTALL)
_PAIR = re.compile(r"([&?;#]|\A)([^=&?;#/]+)=([^&;#]*)")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f\s]")
_PORT_END = re.compile(r"(?:\]|\A[^:]*)(?::\d*)?\Z")
# Schemes are short: without a bound, a long word would be tried from each of its letters.
_INNER_ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.\-]{0,20}://|\A//")
_WORD_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,20}://[^\s<>\"']+")
# `token=abc`, `"token": "abc"`, `Authorization: Bearer abc`: a name, then its value.
_NAME = re.compile(r"(?<![\w.\-])([\w.\-]++)[\"']?\s{0,3}[=:]\s{0,3}[\"']?")
# The code of an OGC service exception (WMS 1.3.0, annex E) says what is wrong: no secret, and needed.
_EXCEPTION = "<ServiceException "
_VALUE = re.compile(r"(?:(?:Bearer|Basic)\s+)?[^\s&;,<>\"'}]+")


def is_secret_name(name: str) -> bool:
    """Whether the value of a query parameter or header called `name` must not be shown."""
    plain = re.sub(r"[-_.\s\[\]]", "", name).lower()
    return (
        plain in _SECRET_NAMES
        or plain.startswith(_SIGNING_PREFIXES)
        or any(piece in plain for piece in _SECRET_PIECES)
        or (plain.endswith("key") and plain not in _PLAIN_KEYS)
    )


def redact(url: str, *, secrets: Iterable[str] = ()) -> str:
    """The address with everything secret replaced by `***`. Never raises.

    Masked: user and password before the host; the values of parameters whose name says so
    (`is_secret_name`), in the query, in the fragment and behind `;` in the path, also when the
    name is percent-encoded; the same inside an address that is itself a value. White space and
    control characters are percent-encoded, so that the result is one line and one word.

    Args:
        url: Any text; need not be a valid address.
        secrets: Values that are masked wherever they stand, plain or percent-encoded (a key
            that a template carries in its path). Empty ones are ignored.
    """
    shown = url
    for secret in sorted({s for s in secrets if s}, key=len, reverse=True):
        # Longest first: a secret that contains another would otherwise leave its rest.
        for form in (secret, _quoted(secret, ""), _quoted(secret, "/")):
            shown = shown.replace(form, MASK)
    return _CONTROL.sub(lambda found: _quoted(found[0], ""), _redact(shown, NESTING_MAX))


def redact_text(text: str) -> str:
    """Free text (a foreign message, the head of an error page) with the secrets in it replaced by `***`.

    Every address in it goes through `redact`; elsewhere the value after `name=`, `name:` or `"name":`
    is masked when the name says so. Never raises; line ends stay.
    """
    shown = _WORD_ADDRESS.sub(lambda found: redact(found[0]), text)

    pieces: list[str] = []
    at = 0
    for name in _NAME.finditer(shown):
        value = _VALUE.match(shown, name.end())
        plain = name[1] == "code" and shown.endswith(_EXCEPTION, 0, name.start())
        if value and name.start() >= at and not plain and is_secret_name(name[1]):
            pieces += shown[at : name.end()], MASK
            at = value.end()
    return "".join(pieces) + shown[at:]


def _redact(url: str, depth: int) -> str:
    match = _AUTHORITY.match(url)
    start, authority, rest = match.groups() if match else ("", "", url)
    if not match:
        first = re.split(r"[/?#]", url, maxsplit=1)[0]
        if ":" in first and "@" in first:  # `user:password@host/path` without a scheme
            return MASK + "@" + _redact(url[first.rindex("@") + 1 :], depth)
    elif "@" in authority:
        authority = f"{MASK}@{authority.rpartition('@')[2]}"
    elif "@" in rest and not _PORT_END.search(authority):
        # No port looks like this: a password with `/`, `?` or `#` in it, typed unencoded.
        authority, rest = MASK, rest[rest.rindex("@") :]
    if "=" in rest or "://" in rest:
        rest = _redact_pairs(rest, depth)
    return start + authority + rest


def _redact_pairs(rest: str, depth: int) -> str:
    """Mask values in everything behind the host."""

    def mask(found: re.Match[str]) -> str:
        mark, name, value = found.groups()
        if value and is_secret_name(unquote_plus(name)):
            return f"{mark}{name}={MASK}"
        plain = _unquoted(value)
        if _INNER_ADDRESS.search(plain) or "=" in plain:
            if depth == 0:
                return f"{mark}{name}={MASK}"
            inner = _redact(plain, depth - 1)
            if inner != plain:
                return f"{mark}{name}={_quoted(inner, '*:/@')}"
        return str(found[0])

    masked = _PAIR.sub(mask, rest)
    # An address in the path (`/proxy/https://user:pw@host/...`) has an authority of its own.
    inner_at = masked.find("://")
    if inner_at > 0 and "?" not in masked[:inner_at] and "#" not in masked[:inner_at] and depth:
        begin = masked.rfind("/", 0, inner_at) + 1
        return masked[:begin] + _redact(masked[begin:], depth - 1)
    return masked


def _quoted(text: str, safe: str) -> str:
    # Half a surrogate pair has no bytes; a mask must not stumble over it.
    return quote(text, safe=safe, errors="replace")


def _unquoted(value: str) -> str:
    """`value` with percent-encoding removed, also when it was applied more than once."""
    for _ in range(NESTING_MAX):
        plain = unquote(value)
        if plain == value:
            break
        value = plain
    return value
