"""What an archive says of itself: names of formats, and how bounds and zooms widen."""

import math
from collections.abc import Mapping

from tilehaul.ports.source import WORLD_DEG

Bounds = tuple[float, float, float, float]

# MBTiles 1.3, "Metadata": `pbf`, `jpg`, `png`, `webp`, or a media type for any other format.
_FORMATS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "application/vnd.mapbox-vector-tile": "pbf",
    "application/x-protobuf": "pbf",
}
_MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "pbf": "application/vnd.mapbox-vector-tile",
    "mvt": "application/vnd.mapbox-vector-tile",
}


def format_of(media_type: str) -> str:
    """The MBTiles name of a format; a media type it has no name for stands for itself."""
    return _FORMATS.get(media_type, media_type)


def media_type_of_format(name: str) -> str:
    """The media type an archive's `format` row means; empty when it says nothing we know."""
    lowered = name.strip().lower()
    return _MEDIA_TYPES.get(lowered, lowered if "/" in lowered else "")


def parse_bounds(text: str) -> Bounds | None:
    """`west,south,east,north` in degrees; None when it is no such thing."""
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        return None
    if not all(math.isfinite(side) for side in (west, south, east, north)) or south > north:
        return None
    return (west, south, east, north)


def bounds_text(bounds: Bounds) -> str:
    """Seven digits are a centimetre; `-0.0` is written as `0`."""
    return ",".join(f"{round(side, 7) + 0.0:.10g}" for side in bounds)


def widened(old: Bounds, new: Bounds) -> Bounds:
    """The least box that holds both; the whole width as soon as one crosses the antimeridian."""
    south, north = min(old[1], new[1]), max(old[3], new[3])
    if old == new:
        return old
    if old[0] > old[2] or new[0] > new[2]:
        return (WORLD_DEG[0], south, WORLD_DEG[2], north)
    return (min(old[0], new[0]), south, max(old[2], new[2]), north)


def center_text(bounds: Bounds, zoom: int) -> str:
    """`longitude,latitude,zoom` of the middle (MBTiles 1.3, "center")."""
    west, south, east, north = bounds
    longitude = (west + east) / 2
    if west > east:
        longitude = longitude + 180 if longitude <= 0 else longitude - 180
    return f"{round(longitude, 7) + 0.0:.10g},{round((south + north) / 2, 7) + 0.0:.10g},{zoom}"


def bounds_of_columns(zoom: int, columns: tuple[int, int], rows: tuple[int, int]) -> Bounds:
    """The box of the XYZ tiles `columns[0]..columns[1]` x `rows[0]..rows[1]` (inclusive) of a zoom."""
    size = 1 << zoom
    return (
        columns[0] / size * 360 - 180,
        _latitude_deg(rows[1] + 1, size),
        (columns[1] + 1) / size * 360 - 180,
        _latitude_deg(rows[0], size),
    )


def _latitude_deg(row: int, size: int) -> float:
    """Latitude of the northern edge of a row: the inverse of spherical Mercator (EPSG:3857)."""
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / size))))


def parse_zoom(text: str | None) -> int | None:
    """A zoom of a metadata row, `0..30`, or None."""
    try:
        zoom = int(float(text)) if text else None
    except (ValueError, OverflowError):
        return None
    return zoom if zoom is not None and 0 <= zoom <= 30 else None


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The metadata of an archive once a job has added to it.

    Bounds and zooms widen, a second attribution is put beside the first, `center` follows bounds
    that changed; of anything else what was there first stays.
    """
    result = {**new, **old}
    if "format" in result:
        named = media_type_of_format(result["format"])
        result["format"] = format_of(named) if named else result["format"]
    for name, pick in (("minzoom", min), ("maxzoom", max)):
        zooms = [zoom for zoom in (parse_zoom(old.get(name)), parse_zoom(new.get(name))) if zoom is not None]
        if zooms:
            result[name] = str(pick(zooms))
    before, added = parse_bounds(old.get("bounds", "")), parse_bounds(new.get("bounds", ""))
    if before is not None and added is not None:
        result["bounds"] = bounds_text(widened(before, added))
    elif added is not None:
        result["bounds"] = bounds_text(added)
    if "bounds" in result and result["bounds"] != old.get("bounds") and "center" not in new:
        result.pop("center", None)
    credits_old, credits_new = old.get("attribution", ""), new.get("attribution", "")
    if credits_new and credits_new not in credits_old:
        result["attribution"] = f"{credits_old}; {credits_new}" if credits_old else credits_new
    return result


def completed_metadata(
    metadata: Mapping[str, str],
    *,
    name: str,
    zooms: tuple[int, int] | None,
    bounds: Bounds | None,
    media_type: str,
) -> dict[str, str]:
    """Fill in, from the tiles themselves, what nobody said. Zooms are inclusive; None: no tile."""
    result = dict(metadata)
    result.setdefault("name", name)
    result.setdefault("type", "baselayer")
    result.setdefault("version", "1")
    if media_type:
        result.setdefault("format", format_of(media_type))
    if zooms is not None:
        lowest, highest = parse_zoom(result.get("minzoom")), parse_zoom(result.get("maxzoom"))
        result["minzoom"] = str(zooms[0] if lowest is None else min(zooms[0], lowest))
        result["maxzoom"] = str(zooms[1] if highest is None else max(zooms[1], highest))
    if bounds is not None:
        result.setdefault("bounds", bounds_text(bounds))
    box = parse_bounds(result.get("bounds", ""))
    if box is not None:
        result.setdefault("center", center_text(box, parse_zoom(result.get("minzoom")) or 0))
    if result.get("format") == "pbf":
        # MBTiles 1.3 demands the row for vector tiles; we do not look inside them.
        result.setdefault("json", '{"vector_layers": []}')
    return result
