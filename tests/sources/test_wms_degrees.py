"""Pictures in degrees become tiles of Web Mercator: where each pixel lies, and what is asked for."""

import io
import math

import pytest

from tilehaul.errors import DataError

PIL = pytest.importorskip("PIL")

from PIL import Image, ImageChops  # noqa: E402

from doubles.degrees import LEVELS_PER_PX, drawn_in_degrees, true_tile  # noqa: E402
from tilehaul.sources.wms import Block, MercatorFrames  # noqa: E402
from tilehaul.sources.wms_degrees import DegreeFrames  # noqa: E402

FRAMES = DegreeFrames(4, 32, 4096)


def encoded(picture: "Image.Image", form: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, form, compress_level=1)
    return out.getvalue()


def levels_apart(tile: bytes, x: int, y: int) -> float:
    with Image.open(io.BytesIO(tile)) as opened:
        difference = ImageChops.difference(opened.convert("RGB"), true_tile(x, y))
    return max(float(high) for _, high in difference.getextrema())


@pytest.mark.parametrize(
    ("z", "column", "row"),
    [(0, 0, 0), (1, 0, 0), (2, 2, 0), (2, 0, 2), (3, 4, 2), (5, 0, 0), (5, 16, 12), (5, 28, 28),
     (9, 500, 0), (9, 256, 176), (9, 4, 508), (15, 17000, 11000), (22, 2200000, 1450000), (30, 0, 0)],
)  # fmt: skip
def test_every_pixel_lies_within_half_of_one(z: int, column: int, row: int) -> None:
    side = FRAMES.side(z)
    block = Block(z, column - column % side, row - row % side, side)
    picture = FRAMES.picture(block)
    body = encoded(drawn_in_degrees(z, picture.box, picture.width_px, picture.height_px))
    tiles = FRAMES.cut(body, block)
    assert len(tiles) == side * side
    for at, tile in enumerate(tiles):
        apart = levels_apart(tile, block.column + at % side, block.row + at // side)
        assert apart < LEVELS_PER_PX / 2, (at, apart)


def test_a_picture_that_is_only_stretched_would_be_seen() -> None:
    """The proof that the test above can fail: rows of degrees, taken as they are, lie beside by far."""
    block = Block(2, 0, 0, 2)
    picture = FRAMES.picture(block)
    drawn = drawn_in_degrees(2, picture.box, picture.width_px, picture.height_px)
    with_buffer = 2 * 256 + picture.top_px + 32
    stretched = drawn.resize((picture.width_px, with_buffer)).crop((0, 0, 256, 256))
    assert levels_apart(encoded(stretched), 0, 0) > 20 * LEVELS_PER_PX


@pytest.mark.parametrize("most", [256, 300, 600, 1024, 2048, 4096])
@pytest.mark.parametrize("meta", [1, 4, 16])
def test_pictures_stay_within_the_servers_limit_and_the_world(most: int, meta: int) -> None:
    frames = DegreeFrames(meta, 32, most)
    for z in range(31):
        side = frames.side(z)
        last = (1 << z) - side
        assert last % side == 0
        for at in {0, last, (last // 2) // side * side}:
            west, south, east, north = (picture := frames.picture(Block(z, at, at, side))).box
            assert max(picture.width_px, picture.height_px) <= most
            assert -180.0 <= west < east <= 180.0
            assert -85.06 < south < north < 85.06
            row_deg = (north - south) / picture.height_px
            wanted_deg = 360.0 / (256 << z) * math.cos(math.radians(max(abs(south), abs(north))))
            # Fine enough, or the server's limit, reached by one tile alone.
            assert row_deg <= wanted_deg * (1 + 1e-9) or (side == 1 and picture.height_px == most)


def test_blocks_are_smaller_only_near_the_first_zooms() -> None:
    assert [FRAMES.side(z) for z in range(7)] == [1, 2, 2, 2, 4, 4, 4]
    assert [MercatorFrames(4, 32).side(z) for z in range(4)] == [1, 2, 4, 4]


def test_transparency_is_kept_and_its_colours_do_not_bleed() -> None:
    """Left half: clear, and red by accident; right half: opaque green; below: half transparent blue."""
    block = Block(4, 4, 4, 1)
    picture = FRAMES.picture(block)
    width, height = picture.width_px, picture.height_px
    drawn = Image.new("RGBA", (width, height), (255, 0, 0, 0))
    drawn.paste((0, 200, 0, 255), (width // 2, 0, width, height // 2))
    drawn.paste((0, 0, 100, 128), (0, height // 2, width, height))
    (tile,) = FRAMES.cut(encoded(drawn), block)
    with Image.open(io.BytesIO(tile)) as opened:
        assert opened.mode == "RGBA"
        flat = opened.tobytes()
    cells = [tuple(flat[at : at + 4]) for at in range(0, len(flat), 4)]
    assert not any(red and alpha for red, _, _, alpha in cells)
    assert {alpha for _, _, _, alpha in cells} >= {0, 128, 255}
    assert cells[0] == (0, 0, 0, 0)
    assert cells[255] == (0, 200, 0, 255)
    assert all(abs(blue - 100) <= 1 for blue in [cells[-1][2], cells[-256][2]])


@pytest.mark.parametrize(("mode", "becomes"), [("P", "RGB"), ("L", "L"), ("1", "L"), ("LA", "RGBA")])
def test_other_modes(mode: str, becomes: str) -> None:
    block = Block(4, 4, 4, 1)
    picture = FRAMES.picture(block)
    drawn = Image.linear_gradient("L").resize((picture.width_px, picture.height_px)).convert(mode)
    (tile,) = FRAMES.cut(encoded(drawn), block)
    with Image.open(io.BytesIO(tile)) as opened:
        assert (opened.mode, opened.size, opened.format) == (becomes, (256, 256), "PNG")
        low, high = opened.convert("L").getextrema()
        assert low < 60 < 200 < high


def test_a_palette_with_a_transparent_colour_stays_transparent() -> None:
    block = Block(4, 4, 4, 1)
    picture = FRAMES.picture(block)
    drawn = Image.new("P", (picture.width_px, picture.height_px), 1)
    drawn.putpalette([255, 0, 0, 0, 0, 255])
    drawn.paste(0, (0, 0, picture.width_px, picture.height_px // 2))
    out = io.BytesIO()
    drawn.save(out, "PNG", transparency=0)
    (tile,) = FRAMES.cut(out.getvalue(), block)
    with Image.open(io.BytesIO(tile)) as opened:
        assert opened.convert("RGBA").getpixel((9, 9)) == (0, 0, 0, 0)
        assert opened.convert("RGBA").getpixel((9, 250)) == (0, 0, 255, 255)


def test_what_cannot_be_cut() -> None:
    block = Block(4, 4, 4, 1)
    picture = FRAMES.picture(block)
    with pytest.raises(DataError, match="were asked for"):
        FRAMES.cut(encoded(Image.new("RGB", (9, 9))), block)
    deep = Image.new("I;16", (picture.width_px, picture.height_px))
    with pytest.raises(DataError, match="cannot be resampled"):
        FRAMES.cut(encoded(deep), block)
    whole = encoded(Image.new("RGB", (picture.width_px, picture.height_px)))
    with pytest.raises(DataError, match="does not decode"):
        FRAMES.cut(whole[: len(whole) // 2], block)
