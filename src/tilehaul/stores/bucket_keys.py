"""Names of the objects below a bucket's prefix: one for each tile, one for what the bucket says of itself."""

import json

from tilehaul.codec.sniff import media_type_of
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.tile import Tile
from tilehaul.stores.directory_files import EXTENSIONS, plain_number

# The name and shape that mb-util uses.
METADATA_KEY = "metadata.json"


def key_of(tile_id: TileId, extension: str) -> str:
    return f"{tile_id.z:d}/{tile_id.x:d}/{tile_id.y:d}.{extension}"


def tile_of(key: str) -> tuple[TileId, str] | None:
    """The tile a key below the prefix names, and its extension; None for anything else."""
    parts = key.split("/")
    if len(parts) != 3:
        return None
    row, _, extension = parts[2].rpartition(".")
    if extension not in EXTENSIONS or not all(map(plain_number, (parts[0], parts[1], row))):
        return None
    z, x, y = int(parts[0]), int(parts[1]), int(row)
    if z > ZOOM_MAX or max(x, y) >= 1 << z:
        return None
    return TileId(z, x, y), extension


def headers_for(tile: Tile, cache_control: str) -> tuple[tuple[str, str], ...]:
    """What a tile is written with. `cache_control` empty: the bucket says nothing of lifetimes."""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", tile.media_type),)
    if tile.media_type == media_type_of("pbf") and tile.body[:2] == b"\x1f\x8b":
        # A viewer that is not told would be given zipped bytes.
        headers += (("Content-Encoding", "gzip"),)
    if cache_control:
        headers += (("Cache-Control", cache_control),)
    return headers


def metadata_of(body: bytes) -> dict[str, str]:
    """The text rows of somebody's `metadata.json`; nothing of one that is damaged."""
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(rows, dict):
        return {}
    return {name: str(value) for name, value in rows.items() if isinstance(value, str | int | float)}
