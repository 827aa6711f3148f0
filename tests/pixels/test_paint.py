"""Tiles with their address drawn on them."""

import pytest

pytest.importorskip("PIL")

from tilehaul.pixels.mercator_cut import encode_tile
from tilehaul.pixels.paint import MARGIN_PX, SIDE_PX, Painter

INK = 100


def ink_columns(picture):
    """Columns with dark pixels, the frame left out."""
    dark = picture.crop((2, 2, SIDE_PX - 2, SIDE_PX - 2)).convert("L").point(lambda grey: 255 * (grey < INK))
    box = dark.getbbox()
    assert box is not None
    return box[0] + 2, box[2] + 2


def test_paint_same_address_same_bytes_others_differ():
    """The bytes depend on the address only, and on all of it."""
    assert encode_tile(Painter().paint(3, 4, 2), "png") == encode_tile(Painter().paint(3, 4, 2), "png")
    bodies = {encode_tile(Painter().paint(5, x, y), "png") for x in range(8) for y in range(4)}
    assert len(bodies) == 32


def test_paint_longest_address_fits_and_is_centred():
    """The address of the deepest zoom stays inside the margins; a short one stands in the middle."""
    for address in ((30, 2**30 - 1, 2**30 - 1), (3, 4, 2)):
        left, right = ink_columns(Painter().paint(*address))
        assert left >= MARGIN_PX - 2
        assert right <= SIDE_PX - MARGIN_PX + 2
        assert left + right == pytest.approx(SIDE_PX, abs=6)
