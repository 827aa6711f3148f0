"""What a WMS says of itself: GetCapabilities of 1.1.1 and 1.3.0 as one value."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

from tilehaul.codec.safe_xml import exception_said, in_one_line, parse_xml, text_of
from tilehaul.errors import DataError

WORLD = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, slots=True)
class WmsDimension:
    """One further axis of a layer. `name` as declared (`time`, `elevation`); `default` empty when none.

    `values`: a list with commas of values and intervals (`first/last/step`). `nearest`: the server takes the
    value that is nearest to any.
    """

    name: str
    default: str = ""
    values: str = ""
    nearest: bool = False


@dataclass(frozen=True, slots=True)
class WmsLayer:
    """A layer that can be asked for, with what it inherits. `bounds_deg` is (west, south, east, north).

    `dimensions` are also those of layers within it: whoever asks for a group may name them.
    """

    name: str
    title: str = ""
    crs: frozenset[str] = frozenset()
    bounds_deg: tuple[float, float, float, float] = WORLD
    dimensions: tuple[WmsDimension, ...] = ()
    styles: tuple[str, ...] = ()
    attribution: str = ""


@dataclass(frozen=True, slots=True)
class WmsCapabilities:
    """`layers` are those with a name, in the document's order. Maxima are None when not declared."""

    version: str
    title: str
    get_map_url: str
    formats: tuple[str, ...]
    layers: tuple[WmsLayer, ...]
    width_max: int | None = None
    height_max: int | None = None
    layer_limit: int | None = None


def parse_wms_capabilities(body: bytes) -> WmsCapabilities:
    """Read the document.

    Raises:
        DataError: No XML that may be read (`parse_xml`), an exception of the service (with its words), or not
            the capabilities of a WMS.
    """
    root = parse_xml(body)
    if said := exception_said(body):
        raise DataError(f"the service answered with an exception: {said}", cause="error_page", head=body)
    if root.tag not in ("WMS_Capabilities", "WMT_MS_Capabilities"):
        raise DataError(
            f"<{root.tag[:40]}> came, not the capabilities of a WMS", cause="error_page", head=body
        )
    capability = root.find("Capability")
    get_map = None if capability is None else capability.find("Request/GetMap")
    if capability is None or get_map is None:
        raise DataError("the capabilities offer no GetMap", cause="corrupt", head=body)
    online = get_map.find("DCPType/HTTP/Get/OnlineResource")
    return WmsCapabilities(
        version=root.get("version", "1.3.0"),
        title=text_of(root, "Service/Title"),
        get_map_url="" if online is None else online.get("href", "").strip(),
        formats=tuple(in_one_line(each.text) for each in get_map.findall("Format")),
        layers=tuple(
            layer for top in capability.findall("Layer") for layer in _layers(top, WmsLayer(name=""))
        ),
        width_max=_count(root, "Service/MaxWidth"),
        height_max=_count(root, "Service/MaxHeight"),
        layer_limit=_count(root, "Service/LayerLimit"),
    )


def _layers(element: Element, parent: WmsLayer) -> Iterator[WmsLayer]:
    """This layer and those within it. Depth is bounded by `parse_xml`."""
    crs = {
        word
        for tag in ("CRS", "SRS")
        for each in element.findall(tag)
        for word in (each.text or "").upper().split()
    }
    layer = replace(
        parent,
        name=text_of(element, "Name"),
        title=text_of(element, "Title"),
        crs=parent.crs | crs,
        bounds_deg=_bounds(element) or parent.bounds_deg,
        dimensions=_dimensions(element, parent),
        styles=parent.styles + tuple(text_of(each, "Name") for each in element.findall("Style")),
        attribution=text_of(element, "Attribution/Title") or parent.attribution,
    )
    within = [each for child in element.findall("Layer") for each in _layers(child, layer)]
    if layer.name:
        own = {each.name.lower() for each in layer.dimensions}
        theirs = {each.name.lower(): each for one in within for each in one.dimensions}
        more = tuple(each for name, each in theirs.items() if name not in own)
        yield replace(layer, dimensions=layer.dimensions + more)
    yield from within


def _bounds(element: Element) -> tuple[float, float, float, float] | None:
    modern = element.find("EX_GeographicBoundingBox")
    old = element.find("LatLonBoundingBox")
    try:
        if modern is not None:
            names = ("westBoundLongitude", "southBoundLatitude", "eastBoundLongitude", "northBoundLatitude")
            west, south, east, north = (float(text_of(modern, name)) for name in names)
        elif old is not None:
            west, south, east, north = (float(old.get(name, "")) for name in ("minx", "miny", "maxx", "maxy"))
        else:
            return None
    except ValueError:
        return None
    # Bounds that are none bound nothing: a tile must not be called absent because of them.
    bounds = (west, south, east, north)
    return bounds if all(map(math.isfinite, bounds)) and west < east and south < north else None


def _dimensions(element: Element, parent: WmsLayer) -> tuple[WmsDimension, ...]:
    """1.3.0 has everything in Dimension, 1.1.1 default and values in an Extent of the same name."""
    known = {each.name.lower(): each for each in parent.dimensions}
    for tag in ("Dimension", "Extent"):
        for each in element.findall(tag):
            name, values = in_one_line(each.get("name")), in_one_line(each.text)
            before = known.get(name.lower(), WmsDimension(name))
            nearest = each.get("nearestValue", "").strip().lower() in ("1", "true") or before.nearest
            known[name.lower()] = WmsDimension(
                name, each.get("default") or before.default, values or before.values, nearest
            )
    return tuple(known.values())


def _count(root: Element, path: str) -> int | None:
    text = text_of(root, path)
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) > 0 else None
