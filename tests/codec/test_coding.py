"""Content codings: the end, the checksum, the size."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.codec.coding import FREE_BYTES, MEMBERS_MAX, decode
from tilehaul.errors import DataError, RefusedError

STEADY = settings(derandomize=True, deadline=None, database=None)
MIB = 1024 * 1024
TEXT = b"tiles and more tiles, some of them twice, tiles and more " * 3


@given(st.binary(max_size=2000), st.sampled_from(["gzip", " GZIP ", "x-gzip", "deflate", "identity", ""]))
@STEADY
def test_coding_is_taken_off(content, coding):
    """What was packed comes back, under every name."""
    name = coding.strip().lower()
    body = {"deflate": zlib.compress, "identity": bytes, "": bytes}.get(name, gzip.compress)(content)
    assert decode(body, coding, MIB) == content


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_every_cut_is_found(coding):
    """At whichever byte the stream is cut, that is `truncated`; nothing is passed on."""
    body = gzip.compress(TEXT, mtime=0) if coding == "gzip" else zlib.compress(TEXT)
    for stop in range(len(body)):
        with pytest.raises(DataError) as caught:
            decode(body[:stop], coding, MIB)
        assert caught.value.cause == "truncated"


def test_every_bit_flip_in_gzip_data_is_found():
    """The CRC covers the content: a flip anywhere behind the header never gives other bytes."""
    body = gzip.compress(TEXT, mtime=0)
    for bit in range(10 * 8, len(body) * 8):
        damaged = bytearray(body)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        try:
            assert decode(bytes(damaged), "gzip", MIB) == TEXT
        except DataError as error:
            assert error.cause in ("truncated", "bad_coding")  # noqa: PT017


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_trailing_bytes_are_found(coding):
    """Nothing may follow the end."""
    body = gzip.compress(TEXT) if coding == "gzip" else zlib.compress(TEXT)
    with pytest.raises(DataError) as caught:
        decode(body + b"x", coding, MIB)
    assert caught.value.cause == "bad_coding"


def test_members_are_joined_and_bounded():
    """A gzip stream may have several members (RFC 1952), but not without end."""
    assert decode(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", MIB) == b"one two"
    with pytest.raises(DataError):
        decode(gzip.compress(b"") * (MEMBERS_MAX + 1), "gzip", MIB)
    with pytest.raises(RefusedError):
        decode(gzip.compress(bytes(600)) * 2, "gzip", 1000)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "gzip;q=1"])
def test_other_codings_are_refused(coding):
    """One coding, and only those we check to the end."""
    with pytest.raises(DataError) as caught:
        decode(gzip.compress(b"x"), coding, MIB)
    assert caught.value.cause == "bad_coding"


@pytest.mark.parametrize(
    "body", [b"not packed at all", b"\x1f\x8b\x08 but then nonsense", zlib.compress(b"x")[2:]]
)
def test_nonsense_is_bad_coding_or_truncated(body):
    """zlib's own errors never leave the room."""
    for coding in ("gzip", "deflate"):
        with pytest.raises(DataError) as caught:
            decode(body, coding, MIB)
        assert caught.value.head == body


def test_limit_is_exact():
    """As many bytes as allowed pass, one more does not, with or without a coding."""
    body = gzip.compress(bytes(1000))
    assert len(decode(body, "gzip", 1000)) == 1000
    assert len(decode(bytes(1000), "", 1000)) == 1000
    for coded, coding in ((body, "gzip"), (bytes(1000), "identity"), (zlib.compress(bytes(1000)), "deflate")):
        with pytest.raises(RefusedError) as caught:
            decode(coded, coding, 999)
        assert caught.value.cause == "too_large"


def test_ratio_counts_after_one_mebibyte():
    """A blank tile may shrink a thousandfold, a larger body may not; the bomb is not unpacked."""
    assert len(decode(gzip.compress(bytes(FREE_BYTES)), "gzip", 64 * MIB)) == FREE_BYTES
    bomb = gzip.compress(bytes(32 * MIB))
    tracemalloc.start()
    with pytest.raises(RefusedError) as caught:
        decode(bomb, "gzip", 64 * MIB)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.cause == "too_large"
    assert peak_bytes < 16 * MIB
    assert len(decode(bomb, "gzip", 64 * MIB, ratio_max=2000)) == 32 * MIB
