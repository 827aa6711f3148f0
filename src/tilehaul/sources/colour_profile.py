"""A picture's own colours as sRGB, which is what every viewer takes a tile's for."""

from collections.abc import Callable
from io import BytesIO

from tilehaul.errors import ConfigError

try:
    from PIL import Image, ImageCms
except ImportError as error:
    raise ConfigError("this needs Pillow: pip install 'tilehaul[pixels]'") from error

Turned = Callable[["Image.Image"], "Image.Image"]


def to_srgb(profile: bytes, mode: str) -> Turned | None:
    """What turns pictures of the mode `RGB` or `RGBA` with this ICC profile into sRGB, in place.

    None where nothing is to be done: no profile, sRGB's own, one of other than three colours, a damaged one.
    """
    if not profile or mode not in {"RGB", "RGBA"}:
        return None
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        if own.profile.xcolor_space.strip() != "RGB" or "sRGB" in ImageCms.getProfileDescription(own):
            return None
        transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

    def turned(picture: "Image.Image") -> "Image.Image":
        ImageCms.applyTransform(picture, transform, inPlace=True)
        return picture

    return turned
