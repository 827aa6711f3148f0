"""The same layers for desktop programs: WMTS 1.0.0 (parameters and paths) and TMS 1.0.0."""

from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tilehaul.codec.sniff import extension_of, media_type_of
from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.serve_tile import EXTENSION_KINDS, PUBLIC_HEADERS, Reply
from tilehaul.server.batch_encodings import JSON
from tilehaul.server.describe import layer_json
from tilehaul.server.entries import TILE, XML, Answers, Entry, Query
from tilehaul.server.standard_documents import (
    MATRIX_SET,
    STYLE,
    ServedLayer,
    ows_exception,
    tms_map,
    tms_root,
    tms_service,
    wmts_capabilities,
)
from tilehaul.server.tile_routes import TileRoutes, document_headers, parse_address

# Parameters of GetTile that have to be there (OGC 07-057r7, table 29), STYLE aside, which many leave out.
_QUERIES = {
    "SERVICE": "WMTS.",
    "REQUEST": "GetCapabilities or GetTile.",
    "LAYER": "Name of a layer.",
    "STYLE": "default.",
    "FORMAT": "Media type; without it the layer's own.",
    "TILEMATRIXSET": "GoogleMapsCompatible.",
    "TILEMATRIX": "Zoom.",
    "TILEROW": "Row, from the north.",
    "TILECOL": "Column.",
}
_GET_TILE = ("LAYER", "TILEMATRIXSET", "TILEMATRIX", "TILEROW", "TILECOL")


class StandardRoutes:
    """The answers, over those of `TileRoutes`."""

    def __init__(self, tiles: TileRoutes) -> None:
        self._tiles = tiles

    def entries(self) -> tuple[Entry, ...]:
        """Each address with its answer."""
        rest = "/wmts/1.0.0/{layer}/{style}/{set}/{z}/{row}/{file}"
        document: Answers = {200: (XML,), 400: (JSON,)}
        by_parameters: Answers = {**TILE, 200: (XML, *TILE[200]), 400: (XML, JSON)}
        queries = tuple(Query(name, text) for name, text in _QUERIES.items())
        told = (
            ("/wmts/1.0.0/WMTSCapabilities.xml", self.wmts_capabilities, "WMTS capabilities.", document),
            (rest, self.wmts_tile, "WMTS: a tile, the row before the column.", TILE),
            ("/tms", self.tms, "TMS: the services.", document),
            ("/tms/1.0.0", self.tms_service, "TMS: the layers.", document),
            ("/tms/1.0.0/{layer}", self.tms_map, "TMS: a layer.", {**document, 404: (JSON,)}),
            ("/tms/1.0.0/{layer}/{z}/{x}/{file}", self.tms_tile, "TMS: a tile, rows from the south.", TILE),
        )
        return (
            Entry("GET", "/wmts", self.wmts, "WMTS by parameters.", by_parameters, queries, key="layer"),
            *(Entry("GET", path, answer, text, answers, key="layer") for path, answer, text, answers in told),
        )

    def _maps(self, request: Request) -> dict[str, Layer]:
        """The layers that lie on Earth, of those the caller may know of."""
        layers = self._tiles.callers.seen(request).items()
        return {name: layer for name, layer in layers if layer.source.info.pyramid is None}

    async def wmts_capabilities(self, request: Request) -> Reply:
        seen = self._maps(request).values()
        document = wmts_capabilities([served(layer) for layer in seen], self._tiles.base_url(request))
        return _xml(document, layers=seen)

    async def wmts(self, request: Request) -> Reply:
        """With parameters, whose names have no case."""
        told = {name.upper(): value for name, value in request.query_params.items()}
        wanted = told.get("REQUEST", "").lower()
        if told.get("SERVICE", "WMTS").upper() != "WMTS":
            return _refused("InvalidParameterValue", "service", "this is a WMTS")
        if wanted == "getcapabilities":
            return await self.wmts_capabilities(request)
        if wanted != "gettile":
            code = "OperationNotSupported" if wanted else "MissingParameterValue"
            return _refused(code, "request", "REQUEST is GetCapabilities or GetTile")
        for name in _GET_TILE:
            if not told.get(name):
                return _refused("MissingParameterValue", name.lower(), f"{name} is missing")
        layer = self._maps(request).get(told["LAYER"])
        if layer is None:
            return _refused("InvalidParameterValue", "layer", "there is no such layer")
        try:
            _check_named(told.get("STYLE", STYLE), told["TILEMATRIXSET"])
            ending = _ending(layer, told.get("FORMAT", ""))
            file = f"{told['TILEROW']}.{ending}"
            tile_id, ext = parse_address(told["TILEMATRIX"].rpartition(":")[2], told["TILECOL"], file)
        except PlanError as error:
            locator = "tilerow" if "row" in str(error) else "tilecol" if "column" in str(error) else ""
            code = "TileOutOfRange" if locator else "InvalidParameterValue"
            return _refused(code, locator, str(error))
        return await self._tiles.answer(request, layer, tile_id, ext)

    async def wmts_tile(self, request: Request) -> Reply:
        """`/wmts/1.0.0/LAYER/default/GoogleMapsCompatible/Z/ROW/COLUMN.png`: the row first."""
        told = request.path_params
        layer = self._tiles.map_layer(request)
        try:
            _check_named(told["style"], told["set"])
        except PlanError as error:
            raise HTTPException(404, str(error)) from error
        column, _, ending = told["file"].rpartition(".")
        tile_id, ext = parse_address(told["z"], column, f"{told['row']}.{ending}")
        return await self._tiles.answer(request, layer, tile_id, ext)

    async def tms(self, request: Request) -> Reply:
        return _xml(tms_root(self._tiles.base_url(request)))

    async def tms_service(self, request: Request) -> Reply:
        seen = self._maps(request).values()
        document = tms_service([served(layer) for layer in seen], self._tiles.base_url(request))
        return _xml(document, layers=seen)

    async def tms_map(self, request: Request) -> Reply:
        layer = self._tiles.map_layer(request)
        return _xml(tms_map(served(layer), self._tiles.base_url(request)), layers=(layer,))

    async def tms_tile(self, request: Request) -> Reply:
        """Rows are counted from the south."""
        layer, told = self._tiles.map_layer(request), request.path_params
        flipped, ext = parse_address(told["z"], told["x"], told["file"])
        tile_id = TileId(flipped.z, flipped.x, (1 << flipped.z) - 1 - flipped.y)
        return await self._tiles.answer(request, layer, tile_id, ext)


def served(layer: Layer) -> ServedLayer:
    """The layer as documents tell it."""
    told, info = layer_json(layer), layer.source.info
    return ServedLayer(
        name=layer.name,
        title=layer.title_shown,
        abstract=" ".join(text for text in (info.description, layer.attribution_shown) if text),
        bounds_deg=info.bounds_deg,
        zoom_min=info.zoom_min,
        zoom_max=info.zoom_max,
        media_type=media_type_of(told["format"]),
        ending=told["format"],
    )


def _ending(layer: Layer, media_type: str) -> str:
    """The extension that a FORMAT asks for; the layer's own without one. Raises PlanError."""
    if not media_type:
        return str(layer_json(layer)["format"])
    ending = extension_of(media_type.partition(";")[0].strip().lower())
    if ending not in EXTENSION_KINDS:
        raise PlanError("FORMAT is a picture's or vector tile's media type, as the capabilities have it")
    return ending


def _check_named(style: str, matrix_set: str) -> None:
    if style not in (STYLE, ""):
        raise PlanError(f"there is one style, {STYLE}")
    if matrix_set != MATRIX_SET:
        raise PlanError(f"there is one tile matrix set, {MATRIX_SET}")


def _xml(body: bytes, *, status: int = 200, layers: Iterable[Layer] = ()) -> Reply:
    headers = (("content-type", "application/xml"), *document_headers(layers), *PUBLIC_HEADERS)
    return Reply(status, headers, body)


def _refused(code: str, locator: str, message: str) -> Reply:
    """Our words only: nothing that was asked is repeated."""
    return _xml(ows_exception(code, locator, message), status=400)
