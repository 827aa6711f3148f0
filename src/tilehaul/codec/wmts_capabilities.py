"""What a WMTS 1.0.0 says of itself: layers, matrix sets, and where tiles are asked for."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from xml.etree.ElementTree import Element

from tilehaul.codec.safe_url import redact
from tilehaul.codec.safe_xml import exception_said, in_one_line, parse_xml, text_of
from tilehaul.codec.wms_capabilities import WORLD, WmsDimension
from tilehaul.errors import DataError

# Rows and columns of a matrix, both ends within: (first row, last row, first column, last column).
Limits = tuple[int, int, int, int]
# Columns, rows and pixels: none of a matrix of zoom 30 has more digits.
COUNT_DIGITS_MAX = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Matrix:
    """One zoom of a set. `left`, `top`: the first tile's corner in units of the CRS, east first."""

    identifier: str
    scale_denominator: float
    left: float
    top: float
    tile_px: tuple[int, int]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class MatrixSet:
    """`crs` is `EPSG:` and its number, however it was written."""

    name: str
    crs: str
    matrices: tuple[Matrix, ...]


@dataclass(frozen=True, slots=True)
class WmtsLayer:
    """`styles` has the default first. `templates` are (format, REST template). `sets`: limits by matrix."""

    name: str
    title: str
    bounds_deg: tuple[float, float, float, float]
    formats: tuple[str, ...]
    styles: tuple[str, ...]
    templates: tuple[tuple[str, str], ...]
    sets: Mapping[str, Mapping[str, Limits]] = field(hash=False)
    dimensions: tuple[WmsDimension, ...] = ()


@dataclass(frozen=True, slots=True)
class WmtsCapabilities:
    """`kvp_url` is empty where GetTile is not offered with parameters."""

    kvp_url: str
    layers: tuple[WmtsLayer, ...]
    matrix_sets: tuple[MatrixSet, ...]


def parse_wmts_capabilities(body: bytes) -> WmtsCapabilities:
    """Read the document.

    Raises:
        DataError: No XML that may be read, an exception of the service (with its words), not the capabilities
            of a WMTS, or a matrix without its numbers.
    """
    root = parse_xml(body)
    if said := exception_said(body):
        raise DataError(f"the service answered with an exception: {said}", cause="error_page", head=body)
    contents = root.find("Contents")
    if root.tag != "Capabilities" or contents is None:
        raise DataError(
            f"<{root.tag[:40]}> came, not the capabilities of a WMTS", cause="error_page", head=body
        )
    sets = tuple(_named("matrix set", _matrix_set, each) for each in contents.findall("TileMatrixSet"))
    layers = tuple(_named("layer", _layer, each) for each in contents.findall("Layer"))
    return WmtsCapabilities(_kvp_url(root), layers, sets)


def _named(what: str, read: Callable[[Element], T], element: Element) -> T:
    """Raises DataError that says in which matrix set or layer a number is none."""
    try:
        return read(element)
    except ValueError as error:
        name = redact(text_of(element, "Identifier")[:60])
        raise DataError(f"its {what} {name} has no valid numbers: {error}", cause="corrupt") from error


def _pair(element: Element, name: str) -> tuple[float, float]:
    words = text_of(element, name).split()
    if len(words) != 2:
        raise ValueError(f"a {name} of {len(words)} numbers, not two")
    return _number(name, words[0]), _number(name, words[1])


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"a {name} of {text[:40]!r}")
    return number


def _count(name: str, text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdigit()) or len(text) > COUNT_DIGITS_MAX or not int(text):
        raise ValueError(f"a {name} of {text[:40]!r}")
    return int(text)


def plain_crs(text: str) -> str:
    """`EPSG:3857` for that, `urn:ogc:def:crs:EPSG::3857`, `.../EPSG/0/3857` and their like."""
    words = text.strip().upper().replace("/", ":").split(":")
    return f"EPSG:{words[-1]}" if "EPSG" in words else text.strip()


def _kvp_url(root: Element) -> str:
    for operation in root.findall("OperationsMetadata/Operation"):
        if operation.get("name") != "GetTile":
            continue
        for get in operation.findall("DCP/HTTP/Get"):
            encodings = [in_one_line(each.text).upper() for each in get.iter("Value")]
            if not encodings or "KVP" in encodings:
                return get.get("href", "").strip()
    return ""


def _matrix_set(element: Element) -> MatrixSet:
    return MatrixSet(
        text_of(element, "Identifier"),
        plain_crs(text_of(element, "SupportedCRS")),
        tuple(_matrix(each) for each in element.findall("TileMatrix")),
    )


def _matrix(element: Element) -> Matrix:
    left, top = _pair(element, "TopLeftCorner")
    width, height, columns, rows = (
        _count(name, text_of(element, name))
        for name in ("TileWidth", "TileHeight", "MatrixWidth", "MatrixHeight")
    )
    scale = _number("ScaleDenominator", text_of(element, "ScaleDenominator"))
    if scale <= 0.0:
        raise ValueError(f"a ScaleDenominator of {scale}")
    return Matrix(text_of(element, "Identifier"), scale, left, top, (width, height), (columns, rows))


def _layer(element: Element) -> WmtsLayer:
    styles = sorted(element.findall("Style"), key=lambda each: each.get("isDefault", "").lower() != "true")
    west, south, east, north = WORLD
    box = element.find("WGS84BoundingBox")
    if box is not None:
        (west, south), (east, north) = _pair(box, "LowerCorner"), _pair(box, "UpperCorner")
    return WmtsLayer(
        name=text_of(element, "Identifier"),
        title=text_of(element, "Title"),
        bounds_deg=(west, south, east, north) if west < east and south < north else WORLD,
        formats=tuple(in_one_line(each.text) for each in element.findall("Format")),
        styles=tuple(text_of(each, "Identifier") for each in styles),
        templates=tuple(
            (in_one_line(each.get("format")), each.get("template", ""))
            for each in element.findall("ResourceURL")
            if each.get("resourceType") == "tile"
        ),
        sets={
            text_of(link, "TileMatrixSet"): {
                text_of(each, "TileMatrix"): _limits(each) for each in link.iter("TileMatrixLimits")
            }
            for link in element.findall("TileMatrixSetLink")
        },
        dimensions=tuple(
            WmsDimension(
                text_of(each, "Identifier"),
                text_of(each, "Default"),
                ",".join(in_one_line(value.text) for value in each.findall("Value")),
            )
            for each in element.findall("Dimension")
        ),
    )


def _limits(element: Element) -> Limits:
    first_row, last_row, first_column, last_column = (
        int(text_of(element, name)) for name in ("MinTileRow", "MaxTileRow", "MinTileCol", "MaxTileCol")
    )
    return first_row, last_row, first_column, last_column
