"""Cut tiles are the big picture's own pixels."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from doubles.wms import drawn
from tilehaul.errors import DataError
from tilehaul.grid.tile_id import TileId
from tilehaul.pixels.meta_cut import cut_picture
from tilehaul.sources.wms import TILE_PX, Block, meta_within, picture_of


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, form)
    return out.getvalue()


@given(
    side=st.integers(1, 4), tile=st.integers(1, 24), left=st.integers(0, 9), top=st.integers(0, 9),
    mode=st.sampled_from(["RGB", "RGBA", "L", "P"]), seed=st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_pixels_stay(side, tile, left, top, mode, seed) -> None:  # type: ignore[no-untyped-def]
    size = (side * tile + left + 5, side * tile + top + 3)
    bands = {"RGB": 3, "RGBA": 4}.get(mode, 1)
    picture = Image.frombytes(mode, size, seed.randbytes(size[0] * size[1] * bands))
    if mode == "P":
        picture.putpalette(seed.randbytes(768))
    tiles = cut_picture(encoded(picture), side=side, tile_px=tile, left_px=left, top_px=top, size_px=size)
    assert len(tiles) == side * side
    for at, body in enumerate(tiles):
        x, y = left + at % side * tile, top + at // side * tile
        with Image.open(io.BytesIO(body)) as cut:
            wanted = picture.crop((x, y, x + tile, y + tile)).convert("RGBA")
            assert cut.convert("RGBA").tobytes() == wanted.tobytes()


@pytest.mark.parametrize("block", [Block(0, 0, 0, 1), Block(2, 0, 2, 2), Block(4, 8, 4, 4)])
def test_box_and_size_of_a_picture_agree(block: Block) -> None:
    picture = picture_of(block, 32)
    first = TileId(block.z, block.column, block.row).bounds_m
    px_m = (first[2] - first[0]) / TILE_PX
    assert picture.box[0] == pytest.approx(first[0] - picture.left_px * px_m)
    assert picture.box[3] == pytest.approx(first[3] + picture.top_px * px_m)
    assert (picture.box[2] - picture.box[0]) / px_m == pytest.approx(picture.width_px)
    assert (picture.box[3] - picture.box[1]) / px_m == pytest.approx(picture.height_px)
    assert max(abs(number) for number in picture.box) <= 20037508.3428


def test_limits_of_the_server_are_kept() -> None:
    assert meta_within(4, 32, 4096) == (4, 32)
    assert meta_within(4, 32, 1024) == (2, 32)
    assert meta_within(16, 0, 4096) == (16, 0)
    assert meta_within(4, 32, 256) == (1, 0)


def test_what_cannot_be_cut() -> None:
    picture = encoded(drawn((0.0, 0.0, 1.0, 1.0), 8, 8))
    with pytest.raises(DataError, match="8x8 pixels, 16x16"):
        cut_picture(picture, side=1, tile_px=16, left_px=0, top_px=0, size_px=(16, 16))
    with pytest.raises(DataError, match="does not decode"):
        cut_picture(picture[:60], side=1, tile_px=8, left_px=0, top_px=0, size_px=(8, 8))
