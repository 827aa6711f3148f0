"""Tiles in another format on their way."""

import gzip
from io import BytesIO

import pytest

from doubles.tiles import FakeSource
from tilehaul.codec.sniff import VECTOR_TILE, sniff
from tilehaul.errors import ConfigError, DataError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import BLANK_PNG, plain_png
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.reencoded import Encoding, ReencodedSource

Image = pytest.importorskip("PIL.Image")
HERE = TileId(3, 1, 2)
# One empty layer named "a" (Mapbox Vector Tile 2.1: field 3 of the tile, field 1 of the layer).
VECTOR = bytes([0x1A, 0x05, 0x0A, 0x01, 0x61, 0x78, 0x02])


def source_of(body: bytes, media_type: str, encoding: Encoding) -> ReencodedSource:
    return ReencodedSource(FakeSource(lambda tile_id: Tile(tile_id, body, media_type)), encoding)


@pytest.mark.parametrize(("name", "media_type"), [("webp", "image/webp"), ("jpg", "image/jpeg")])
async def test_a_picture_becomes_what_was_asked_for(name: str, media_type: str) -> None:
    tile = await source_of(plain_png(HERE), "image/png", Encoding(name)).get(HERE)
    assert isinstance(tile, Tile)
    assert (tile.media_type, sniff(tile.body)) == (media_type, media_type)
    with Image.open(BytesIO(tile.body)) as picture:
        assert picture.size == (256, 256)


async def test_bytes_that_have_the_format_are_kept() -> None:
    body = plain_png(HERE)
    tile = await source_of(body, "image/png", Encoding("png")).get(HERE)
    assert isinstance(tile, Tile)
    assert tile.body is body


async def test_transparent_is_white_in_jpeg_and_transparent_in_webp() -> None:
    seen = {}
    for name in ("jpg", "webp"):
        tile = await source_of(BLANK_PNG, "image/png", Encoding(name)).get(HERE)
        assert isinstance(tile, Tile)
        with Image.open(BytesIO(tile.body)) as picture:
            seen[name] = picture.convert("RGBA").getpixel((5, 5))
    assert seen["jpg"] == (255, 255, 255, 255)
    assert seen["webp"][3] == 0


async def test_vector_tiles_are_zipped_and_unzipped_and_become_no_picture() -> None:
    zipped = await source_of(VECTOR, VECTOR_TILE, Encoding(compression="gzip")).get(HERE)
    assert isinstance(zipped, Tile)
    assert gzip.decompress(zipped.body) == VECTOR
    plain = await source_of(zipped.body, VECTOR_TILE, Encoding(compression="none")).get(HERE)
    assert isinstance(plain, Tile)
    assert plain.body == VECTOR
    with pytest.raises(DataError, match="vector tile") as caught:
        await source_of(VECTOR, VECTOR_TILE, Encoding("png")).get(HERE)
    assert caught.value.cause == "mistyped"


async def test_damage_that_only_a_decoder_sees_is_the_tiles_own_failure() -> None:
    with pytest.raises(DataError) as caught:
        await source_of(b"\x89PNG\r\n\x1a\nnothing", "image/png", Encoding("jpg")).get(HERE)
    assert caught.value.cause == "corrupt"


async def test_absence_passes_and_the_identity_follows_the_encoding() -> None:
    inner = FakeSource(NoTile)
    assert await ReencodedSource(inner, Encoding("jpg")).get(HERE) == NoTile(HERE)
    names = {ReencodedSource(inner, Encoding("jpg", quality)).info.identity for quality in (70, 80)}
    assert len({*names, inner.info.identity}) == 3


@pytest.mark.parametrize("wrong", [{"format_name": "bmp"}, {"quality": 0}, {"compression": "zstd"}])
def test_what_is_not_known_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        Encoding(**wrong)


@pytest.mark.parametrize("name", ["webp", "jpg"])
async def test_sixteen_bits_of_grey_become_eight(name: str) -> None:
    """Scaled: nothing is cut off at white."""
    out = BytesIO()
    picture = Image.new("I;16", (256, 256))
    picture.putdata([column * 257 for _ in range(256) for column in range(256)])
    picture.save(out, "PNG")
    tile = await source_of(out.getvalue(), "image/png", Encoding(name, 100)).get(HERE)
    assert isinstance(tile, Tile)
    with Image.open(BytesIO(tile.body)) as became:
        row = [became.convert("L").getpixel((column, 100)) for column in range(256)]
    assert max(abs(grey - column) for column, grey in enumerate(row)) <= 4


async def test_a_picture_that_should_be_zipped_is_no_tile_of_it() -> None:
    """Where the source could not say beforehand what it has."""
    with pytest.raises(DataError, match="--compression is for vector tiles") as caught:
        await source_of(plain_png(HERE), "image/png", Encoding(compression="gzip")).get(HERE)
    assert caught.value.cause == "mistyped"
