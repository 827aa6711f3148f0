"""A picture file that is to be cut: what its header says, and its pixels in strips from the top."""

import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from tilehaul.codec.sniff import JPEG, PNG, TIFF, WEBP
from tilehaul.errors import ConfigError, PlanError, StorageError
from tilehaul.grid.pyramid import PICTURE_PIXELS_MAX
from tilehaul.sources.colour_profile import to_srgb

try:
    from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
except ImportError as error:
    raise ConfigError("this needs Pillow: pip install 'tilehaul[pixels]'") from error

# Decoded whole by Pillow up to here (320 MB with transparency); beyond, read in strips by libvips. Also the
# most pixels of one row of tiles. Below Pillow's own limit for bombs (89 million).
PIXELS_IN_MEMORY_MAX: Final = 80_000_000

# Rows taken from libvips at once: its buffers are as high as what is asked for (of 30,000 px width 190 MB in
# all with 16 rows, 270 MB with 256; measured).
PIECE_ROWS: Final = 16

# By the first bytes. These classes and not Image.open: it refuses what is large, and tries forty formats.
_FORMS: Final[tuple[tuple[bytes, str, Any], ...]] = (
    (b"\xff\xd8\xff", JPEG, JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PNG, PngImagePlugin.PngImageFile),
    (b"RIFF", WEBP, WebPImagePlugin.WebPImageFile),
    (b"II*\0", TIFF, TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TIFF, TiffImagePlugin.TiffImageFile),
    (b"II+\0", TIFF, TiffImagePlugin.TiffImageFile),
    (b"MM\0+", TIFF, TiffImagePlugin.TiffImageFile),
)
_HEAD_BYTES: Final = 8
# What a header of somebody else's may make Pillow raise.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
_GREY_16 = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
# What tiles are made of, by the mode that Pillow reads.
_MODES: Final = {
    **dict.fromkeys(("1", "L", *_GREY_16), "L"),
    **dict.fromkeys(("P", "RGB", "YCbCr"), "RGB"),
    **dict.fromkeys(("LA", "La", "PA", "RGBA", "RGBa"), "RGBA"),
}
_WHY_NOT: Final = {
    "CMYK": "in the colours of a printer (CMYK): convert it to sRGB with its colour profile first",
    "LAB": "in the colours of CIE L*a*b*: convert it to sRGB first",
    "I": "of 32 bits a sample: scale it to 8 or 16 bits first",
    "F": "of fractions: scale it to 8 or 16 bits first",
}
# Exif 2.32, 4.6.4.A, tag 274: how to turn the stored picture so that it stands upright.
_ORIENTATION_TAG: Final = 0x0112
# TIFF 6.0, ImageWidth and ImageLength: as stored.
_SIZE_TAGS: Final = (256, 257)
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = 5

# Rows top..lower (exclusive) of the upright picture, each asked for once, from the top.
Rows = Callable[[int, int], "Image.Image"]


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture's header. Sizes are those of it upright; `mode` is `L`, `RGB` or `RGBA`, of eight bits.
    `profile` is its ICC profile, empty without one.
    """

    path: Path
    media_type: str
    width: int
    height: int
    mode: str
    orientation: int
    profile: bytes = field(default=b"", repr=False)

    @property
    def is_large(self) -> bool:
        return self.width * self.height > PIXELS_IN_MEMORY_MAX

    def rows(self) -> Rows:
        """Begin a pass over the picture, in the colours of sRGB. Blocking, as the passes are.

        Raises:
            ConfigError: It is too large for Pillow and there is no libvips.
            StorageError: It is damaged, or the disk refused; the passes raise that too.
        """
        rows = _vips_rows(self) if self.is_large else _pillow_rows(self)
        turned = to_srgb(self.profile, self.mode)
        return rows if turned is None else lambda top, lower: turned(rows(top, lower))


def open_picture(path: Path) -> PictureFile:
    """Read a picture's header; nothing is decoded.

    Raises:
        PlanError: There is no such file, or it is no picture that can be cut; the message says why.
        StorageError: The disk refused.
    """
    if not path.is_file():
        raise PlanError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # Of odd metadata in what is a sound picture, and of a WebP's size, which is judged below.
            warnings.simplefilter("ignore")
            media_type, opened = _opened(path, file)
            with opened:
                return _described(path, media_type, opened)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error


def _opened(path: Path, file: BinaryIO) -> tuple[str, Any]:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    for magic, media_type, form in _FORMS:
        if head.startswith(magic):
            try:
                return media_type, form(file)
            except _BROKEN as error:
                what = f"{path} is damaged, or an {media_type} of a kind that cannot be cut"
                raise PlanError(f"{what}: {_line(error)}") from error
    raise PlanError(f"{path} is no picture that can be cut: JPEG, PNG, TIFF and WebP are known")


def _described(path: Path, media_type: str, opened: Any) -> PictureFile:
    # Of a TIFF Pillow tells the size that it has upright.
    width, height = opened.size if media_type != TIFF else map(opened.tag_v2.get, _SIZE_TAGS)
    if width * height > PICTURE_PIXELS_MAX:
        raise PlanError(
            f"{path} says it has {width} x {height} px: {PICTURE_PIXELS_MAX:,} pixels are the most"
        )
    mode = _MODES.get(opened.mode)
    # JPEG: Pillow knows four samples only as CMYK, Adobe's YCCK among them.
    if mode is None:
        why = _WHY_NOT.get(opened.mode, f"of the kind {opened.mode}: convert it to RGB first")
        raise PlanError(f"{path} is {why}")
    if "transparency" in opened.info:
        if opened.mode in _GREY_16:
            raise PlanError(f"{path} has 16 bits and a transparent colour: give it an alpha channel first")
        mode = "RGBA"
    orientation = _orientation(opened)
    if orientation >= _SIDEWAYS:
        width, height = height, width
    profile = opened.info.get("icc_profile") or b""
    picture = PictureFile(path, media_type, width, height, mode, orientation, profile)
    if picture.is_large:
        _check_streams(path, media_type, opened.info)
    return picture


def _orientation(opened: Any) -> int:
    # PNG: Pillow would decode all of it to look for the chunk behind the pixels.
    if isinstance(opened, PngImagePlugin.PngImageFile) and "exif" not in opened.info:
        return 1
    try:
        turned = opened.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN:
        return 1
    return turned if turned in _TURNS else 1


def _check_streams(path: Path, media_type: str, info: dict[str, Any]) -> None:
    """Refuse what can only be decoded whole, which must not happen in memory."""
    whole = {
        JPEG: "a progressive JPEG" if info.get("progressive") else "",
        PNG: "an interlaced PNG" if info.get("interlace") else "",
        WEBP: "a WebP",
    }.get(media_type)
    if whole:
        raise PlanError(
            f"{path} is {whole} of more than {PIXELS_IN_MEMORY_MAX:,} pixels, and not to be read in strips: "
            "save it as a baseline JPEG, a PNG that is not interlaced or a TIFF first"
        )


def _pillow_rows(picture: PictureFile) -> Rows:
    path = picture.path
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = _opened(path, file)[1]
            opened.load()
            whole = opened if opened.mode == picture.mode else _converted(opened, picture.mode)
            # Pillow turns a TIFF while it loads it, and forgets the tag.
            turned = picture.media_type == TIFF and _ORIENTATION_TAG not in opened.tag_v2
    except (PlanError, *_BROKEN) as error:
        raise _damaged(path, error) from error
    if picture.orientation in _TURNS and not turned:
        whole = whole.transpose(_TURNS[picture.orientation])
    if whole.size != (picture.width, picture.height):
        raise StorageError(f"{path} was changed while it was read")
    return lambda top, lower: whole.crop((0, top, picture.width, lower))


def _converted(opened: "Image.Image", mode: str) -> "Image.Image":
    if opened.mode in _GREY_16:
        # Pillow's own conversion would make everything above 255 white.
        return opened.point(lambda value: value / 257.0).convert("L")
    return opened.convert(mode)


def _vips_rows(picture: PictureFile) -> Rows:
    try:
        import pyvips  # noqa: PLC0415  an extra, and 18 MB
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"{picture.path} has more than {PIXELS_IN_MEMORY_MAX:,} pixels, and reading it in strips needs "
            "libvips: pip install 'tilehaul[pixels]'"
        ) from error
    path, turned = picture.path, picture.orientation in _TURNS
    bands = len(picture.mode)
    try:
        # Turning needs all of it at any time: libvips puts it into a temporary file then, not into memory.
        image = pyvips.Image.new_from_file(
            str(path), access="random" if turned else "sequential", fail_on="error", revalidate=True
        )
        image = image.autorot() if turned else image
        image = image.colourspace("b-w" if picture.mode == "L" else "srgb").cast("uchar")
        if image.bands == bands - 1 and picture.mode == "RGBA":
            image = image.bandjoin(255)
        if (image.width, image.height, image.bands) != (picture.width, picture.height, bands):
            found = f"{image.width} x {image.height} px, {image.bands} samples"
            raise StorageError(f"{path}: libvips reads {found}, not {picture}")
        region = pyvips.Region.new(image)
    except pyvips.Error as error:
        raise _damaged(path, error) from error

    def rows(top: int, lower: int) -> "Image.Image":
        strip = Image.new(picture.mode, (picture.width, lower - top))
        for row in range(top, lower, PIECE_ROWS):
            size = (picture.width, min(PIECE_ROWS, lower - row))
            try:
                pixels = region.fetch(0, row, *size)
            except pyvips.Error as error:
                raise _damaged(path, error, below=row) from error
            strip.paste(
                Image.frombuffer(picture.mode, size, pixels, "raw", picture.mode, 0, 1), (0, row - top)
            )
        return strip

    return rows


def _damaged(path: Path, error: Exception, *, below: int | None = None) -> StorageError:
    where = "" if below is None else f" below row {below}"
    return StorageError(f"{path} cannot be decoded{where}: {_line(error)}")


def _line(error: Exception) -> str:
    """The foreign message in one line."""
    return " ".join(str(error).split()) or type(error).__name__
