"""What only the operator may do to a running service."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tilehaul.grid.tile_id import TileId
from tilehaul.server.own_hosts import OwnHosts

Forget = Callable[[str, Callable[[TileId], bool]], Awaitable[int]]


def check_caller(request: Request, key: str, own_hosts: OwnHosts, what: str) -> None:
    """Let a request pass that has the key; without a key, one that no page of another site can have sent.

    Raises:
        HTTPException: 401 without the key, 403 from elsewhere. `what` names what is not allowed there.
    """
    if key:
        told = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(told, f"Bearer {key}".encode()):
            raise HTTPException(401, headers={"www-authenticate": "Bearer"})
        return
    server = request.scope.get("server")
    local = (server[0], server[1]) if server else None
    if not own_hosts.knows(request.headers.get("host", ""), local):
        raise HTTPException(403, "this service does not know the host name it was asked under")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise HTTPException(403, f"a page of another site may not {what}")


@dataclass(frozen=True, slots=True)
class Admin:
    """Who the operator is, and what can be done.

    `key` is sent as `Authorization: Bearer KEY`; "" means: nobody has to send one, which is for services that
    listen on this machine only. `forget` is what `wiring.caches.Caches.forget` does; None: nobody may.
    """

    own_hosts: OwnHosts
    key: str = ""
    forget_tiles: Forget | None = None

    def check(self, request: Request) -> None:
        """Raises HTTPException: see `check_caller`; 403 also when nobody may."""
        if self.forget_tiles is None:
            raise HTTPException(403, "this service has no admin key: set server.admin_key")
        check_caller(request, self.key, self.own_hosts, "change this service")

    async def forget(self, layer: str, wanted: Callable[[TileId], bool]) -> int:
        """Drop tiles from the caches; their number. Raises StorageError. Only after `check`."""
        assert self.forget_tiles is not None  # noqa: S101
        return await self.forget_tiles(layer, wanted)
