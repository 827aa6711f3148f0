"""Which address of ours goes into absolute URLs.

Copying the Host header into a TileJSON lets a stranger poison shared caches and clients with
addresses of his own, so a host is used only when it is known to be ours.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from tilehaul.errors import ConfigError, PlanError

_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?\Z", re.ASCII)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The service's own names.

    Args:
        public_url: `https://maps.example.com/base`, used always when given.
        hosts: Names (`maps.example.com`, or with `:port`) that may be answered with.

    Raises:
        ConfigError: `public_url` is not an http or https address.
    """

    public_url: str = ""
    hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.public_url and not re.match(r"https?://[^/\s?#]+[^\s?#]*\Z", self.public_url):
            raise ConfigError(f"public_url {self.public_url!r}: write it like https://maps.example.com")

    def base_url(self, host: str, *, scheme: str, local: tuple[str, int | None] | None) -> str:
        """`scheme://host[:port][/path]` without a slash at the end.

        Args:
            host: The request's Host header.
            scheme: `http` or `https`, of the connection itself.
            local: Address and port the connection came in at: a client that names it has proven
                that it is ours by reaching us there.

        Raises:
            PlanError: The host is not known to be ours.
        """
        if self.public_url:
            return self.public_url.rstrip("/")
        match = _HOST.match(host)
        if match is not None and self._is_own(match["name"].lower(), host.lower(), local):
            return f"{scheme}://{host.lower()}"
        raise PlanError(
            "this service does not know the host name it was asked under: "
            "set public_url, or add the name to the service's own hosts"
        )

    def knows(self, host: str, local: tuple[str, int | None] | None) -> bool:
        """Whether the Host header of a request names us, as `base_url` would say."""
        match = _HOST.match(host)
        if match is None:
            return False
        public = urlsplit(self.public_url).netloc.lower()
        return host.lower() == public or self._is_own(match["name"].lower(), host.lower(), local)

    def _is_own(self, name: str, host: str, local: tuple[str, int | None] | None) -> bool:
        if name in _LOOPBACK or name in self.hosts or host in self.hosts:
            return True
        if local is None:
            return False
        address = f"[{local[0]}]" if ":" in local[0] else local[0]
        return name == address.lower()
