"""Whether a picture decodes, down to its last pixel."""

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from typing import Final

from tilehaul.errors import ConfigError, DataError

try:
    import pyvips
    from PIL import Image
except (ImportError, OSError) as error:
    raise ConfigError(
        "decoding tiles needs Pillow and libvips: pip install 'tilehaul[pixels]', or leave out --decode"
    ) from error

# libvips keeps what it did last, in case it is asked again, with all that it decoded: 280 MB a large picture.
pyvips.cache_set_max(0)

# Of one picture, and of one frame of an animation: 4096 x 4096, the largest that verifies; 64 MiB decoded.
DECODE_PIXELS_MAX: Final = 16_777_216
# A larger one is decoded alone: decoders need up to 23 bytes a pixel while they work (measured, the largest:
# AVIF 370 MB, WebP 270 MB, progressive JPEG 110 MB).
SHARED_PIXELS_MAX: Final = 1_048_576
# Of all frames of an animation, one after another: sixteen of the largest, or 4,096 of 256 x 256.
FRAMES_PIXELS_MAX: Final = 16 * DECODE_PIXELS_MAX

# Pillow fills up a JPEG that breaks off with grey, and says nothing of what its decoder warned of; libvips
# can be told to fail then. Of AVIF, Pillow passes wrong bytes that libvips does not; of GIF it passes fewer.
_BY_VIPS: Final = {"image/jpeg": "jpegload_buffer", "image/avif": "heifload_buffer"}
_BY_PILLOW: Final = {"image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}
# What damaged bytes may make Pillow raise.
_BROKEN: Final = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)


# Gives what is entered: `lambda: lock`.
Alone = Callable[[], AbstractContextManager[object]]


def check_decodes(body: bytes, media_type: str, alone: Alone = nullcontext) -> bool:
    """Decode a verified picture wholly, every frame of it; False for what is no picture. Blocking.

    `alone` is entered around the decoding of one of more than SHARED_PIXELS_MAX pixels: a lock that all share
    who decode at once.

    Raises:
        DataError: It does not decode (`corrupt`), or is larger than that (`too_many_pixels`).
        ConfigError: The libvips that is installed reads no such pictures.
    """
    if media_type in _BY_VIPS:
        _by_vips(body, _BY_VIPS[media_type], alone)
    elif media_type in _BY_PILLOW:
        _by_pillow(body, _BY_PILLOW[media_type], alone)
    else:
        return False
    return True


def _by_vips(body: bytes, loader: str, alone: Alone) -> None:
    if not pyvips.type_find("VipsForeignLoad", loader):
        raise ConfigError(
            f"this libvips has no {loader}: pip install 'tilehaul[pixels]', or leave out --decode"
        )
    try:
        picture = getattr(pyvips.Image, loader)(body, access="sequential", fail_on="warning")
        with _room(picture.width, picture.height, alone):
            # Each pixel is looked at, none is kept.
            picture.avg()
    except pyvips.Error as error:
        raise _corrupt(error) from error


def _by_pillow(body: bytes, form: str, alone: Alone) -> None:
    spent = 0
    try:
        with Image.open(BytesIO(body), formats=[form]) as picture, _room(*picture.size, alone):
            for frame in range(getattr(picture, "n_frames", 1)):
                spent += picture.width * picture.height
                if spent > FRAMES_PIXELS_MAX:
                    raise DataError(
                        f"its frames have more than the {FRAMES_PIXELS_MAX:,} pixels that are decoded",
                        cause="too_many_pixels",
                    )
                picture.seek(frame)
                picture.load()
    except _BROKEN as error:
        raise _corrupt(error) from error


def _room(width: int, height: int, alone: Alone) -> AbstractContextManager[object]:
    """To be entered around the decoding. DataError for a picture that is too large for any."""
    if width * height > DECODE_PIXELS_MAX:
        raise DataError(
            f"the picture is {width}x{height} pixels, at most {DECODE_PIXELS_MAX:,} in all are decoded",
            cause="too_many_pixels",
        )
    return alone() if width * height > SHARED_PIXELS_MAX else nullcontext()


def _corrupt(error: Exception) -> DataError:
    said = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"the picture does not decode: {said[:200]}", cause="corrupt")
