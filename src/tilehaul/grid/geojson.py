"""Polygons out of GeoJSON (RFC 7946), checked."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tilehaul.errors import PlanError
from tilehaul.grid.mercator import clamp_latitude_deg, lattice_x, lattice_y
from tilehaul.grid.shapes import Point, Polygons, polygon_edges

# RFC 7946, 3.1.6: a linear ring has at least four positions, the last equal to the first.
RING_POSITIONS_MIN = 4
# A geometry collection in a collection in a collection...: RFC 7946 advises against even one.
NESTING_MAX = 16
_FLOAT_MAX = sys.float_info.max
# A tuple: what stands under `type` may be a list, which no set can be asked for.
_NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


@dataclass(frozen=True, slots=True)
class Region:
    """The shape of a GeoJSON text and its bounds (west, south, east, north) in degrees, clamped."""

    shape: Polygons
    bounds_deg: tuple[float, float, float, float]


def parse_region(geojson: object) -> Region:
    """The union of all polygons in a GeoJSON object or text.

    Read are Polygon, MultiPolygon, Feature, FeatureCollection and GeometryCollection. Holes and
    crossing rings follow the even-odd rule within one polygon; polygons that overlap are joined.
    Edges are straight on the Mercator map. A ring that is not closed is closed. A region across the
    antimeridian is given as two polygons (RFC 7946, 3.1.9). Latitudes are clamped to the Mercator limit.

    Args:
        geojson: A mapping as `json.loads` gives it, or its text as str or bytes.

    Raises:
        PlanError: Not GeoJSON, no polygon in it, a ring too short, a position that is no pair of
            finite numbers or lies beyond longitude 180 or latitude 90, or no area.
    """
    if isinstance(geojson, str | bytes | bytearray):
        try:
            geojson = json.loads(geojson)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"the region is not JSON: {error}") from error
    west, south, east, north = 180.0, 90.0, -180.0, -90.0
    polygons = []
    for rings in _polygons(geojson, NESTING_MAX):
        lattice_rings: list[list[Point]] = []
        for ring in rings:
            west, east = min(west, min(ring)[0]), max(east, max(ring)[0])
            south, north = min(south, *(p[1] for p in ring)), max(north, *(p[1] for p in ring))
            lattice_rings.append(
                [(lattice_x(longitude), lattice_y(latitude)) for longitude, latitude in ring]
            )
        polygons.append(polygon_edges(lattice_rings))
    if not polygons:
        raise PlanError(
            "the region has no polygon: Polygon and MultiPolygon geometries are used, others are not"
        )
    return Region(
        Polygons(tuple(polygons)), (west, clamp_latitude_deg(south), east, clamp_latitude_deg(north))
    )


def _polygons(node: object, depth: int) -> Iterator[list[list[tuple[float, float]]]]:
    """The rings of every polygon below one GeoJSON object."""
    if not isinstance(node, Mapping):
        raise PlanError(f"the region is not GeoJSON: an object was expected, not {_shown(node)}")
    if depth == 0:
        raise PlanError(f"the region nests more than {NESTING_MAX} collections")
    kind = node.get("type")
    if kind == "FeatureCollection":
        for feature in _members(node, "features"):
            yield from _polygons(feature, depth - 1)
    elif kind == "Feature":
        if node.get("geometry") is not None:  # a feature without a place is allowed (RFC 7946, 3.2)
            yield from _polygons(node["geometry"], depth - 1)
    elif kind == "GeometryCollection":
        for geometry in _members(node, "geometries"):
            yield from _polygons(geometry, depth - 1)
    elif kind == "Polygon":
        yield _rings(_members(node, "coordinates"))
    elif kind == "MultiPolygon":
        for polygon in _members(node, "coordinates"):
            yield _rings(polygon)
    elif kind not in _NO_AREA:
        raise PlanError(f"the region is not GeoJSON: its type is {_shown(kind)}")


def _members(node: Mapping[str, object], key: str) -> list[object]:
    members = node.get(key)
    if not isinstance(members, list | tuple):
        raise PlanError(f"the region is not GeoJSON: {node['type']} needs a list {key!r}")
    return list(members)


def _rings(polygon: object) -> list[list[tuple[float, float]]]:
    if not isinstance(polygon, list | tuple) or not polygon:
        raise PlanError(f"a polygon of the region is not a list of rings: {_shown(polygon)}")
    return [_ring(ring) for ring in polygon]


def _ring(ring: object) -> list[tuple[float, float]]:
    if not isinstance(ring, list | tuple):
        raise PlanError(f"a ring of the region is not a list of positions: {_shown(ring)}")
    positions = [_position(position) for position in ring]
    if positions and positions[0] != positions[-1]:
        positions.append(positions[0])
    if len(positions) < RING_POSITIONS_MIN:
        raise PlanError(
            f"a ring of the region has {len(positions)} positions, closed; {RING_POSITIONS_MIN} are the least"
        )
    return positions


def _position(position: object) -> tuple[float, float]:
    if not isinstance(position, list | tuple) or len(position) < 2:
        raise PlanError(f"a position of the region is not [longitude, latitude]: {_shown(position)}")
    longitude, latitude = position[0], position[1]
    for number in (longitude, latitude):
        # Not `isfinite`: JSON's whole numbers may be too large to be floats.
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= _FLOAT_MAX:
            raise PlanError(f"a position of the region is not two finite numbers: {_shown(position)}")
    check_position(float(longitude), float(latitude))
    return float(longitude), float(latitude)


def check_position(longitude: float, latitude: float) -> None:
    """Raise PlanError when a position is beyond longitude 180 or latitude 90; name the probable intent."""
    if abs(longitude) <= 180.0 and abs(latitude) <= 90.0:
        return
    if abs(longitude) > 180.0 and abs(longitude) <= 360.0 and abs(latitude) <= 90.0:
        turned = longitude - math.copysign(360.0, longitude)
        raise PlanError(f"longitude {longitude:g} is beyond 180: write {turned:g}")
    if abs(longitude) <= 90.0 and abs(latitude) <= 180.0:
        raise PlanError(
            f"latitude {latitude:g} is beyond 90: longitude and latitude seem to be exchanged,"
            f" write {latitude:g},{longitude:g}"
        )
    raise PlanError(
        f"{longitude:g},{latitude:g} is not a place in degrees:"
        " longitude is within 180, latitude within 90; metres (EPSG:3857) are not read"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
