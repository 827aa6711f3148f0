"""What a PMTiles archive says of itself, as the metadata rows that every store of ours uses, and back."""

import json
from collections.abc import Mapping
from typing import Any

from tilehaul.codec.pmtiles import PmtilesHeader
from tilehaul.codec.sniff import VECTOR_TILE
from tilehaul.ports.source import WORLD_DEG
from tilehaul.stores.archive_metadata import Bounds, bounds_text, format_of, parse_bounds, parse_zoom

# In the header, to a ten-millionth of a degree, and nowhere else.
_HEADER_ROWS = ("bounds", "center")


def rows_of(header: PmtilesHeader, document: Mapping[str, Any]) -> dict[str, str]:
    """Texts stay; members that are no text go into the `json` row, as MBTiles 1.3 has them.

    Zooms, bounds, center and format come from the header where the document does not say them.
    """
    rows = {"minzoom": str(header.zoom_min), "maxzoom": str(header.zoom_max)}
    if any(header.bounds_deg):
        rows["bounds"] = bounds_text(header.bounds_deg)
    longitude, latitude, zoom = header.center
    if any(header.center):
        rows["center"] = f"{longitude:.10g},{latitude:.10g},{zoom}"
    if format_of(header.media_type):
        rows["format"] = format_of(header.media_type)
    members = {}
    for name, value in document.items():
        if isinstance(value, str):
            rows[name] = value
        else:
            members[name] = value
    if members and "json" not in rows:
        rows["json"] = json.dumps(members, ensure_ascii=False)
    return rows


def document_of(rows: Mapping[str, str]) -> dict[str, Any]:
    """The JSON document of these rows: what `rows_of` reads again."""
    document: dict[str, Any] = {name: text for name, text in rows.items() if name not in _HEADER_ROWS}
    try:
        members = json.loads(document.get("json", ""))
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        del document["json"]
        document = {**members, **document}
    if rows.get("format") == format_of(VECTOR_TILE):
        # The specification demands the member for vector tiles.
        document.setdefault("vector_layers", [])
    return document


def bounds_in(rows: Mapping[str, str]) -> Bounds:
    """The box for the header: the whole width where it crosses the antimeridian or nobody knows."""
    west, south, east, north = parse_bounds(rows.get("bounds", "")) or WORLD_DEG
    return (west, south, east, north) if west <= east else (WORLD_DEG[0], south, WORLD_DEG[2], north)


def center_in(rows: Mapping[str, str], zooms: tuple[int, int]) -> tuple[float, float, int]:
    """Longitude, latitude and zoom for the header, within bounds and zooms."""
    west, south, east, north = bounds_in(rows)
    try:
        longitude, latitude, zoom = (float(part) for part in rows.get("center", "").split(","))
    except ValueError:
        longitude, latitude, zoom = (west + east) / 2, (south + north) / 2, float(zooms[0])
    if not (west <= longitude <= east and south <= latitude <= north):
        longitude, latitude = (west + east) / 2, (south + north) / 2
    chosen = parse_zoom(str(zoom))
    return longitude, latitude, min(max(zooms[0] if chosen is None else chosen, zooms[0]), zooms[1])
