"""Cut Web Mercator tiles from one equirectangular picture of the whole world.

Longitude is linear in both projections, so only rows need remapping. A tile is cut into bands
thin enough that the curve of the latitude is straight inside a band to BAND_ERROR_PX source
pixels; each is a smooth resize with fractional edges, which reads neighbouring pixels across
the tile's border, so that adjacent tiles fit.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tilehaul.errors import ConfigError, DataError

try:
    from PIL import Image
except ImportError as error:
    raise ConfigError("this needs Pillow: pip install 'tilehaul[demo]'") from error

TILE_PX: Final = 256
# How far a row may lie from its true latitude, in pixels of the picture level used.
BAND_ERROR_PX: Final = 1 / 16
# A level has at least this many columns for each of the tile's, because rows near the poles are
# stretched by up to 11 and would look blurred if taken from the level that fits the columns.
DETAIL: Final = 4
# Columns repeated at both ends, so that resampling wraps around the antimeridian: the reach of a
# bicubic filter (2 px) at the strongest reduction a level allows (below 2 * DETAIL), and rounding.
WRAP_PX: Final = 4 * DETAIL + 2
# Pillow keeps the edges of a resize in 32 bits: nothing thinner is asked for. Reached only where one
# pixel of the picture already fills many tiles.
EDGE_PX_MIN: Final = 1 / 1024
JPEG_QUALITY: Final = 85
# Decoded pixels a picture may have: 10,800 x 5,400, twice NASA's Blue Marble in each direction.
PICTURE_PIXELS_MAX: Final = 10_800 * 5_400


def row_latitude_deg(z: int, row_px: float) -> float:
    """Latitude in degrees of a row of the Web Mercator world.

    Args:
        z: Zoom, the world is TILE_PX * 2**z rows high.
        row_px: Rows from the north edge, 0 is 85.0511 N.

    Source:
        EPSG Guidance Note 7-2, method 1024 (Popular Visualisation Pseudo Mercator), inverse.
    """
    northing = math.pi * (1.0 - 2.0 * row_px / (TILE_PX << z))
    return math.degrees(math.atan(math.sinh(northing)))


@dataclass(frozen=True, slots=True)
class WorldPicture:
    """An equirectangular picture at halving sizes, the largest first.

    Each level is RGB, spans -180..180 and 90..-90 degrees, and has WRAP_PX columns of its other
    end at both ends. `widths_px` are the widths without them.
    """

    levels: tuple["Image.Image", ...]
    widths_px: tuple[int, ...]


def _wrapped(picture: "Image.Image") -> "Image.Image":
    width, height = picture.size
    wide = Image.new("RGB", (width + 2 * WRAP_PX, height))
    wide.paste(picture, (WRAP_PX, 0))
    wide.paste(picture.crop((width - WRAP_PX, 0, width, height)), (0, 0))
    wide.paste(picture.crop((0, 0, WRAP_PX, height)), (width + WRAP_PX, 0))
    return wide


def load_world(encoded: bytes) -> WorldPicture:
    """Decode an equirectangular picture, twice as wide as high.

    Raises:
        DataError: Not a picture, not twice as wide as high, or above PICTURE_PIXELS_MAX.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            width, height = opened.size
            if width != 2 * height or width < 2 * WRAP_PX or width * height > PICTURE_PIXELS_MAX:
                raise DataError(f"a world picture is twice as wide as high, this is {width} x {height} px")
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"the world picture does not decode: {error}", cause="mistyped") from error
    levels, widths = [_wrapped(picture)], [picture.width]
    while picture.width // 2 >= DETAIL * TILE_PX:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
        levels.append(_wrapped(picture))
        widths.append(picture.width)
    return WorldPicture(tuple(levels), tuple(widths))


def _level(world: WorldPicture, z: int) -> int:
    """The smallest level with DETAIL columns for every one of the zoom, or the largest."""
    wanted = DETAIL * TILE_PX << z
    fitting = [index for index, width in enumerate(world.widths_px) if width >= wanted]
    return fitting[-1] if fitting else 0


def _bands(z: int, y: int, px_per_deg: float) -> list[tuple[int, int, float, float]]:
    """(first row, row after the last, picture row of the first, of the one after the last)."""

    def edge(row: int) -> float:
        return (90.0 - row_latitude_deg(z, y * TILE_PX + row)) * px_per_deg

    return straight_bands(TILE_PX, edge)


def straight_bands(rows: int, edge: Callable[[int], float]) -> list[tuple[int, int, float, float]]:
    """Cut `rows` rows, which begin at `edge(row)` in the picture, where the curve bends: see `_bands`."""
    bands, waiting = [], [(0, rows)]
    while waiting:
        start, stop = waiting.pop()
        middle, north = (start + stop) // 2, edge(start)
        slope = (edge(stop) - north) / (stop - start)
        # The quarter too: a band that straddles the equator is straight in its middle and bent beside it.
        probes = ((3 * start + stop) // 4, middle)
        if any(abs(north + slope * (row - start) - edge(row)) > BAND_ERROR_PX for row in probes):
            waiting += [(middle, stop), (start, middle)]
        else:
            bands.append((start, stop, north, edge(stop)))
    return bands


def cut_tile(world: WorldPicture, z: int, x: int, y: int) -> "Image.Image":
    """The tile z/x/y (XYZ rows) as an RGB image of TILE_PX squared."""
    index = _level(world, z)
    picture, width = world.levels[index], world.widths_px[index]
    span = width / (1 << z)
    left = WRAP_PX + x * span
    # All edges are made relative to a crop near the tile, which keeps 32 bits exact enough.
    crop_left = max(math.floor(left) - WRAP_PX, 0)
    bands = _bands(z, y, picture.height / 180.0)
    crop_top = max(math.floor(bands[0][2]) - WRAP_PX, 0)
    crop_right = min(math.ceil(left + span) + WRAP_PX, picture.width)
    crop_bottom = min(math.ceil(bands[-1][3]) + WRAP_PX, picture.height)
    near = picture.crop((crop_left, crop_top, crop_right, crop_bottom))
    tile = Image.new("RGB", (TILE_PX, TILE_PX))
    left -= crop_left
    right = left + max(span, EDGE_PX_MIN)
    # Columns first, once for all rows: the bands then only shrink what is narrow already.
    smooth = Image.Resampling.BICUBIC
    narrow = near.resize((TILE_PX, near.height), smooth, box=(left, 0.0, right, near.height))
    for start, stop, north, south in bands:
        top = north - crop_top
        box = (0.0, top, float(TILE_PX), max(south - crop_top, top + EDGE_PX_MIN))
        tile.paste(narrow.resize((TILE_PX, stop - start), smooth, box=box), (0, start))
    return tile


def encode_tile(picture: "Image.Image", extension: str) -> bytes:
    """The picture as `png`, `jpg`, `jpeg` or `webp` bytes, the same for the same picture.

    Raises:
        ConfigError: Another extension.
    """
    out = io.BytesIO()
    if extension == "png":
        picture.save(out, "PNG", compress_level=6)
    elif extension in ("jpg", "jpeg"):
        picture.save(out, "JPEG", quality=JPEG_QUALITY)
    elif extension == "webp":
        picture.save(out, "WEBP", quality=JPEG_QUALITY, method=2)
    else:
        raise ConfigError(f"format: png, jpg or webp, not {extension!r}")
    return out.getvalue()
