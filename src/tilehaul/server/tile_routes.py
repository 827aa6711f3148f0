"""The addresses below `/api/tiles/LAYER`: tiles, batches of them, TileJSON, figures, forgetting."""

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tilehaul.errors import BusyError, PlanError, TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.batch import BATCH_S_MAX, BATCH_TILES_MAX, BatchItem, serve_batch
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS, Reply, TileRequest, serve_tile
from tilehaul.ports.correlation import REQUEST_ID
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
from tilehaul.server.describe import cache_stats, layer_tilejson
from tilehaul.server.figures import Figures
from tilehaul.server.own_hosts import OwnHosts
from tilehaul.server.reply import accepts_gzip, joined, json_reply
from tilehaul.server.statuses import cause_of
from tilehaul.server.while_connected import while_connected

log = logging.getLogger(__name__)

# Tile requests that may wait for origins at once. Each holds a task and a connection (about 30 kB).
TILES_WAITING_MAX = 1_000
# A longer address names no tile; it is repeated in the answer to a batch.
ADDRESS_CHARS_MAX = 64

_FILE = re.compile(r"([0-9]{1,10})\.([A-Za-z0-9]{1,8})\Z", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}\Z", re.ASCII)

Answer = Callable[[Request], Awaitable[Reply | Response]]


@dataclass(slots=True)
class TileRoutes:
    """The answers. `tiles_waiting` counts tile requests that wait for an answer now."""

    layers: Mapping[str, Layer]
    figures: Figures
    own_hosts: OwnHosts
    admin: Admin
    tiles_waiting_max: int = TILES_WAITING_MAX
    batch_s_max: float = BATCH_S_MAX
    tiles_waiting: int = 0

    def answers(self) -> tuple[tuple[str, str, Answer], ...]:
        """Method, path and answer of each address. HEAD comes with GET."""
        one = "/api/tiles/{layer}"
        return (
            ("GET", one + "/{z}/{x}/{file}", self.tile),
            ("GET", one + "/batch", self.batch),
            ("GET", one + "/cache-stats", self.cache_stats),
            ("DELETE", one + "/cache", self.forget),
            ("GET", one, self.tilejson),
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
            if_none_match=_told(request, "if-none-match"),
            accepts_gzip=accepts_gzip(_told(request, "accept-encoding")),
            request_id=str(REQUEST_ID.get()),
        )
        self._check_room(layer, 1)
        self.tiles_waiting += 1
        try:
            return await while_connected(request, serve_tile(asked, layer))
        except TilehaulError as error:
            count_failure(layer, tile_id, error)
            raise
        finally:
            self.tiles_waiting -= 1

    async def batch(self, request: Request) -> Reply | Response:
        layer = self.layer(request)
        addresses = request.query_params.getlist("tiles")
        if not 1 <= len(addresses) <= BATCH_TILES_MAX:
            named = f"{len(addresses)} are named"
            raise PlanError(f"a batch is ?tiles=Z/X/Y.EXT&tiles=..., 1 to {BATCH_TILES_MAX} tiles: {named}")
        asked = [(address, _asked(address)) for address in dict.fromkeys(addresses)]
        encoding = encoding_of(_told(request, "accept"))
        if request.method == "HEAD":
            return Reply(200, (("content-type", encoding), *PUBLIC_HEADERS))
        self._check_room(layer, len(asked))
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
        headers = dict((("content-type", encoding), ("cache-control", "no-store"), *PUBLIC_HEADERS))
        return StreamingResponse(_closing(body, items), headers=headers)

    async def cache_stats(self, request: Request) -> Reply:
        layer = self.layer(request)
        stats = await self._stats(layer)
        return json_reply({"layer": layer.name, "stats": stats, **stats})

    async def tilejson(self, request: Request) -> Reply:
        value = layer_tilejson(self.layer(request), self.base_url(request))
        # The answer depends on the name it was asked under.
        return json_reply(value, headers=(("cache-control", "no-cache"), ("vary", "Host")))

    async def forget(self, request: Request) -> Reply:
        """Drop what the caches have of a layer: all of it, or `bbox=W,S,E,N` and `zooms=0-5`."""
        self.admin.check(request)
        layer = self.layer(request)
        told = request.query_params
        if unknown := set(told) - {"bbox", "zooms"}:
            raise PlanError(f"{min(unknown)[:40]!r} is unknown here: bbox=W,S,E,N and zooms=0-5 are known")
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
        """The layer of the address; HTTPException 404 when there is none."""
        layer = self.layers.get(request.path_params["layer"])
        if layer is None:
            raise HTTPException(404, "there is no such layer; /api/layers lists those there are")
        return layer

    def _check_room(self, layer: Layer, tiles: int) -> None:
        """Raise BusyError when so many more tiles may not wait."""
        if self.tiles_waiting + tiles > self.tiles_waiting_max:
            layer.stats.errors["busy"] += tiles
            raise BusyError(f"{self.tiles_waiting} tile requests are waiting already")

    async def _items(
        self, layer: Layer, asked: Sequence[tuple[str, TileRequest | PlanError]]
    ) -> AsyncGenerator[BatchItem, None]:
        waiting = len(asked)
        self.tiles_waiting += waiting
        try:
            async with aclosing(serve_batch(asked, layer, deadline_s=self.batch_s_max)) as items:
                async for item in items:
                    self.tiles_waiting -= 1
                    waiting -= 1
                    if item.error is not None and not isinstance(item.error, PlanError):
                        count_failure(layer, item.address, item.error)
                    yield item
        finally:
            self.tiles_waiting -= waiting


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


def _told(request: Request, name: str) -> str:
    return joined(request.headers.getlist(name))
