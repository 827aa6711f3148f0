"""The addresses below `/api/tiles/LAYER`: tiles, batches of them, TileJSON, figures, forgetting."""

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tilehaul.errors import PlanError, TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.batch import BATCH_TILES_MAX, DEADLINE_S, BatchItem, serve_batch
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Headers, Reply, TileRequest, serve_tile
from tilehaul.ports.correlation import NO_ROOM, REQUEST_ID
from tilehaul.server.admin import Admin
from tilehaul.server.batch_encodings import (
    JSON,
    MULTIPART,
    TAR,
    batch_json,
    encoding_of,
    multipart,
    new_boundary,
    tar,
)
from tilehaul.server.callers import Callers
from tilehaul.server.describe import cache_stats, layer_tilejson
from tilehaul.server.entries import TILE, Entry, Query
from tilehaul.server.figures import Figures
from tilehaul.server.meter import COUNTED
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.reply import NO_STORE, accepts_gzip, field_of, json_reply
from tilehaul.server.statuses import cause_of
from tilehaul.server.waiting_room import WaitingRoom
from tilehaul.server.while_connected import while_connected

log = logging.getLogger(__name__)

# A longer address names no tile; it is repeated in the answer to a batch.
ADDRESS_CHARS_MAX = 64

_FILE = re.compile(r"([0-9]{1,10})\.([A-Za-z0-9]{1,8})\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}\Z", re.ASCII)


@dataclass(slots=True)
class TileRoutes:
    """The answers. `room` counts tile requests that wait for an answer now."""

    callers: Callers
    figures: Figures
    own_hosts: OwnHosts
    admin: Admin
    room: WaitingRoom
    deadline_s: float = DEADLINE_S

    def entries(self) -> tuple[Entry, ...]:
        """Each address with its answer."""
        one = "/api/tiles/{layer}"
        tiles = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": BATCH_TILES_MAX}
        batch = {200: (JSON, MULTIPART, TAR), 400: (JSON,), 404: (JSON,), 503: (JSON,)}
        forgotten = {200: (JSON,), 400: (JSON,), 403: (JSON,), 404: (JSON,), 500: (JSON,)}
        area = (
            Query("bbox", "West, south, east, north in degrees; without it everywhere."),
            Query("zooms", "Such as 0-5,8; without it all."),
        )
        return (
            Entry("GET", one + "/{z}/{x}/{file}", self.tile, "A tile.", TILE, key="layer"),
            Entry(
                "GET",
                one + "/batch",
                self.batch,
                "Many tiles at once.",
                batch,
                (Query("tiles", "Z/X/Y.EXT, repeated.", tiles, required=True),),
                key="layer",
            ),
            Entry(
                "GET",
                one + "/cache-stats",
                self.cache_stats,
                "Figures of the layer.",
                {200: (JSON,), 404: (JSON,)},
                key="layer",
            ),
            Entry(
                "DELETE",
                one + "/cache",
                self.forget,
                "Empty the caches, or a part of them.",
                forgotten,
                area,
                key="admin",
                public=False,
            ),
            Entry(
                "GET",
                one,
                self.tilejson,
                "TileJSON 3.0.",
                {200: (JSON,), 400: (JSON,), 404: (JSON,), 502: (JSON,)},
                key="layer",
            ),
        )

    async def tile(self, request: Request) -> Reply:
        layer = self.layer(request)
        told = request.path_params
        return await self.answer(request, layer, *parse_address(told["z"], told["x"], told["file"]))

    async def answer(self, request: Request, layer: Layer, tile_id: TileId, ext: str) -> Reply:
        """A tile, whatever address it was asked for at."""
        asked = TileRequest(
            tile_id,
            ext,
            if_none_match=field_of(request.scope["headers"], b"if-none-match"),
            accepts_gzip=accepts_gzip(field_of(request.scope["headers"], b"accept-encoding")),
            request_id=str(REQUEST_ID.get()),
        )
        NO_ROOM.set(not self.room.has_room(layer.name))
        self.room.enter(layer.name)
        try:
            return await while_connected(request, serve_tile(asked, layer), deadline_s=self.deadline_s)
        except TilehaulError as error:
            count_failure(layer, tile_id, error)
            raise
        finally:
            self.room.leave(layer.name)

    async def batch(self, request: Request) -> Reply | Response:
        layer = self.layer(request)
        addresses = request.query_params.getlist("tiles")
        if not 1 <= len(addresses) <= BATCH_TILES_MAX:
            named = f"{len(addresses)} are named"
            raise PlanError(f"a batch is ?tiles=Z/X/Y.EXT&tiles=..., 1 to {BATCH_TILES_MAX} tiles: {named}")
        asked = [(address, _asked(address)) for address in dict.fromkeys(addresses)]
        encoding = encoding_of(field_of(request.scope["headers"], b"accept"))
        if request.method == "HEAD":
            # How long it would be shows only when all tiles have been fetched.
            told = dict((("content-type", encoding), *NO_STORE, *PUBLIC_HEADERS))
            return StreamingResponse(iter(()), headers=told)
        NO_ROOM.set(not self.room.has_room(layer.name, len(asked)))
        if counted := request.scope.get("state", {}).get(COUNTED):
            meter, client = counted
            meter.owe(client, len(asked) - 1)
        items = self._items(layer, asked)
        stats = partial(self._stats, layer)
        if encoding == JSON:

            async def reply() -> Reply:
                async with aclosing(items):
                    return json_reply(await batch_json(layer.name, items, stats))

            return await while_connected(request, reply())
        boundary = new_boundary()
        if encoding == MULTIPART:
            body = multipart(layer.name, items, stats, boundary)
            encoding = f'{MULTIPART}; boundary="{boundary}"'
        else:
            assert encoding == TAR  # noqa: S101 - there are three
            body = tar(layer.name, items, stats)
        headers = dict((("content-type", encoding), *NO_STORE, *PUBLIC_HEADERS))
        return StreamingResponse(_closing(body, items), headers=headers)

    async def cache_stats(self, request: Request) -> Reply:
        layer = self.layer(request)
        stats = await self._stats(layer)
        return json_reply({"layer": layer.name, "stats": stats, **stats})

    async def tilejson(self, request: Request) -> Reply:
        layer = self.map_layer(request)
        value = layer_tilejson(layer, self.base_url(request))
        return json_reply(value, headers=document_headers((layer,)))

    async def forget(self, request: Request) -> Reply:
        """Drop what the caches have of a layer: all of it, or `bbox=W,S,E,N` and `zooms=0-5`."""
        self.admin.check(request)
        layer = self.layer(request)
        told = request.query_params
        if set(told) - {"bbox", "zooms", "key"}:
            raise PlanError("a parameter is unknown here: bbox=W,S,E,N and zooms=0-5 are known")
        forgotten = await self.admin.forget(layer.name, bbox=told.get("bbox"), zooms=told.get("zooms"))
        return json_reply({"layer": layer.name, "forgotten": forgotten})

    async def _stats(self, layer: Layer) -> dict[str, Any]:
        whole = await self.figures.whole()
        return cache_stats(whole.layers[layer.name], whole.cache)

    def base_url(self, request: Request) -> str:
        """Our address for absolute URLs; PlanError: see `OwnHosts.base_url`."""
        server = request.scope.get("server")
        return self.own_hosts.base_url(
            request.headers.get("host", ""),
            scheme=request.url.scheme,
            local=(server[0], server[1]) if server else None,
        )

    def layer(self, request: Request) -> Layer:
        """The layer of the address; HTTPException 404: there is none for this caller, 401: a wrong key."""
        layer = self.callers.seen(request).get(request.path_params["layer"])
        if layer is None:
            raise HTTPException(404, "there is no such layer; /api/layers lists those there are")
        return layer

    def map_layer(self, request: Request) -> Layer:
        """As `layer`; 404 also for a picture in its own pixels, which lies nowhere on Earth."""
        layer = self.layer(request)
        if layer.source.info.pyramid is not None:
            raise HTTPException(
                404, "this layer is a picture in pixels and no map: it is described at /api/tiles/LAYER/info"
            )
        return layer

    async def _items(
        self, layer: Layer, asked: Sequence[tuple[str, TileRequest | PlanError]]
    ) -> AsyncGenerator[BatchItem, None]:
        # Counted as long as they are fetched, not until a client that reads slowly has taken them.
        self.room.enter(layer.name, sum(isinstance(one, TileRequest) for _, one in asked))

        def ended(_task: object) -> None:
            self.room.leave(layer.name)

        batch = serve_batch(asked, layer, deadline_s=self.deadline_s, ended=ended)
        async with aclosing(batch) as items:
            async for item in items:
                if item.error is not None and not isinstance(item.error, PlanError):
                    count_failure(layer, item.address, item.error)
                yield item


def document_headers(layers: Iterable[Layer]) -> Headers:
    """Of a document that names these layers: it depends on the name it was asked under, and on who asked."""
    scope = "private, " if any(layer.private for layer in layers) else ""
    return (("cache-control", f"{scope}no-cache"), ("vary", "Host"))


def parse_address(z: str, x: str, file: str) -> tuple[TileId, str]:
    """Tile and extension of an address; PlanError when it names no tile."""
    match = _FILE.match(file)
    if match is None or not _NUMBER.match(z) or not _NUMBER.match(x):
        raise PlanError("a tile's address is /api/tiles/LAYER/Z/X/Y.EXT, with whole numbers")
    return TileId.checked(int(z), int(x), int(match[1])), match[2].lower()


def count_failure(layer: Layer, tile: object, error: TilehaulError) -> None:
    """Count and log a tile that failed."""
    cause = cause_of(error)
    layer.stats.errors[cause] += 1
    if not isinstance(error, PlanError):
        # The error's own text may hold the tile's address, so it is for the debug log only.
        facts = {"layer": layer.name, "cause": cause}
        log.warning("layer %s: a tile failed: %s", layer.name, cause, extra={"facts": facts})
        log.debug("layer %s, tile %s: %s", layer.name, tile, error)


def _asked(address: str) -> TileRequest | PlanError:
    parts = address.split("/")
    try:
        if len(parts) != 3 or len(address) > ADDRESS_CHARS_MAX:
            raise PlanError("a tile of a batch is Z/X/Y.EXT, with whole numbers")
        tile_id, ext = parse_address(*parts)
    except PlanError as error:
        return error
    return TileRequest(tile_id, ext, request_id=str(REQUEST_ID.get()))


async def _closing(
    body: AsyncIterator[bytes], items: AsyncGenerator[BatchItem, None]
) -> AsyncIterator[bytes]:
    """The body; who stops reading it stops the fetching too."""
    async with aclosing(items):
        async for piece in body:
            yield piece
