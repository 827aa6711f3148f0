"""Who asks: the keys that a request tells, and the layers it may know of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tilehaul.jobs.layer import Layer
from tilehaul.policy.keyring import ApiKey, Keyring, hash_of
from tilehaul.server.reply import RawHeaders

_NONE: frozenset[str] = frozenset()


def told_keys(headers: RawHeaders, query: bytes) -> list[bytes]:
    """Every key of a request: `Authorization: Bearer KEY`, `X-Api-Key: KEY`, `?key=KEY`.

    Args:
        headers: Names in lower case.
    """
    told = []
    for name, value in headers:
        if name == b"x-api-key":
            told.append(value)
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            told.append(value[7:].strip())
    if b"key=" in query.lower():
        # WMTS parameters have no case; "surrogateescape" so that no bytes make this fail.
        pairs = parse_qsl(query.decode("latin-1"), errors="surrogateescape")
        told += [value.encode("utf-8", "surrogateescape") for name, value in pairs if name.lower() == "key"]
    return [key for key in told if key]


@dataclass(frozen=True, slots=True)
class Callers:
    """Shows each caller the layers that are its business: the public ones, and those its keys open.

    A private layer does not exist for everybody else. `ring` None: there are no private layers, no key is
    looked at.
    """

    layers: Mapping[str, Layer]
    ring: Keyring | None = None

    @classmethod
    def of(
        cls, layers: Mapping[str, Layer], keys: Iterable[ApiKey], *, admin_key: str, jobs_key: str
    ) -> "Callers":
        """`admin_key` opens every layer, `jobs_key` none; "" is no key."""
        private = frozenset(name for name, layer in layers.items() if layer.private)
        if not private:
            return cls(layers)
        own = (("admin", admin_key, private), ("jobs", jobs_key, _NONE))
        known = [ApiKey(name, hash_of(key.encode()), opens) for name, key, opens in own if key]
        return cls(layers, Keyring([*known, *keys]))

    def may_have(self, layer: Layer, headers: RawHeaders, query: bytes) -> bool:
        """Whether this request may have a layer's tile. False also for a wrong key; nothing is raised."""
        if self.ring is None:
            return True
        told = told_keys(headers, query)
        if not told:
            return not layer.private
        opened = self.ring.opened(told)
        return opened is not None and (not layer.private or layer.name in opened)

    def seen(self, request: Request) -> Mapping[str, Layer]:
        """The layers by name. Raises HTTPException 401 when a key is wrong."""
        if self.ring is None:
            return self.layers
        opened = self.ring.opened(told_keys(request.scope["headers"], request.scope["query_string"]))
        if opened is None:
            raise HTTPException(401, "this is no key of this service", headers={"www-authenticate": "Bearer"})
        return {name: layer for name, layer in self.layers.items() if not layer.private or name in opened}
