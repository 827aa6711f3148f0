"""Tiles with their address drawn on them, the same bytes for the same address."""

import colorsys
import hashlib
from typing import Any, Final

from tilehaul.errors import ConfigError

try:
    from PIL import Image, ImageDraw, ImageFont
except ImportError as error:
    raise ConfigError("this needs Pillow: pip install 'tilehaul[demo]'") from error

SIDE_PX: Final = 256
MARGIN_PX: Final = 12
TEXT_PX_MAX: Final = 40


class Painter:
    """Paints tiles. Keeps its fonts, because loading one takes longer than painting a tile."""

    def __init__(self) -> None:
        self._fonts: dict[int, Any] = {}

    def _font(self, size_px: int) -> Any:
        # At most TEXT_PX_MAX sizes.
        if size_px not in self._fonts:
            self._fonts[size_px] = ImageFont.load_default(size_px)
        return self._fonts[size_px]

    def paint(self, z: int, x: int, y: int) -> "Image.Image":
        """An RGB image of SIDE_PX squared: a colour of its own, a frame, and "z/x/y" in the middle."""
        address = f"{z}/{x}/{y}"
        hue = hashlib.sha256(address.encode()).digest()[0] / 256.0
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.35, 0.95))
        picture = Image.new("RGB", (SIDE_PX, SIDE_PX), (red, green, blue))
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, SIDE_PX - 1, SIDE_PX - 1), outline=(90, 90, 90))
        font = self._font(TEXT_PX_MAX)
        length_px = draw.textlength(address, font=font)
        if length_px > SIDE_PX - 2 * MARGIN_PX:
            # Long addresses of deep zooms must fit too; the length goes with the size.
            font = self._font(int(TEXT_PX_MAX * (SIDE_PX - 2 * MARGIN_PX) / length_px))
        draw.text((SIDE_PX / 2, SIDE_PX / 2), address, fill=(20, 20, 20), font=font, anchor="mm")
        return picture
