"""What a TMS 1.0.0 says of one of its maps (OSGeo Tile Map Service Specification)."""

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tilehaul.codec.safe_xml import exception_said, parse_xml, text_of
from tilehaul.errors import DataError, PlanError

# Maps of a service that are named when none of them was asked for.
NAMED_MAX = 10
SETS_MAX = 64


@dataclass(frozen=True, slots=True)
class TileSet:
    """One zoom: `href` is where its columns lie, `units_per_pixel` in units of the map's SRS."""

    href: str
    units_per_pixel: float


@dataclass(frozen=True, slots=True)
class TileMap:
    """`srs` in capitals. `origin` is the corner of column 0, row 0, `box` (min x, min y, max x, max y), in
    units of the SRS. `extension` has no dot.
    """

    title: str
    srs: str
    origin: tuple[float, float]
    box: tuple[float, float, float, float]
    tile_px: tuple[int, int]
    media_type: str
    extension: str
    sets: tuple[TileSet, ...]


def parse_tile_map(body: bytes) -> TileMap:
    """Read the document of a map.

    Raises:
        PlanError: It is the list of a service's maps: they are named.
        DataError: cause `error_page`: an exception, or another document; `corrupt`: no XML, or numbers that
            cannot be.
    """
    root = parse_xml(body)
    if root.tag in ("TileMapService", "Services"):
        raise PlanError(f"this is the list of a service, not a map: {_maps_listed(root)}")
    if root.tag != "TileMap":
        said = exception_said(body)
        what = f"the service says: {said}" if said else f"this is a {root.tag[:40]}, no TileMap"
        raise DataError(what, cause="error_page", head=body)
    form, origin, box = root.find("TileFormat"), root.find("Origin"), root.find("BoundingBox")
    if form is None or origin is None or box is None:
        raise DataError("the TileMap lacks TileFormat, Origin or BoundingBox", cause="corrupt", head=body)
    width, height = (_number(form, name) for name in ("width", "height"))
    sets = tuple(
        TileSet(one.get("href", "").strip(), _number(one, "units-per-pixel"))
        for one in root.findall("TileSets/TileSet")[:SETS_MAX]
    )
    if not (1 <= width <= 4096 and 1 <= height <= 4096) or any(one.units_per_pixel <= 0 for one in sets):
        raise DataError("the TileMap's sizes are not above 0", cause="corrupt", head=body)
    return TileMap(
        title=text_of(root, "Title"),
        srs=text_of(root, "SRS").upper(),
        origin=(_number(origin, "x"), _number(origin, "y")),
        box=(_number(box, "minx"), _number(box, "miny"), _number(box, "maxx"), _number(box, "maxy")),
        tile_px=(int(width), int(height)),
        media_type=form.get("mime-type", ""),
        extension=form.get("extension", "").removeprefix("."),
        sets=sets,
    )


def _maps_listed(root: Element) -> str:
    links = [one.get("href", "") for one in (*root.iter("TileMap"), *root.iter("TileMapService"))]
    named = [link for link in links if link]
    if not named:
        return "it lists none"
    more = f" and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
    return f"name one of {', '.join(named[:NAMED_MAX])}{more}"


def _number(element: Element, name: str) -> float:
    try:
        value = float(element.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"the TileMap's {element.tag} has no number {name}", cause="corrupt")
    return value
