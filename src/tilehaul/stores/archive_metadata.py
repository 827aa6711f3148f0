"""What an archive says of itself: names of formats, and how bounds and zooms widen."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

from tilehaul.codec.sniff import AVIF, GIF, JPEG, PNG, VECTOR_TILE, WEBP, plain_media_type
from tilehaul.grid.pyramid import larger_rows, pyramid_of
from tilehaul.grid.tile_id import ZOOM_MAX
from tilehaul.ports.source import WORLD_DEG, SourceInfo, SourceVersion
from tilehaul.ports.store import JobCounts, JobKey
from tilehaul.stores.vector_layers import merged_json_row, vector_layers_of

Bounds = tuple[float, float, float, float]

# The kinds of tile that verify (codec/verify.py), and no other: an archive's word for its format may
# reach an HTTP header. MBTiles 1.3, "Metadata": four short names, a media type for any other format.
_FORMATS = {PNG: "png", JPEG: "jpg", WEBP: "webp", VECTOR_TILE: "pbf", GIF: GIF, AVIF: AVIF}
_MEDIA_TYPES = {
    "png": PNG,
    "jpg": JPEG,
    "jpeg": JPEG,
    "webp": WEBP,
    "gif": GIF,
    "avif": AVIF,
    "pbf": VECTOR_TILE,
    "mvt": VECTOR_TILE,
}
# A name is a line on a terminal and in a list; an archive of others may hold anything there.
NAME_CHARS_MAX = 200


def identity_of(kind: str, path: Path) -> str:
    """Two locations are the same source when they are the same place on this disk."""
    return hashlib.sha256(os.fsencode(f"{kind}:{path.absolute()}")).hexdigest()[:32]


def format_of(media_type: str) -> str:
    """The MBTiles name of a format; empty for what is no tile."""
    return _FORMATS.get(plain_media_type(media_type), "")


def media_type_of_format(name: str) -> str:
    """The media type an archive's `format` row means, one of the six that verify; else empty."""
    lowered = name.strip().lower()
    plain = plain_media_type(lowered)
    return _MEDIA_TYPES.get(lowered, plain if plain in _FORMATS else "")


def parse_bounds(text: str) -> Bounds | None:
    """`west,south,east,north` in degrees, cut to the Mercator world; None when it is no such thing.

    None also when nothing of the box is within the world.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        return None
    if not all(math.isfinite(side) for side in (west, south, east, north)) or south > north:
        return None
    cut = (
        min(max(west, WORLD_DEG[0]), WORLD_DEG[2]),
        min(max(south, WORLD_DEG[1]), WORLD_DEG[3]),
        min(max(east, WORLD_DEG[0]), WORLD_DEG[2]),
        min(max(north, WORLD_DEG[1]), WORLD_DEG[3]),
    )
    lost = (cut[0] == cut[2] and west != east) or (cut[1] == cut[3] and south != north)
    return None if lost else cut


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
    return zoom if zoom is not None and 0 <= zoom <= ZOOM_MAX else None


def source_info_of(
    metadata: Mapping[str, str],
    *,
    name: str,
    identity: str,
    zooms: tuple[int, int] | None,
    bounds: Bounds | None,
    media_type: str,
    version: SourceVersion | None = None,
) -> SourceInfo:
    """What an archive is as a source: its metadata as far as they make sense, else what its tiles say.

    Args:
        metadata: The archive's own.
        name: Used when the metadata have none.
        identity: As in `SourceInfo`.
        zooms: Least and greatest zoom kept, inclusive; None without a tile. They count where the
            metadata say nothing, or a least zoom above the greatest.
        bounds: Of the tiles; used when the metadata have none.
        media_type: Of a tile; used when the metadata name no format we know.
        version: As in `SourceInfo`.
    """
    lowest, highest = zooms or (0, ZOOM_MAX)
    first, last = parse_zoom(metadata.get("minzoom")), parse_zoom(metadata.get("maxzoom"))
    zoom_min = lowest if first is None else first
    zoom_max = highest if last is None else last
    if zoom_min > zoom_max:
        zoom_min, zoom_max = lowest, highest
    kind = media_type_of_format(metadata.get("format", "")) or media_type
    return SourceInfo(
        name=_one_line(metadata.get("name", "")) or name,
        identity=identity,
        media_type=kind if kind in _FORMATS else "",
        zoom_min=zoom_min,
        zoom_max=zoom_max,
        bounds_deg=parse_bounds(metadata.get("bounds", "")) or bounds or WORLD_DEG,
        attribution=metadata.get("attribution", ""),
        description=metadata.get("description", ""),
        vector_layers=vector_layers_of(metadata.get("json", "")) if kind == VECTOR_TILE else "",
        rows=_carried(metadata),
        pyramid=pyramid_of(metadata),
        version=version,
    )


def _carried(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What is neither about the tiles nor about the file, as far as it makes sense."""
    center, kind = metadata.get("center", ""), metadata.get("type", "")
    told = {
        "type": kind if kind in ("overlay", "baselayer") else "",
        "version": _one_line(metadata.get("version", "")),
        "center": center if _is_center(center) else "",
    }
    return tuple((name, text) for name, text in told.items() if text)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:NAME_CHARS_MAX]).strip()


# What says where an archive's tiles are.
_PLACE = frozenset({"bounds", "minzoom", "maxzoom"})


def merged(old: Mapping[str, str], new: Mapping[str, str], *, mirrors: bool = False) -> dict[str, str]:
    """The metadata of an archive once a job has added to it.

    Bounds and zooms widen, a second attribution is put beside the first, vector layers are joined,
    `center` follows bounds that changed; a format that we do not know is forgotten (the first tile
    names it); a pyramid is as large as its deepest zoom; of anything else what was there first stays. See
    `JobKey.mirrors`.
    """
    if mirrors:
        old = {name: text for name, text in old.items() if not (name in _PLACE and new.get(name))}
    result = {**new, **old}
    named = format_of(media_type_of_format(result.pop("format", "")))
    if named:
        result["format"] = named
    for name, pick in (("minzoom", min), ("maxzoom", max)):
        zooms = [zoom for zoom in (parse_zoom(old.get(name)), parse_zoom(new.get(name))) if zoom is not None]
        if zooms:
            result[name] = str(pick(zooms))
    before, added = parse_bounds(old.get("bounds", "")), parse_bounds(new.get("bounds", ""))
    if before is not None and added is not None:
        result["bounds"] = bounds_text(widened(before, added))
    elif added is not None:
        result["bounds"] = bounds_text(added)
    if "bounds" in result and result["bounds"] != old.get("bounds"):
        result.pop("center", None)
        if "center" in new and added is not None and result["bounds"] == bounds_text(added):
            result["center"] = new["center"]
    credit = _joined_credits(old.get("attribution", ""), new.get("attribution", ""))
    layers = merged_json_row(old.get("json", ""), new.get("json", ""))
    told = {"attribution": credit, "json": layers, **larger_rows(old, new)}
    return result | {name: text for name, text in told.items() if text}


def metadata_faults(metadata: Mapping[str, str]) -> list[str]:
    """Rows that say nothing: no bounds, zooms, center or format that a reader understands."""
    wrong = []
    said = metadata.get("bounds", "")
    if said and parse_bounds(said) is None:
        wrong.append(f"its bounds are {said}: four numbers of degrees, from west and south to east and north")
    wrong += [
        f"its {name} is {metadata[name]}: a whole number from 0 to {ZOOM_MAX}"
        for name in ("minzoom", "maxzoom")
        if metadata.get(name) and parse_zoom(metadata[name]) is None
    ]
    said = metadata.get("center", "")
    if said and not _is_center(said):
        wrong.append(f"its center is {said}: longitude, latitude, zoom")
    said = metadata.get("format", "")
    if said and not media_type_of_format(said):
        wrong.append(f"its format is {said}: png, jpg, webp, avif, gif, pbf or their media types")
    return wrong


def _is_center(text: str) -> bool:
    try:
        longitude, latitude, *zoom = (float(part) for part in text.split(","))
    except ValueError:
        return False
    return abs(longitude) <= 180 and abs(latitude) <= 90 and len(zoom) <= 1


def merged_with(old: Mapping[str, str], job: JobKey) -> dict[str, str]:
    """The metadata of an archive once `job` has added to it: see `merged`."""
    return merged(old, dict(job.metadata), mirrors=job.mirrors)


def is_format_due(
    metadata: Mapping[str, str], job: JobKey, *, complete: bool, counts: JobCounts | None
) -> bool:
    """Whether a job that has brought all it could is of another format than its archive says.

    Only the tiles know then which is that of most of them: the word for all.
    """
    old = media_type_of_format(metadata.get("format", ""))
    new = media_type_of_format(dict(job.metadata).get("format", ""))
    ended = complete or (counts is not None and counts.total == job.planned)
    return ended and bool(old and new) and old != new


def with_format_of(metadata: Mapping[str, str], kinds: Mapping[str, int]) -> dict[str, str]:
    """The metadata with the format of most tiles; `kinds` is how many there are of each media type."""
    known = {kind: count for kind, count in kinds.items() if format_of(kind)}
    if not known:
        return dict(metadata)
    # The same for the same archive, also where two are as many.
    return {**metadata, "format": format_of(max(sorted(known), key=known.__getitem__))}


def _joined_credits(old: str, new: str) -> str:
    """Both, separated by `; `, unless one stands whole in the other already."""
    if not new or f"; {new}; " in f"; {old}; ":
        return old
    # Nothing is taken apart: the separator may be part of a credit, as in `&copy; us`.
    return new if not old or f"; {old}; " in f"; {new}; " else f"{old}; {new}"


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
    if format_of(media_type):
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
