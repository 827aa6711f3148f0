"""TileJSON 3.0.0 (github.com/mapbox/tilejson-spec, 3.0.0): what a tile layer says of itself."""

from collections.abc import Sequence
from typing import Any

from tilehaul.errors import PlanError

VERSION = "3.0.0"
# The specification allows zooms 0 to 30.
ZOOM_MAX = 30


def tilejson(
    *,
    tiles: Sequence[str],
    name: str = "",
    description: str = "",
    attribution: str = "",
    bounds: tuple[float, float, float, float] | None = None,
    center: tuple[float, float, int] | None = None,
    minzoom: int = 0,
    maxzoom: int = ZOOM_MAX,
    format: str = "",  # noqa: A002 - the member's name
    tile_size: int | None = None,
    scheme: str = "xyz",
    vector_layers: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """One layer as a JSON object; what is empty or None is left out.

    Args:
        tiles: Absolute addresses with {z}, {x}, {y}; one at least.
        bounds: (west, south, east, north) in degrees. Left out across the antimeridian (west > east):
            the specification has no way to say it, and readers take its default, the world.
        center: (longitude, latitude, zoom).
        minzoom, maxzoom: 0..30, inclusive.
        format: `png`, `jpg`, `webp`, `pbf`, ...: not in the specification, but read by many.
        tile_size: Pixels a side, written as `tileSize`: likewise.
        scheme: `xyz` or `tms`.
        vector_layers: Required for `pbf` tiles: without any, an empty list is written.

    Raises:
        PlanError: No address, one that is not absolute, or zooms that are none.
    """
    for address in tiles:
        if "://" not in address:
            raise PlanError(f"TileJSON needs absolute addresses, {address!r} is none")
    if not tiles:
        raise PlanError("TileJSON needs the address of its tiles")
    if not 0 <= minzoom <= maxzoom <= ZOOM_MAX:
        raise PlanError(f"TileJSON zooms {minzoom}..{maxzoom} are not within 0..{ZOOM_MAX}")
    if scheme not in ("xyz", "tms"):
        raise PlanError(f"TileJSON knows the schemes xyz and tms, not {scheme!r}")
    if vector_layers is None and format == "pbf":
        vector_layers = ()
    document: dict[str, Any] = {"tilejson": VERSION, "tiles": list(tiles)}
    if bounds is not None and bounds[0] <= bounds[2]:
        document["bounds"] = list(bounds)
    if center is not None:
        document["center"] = list(center)
    document |= {"minzoom": minzoom, "maxzoom": maxzoom, "scheme": scheme}
    texts = {"name": name, "description": description, "attribution": attribution, "format": format}
    document |= {member: text for member, text in texts.items() if text}
    if tile_size is not None:
        document["tileSize"] = tile_size
    if vector_layers is not None:
        document["vector_layers"] = list(vector_layers)
    return document
