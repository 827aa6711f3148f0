"""What the service says of its layers to desktop programs: WMTS 1.0.0 capabilities, TMS 1.0.0 documents.

WMTS: OGC 07-057r7. TMS: the OSGeo Tile Map Service Specification 1.0.0, profile `global-mercator`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from tilehaul.grid.mercator import HALF_WORLD_M, metres_of

WMTS_NS = "http://www.opengis.net/wmts/1.0"
OWS_NS = "http://www.opengis.net/ows/1.1"
XLINK_NS = "http://www.w3.org/1999/xlink"
# The name of the well-known scale set, and of our matrix set (OGC 07-057r7, annex E.4).
MATRIX_SET = "GoogleMapsCompatible"
STYLE = "default"
# Scale denominator of zoom 0: the world's metres over 256 pixels of 0.28 mm (annex E.4).
SCALE_0 = 559_082_264.028_717_8
PIXELS_PER_TILE = 256
# `units-per-pixel` of zoom 0, in metres.
UNITS_0 = 2 * HALF_WORLD_M / PIXELS_PER_TILE

register_namespace("", WMTS_NS)
register_namespace("ows", OWS_NS)
register_namespace("xlink", XLINK_NS)


@dataclass(frozen=True, slots=True)
class ServedLayer:
    """One layer as these documents tell it. `ending` is the file name's, without a dot."""

    name: str
    title: str
    abstract: str
    bounds_deg: tuple[float, float, float, float]
    zoom_min: int
    zoom_max: int
    media_type: str
    ending: str


def wmts_capabilities(layers: Sequence[ServedLayer], base_url: str) -> bytes:
    """The capabilities document, UTF-8. `base_url`: below it are `/wmts` and `/wmts/1.0.0/...`."""
    root = Element(f"{{{WMTS_NS}}}Capabilities", {"version": "1.0.0"})
    service = _ows(root, "ServiceIdentification")
    _ows(service, "Title", "tilehaul")
    _ows(service, "ServiceType", "OGC WMTS")
    _ows(service, "ServiceTypeVersion", "1.0.0")
    operations = _ows(root, "OperationsMetadata")
    for name in ("GetCapabilities", "GetTile"):
        _operation(operations, name, f"{base_url}/wmts?")
    contents = SubElement(root, f"{{{WMTS_NS}}}Contents")
    for layer in layers:
        _layer(contents, layer, base_url)
    _matrix_set(contents, max((layer.zoom_max for layer in layers), default=0))
    SubElement(
        root,
        f"{{{WMTS_NS}}}ServiceMetadataURL",
        {f"{{{XLINK_NS}}}href": f"{base_url}/wmts/1.0.0/WMTSCapabilities.xml"},
    )
    return _text(root)


def ows_exception(code: str, locator: str, message: str) -> bytes:
    """An exception report of OWS Common 1.1, UTF-8."""
    root = Element(f"{{{OWS_NS}}}ExceptionReport", {"version": "1.1.0"})
    exception = _ows(root, "Exception")
    exception.set("exceptionCode", code)
    if locator:
        exception.set("locator", locator)
    _ows(exception, "ExceptionText", message)
    return _text(root)


def tms_root(base_url: str) -> bytes:
    """The list of services."""
    root = Element("Services")
    SubElement(root, "TileMapService", title="tilehaul", version="1.0.0", href=f"{base_url}/tms/1.0.0")
    return _text(root)


def tms_service(layers: Iterable[ServedLayer], base_url: str) -> bytes:
    """The list of tile maps."""
    root = Element("TileMapService", version="1.0.0", services=f"{base_url}/tms")
    SubElement(root, "Title").text = "tilehaul"
    SubElement(root, "Abstract")
    maps = SubElement(root, "TileMaps")
    for layer in layers:
        SubElement(
            maps,
            "TileMap",
            title=_plain(layer.title),
            srs="EPSG:3857",
            profile="global-mercator",
            href=f"{base_url}/tms/1.0.0/{layer.name}",
        )
    return _text(root)


def tms_map(layer: ServedLayer, base_url: str) -> bytes:
    """One tile map. Each set's `order` is its zoom: set 0 is the world in one tile."""
    root = Element("TileMap", version="1.0.0", tilemapservice=f"{base_url}/tms/1.0.0")
    SubElement(root, "Title").text = _plain(layer.title)
    SubElement(root, "Abstract").text = _plain(layer.abstract)
    SubElement(root, "SRS").text = "EPSG:3857"
    west, south, east, north = layer.bounds_deg
    (min_x, min_y), (max_x, max_y) = metres_of(west, south), metres_of(east, north)
    box = {"minx": min_x, "miny": min_y, "maxx": max_x, "maxy": max_y}
    SubElement(root, "BoundingBox", {name: f"{value:.6f}" for name, value in box.items()})
    SubElement(root, "Origin", x=f"{-HALF_WORLD_M:.6f}", y=f"{-HALF_WORLD_M:.6f}")
    size = str(PIXELS_PER_TILE)
    form = {"width": size, "height": size, "mime-type": layer.media_type, "extension": layer.ending}
    SubElement(root, "TileFormat", form)
    sets = SubElement(root, "TileSets", profile="global-mercator")
    for zoom in range(layer.zoom_min, layer.zoom_max + 1):
        told = {
            "href": f"{base_url}/tms/1.0.0/{layer.name}/{zoom}",
            "units-per-pixel": repr(UNITS_0 / (1 << zoom)),
            "order": str(zoom),
        }
        SubElement(sets, "TileSet", told)
    return _text(root)


def _layer(contents: Element, layer: ServedLayer, base_url: str) -> None:
    one = SubElement(contents, f"{{{WMTS_NS}}}Layer")
    _ows(one, "Title", layer.title)
    _ows(one, "Abstract", layer.abstract)
    west, south, east, north = layer.bounds_deg
    box = _ows(one, "WGS84BoundingBox")
    _ows(box, "LowerCorner", f"{west:.9f} {south:.9f}")
    _ows(box, "UpperCorner", f"{east:.9f} {north:.9f}")
    _ows(one, "Identifier", layer.name)
    style = SubElement(one, f"{{{WMTS_NS}}}Style", {"isDefault": "true"})
    _ows(style, "Identifier", STYLE)
    SubElement(one, f"{{{WMTS_NS}}}Format").text = layer.media_type
    link = SubElement(one, f"{{{WMTS_NS}}}TileMatrixSetLink")
    SubElement(link, f"{{{WMTS_NS}}}TileMatrixSet").text = MATRIX_SET
    limits = SubElement(link, f"{{{WMTS_NS}}}TileMatrixSetLimits")
    for zoom in range(layer.zoom_min, layer.zoom_max + 1):
        _limits(limits, layer, zoom)
    template = (
        f"{base_url}/wmts/1.0.0/{layer.name}/{{Style}}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}"
        f".{layer.ending}"
    )
    resource = {"format": layer.media_type, "resourceType": "tile", "template": template}
    SubElement(one, f"{{{WMTS_NS}}}ResourceURL", resource)


def _limits(limits: Element, layer: ServedLayer, zoom: int) -> None:
    west, south, east, north = layer.bounds_deg
    (min_x, min_y), (max_x, max_y) = metres_of(west, south), metres_of(east, north)
    last = (1 << zoom) - 1
    side_m = 2 * HALF_WORLD_M / (1 << zoom)
    # A border on a tile's edge does not reach into the next tile; a millimetre is below what degrees tell.
    rows = (HALF_WORLD_M - max_y + 0.001) // side_m, (HALF_WORLD_M - min_y - 0.001) // side_m
    columns = (HALF_WORLD_M + min_x + 0.001) // side_m, (HALF_WORLD_M + max_x - 0.001) // side_m
    if west > east:
        columns = 0, last
    one = SubElement(limits, f"{{{WMTS_NS}}}TileMatrixLimits")
    SubElement(one, f"{{{WMTS_NS}}}TileMatrix").text = str(zoom)
    for name, (low, high) in (("TileRow", rows), ("TileCol", columns)):
        low_number = min(max(int(low), 0), last)
        SubElement(one, f"{{{WMTS_NS}}}Min{name}").text = str(low_number)
        SubElement(one, f"{{{WMTS_NS}}}Max{name}").text = str(max(min(int(high), last), low_number))


def _matrix_set(contents: Element, zoom_max: int) -> None:
    one = SubElement(contents, f"{{{WMTS_NS}}}TileMatrixSet")
    _ows(one, "Identifier", MATRIX_SET)
    _ows(one, "SupportedCRS", "urn:ogc:def:crs:EPSG::3857")
    SubElement(one, f"{{{WMTS_NS}}}WellKnownScaleSet").text = f"urn:ogc:def:wkss:OGC:1.0:{MATRIX_SET}"
    for zoom in range(zoom_max + 1):
        matrix = SubElement(one, f"{{{WMTS_NS}}}TileMatrix")
        _ows(matrix, "Identifier", str(zoom))
        size = str(1 << zoom)
        for name, value in (
            ("ScaleDenominator", repr(SCALE_0 / (1 << zoom))),
            ("TopLeftCorner", f"{-HALF_WORLD_M!r} {HALF_WORLD_M!r}"),
            ("TileWidth", str(PIXELS_PER_TILE)),
            ("TileHeight", str(PIXELS_PER_TILE)),
            ("MatrixWidth", size),
            ("MatrixHeight", size),
        ):
            SubElement(matrix, f"{{{WMTS_NS}}}{name}").text = value


def _operation(operations: Element, name: str, url: str) -> None:
    one = _ows(operations, "Operation")
    one.set("name", name)
    get = _ows(_ows(_ows(one, "DCP"), "HTTP"), "Get")
    get.set(f"{{{XLINK_NS}}}href", url)
    constraint = _ows(get, "Constraint")
    constraint.set("name", "GetEncoding")
    _ows(_ows(constraint, "AllowedValues"), "Value", "KVP")


def _ows(parent: Element, name: str, text: str = "") -> Element:
    one = SubElement(parent, f"{{{OWS_NS}}}{name}")
    if text:
        one.text = _plain(text)
    return one


def _plain(text: str) -> str:
    """What XML 1.0 can hold (section 2.2): an archive's own words may have anything in them."""
    return "".join(
        c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
    )


def _text(root: Element) -> bytes:
    told: bytes = tostring(root, encoding="UTF-8", xml_declaration=True)
    return told
