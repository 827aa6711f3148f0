"""What only the operator may do to a running service."""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tilehaul.errors import PlanError
from tilehaul.grid.area import Area, parse_zooms
from tilehaul.grid.bounds import parse_bbox
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.server.figures import Others
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
    `others` do it too.
    """

    own_hosts: OwnHosts
    key: str = ""
    forget_tiles: Forget | None = None
    others: Others | None = None

    def check(self, request: Request) -> None:
        """Raises HTTPException: see `check_caller`; 403 also when nobody may."""
        if self.forget_tiles is None:
            raise HTTPException(403, "this service has no admin key: set server.admin_key")
        check_caller(request, self.key, self.own_hosts, "change this service")

    async def forget(self, layer: str, *, bbox: str | None, zooms: str | None) -> int:
        """Drop tiles from the caches of all processes; their number. Only after `check`.

        Raises:
            PlanError: See `wanted_of`.
            StorageError: The disk cache refuses.
        """
        assert self.forget_tiles is not None  # noqa: S101
        forgotten = await self.forget_tiles(layer, wanted_of(bbox=bbox, zooms=zooms))
        if self.others is None:
            return forgotten
        return max(forgotten, await self.others.forget(layer, bbox=bbox, zooms=zooms))


def wanted_of(*, bbox: str | None, zooms: str | None) -> Callable[[TileId], bool]:
    """Which tiles `W,S,E,N` and `0-5` mean; None: all. Raises PlanError."""
    try:
        these = range(ZOOM_MAX + 1) if zooms is None else parse_zooms(zooms)
        if bbox is None:
            return lambda tile_id: tile_id.z in these
        return Area.from_bbox(*parse_bbox(bbox), zooms=these).__contains__
    except PlanError as error:
        # Its own text repeats what was asked, which no answer of a service does.
        raise PlanError("no such area: bbox=W,S,E,N is in degrees, zooms=0-5,8 within 0..30") from error
