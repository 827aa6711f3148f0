"""The header and the metadata of a PMTiles archive, version 3.

Source: PMTiles specification v3 (https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md), "Header",
"JSON Metadata". Directories are in `codec/pmtiles_directory.py`.
"""

import gzip
import json
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from tilehaul.codec.coding import decode
from tilehaul.codec.sniff import AVIF, JPEG, PNG, VECTOR_TILE, WEBP
from tilehaul.errors import DataError, PlanError, RefusedError

MIB = 1024 * 1024
HEADER_BYTES = 127
# Header and root directory lie within so many first bytes: one request gets both.
HEAD_BYTES = 16_384
ROOT_BYTES_MAX = HEAD_BYTES - HEADER_BYTES
# Statistics of every attribute reach some MiB; coded and decoded.
METADATA_BYTES_MAX = 16 * MIB
# Deflate's own limit is 1032:1, and directories of equal steps come close to it.
CODED_RATIO_MAX = 1100
ZOOM_MAX = 30

# Compression codes.
UNKNOWN, NONE, GZIP, BROTLI, ZSTD = range(5)
_COMPRESSIONS = {UNKNOWN: "unknown", NONE: "none", GZIP: "gzip", BROTLI: "brotli", ZSTD: "zstd"}
# Tile type codes; 0 is "other", 6 (the last there is) is MapLibre Tile, which tilehaul does not know.
TILE_TYPES = {1: VECTOR_TILE, 2: PNG, 3: JPEG, 4: WEBP, 5: AVIF}
_CODES = {media_type: code for code, media_type in TILE_TYPES.items()}
TILE_TYPE_MAX = 6
VECTOR_TYPE = 1

_HEADER = struct.Struct("<7sB 11Q 6B 4i B 2i")
_MAGIC = b"PMTiles"
_DEGREE = 10_000_000


class Span(NamedTuple):
    """`length` bytes from `offset` on."""

    offset: int
    length: int

    @property
    def stop(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class PmtilesHeader:
    """The header. Offsets are from the start of the file; zooms inclusive, 0..30.

    `addressed`, `entries`, `contents` count tiles, directory entries and different bodies; 0: not known.
    `bounds_deg` is (west, south, east, north), `center` (longitude, latitude, zoom); degrees of WGS 84.
    """

    root: Span
    metadata: Span
    leaves: Span
    data: Span
    addressed: int = 0
    entries: int = 0
    contents: int = 0
    clustered: bool = False
    internal_compression: int = GZIP
    tile_compression: int = NONE
    tile_type: int = 0
    zoom_min: int = 0
    zoom_max: int = 0
    bounds_deg: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    center: tuple[float, float, int] = (0.0, 0.0, 0)

    @property
    def media_type(self) -> str:
        """Of the tiles; empty for "other" and for what is not known."""
        return TILE_TYPES.get(self.tile_type, "")


def tile_type_of(media_type: str) -> int:
    """The code of a media type; 0, "other", where PMTiles has none."""
    return _CODES.get(media_type, 0)


def header_bytes(header: PmtilesHeader) -> bytes:
    """The 127 bytes."""
    longitude, latitude, zoom = header.center
    return _HEADER.pack(
        _MAGIC,
        3,
        *header.root,
        *header.metadata,
        *header.leaves,
        *header.data,
        header.addressed,
        header.entries,
        header.contents,
        header.clustered,
        header.internal_compression,
        header.tile_compression,
        header.tile_type,
        header.zoom_min,
        header.zoom_max,
        *(round(side * _DEGREE) for side in header.bounds_deg),
        zoom,
        round(longitude * _DEGREE),
        round(latitude * _DEGREE),
    )


def parse_header(head: bytes, *, size_bytes: int | None = None) -> PmtilesHeader:
    """The header from the first bytes of a file.

    Args:
        head: At least 127 bytes, else it counts as cut off.
        size_bytes: Of the whole file, where it is known: sections must lie within.

    Raises:
        DataError: No PMTiles, cut off, or numbers that make no sense (`corrupt_archive`).
        PlanError: A version or a compression that tilehaul does not read.
    """
    if head[:7] != _MAGIC[: len(head)] or len(head) < 8:
        raise damaged("it does not begin as a PMTiles archive does")
    if head[7] != 3:
        raise PlanError(f"it is PMTiles version {head[7]}, and tilehaul reads version 3: convert it first")
    if len(head) < HEADER_BYTES:
        raise damaged("it ends within its header")
    numbers = _HEADER.unpack_from(head)[2:]
    root, metadata, leaves, data = (Span(*numbers[at : at + 2]) for at in (0, 2, 4, 6))
    addressed, entries, contents, clustered, internal, tiles, tile_type, zoom_min, zoom_max = numbers[8:17]
    west, south, east, north, center_zoom, longitude, latitude = numbers[17:]
    if root.offset < HEADER_BYTES or not root.length or root.stop > HEAD_BYTES:
        raise damaged(f"its root directory is not within the first {HEAD_BYTES} bytes")
    if metadata.length > METADATA_BYTES_MAX:
        raise damaged(f"its metadata have {metadata.length} bytes, allowed are {METADATA_BYTES_MAX}")
    for name, span in (("root", root), ("metadata", metadata), ("leaves", leaves), ("tiles", data)):
        if span.stop >= 1 << 63 or (size_bytes is not None and span.length and span.stop > size_bytes):
            raise damaged(f"its {name} end at byte {span.stop}, behind the end of the file: it was cut off")
        if span.length and span.offset < HEADER_BYTES:
            raise damaged(f"its {name} begin within the header")
    if clustered > 1 or not zoom_min <= zoom_max <= ZOOM_MAX:
        raise damaged(f"zooms {zoom_min}..{zoom_max}, clustered {clustered}: its header makes no sense")
    for what, code in (("directories", internal), ("tiles", tiles)):
        if code > ZSTD:
            raise damaged(f"the compression of its {what} is number {code}, which does not exist")
        if code in (BROTLI, ZSTD):
            raise PlanError(
                f"its {what} are compressed with {_COMPRESSIONS[code]}, which tilehaul does not read"
            )
    return PmtilesHeader(
        root,
        metadata,
        leaves,
        data,
        addressed,
        entries,
        contents,
        bool(clustered),
        internal,
        tiles,
        tile_type,
        zoom_min,
        zoom_max,
        (west / _DEGREE, south / _DEGREE, east / _DEGREE, north / _DEGREE),
        (longitude / _DEGREE, latitude / _DEGREE, center_zoom),
    )


def packed(body: bytes) -> bytes:
    """A directory or metadata as this program writes them: gzip, the same bytes for the same content."""
    return gzip.compress(body, 9, mtime=0)


def unpacked(body: bytes, compression: int, limit_bytes: int, what: str) -> bytes:
    """What `packed` packed, by whomever. DataError (`corrupt_archive`) also beyond `limit_bytes`."""
    coding = "gzip" if compression == GZIP else "identity"
    try:
        return decode(body, coding, limit_bytes, CODED_RATIO_MAX)
    except (DataError, RefusedError) as error:
        raise damaged(f"{what}: {error}") from error


def parse_metadata(body: bytes) -> dict[str, Any]:
    """The metadata, decompressed; no bytes at all count as none. DataError when it is no JSON object."""
    if not body:
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise damaged(f"its metadata are no JSON ({type(error).__name__})") from error
    if not isinstance(document, dict):
        raise damaged("its metadata are no JSON object")
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        # Python's parser reads half a pair, which no file, terminal or page can be given (RFC 8259, 8.2).
        raise damaged("its metadata hold half a character (a surrogate without its other half)") from error
    return document


def damaged(what: str) -> DataError:
    return DataError(what, cause="corrupt_archive")
