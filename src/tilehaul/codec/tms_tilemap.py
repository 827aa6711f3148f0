"""A TMS 1.0.0: its location, what its TileMap says of itself, and which of its levels is which zoom."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit, urlunsplit
from xml.etree.ElementTree import Element

from tilehaul.codec.safe_url import redact, redact_text
from tilehaul.codec.safe_xml import SAID_CHARS_MAX, exception_said, parse_xml, text_of
from tilehaul.codec.sniff import extension_of, plain_media_type
from tilehaul.codec.wms_request import MERCATOR_NAMES, sorted_parameters, split_location, with_query
from tilehaul.codec.wmts_capabilities import Limits, plain_crs
from tilehaul.codec.wmts_request import WORLD_M, ZOOM_ERROR, ZOOM_MAX, ZoomMatrix
from tilehaul.errors import ConfigError, DataError, PlanError

# The specification's own name for Web Mercator, which the profile global-mercator asks for (TMS 1.0.0, 6).
TMS_MERCATOR_NAMES = ("OSGEO:41001", *MERCATOR_NAMES)
# gdal2tiles' word for tiles counted from the world's corner; its Origin and BoundingBox are the picture's, in
# degrees or with their axes turned, by its version.
GDAL_PROFILE = "mercator"
TILE_PX = (256, 512)
# How far the declared origin may lie beside the world's corner: a pixel of zoom 17. Some write whole metres.
ORIGIN_ERROR_M = 1.2
# Of the TileMaps of a service, so many are named, each with so many characters at most.
LISTED_MAX = 10
LISTED_CHARS_MAX = 120
# Bounds with no greater number are degrees by mistake, or a few paces around 0, 0.
DEGREES_MAX = 360.0
# Declared edges are rounded: a tile that they reach into by less, in tiles, is none.
EDGE_ERROR = 1e-6

_EXTENSION = re.compile(r"\.?([A-Za-z0-9]{1,10})", re.ASCII)
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TmsLocation:
    """`address` is the TileMap document without its query, `extra` the query's parameters (a key, `map`)."""

    address: str
    extra: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def capabilities_url(self) -> str:
        """The document itself."""
        return with_query(self.address, self.extra, {}).removesuffix("?")

    @property
    def shown(self) -> str:
        """For people: secrets masked."""
        return redact(self.capabilities_url())


def parse_tms_location(text: str) -> TmsLocation:
    """Read `tms+https://host/tms/1.0.0/layer`. Raises ConfigError."""
    address, pairs = split_location(text, "tms+")
    if "{" in address:
        raise ConfigError(
            f"{redact(text)}: tms+ names a TileMap document; a template is written without it, with {{-y}}"
            " for rows from the south"
        )
    _, _, extra = sorted_parameters(pairs, known=(), own_known=())
    return TmsLocation(address, tuple(extra))


@dataclass(frozen=True, slots=True)
class TileSet:
    """One level. `href` as declared: its tiles are below it, COLUMN/ROW, rows from the south."""

    href: str
    units_per_pixel: float


@dataclass(frozen=True, slots=True)
class TileMap:
    """What a TileMap says. `bounds` and `origin` are in units of `crs`; `bounds` may be None."""

    title: str
    abstract: str
    crs: str
    bounds: Box | None
    origin: tuple[float, float]
    tile_px: tuple[int, int]
    media_type: str
    extension: str
    profile: str
    tile_sets: tuple[TileSet, ...]


def parse_tile_map(body: bytes, address: str) -> TileMap:
    """Read the document that came from `address`.

    Raises:
        PlanError: It is a service's list of TileMaps, which are named.
        DataError: No XML that may be read, an error of the service (with its words), no TileMap, or one
            without its numbers.
    """
    root = parse_xml(body)
    if said := exception_said(body) or text_of(root, "Message"):
        words = "".join(char if char.isprintable() else " " for char in redact_text(said)).split()
        shown = " ".join(words)[:SAID_CHARS_MAX]
        raise DataError(f"the service answered with an error: {shown}", cause="error_page", head=body)
    if root.tag in ("TileMapService", "Services"):
        raise PlanError(_listed(root, address))
    if root.tag != "TileMap":
        raise DataError(f"<{root.tag[:40]}> came, not the TileMap of a TMS", cause="error_page", head=body)
    try:
        return _tile_map(root)
    except ValueError as error:
        raise DataError(f"the TileMap has no valid numbers: {error}", cause="corrupt", head=body) from error


def _tile_map(root: Element) -> TileMap:
    origin, form = root.find("Origin"), root.find("TileFormat")
    if origin is None or form is None:
        raise ValueError(f"it lacks {'Origin' if origin is None else 'TileFormat'}")
    sets = root.find("TileSets")
    media_type = plain_media_type(form.get("mime-type", ""))
    extension = _EXTENSION.fullmatch(form.get("extension", "").strip() or extension_of(media_type))
    if extension is None:
        raise ValueError("TileFormat has no extension")
    return TileMap(
        title=text_of(root, "Title"),
        abstract=text_of(root, "Abstract"),
        crs=plain_crs(text_of(root, "SRS")).upper(),
        bounds=_bounds(root.find("BoundingBox")),
        origin=(_number(origin, "x"), _number(origin, "y")),
        tile_px=(_side(form, "width"), _side(form, "height")),
        media_type=media_type,
        extension=extension[1],
        profile="" if sets is None else sets.get("profile", "").strip().lower(),
        tile_sets=tuple(_tile_set(each) for each in root.findall("TileSets/TileSet")),
    )


def _number(element: Element, name: str) -> float:
    text = element.get(name, "")
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{element.tag} has {name}={text[:40]!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{element.tag} has {name}={text[:40]!r}")
    return number


def _side(element: Element, name: str) -> int:
    number = _number(element, name)
    if number != int(number) or number < 1.0:
        raise ValueError(f"{element.tag} has {name}={number:g}")
    return int(number)


def _tile_set(element: Element) -> TileSet:
    units = _number(element, "units-per-pixel")
    if units <= 0.0:
        raise ValueError(f"a TileSet has units-per-pixel={units:g}")
    href = element.get("href", "").strip()
    if not href:
        raise ValueError("a TileSet has no href")
    return TileSet(href, units)


def _bounds(element: Element | None) -> Box | None:
    if element is None:
        return None
    try:
        declared = [_number(element, name) for name in ("minx", "miny", "maxx", "maxy")]
    except ValueError:
        return None
    west, south, east, north = (min(max(number, -WORLD_M), WORLD_M) for number in declared)
    in_metres = max(map(abs, declared)) > DEGREES_MAX
    # Bounds that are none bound nothing: a tile must not be called absent because of them.
    return (west, south, east, north) if in_metres and west < east and south < north else None


def _listed(root: Element, address: str) -> str:
    """One line that names the TileMaps of a service, as locations."""

    def locations() -> Iterator[str]:
        for each in (*root.iter("TileMap"), *(root.findall("TileMapService"))):
            try:
                yield redact("tms+" + urljoin(address, each.get("href", "").strip()))[:LISTED_CHARS_MAX]
            except ValueError:
                continue

    names = list(locations())
    if not names:
        return "this is a TMS without any TileMap"
    more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
    return f"this is a TMS, not one of its TileMaps; it lists {', '.join(names[:LISTED_MAX])}{more}"


def check_tile_map(said: TileMap) -> None:
    """Raise PlanError unless its tiles are those of the Web Mercator grid."""
    if said.crs not in TMS_MERCATOR_NAMES:
        raise PlanError(f"the TileMap is in {redact(said.crs[:40]) or 'no SRS'}, and tiles are Web Mercator")
    if said.tile_px[0] != said.tile_px[1] or said.tile_px[0] not in TILE_PX:
        width, height = said.tile_px
        raise PlanError(f"the TileMap has tiles of {width}x{height} px; 256x256 and 512x512 are known")
    beside_m = max(abs(number + WORLD_M / 2) for number in said.origin)
    if beside_m > ORIGIN_ERROR_M and said.profile != GDAL_PROFILE:
        x, y = said.origin
        raise PlanError(
            f"the TileMap counts its tiles from {x:g}, {y:g}, not from the world's lower left corner,"
            f" {-WORLD_M / 2:.2f}, {-WORLD_M / 2:.2f}"
        )


def tms_zooms(said: TileMap) -> dict[int, ZoomMatrix]:
    """The levels that are zooms of the XYZ grid, by zoom; the identifier is the level's `href`.

    A level's zoom follows from its units per pixel and its tiles' size, never from its order: a service of
    the profile global-mercator begins at 2x2 tiles. What is no zoom is left out; of two, the first is taken.

    Raises PlanError when none is left.
    """
    found: dict[int, ZoomMatrix] = {}
    for each in said.tile_sets:
        zoom = math.log2(WORLD_M / said.tile_px[0]) - math.log2(each.units_per_pixel)
        z = round(zoom)
        if abs(zoom - z) <= ZOOM_ERROR and 0 <= z <= ZOOM_MAX and z not in found:
            found[z] = ZoomMatrix(each.href, 0, 0, _limits(said, z))
    if not found:
        units = ", ".join(f"{each.units_per_pixel:g}" for each in said.tile_sets[:LISTED_MAX]) or "none"
        raise PlanError(f"no level of the TileMap is a Web Mercator zoom: its units per pixel are {units}")
    return found


def _limits(said: TileMap, z: int) -> Limits:
    """Rows from the north and columns that the declared bounds reach into."""
    last = (1 << z) - 1
    if said.bounds is None or said.profile == GDAL_PROFILE:
        return 0, last, 0, last
    side_m = WORLD_M / (1 << z)
    west, south, east, north = (number / side_m for number in said.bounds)
    half = (1 << z) / 2

    def first(at: float) -> int:
        return min(max(math.floor(at + EDGE_ERROR), 0), last + 1)

    def final(at: float) -> int:
        return max(min(math.ceil(at - EDGE_ERROR) - 1, last), -1)

    return first(half - north), final(half - south), first(west + half), final(east + half)


def level_address(href: str, place: TmsLocation) -> tuple[str, str]:
    """What is before and behind `/COLUMN/ROW.EXTENSION` in a level's addresses.

    A relative `href` is beside the document. One that names the document's own host over http, where the
    document came over https, stays with https: the service is behind a proxy and does not know.

    Raises DataError: no address over http or https, or one with a user in it.
    """
    try:
        parts = urlsplit(urljoin(place.address, href))
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    here = urlsplit(place.address)
    valid = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    if not valid or any(ord(char) <= 32 or ord(char) == 127 for char in href):
        raise DataError(f"a level of the TileMap is at {redact(href)[:120]}, which is no address")
    scheme, netloc = parts.scheme, parts.netloc
    plain = scheme == "http" and port in (None, 80)
    if plain and here.scheme == "https" and parts.hostname == here.hostname:
        scheme, netloc = here.scheme, here.netloc
    elif (scheme, netloc) == (here.scheme, here.netloc.rpartition("@")[2]):
        netloc = here.netloc
    return urlunsplit(
        (scheme, netloc, parts.path.rstrip("/"), "", "")
    ), f"?{parts.query}" if parts.query else ""
