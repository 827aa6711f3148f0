"""What one decoding of a tile may cost."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from tilehaul.errors import DataError
from tilehaul.pixels import decode
from tilehaul.pixels.decode import check_decodes


def picture(kind: str, size: tuple[int, int], **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "blue").save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_more_pixels_than_are_held_are_refused_before_they_are(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(decode, "DECODE_PIXELS_MAX", 100 * 100)
    media_type = f"image/{kind.lower()}"
    assert check_decodes(picture(kind, (100, 100)), media_type)
    with pytest.raises(DataError, match="the picture is 101x100 pixels, at most 10,000 in all") as refusal:
        check_decodes(picture(kind, (101, 100)), media_type)
    assert refusal.value.cause == "too_many_pixels"


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animation_is_decoded_as_far_as_its_pixels_are_counted(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(decode, "FRAMES_PIXELS_MAX", 3 * 100)
    more = [Image.new("RGB", (10, 10), colour) for colour in ("red", "green", "white")]
    media_type = f"image/{kind.lower()}"
    assert check_decodes(picture(kind, (10, 10), save_all=True, append_images=more[:2]), media_type)
    with pytest.raises(DataError, match="more than the 300 pixels") as refusal:
        check_decodes(picture(kind, (10, 10), save_all=True, append_images=more), media_type)
    assert refusal.value.cause == "too_many_pixels"


def test_what_is_no_picture_is_left_alone() -> None:
    assert not check_decodes(b"\x1a\x00", "application/vnd.mapbox-vector-tile")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_large_picture_is_decoded_alone(kind: str, monkeypatch) -> None:
    """Each call enters what all of them share."""
    monkeypatch.setattr(decode, "SHARED_PIXELS_MAX", 100 * 100)
    entered: list[str] = []

    @contextmanager
    def alone() -> Iterator[None]:
        entered.append("in")
        try:
            yield
        finally:
            entered.append("out")

    media_type = f"image/{kind.lower()}"
    assert check_decodes(picture(kind, (100, 100)), media_type, alone)
    assert entered == []
    large = picture(kind, (100, 101))
    assert check_decodes(large, media_type, alone)
    assert entered == ["in", "out"]
