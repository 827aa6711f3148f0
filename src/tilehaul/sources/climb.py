"""Rows of a picture's tiles become those of every lower zoom, in one pass from the top."""

from collections.abc import Iterator
from typing import Final

from tilehaul.errors import ConfigError
from tilehaul.grid.pyramid import Pyramid

try:
    from PIL import Image
except ImportError as error:
    raise ConfigError("this needs Pillow: pip install 'tilehaul[pixels]'") from error

# Two by two pixels become their mean. A strip begins at an even row, so no pixel needs another strip's.
HALVING: Final = 2
Strip = tuple[int, int, "Image.Image"]


class Climb:
    """Keeps, for every zoom but the deepest, the half row of tiles that waits for its other half: in all less
    than one row at full resolution.
    """

    def __init__(self, pyramid: Pyramid) -> None:
        self._pyramid = pyramid
        self._halves: dict[int, Image.Image] = {}

    def add(self, row: int, strip: "Image.Image") -> Iterator[Strip]:
        """The next row of tiles at full resolution, 0 first: gives (zoom, row, picture) of it and of each row
        of lower zooms that it completes, in the order of `Pyramid.strips`.
        """
        z = self._pyramid.zoom_max
        yield z, row, strip
        while z > 0:
            half = strip.reduce(HALVING)
            upper = self._halves.pop(z - 1, None)
            if upper is not None:
                half = _stacked(upper, half)
            if not self._pyramid.completes(z, row):
                self._halves[z - 1] = half
                return
            z, row, strip = z - 1, row >> 1, half
            yield z, row, strip


def _stacked(upper: "Image.Image", lower: "Image.Image") -> "Image.Image":
    both = Image.new(upper.mode, (upper.width, upper.height + lower.height))
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height))
    return both


def filled_up(piece: "Image.Image", side: int) -> "Image.Image":
    """A tile at an edge as a square of `side` pixels: white beyond the picture, or transparent."""
    if piece.size == (side, side):
        return piece
    full = Image.new(piece.mode, (side, side), (0, 0, 0, 0) if piece.mode == "RGBA" else "white")
    full.paste(piece, (0, 0))
    return full
