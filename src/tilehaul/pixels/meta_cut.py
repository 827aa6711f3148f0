"""Many tiles out of one picture."""

import io
from typing import Final

from tilehaul.errors import ConfigError, DataError

try:
    from PIL import Image
except ImportError as error:
    raise ConfigError(
        "cutting a WMS's pictures into tiles needs Pillow: pip install 'tilehaul[wms]',"
        " or ask tile by tile with tilehaul.meta=1&tilehaul.buffer=0"
    ) from error

# Cut tiles of a JPEG are encoded a second time: above the usual 85, so that little more is lost.
JPEG_QUALITY: Final = 90
_FORMATS: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}


def cut_picture(
    body: bytes, *, side: int, tile_px: int, left_px: int, top_px: int, size_px: tuple[int, int]
) -> tuple[bytes, ...]:
    """`side` x `side` tiles by rows from the north-west, in the picture's own format.

    `left_px`, `top_px` lie before the first; `size_px` is what was asked for. PNG's pixels stay exact.

    Raises DataError: another size or a format that cannot be cut (cause `mistyped`), or it does not decode.
    """
    picture, form = decoded(body, size_px)
    return encoded_tiles(picture, form, side=side, tile_px=tile_px, left_px=left_px, top_px=top_px)


def decoded(body: bytes, size_px: tuple[int, int]) -> "tuple[Image.Image, str]":
    """The picture and the name of its format, one that tiles can have. Raises as `cut_picture`."""
    try:
        with Image.open(io.BytesIO(body)) as opened:
            form = opened.format or ""
            if form not in _FORMATS.values():
                raise DataError(f"a {form} picture cannot be cut into tiles", cause="mistyped", head=body)
            if opened.size != size_px:
                raise DataError(
                    f"the picture is {opened.width}x{opened.height} pixels,"
                    f" {size_px[0]}x{size_px[1]} were asked for",
                    cause="mistyped",
                    head=body,
                )
            opened.load()
            picture = opened.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the picture does not decode: {error}", cause="corrupt", head=body) from error
    return picture, form


def encoded_tiles(
    picture: "Image.Image", form: str, *, side: int, tile_px: int, left_px: int, top_px: int
) -> tuple[bytes, ...]:
    """See `cut_picture`."""
    tiles = []
    for row in range(side):
        for column in range(side):
            left, top = left_px + column * tile_px, top_px + row * tile_px
            out = io.BytesIO()
            tile = picture.crop((left, top, left + tile_px, top + tile_px))
            if form == "JPEG":
                tile.save(out, form, quality=JPEG_QUALITY)
            elif form == "WEBP":
                tile.save(out, form, quality=JPEG_QUALITY, method=2)
            else:
                tile.save(out, form)
            tiles.append(out.getvalue())
    return tuple(tiles)
