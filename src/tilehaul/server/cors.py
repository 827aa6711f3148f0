"""Pages of which other sites may read our answers (the Fetch standard, CORS protocol).

Answers begin as public ones (`jobs.serve_tile.PUBLIC_HEADERS`: any page may read them); here they become what
the operator wants. Those without these headers (jobs, changes of the service) are for no page at all. What is
refused before it could be read as a request (400, 413, 429, 431) stays public: it holds nothing.
"""

import re
from collections.abc import Iterable

from tilehaul.errors import ConfigError
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Headers

# What a page may send beyond what needs no leave.
HEADERS_ALLOWED = "Authorization, If-None-Match, X-Api-Key, X-Request-Id"
# Browsers remember leave for two hours at most.
PREFLIGHT_MAX_AGE_S = 7_200

_ALLOW = "access-control-allow-origin"
_EXPOSE = next(pair for pair in PUBLIC_HEADERS if pair[0] == "access-control-expose-headers")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:]+\](?::[0-9]{1,5})?")


class Cors:
    """Which origins may read public answers.

    Args:
        origins: `https://maps.example.com`, as a browser names them; `*` for all of them.

    Raises:
        ConfigError: One of them is no origin.
    """

    def __init__(self, origins: Iterable[str] = ("*",)) -> None:
        told = tuple(origins)
        self.open = "*" in told
        for origin in told:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f'server.cors: "{origin}" is no origin: write https://maps.example.com, in small letters'
                    " and without a slash at its end"
                )
        self._origins = frozenset(told)

    def applied(self, headers: Headers, origin: str) -> Headers:
        """The headers of an answer for a page of `origin` ("": not sent by a page of another site)."""
        if self.open or not any(name == _ALLOW for name, _ in headers):
            return headers
        if origin in self._origins:
            told = {**dict(headers), _ALLOW: origin}
        else:
            told = {name: value for name, value in headers if not name.startswith("access-control-")}
        told["vary"] = ", ".join(dict.fromkeys([*told.get("vary", "").split(", "), "Origin"])).removeprefix(
            ", "
        )
        return tuple(told.items())

    def lines(self, origin: str) -> bytes:
        """What `applied` has for this page and not for others, as lines that follow another."""
        if origin not in self._origins:
            return b""
        return f"\r\n{_ALLOW}: {origin}\r\n{_EXPOSE[0]}: {_EXPOSE[1]}".encode()

    def preflight(self, origin: str) -> Headers:
        """What a browser is told that asks for leave to GET with headers of its page."""
        shared = (("allow", "GET, HEAD, OPTIONS"), ("vary", "Origin"), ("x-content-type-options", "nosniff"))
        if not self.open and origin not in self._origins:
            return shared
        return (
            (_ALLOW, "*" if self.open else origin),
            ("access-control-allow-methods", "GET, HEAD"),
            ("access-control-allow-headers", HEADERS_ALLOWED),
            ("access-control-max-age", str(PREFLIGHT_MAX_AGE_S)),
            *shared,
        )
