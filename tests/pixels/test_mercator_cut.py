"""Cutting Mercator tiles from an equirectangular picture."""

import io
import itertools
import math
import random

import pytest

from tilehaul.errors import ConfigError, DataError

PIL = pytest.importorskip("PIL")

from PIL import Image, ImageChops, ImageStat  # noqa: E402

from tilehaul.lab.tile_bodies import _picture_path  # noqa: E402
from tilehaul.pixels.mercator_cut import (  # noqa: E402
    BAND_ERROR_PX,
    TILE_PX,
    _bands,
    cut_tile,
    encode_tile,
    load_world,
    row_latitude_deg,
)

SIDE = 1024


def png_of(picture):
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def gradient():
    """A world whose red is the latitude (0 north, 255 south) and whose green is the longitude."""
    down = Image.linear_gradient("L").resize((2 * SIDE, SIDE), Image.Resampling.BILINEAR)
    right = Image.linear_gradient("L").rotate(90).resize((2 * SIDE, SIDE), Image.Resampling.BILINEAR)
    return load_world(png_of(Image.merge("RGB", (down, right, down.point(lambda _: 0)))))


@pytest.fixture(scope="module")
def stripes():
    """One row of random greys, and the world in which every row is that one."""
    luck = random.Random(7)
    row = Image.frombytes("L", (2 * SIDE, 1), luck.randbytes(2 * SIDE))
    whole = row.resize((2 * SIDE, SIDE))
    return row, load_world(png_of(Image.merge("RGB", (whole, whole, whole))))


def test_row_latitude_known_rows_match():
    """The edges of the Mercator world, its middle, and a quarter known from every zoom-2 tile table."""
    assert row_latitude_deg(0, 0) == pytest.approx(85.0511287798, abs=1e-9)
    assert row_latitude_deg(0, 256) == pytest.approx(-85.0511287798, abs=1e-9)
    assert row_latitude_deg(5, 128 * 32) == pytest.approx(0.0, abs=1e-12)
    assert row_latitude_deg(2, 256) == pytest.approx(66.5132604431, abs=1e-9)


@pytest.mark.parametrize(
    ("z", "x", "y"), [(0, 0, 0), (1, 1, 0), (2, 3, 1), (4, 5, 3), (6, 40, 11), (9, 300, 400)]
)
def test_cut_gradient_every_row_has_its_latitude(gradient, z, x, y):
    """Every eighth row shows the latitude of its own centre, every eighth column its longitude."""
    tile = cut_tile(gradient, z, x, y)
    assert tile.size == (TILE_PX, TILE_PX)
    for at in range(0, TILE_PX, 8):
        red, green, _ = tile.getpixel((at, at))
        latitude_deg = row_latitude_deg(z, y * TILE_PX + at + 0.5)
        assert red == pytest.approx((90 - latitude_deg) / 180 * 255, abs=1.6)
        if 8 <= at + x < TILE_PX - 8:  # away from the antimeridian, where the gradient jumps
            expected = (x * TILE_PX + at + 0.5) / (TILE_PX << z) * 255
            assert green == pytest.approx(expected, abs=1.6)


@pytest.mark.parametrize(("z", "y"), [(0, 0), (1, 0), (3, 1), (7, 60)])
def test_bands_cover_the_tile_within_the_error(z, y):
    """The bands join without gaps, and no row inside is off by more than twice the promised error."""
    bands = _bands(z, y, 15.0)
    assert [bands[0][0], bands[-1][1]] == [0, TILE_PX]
    assert all(left[1] == right[0] and left[3] == right[2] for left, right in itertools.pairwise(bands))
    for start, stop, north, south in bands:
        for row in range(start, stop):
            straight = north + (south - north) * (row - start) / (stop - start)
            assert abs(straight - (90 - row_latitude_deg(z, y * TILE_PX + row)) * 15.0) < 2 * BAND_ERROR_PX


def test_neighbours_agree_at_shared_edge(stripes, gradient):
    """Tiles side by side are one resize of the whole row, also across the antimeridian: no seams."""
    row, world = stripes
    whole = row.resize((4 * TILE_PX, 1), Image.Resampling.BICUBIC)
    turned = ImageChops.offset(row, SIDE, 0).resize((4 * TILE_PX, 1), Image.Resampling.BICUBIC)
    tiles = [cut_tile(world, 2, x, 1) for x in range(4)]
    joined = [tile.getpixel((column, 77))[0] for tile in tiles for column in range(TILE_PX)]
    inner = range(8, 4 * TILE_PX - 8)
    assert max(abs(joined[at] - whole.getpixel((at, 0))) for at in inner) <= 1
    over_the_date_line = joined[2 * TILE_PX :] + joined[: 2 * TILE_PX]
    assert max(abs(over_the_date_line[at] - turned.getpixel((at, 0))) for at in inner) <= 1
    above, below = cut_tile(gradient, 3, 2, 2), cut_tile(gradient, 3, 2, 3)
    assert abs(above.getpixel((9, 255))[0] - below.getpixel((9, 0))[0]) <= 1


def test_cut_deepest_zoom_is_one_smooth_colour(gradient):
    """Far beyond the picture's detail a tile is still whole."""
    tile = cut_tile(gradient, 30, 2**29 + 5, 2**29 - 7)
    assert tile.size == (TILE_PX, TILE_PX)
    assert all(high - low <= 1 for low, high in tile.getextrema())
    assert tile.getpixel((0, 0))[0] == pytest.approx(127.5, abs=1.5)


def test_encode_true_bytes_of_each_format(gradient):
    """Each format has its own magic; the same picture gives the same bytes; others are refused."""
    tile = cut_tile(gradient, 1, 0, 0)
    assert encode_tile(tile, "png").startswith(b"\x89PNG")
    assert encode_tile(tile, "jpg").startswith(b"\xff\xd8\xff")
    assert encode_tile(tile, "webp")[8:12] == b"WEBP"
    assert encode_tile(tile, "jpg") == encode_tile(cut_tile(gradient, 1, 0, 0), "jpeg")
    with pytest.raises(ConfigError, match="gif"):
        encode_tile(tile, "gif")


def test_load_world_refuses_what_is_no_world():
    """Junk and other shapes are data errors."""
    with pytest.raises(DataError, match="decode"):
        load_world(b"not a picture")
    with pytest.raises(DataError, match="twice as wide"):
        load_world(png_of(Image.new("RGB", (300, 200))))


def test_blue_marble_lies_where_the_world_lies():
    """On the real picture: sea, desert and ice where they are; z0 looks like z1 made smaller."""
    world = load_world(_picture_path().read_bytes())

    def colour(longitude_deg, latitude_deg, z=6):
        span = TILE_PX << z
        column = (longitude_deg + 180) / 360 * span
        row = (1 - math.asinh(math.tan(math.radians(latitude_deg))) / math.pi) / 2 * span
        tile = cut_tile(world, z, int(column // TILE_PX), int(row // TILE_PX))
        return tile.getpixel((int(column % TILE_PX), int(row % TILE_PX)))

    red, green, blue = colour(-30, 0)
    assert blue > red
    assert blue > green
    red, green, blue = colour(10, 25)
    assert red > 150
    assert red > green > blue
    assert min(colour(-40, 75)) > 200
    # Two coasts a few pixels of the picture wide, at a latitude where a wrong row would miss them:
    # Gotland is land, the Baltic beside it is water.
    land, water = colour(18.5, 57.5), colour(20.0, 57.5)
    assert land[1] > land[2]
    assert water[2] > water[1]

    mosaic = Image.new("RGB", (2 * TILE_PX, 2 * TILE_PX))
    for x in range(2):
        for y in range(2):
            mosaic.paste(cut_tile(world, 1, x, y), (x * TILE_PX, y * TILE_PX))
    small = mosaic.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
    difference = ImageStat.Stat(ImageChops.difference(small, cut_tile(world, 0, 0, 0)))
    assert max(difference.mean) < 2.0
