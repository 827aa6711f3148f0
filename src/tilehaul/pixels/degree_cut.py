"""Web Mercator tiles out of one picture whose rows are degrees.

A WMS in EPSG:4326 answers such pictures. Columns are linear in both projections, and are not touched; rows
are resampled in bands (`mercator_cut`).
"""

from collections.abc import Callable
from typing import Final

from tilehaul.errors import ConfigError, DataError

try:
    from PIL import Image
except ImportError as error:
    raise ConfigError(
        "resampling pictures in degrees to Web Mercator needs Pillow: pip install 'tilehaul[wms]'"
    ) from error

from tilehaul.pixels.mercator_cut import EDGE_PX_MIN, straight_bands
from tilehaul.pixels.meta_cut import decoded, encoded_tiles

# Of more bits a channel: no tile has them, and values between two are none of the server's.
_WIDE: Final = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}


def cut_degrees(
    body: bytes,
    *,
    side: int,
    tile_px: int,
    left_px: int,
    edge: Callable[[int], float],
    size_px: tuple[int, int],
) -> tuple[bytes, ...]:
    """`side` x `side` tiles by rows from the north-west, in the picture's own format.

    `edge` says where in the picture, in rows from its north edge, a row of the tiles begins: 0 is the first
    tile's first, `side * tile_px` the end of the last. `left_px` lie before the first column, `size_px` is
    what was asked for. Transparency is kept; a palette becomes colours.

    Raises DataError: another size, a format that cannot be cut or resampled (cause `mistyped`), or it does
    not decode.
    """
    picture, form = decoded(body, size_px)
    if picture.mode in _WIDE:
        raise DataError(
            f"a picture of {picture.mode} pixels cannot be resampled", cause="mistyped", head=body
        )
    side_px = side * tile_px
    plain = _resamplable(picture.crop((left_px, 0, left_px + side_px, picture.height)), picture)
    # Colours of transparent pixels are anything: they must not bleed into their neighbours'.
    work = plain.convert("RGBa") if plain.mode == "RGBA" else plain
    out = Image.new(work.mode, (side_px, side_px))
    for start, stop, north, south in straight_bands(side_px, edge):
        box = (0.0, north, float(side_px), max(south, north + EDGE_PX_MIN))
        out.paste(work.resize((side_px, stop - start), Image.Resampling.BICUBIC, box=box), (0, start))
    return encoded_tiles(out.convert(plain.mode), form, side=side, tile_px=tile_px, left_px=0, top_px=0)


def _resamplable(cropped: "Image.Image", whole: "Image.Image") -> "Image.Image":
    """In a mode whose values may be averaged."""
    if cropped.mode in ("LA", "PA", "RGBA") or "transparency" in whole.info:
        return cropped.convert("RGBA")
    if cropped.mode in ("1", "L"):
        return cropped.convert("L")
    return cropped.convert("RGB")
