"""Pictures in their own pixels: what OpenSeadragon has to know of one, and a small picture of any layer."""

from math import ceil, floor
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tilehaul.codec.sniff import VECTOR_TILE
from tilehaul.grid.mercator import HALF_WORLD_M, metres_of
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import Reply
from tilehaul.ports.source import SourceInfo
from tilehaul.server.batch_encodings import JSON
from tilehaul.server.describe import layer_json
from tilehaul.server.entries import TILE, Entry
from tilehaul.server.reply import json_reply
from tilehaul.server.tile_routes import TileRoutes, document_headers

# Shares of the world: a border this near to a tile's edge lies on it (4 cm).
_NEAR = 1e-9


class PyramidRoutes:
    """The answers, over those of `TileRoutes`."""

    def __init__(self, tiles: TileRoutes) -> None:
        self._tiles = tiles

    def entries(self) -> tuple[Entry, ...]:
        """Each address with its answer."""
        one = "/api/tiles/{layer}"
        told = {200: (JSON,), 400: (JSON,), 404: (JSON,)}
        return (
            Entry("GET", one + "/info", self.info, "A picture in its own pixels.", told, key="layer"),
            Entry("GET", one + "/preview", self.preview, "One tile of all of it.", TILE, key="layer"),
        )

    async def info(self, request: Request) -> Reply:
        layer = self._tiles.layer(request)
        pyramid = served_pyramid(layer.source.info)
        if pyramid is None:
            raise HTTPException(
                404, "this layer is a map and has no size in pixels: its TileJSON is at /api/tiles/LAYER"
            )
        told = info_json(layer, pyramid, self._tiles.base_url(request))
        return json_reply(told, headers=document_headers((layer,)))

    async def preview(self, request: Request) -> Reply:
        """One tile that shows as much as one can: see `preview_tile`."""
        layer = self._tiles.layer(request)
        info = layer.source.info
        if info.media_type == VECTOR_TILE:
            raise HTTPException(404, "this layer has vector tiles: there is no picture of it")
        return await self._tiles.answer(request, layer, preview_tile(info), layer_json(layer)["format"])


def served_pyramid(info: SourceInfo) -> Pyramid | None:
    """The pyramid that a layer has, down to its deepest zoom; None for a map."""
    return None if info.pyramid is None else info.pyramid.down_to(info.zoom_max)


def info_json(layer: Layer, pyramid: Pyramid, base_url: str) -> dict[str, Any]:
    """What a custom tile source of OpenSeadragon takes, and where the tiles are: `tiles` has `{z}` for its
    level, `{x}` and `{y}` for its column and row.
    """
    told = layer_json(layer)
    return {
        "layer": layer.name,
        "title": told["title"],
        "attribution": told["attribution"],
        "width": pyramid.width,
        "height": pyramid.height,
        "tileSize": pyramid.tile_size,
        "tileOverlap": 0,
        "minLevel": min(layer.source.info.zoom_min, pyramid.zoom_max),
        "maxLevel": pyramid.zoom_max,
        "format": told["format"],
        "tiles": base_url + told["tiles"],
        "preview": f"{base_url}/api/tiles/{layer.name}/preview",
    }


def preview_tile(info: SourceInfo) -> TileId:
    """Of a picture all in one tile; of a map the deepest tile that has all of its bounds, or at its least
    zoom the one in their middle.
    """
    first = info.zoom_min
    if info.pyramid is not None:
        return TileId(first, 0, 0)
    west, south, east, north = info.bounds_deg
    (left, low), (right, high) = metres_of(west, south), metres_of(east, north)
    if west > east:
        left, right = -HALF_WORLD_M, HALF_WORLD_M
    columns = _share(left), _share(right)
    rows = _share(-high), _share(-low)
    for zoom in range(info.zoom_max, first, -1):
        x, y = _within(columns, zoom), _within(rows, zoom)
        if x is not None and y is not None:
            return TileId(zoom, x, y)
    return TileId(first, _middle(columns, first), _middle(rows, first))


def _share(metres: float) -> float:
    return (metres + HALF_WORLD_M) / (2 * HALF_WORLD_M)


def _within(span: tuple[float, float], zoom: int) -> int | None:
    """The column (or row) that has all of it."""
    size = 1 << zoom
    begin = floor((span[0] + _NEAR) * size)
    return begin if begin >= ceil((span[1] - _NEAR) * size) - 1 and begin < size else None


def _middle(span: tuple[float, float], zoom: int) -> int:
    size = 1 << zoom
    return min(floor(sum(span) / 2 * size), size - 1)
