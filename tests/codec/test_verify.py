"""A body passes when it is a whole tile, and only then."""

import gzip
import io
import random
import struct
import zlib

import pytest
from PIL import Image

from tilehaul.codec.sniff import extension_of, media_type_of, sniff
from tilehaul.codec.verify import verify_tile
from tilehaul.errors import DataError, RefusedError

VECTOR = "application/vnd.mapbox-vector-tile"


def picture(kind, size=(7, 5), **options):
    image = Image.new("RGB", size)
    image.putdata([(x * 36 % 256, x * 7 % 256, 255 - x % 256) for x in range(size[0] * size[1])])
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def layer(name, extra=b""):
    content = b"\x0a" + bytes([len(name)]) + name + extra + b"\x78\x02"
    return b"\x1a" + bytes([len(content)]) + content


WHOLE = {
    "png": (picture("PNG"), "image/png"),
    "png, larger": (picture("PNG", size=(16, 16)), "image/png"),
    "jpeg": (picture("JPEG"), "image/jpeg"),
    "jpeg, progressive": (picture("JPEG", progressive=True), "image/jpeg"),
    "webp, lossy": (picture("WEBP"), "image/webp"),
    "webp, lossless": (picture("WEBP", lossless=True), "image/webp"),
    "webp, extended": (picture("WEBP", exif=b"Exif\0\0abc"), "image/webp"),
    "gif": (picture("GIF"), "image/gif"),
    "avif": (picture("AVIF"), "image/avif"),
    "vector, zipped": (gzip.compress(layer(b"roads") + layer(b"water")), VECTOR),
    "vector": (layer(b"roads") + layer(b"water"), VECTOR),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_tile_passes_as_what_it_is(name):
    """Whatever the header says about pictures: the bytes decide."""
    body, media_type = WHOLE[name]
    assert verify_tile(body, media_type) == media_type
    assert verify_tile(body) == media_type
    assert verify_tile(body, "application/octet-stream") == media_type
    assert verify_tile(body, "binary/octet-stream") == media_type
    assert sniff(body) == media_type
    assert media_type_of(extension_of(media_type)) == media_type
    if media_type.startswith("image/"):
        assert verify_tile(body, "image/jpg; charset=binary") == media_type
        assert verify_tile(body, "text/plain") == media_type


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "vector"])
def test_every_cut_is_found(name):
    """At whichever byte the body ends early, it does not pass; the plain vector tile has its own test."""
    body, media_type = WHOLE[name]
    for stop in range(len(body)):
        with pytest.raises(DataError):
            verify_tile(body[:stop], media_type)
    with pytest.raises(DataError) as caught:
        verify_tile(body[:-1], media_type)
    assert caught.value.cause == "truncated"
    assert caught.value.head == body[:-1][:200]


def test_cut_of_a_plain_vector_tile_is_found_except_between_layers():
    """Layers are all the frame it has: cut between two of them, only Content-Length can tell."""
    body = layer(b"roads") + layer(b"water")
    for stop in range(1, len(body)):
        if stop == len(layer(b"roads")):
            assert verify_tile(body[:stop], VECTOR) == VECTOR
            continue
        with pytest.raises(DataError) as caught:
            verify_tile(body[:stop], VECTOR)
        assert caught.value.cause == "truncated"


@pytest.mark.parametrize(("at", "chunk"), [(6, "its IDAT"), (0, "a nameless")])
def test_damaged_chunk_of_a_png_is_named_in_plain_words(at, chunk):
    body = bytearray(WHOLE["png"][0])
    body[body.index(b"IDAT") + at] ^= 0x80
    with pytest.raises(DataError) as damage:
        verify_tile(bytes(body))
    assert str(damage.value) == f"the PNG is damaged: the checksum of {chunk} chunk is wrong"


def test_every_bit_flip_in_png_is_found():
    """Chunk checksums cover the rest, so that not one bit of a PNG can change."""
    body = WHOLE["png"][0]
    for bit in range(len(body) * 8):
        damaged = bytearray(body)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(DataError):
            verify_tile(bytes(damaged), "image/png")


@pytest.mark.parametrize("name", ["png", "jpeg", "webp, lossy", "gif", "avif", "vector, zipped", "vector"])
@pytest.mark.parametrize("tail", [b"x", b"<html>", b"\0\n x", b" "])
def test_trailing_bytes_are_found(name, tail):
    """A second answer glued to the first, also behind padding."""
    body, media_type = WHOLE[name]
    with pytest.raises(DataError):
        verify_tile(body + tail, media_type)


@pytest.mark.parametrize("name", [name for name in WHOLE if not name.startswith("vector")])
@pytest.mark.parametrize("padding", [b"\n", b"\r\n", b"\0", bytes(64), bytes(9) + b"\r\n\0"])
def test_whole_picture_may_be_padded_with_zeros_and_line_ends(name, padding):
    """Decided so, for every format alike: the end is there, and these hide nothing."""
    body, media_type = WHOLE[name]
    assert verify_tile(body + padding, media_type) == media_type


@pytest.mark.parametrize("name", ["png", "jpeg", "gif"])
@pytest.mark.parametrize("padding", [b"\n", b"\r\n", bytes(64)])
def test_padding_does_not_stand_for_the_end(name, padding):
    """A picture cut just before its last byte does not pass for being padded."""
    body, media_type = WHOLE[name]
    with pytest.raises(DataError) as caught:
        verify_tile(body[:-1] + padding, media_type)
    assert caught.value.cause in ("truncated", "corrupt")


@pytest.mark.parametrize("name", ["vector", "vector, zipped"])
@pytest.mark.parametrize("tail", [b"\n", bytes(64)])
def test_vector_tile_is_not_padded(name, tail):
    """Only pictures have an end of their own; behind layers a zero byte is a field that makes no sense."""
    with pytest.raises(DataError):
        verify_tile(WHOLE[name][0] + tail, VECTOR)


NOISE = Image.frombytes("RGB", (256, 256), random.Random(7).randbytes(256 * 256 * 3))


@pytest.mark.parametrize(
    ("kind", "options", "found_to"),
    [
        ("WEBP", {"quality": 70}, 0.8),
        ("WEBP", {"quality": 70, "exif": b"Exif\0\0abc"}, 0.8),
        ("WEBP", {"lossless": True}, 0.7),
        ("AVIF", {}, 0.97),
    ],
)
def test_picture_filled_with_zeros_from_somewhere_on_is_found(kind, options, found_to):
    """The frame is right and the length full, as when a copy into a preallocated file stopped."""
    file = io.BytesIO()
    NOISE.save(file, kind, **options)
    body = file.getvalue()
    assert verify_tile(body)
    for percent in range(5, int(found_to * 100), 5):
        stop = len(body) * percent // 100
        with pytest.raises(DataError):
            verify_tile(body[:stop] + bytes(len(body) - stop))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (170, 211, 223)])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WEBP", {}),
        ("WEBP", {"method": 0}),
        ("WEBP", {"method": 0, "quality": 30}),
        ("WEBP", {"lossless": True, "method": 0, "quality": 0}),
        ("AVIF", {"speed": 9}),
    ],
)
def test_picture_that_ends_in_one_colour_passes(kind, options, colour):
    """Plain rows code as zeros: the most that the writers at hand make are still a whole picture."""
    for share in (0, 20, 50):
        image = Image.new("RGB", (256, 256), colour)
        image.paste(NOISE.crop((0, 0, 256, 256 * share // 100)), (0, 0))
        file = io.BytesIO()
        image.save(file, kind, **options)
        assert verify_tile(file.getvalue()) == f"image/{kind.lower()}"


@pytest.mark.parametrize("side", [1, 16, 32, 64])
def test_smallest_webp_passes(side):
    """Lossless and clear at full effort, Pillow writes 28 bytes: shorter than a lossy one's header."""
    file = io.BytesIO()
    Image.new("RGBA", (side, side)).save(file, "WEBP", lossless=True, quality=100, method=6)
    body = file.getvalue()
    assert len(body) == 28
    assert verify_tile(body) == "image/webp"
    for stop in range(len(body)):
        with pytest.raises(DataError):
            verify_tile(body[:stop])


@pytest.mark.parametrize("chunk_name", [b"VP8X", b"VP8 ", b"VP8L"])
def test_webp_chunk_shorter_than_its_header_is_corrupt(chunk_name):
    """Lengths add up, but the size would be read behind the end."""
    content = b"WEBP" + chunk_name + bytes(4)
    with pytest.raises(DataError, match="damaged"):
        verify_tile(b"RIFF" + struct.pack("<I", len(content)) + content)


def test_jpeg_thumbnail_does_not_stand_for_the_end():
    """A cut just behind the end marker of a picture inside the headers is still a cut."""
    body = WHOLE["jpeg"][0]
    thumbnail = b"Exif\0\0" + body
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = body[:2] + segment + body[2:]
    assert verify_tile(whole) == "image/jpeg"
    with pytest.raises(DataError) as caught:
        verify_tile(whole[: 2 + len(segment)])
    assert caught.value.cause == "truncated"


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_of_chunks((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))


def test_pixel_bomb_is_refused_by_its_header():
    """4096 a side pass, one more does not, in either direction, and nothing is decoded."""
    assert verify_tile(png_of(4096, 4096)) == "image/png"
    for size in ((4097, 1), (1, 4097), (20_000, 20_000)):
        with pytest.raises(DataError) as caught:
            verify_tile(png_of(*size))
        assert caught.value.cause == "too_many_pixels"
    with pytest.raises(DataError):
        verify_tile(png_of(0, 4))
    for kind in ("JPEG", "WEBP", "GIF"):
        with pytest.raises(DataError) as caught:
            verify_tile(picture(kind, size=(4100, 1)))
        assert caught.value.cause == "too_many_pixels"


@pytest.mark.parametrize(
    ("body", "content_type", "cause"),
    [
        (b"", "image/png", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "image/png", "error_page"),
        (b"  \r\n<html>", "text/html", "error_page"),
        (b'<?xml version="1.0"?><ServiceExceptionReport/>', "image/png", "error_page"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html/>', "", "error_page"),
        (b"\xef\xbb\xbf<Error><Code>SlowDown</Code></Error>", "application/xml", "error_page"),
        (b'{"error": "quota"}', "application/json", "error_page"),
        (b"[1, 2]", "", "error_page"),
        (b"Rate limit exceeded", "image/png", "error_page"),
        ("Zugriff verweigert: Schlüssel fehlt".encode(), "text/plain", "error_page"),
        (gzip.compress(b"<html>denied</html>"), VECTOR, "error_page"),
        (b"\x00\x01\x02\x03 what", "image/png", "mistyped"),
        (b"\x00\x01\x02\x03 what", VECTOR, "mistyped"),
        (b"\x00\x01\x02\x03 what", "", "mistyped"),
        (b"II*\0\x08\0\0\0", "image/tiff", "mistyped"),
        (zlib.compress(b"x" * 50), "image/png", "mistyped"),
        (gzip.compress(b"\x00\x01 no layers"), VECTOR, "mistyped"),
        (WHOLE["vector, zipped"][0], "image/png", "mistyped"),
        (WHOLE["png"][0], "application/x-protobuf", "mistyped"),
        (b"\x89PNG\r\n\x1a\n", "image/png", "truncated"),
        (b"\xff\xd8\xff\xd9", "image/jpeg", "truncated"),
    ],
)
def test_what_is_no_tile_does_not_pass(body, content_type, cause):
    """Each with its cause, one line, and the first bytes for the dead letter."""
    with pytest.raises(DataError) as caught:
        verify_tile(body, content_type)
    assert caught.value.cause == cause
    assert caught.value.head == body[:200]
    assert "\n" not in str(caught.value)


def test_message_of_an_error_page_quotes_it_without_secrets():
    """The first words say why; a key that the page repeats is masked."""
    with pytest.raises(DataError, match="Quota of today is used") as caught:
        verify_tile(b"Quota of today is used\nfor https://h/?key=canary7f3a", "image/png")
    assert "canary7f3a" not in str(caught.value)


def test_gzip_bomb_as_a_vector_tile_is_refused():
    """Checked within the ratio, not unpacked."""
    with pytest.raises(RefusedError) as caught:
        verify_tile(gzip.compress(bytes(8 * 1024 * 1024)), VECTOR)
    assert caught.value.cause == "too_large"


def test_empty_vector_tile_zipped_passes():
    """Generators write a tile without layers as a gzip stream of nothing."""
    assert verify_tile(gzip.compress(b""), VECTOR) == VECTOR


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", ""), (b"\x00" * 20, ""), (b"RIFF\0\0\0\0WAVE", ""), (b"\0\0\0\x1cftypisom", ""),
        (b"x\x9c123", "application/zlib"), (b"x and more", "text/plain"), (b"<", ""), (b"< 3", ""),
        (b"{", "application/json"), (b"{}", "application/json"), (b"{:}", "text/plain"),
        (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "text/html"), (b"caf\xe9 closed", ""),
        ("é".encode() * 300, "text/plain"), (b"MM\0*", "image/tiff"), (b"\x1a\x05abc", ""),
    ],
)  # fmt: skip
def test_sniff_edges(body, media_type):
    """Known magic, text told apart, and an honest empty answer."""
    assert sniff(body) == media_type


def test_extensions_and_media_types():
    """Both ways, with dots, capitals, parameters and the names that others use."""
    assert media_type_of(".JPG") == media_type_of("jpeg") == "image/jpeg"
    assert media_type_of("mvt") == VECTOR
    assert media_type_of("exe") == ""
    assert extension_of("image/jpg") == "jpg"
    assert extension_of("application/x-protobuf; charset=x") == "pbf"
    assert extension_of("video/mp4") == ""


def png_of_chunks(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks)


def test_png_of_valid_chunks_in_a_wrong_form_does_not_pass():
    """Right checksums are not enough: data must be there, one end only, and a header that means something."""

    def header(depth=8, colour=2, packing=0, filtering=0, interlace=0):
        return b"IHDR", struct.pack(">IIBBBBB", 2, 2, depth, colour, packing, filtering, interlace)

    data, end = (b"IDAT", zlib.compress(bytes(14))), (b"IEND", b"")
    assert verify_tile(png_of_chunks(header(), data, end)) == "image/png"
    assert verify_tile(png_of_chunks(header(interlace=1), (b"tEXt", b"a\0b"), data, end)) == "image/png"
    wrong = [
        [header(), end],
        [header(), data, end, data, end],
        [data, header(), end],
        [header(depth=3), data, end],
        [header(colour=5), data, end],
        [header(packing=1), data, end],
        [header(filtering=1), data, end],
        [header(interlace=2), data, end],
    ]
    for chunks in wrong:
        with pytest.raises(DataError) as caught:
            verify_tile(png_of_chunks(*chunks))
        assert caught.value.cause == "corrupt"


def test_jpeg_without_width_does_not_pass():
    """A frame header of no size is no picture."""
    body = bytearray(WHOLE["jpeg"][0])
    frame = body.index(b"\xff\xc0")
    body[frame + 7 : frame + 9] = b"\0\0"
    with pytest.raises(DataError, match="damaged"):
        verify_tile(bytes(body))


def test_vector_tile_with_long_layers_passes():
    """Lengths of several bytes, among them one whose first byte says nothing but "more"."""
    for size in (127, 128, 200, 16384):
        body = b"\x1a" + (bytes([size]) if size < 128 else b"")
        if size >= 128:
            rest = size
            while rest >= 128:
                body += bytes([rest & 127 | 128])
                rest >>= 7
            body += bytes([rest])
        assert verify_tile(body + bytes(size), VECTOR) == VECTOR
        with pytest.raises(DataError):
            verify_tile(body + bytes(size - 1), VECTOR)
