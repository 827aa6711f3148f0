"""Pictures in degrees, and what their tiles in Web Mercator must be: computed, not resampled.

Red is a wave along the rows of the Mercator world, green one along its columns: where a pixel lies can be
read from its colours to a fraction of a pixel.
"""

import math

from PIL import Image

# Rows or columns of a zoom in which the wave goes from 0 to 255 and back.
PERIOD_PX = 64
# What one pixel beside the right one changes.
LEVELS_PER_PX = 255 / (PERIOD_PX / 2)


def wave(position_px: float) -> int:
    """A triangle: straight but at its ends."""
    phase = position_px / PERIOD_PX % 1.0
    return round(255 * (2 * phase if phase < 0.5 else 2 - 2 * phase))


def mercator_row(z: int, latitude_deg: float) -> float:
    """EPSG Guidance Note 7-2, method 1024, forward: rows of 256 px tiles from the north."""
    northing = math.asinh(math.tan(math.radians(latitude_deg))) / math.pi
    return (1.0 - northing) / 2.0 * (256 << z)


def drawn_in_degrees(
    z: int, box: tuple[float, float, float, float], width: int, height: int
) -> "Image.Image":
    """`box` is (west, south, east, north)."""
    west, south, east, north = box
    rows = bytes(wave(mercator_row(z, north - (at + 0.5) * (north - south) / height)) for at in range(height))
    columns = bytes(
        wave((west + (at + 0.5) * (east - west) / width + 180.0) / 360.0 * (256 << z)) for at in range(width)
    )
    red = Image.frombytes("L", (1, height), rows).resize((width, height), Image.Resampling.NEAREST)
    green = Image.frombytes("L", (width, 1), columns).resize((width, height), Image.Resampling.NEAREST)
    return Image.merge("RGB", (red, green, Image.new("L", (width, height), 77)))


def true_tile(x: int, y: int) -> "Image.Image":
    """The tile of any zoom: the wave's period divides 256."""
    rows = bytes(wave(y * 256 + at + 0.5) for at in range(256))
    columns = bytes(wave(x * 256 + at + 0.5) for at in range(256))
    red = Image.frombytes("L", (1, 256), rows).resize((256, 256), Image.Resampling.NEAREST)
    green = Image.frombytes("L", (256, 1), columns).resize((256, 256), Image.Resampling.NEAREST)
    return Image.merge("RGB", (red, green, Image.new("L", (256, 256), 77)))
