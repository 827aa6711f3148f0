"""What is fuzzed: each parser with the bytes it begins from. Nothing but a TilehaulError may come out."""

import gzip
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fuzz.services import WMS_SEEDS, WMTS_SEEDS, open_wms_of, open_wmts_of
from fuzz.tms import TMS_SEEDS, open_tms_of
from tilehaul.codec.coding import decode
from tilehaul.codec.http_dates import parse_http_date, parse_retry_after
from tilehaul.codec.limit_fields import parse_limit_fields
from tilehaul.codec.pmtiles import (
    HEADER_BYTES,
    PmtilesHeader,
    Span,
    header_bytes,
    packed,
    parse_header,
    parse_metadata,
)
from tilehaul.codec.pmtiles_directory import ID_STOP, Entry, directory_bytes, parse_directory
from tilehaul.codec.s3_listing import parse_listing
from tilehaul.codec.safe_url import redact, redact_text
from tilehaul.codec.url_template import parse_template
from tilehaul.codec.verify import verify_tile
from tilehaul.errors import TilehaulError
from tilehaul.grid.geojson import parse_region
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.stores import geopackage_schema as gpkg
from tilehaul.stores.geopackage_form import GeopackageForm
from tilehaul.stores.mbtiles_dedup import FlatForm
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.pmtiles_metadata import rows_of
from tilehaul.stores.pmtiles_reader import PmtilesReader
from tilehaul.stores.sqlite_form import ReadForm
from tilehaul.stores.sqlite_reader import SqliteReader
from tilehaul.stores.vector_layers import json_row_of, merged_json_row, vector_layers_of

WALL_S = 1_700_000_000.0
PNG = plain_png(TileId(0, 0, 0))


@dataclass(frozen=True)
class Parser:
    """`parse` is given any bytes; `seeds` are good ones to begin from."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    bytes_max: int = 4096


def archive_bytes() -> bytes:
    """A whole PMTiles archive of two tiles, one behind a leaf."""
    metadata = packed(b'{"name": "seed"}')
    leaf = packed(directory_bytes([Entry(0, 1, 0, len(PNG)), Entry(1, 4, 0, len(PNG))]))
    root = packed(directory_bytes([Entry(0, 0, 0, len(leaf))]))
    at = HEADER_BYTES + len(root)
    spans = (
        Span(HEADER_BYTES, len(root)),
        Span(at, len(metadata)),
        Span(at + len(metadata), len(leaf)),
        Span(at + len(metadata) + len(leaf), len(PNG)),
    )
    header = PmtilesHeader(
        *spans,
        5,
        2,
        1,
        clustered=True,
        tile_compression=1,
        tile_type=2,
        zoom_min=0,
        zoom_max=1,
        bounds_deg=(-180.0, -85.0, 180.0, 85.0),
        center=(0.0, 0.0, 0),
    )
    return header_bytes(header) + root + metadata + leaf + PNG


def mbtiles_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "seed.mbtiles")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA page_size=512")
            connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
            connection.execute("CREATE TABLE tiles (zoom_level, tile_column, tile_row, tile_data)")
            rows = [
                ("name", "n"),
                ("format", "pbf"),
                ("bounds", "-1,-2,3,4"),
                ("json", '{"vector_layers":[]}'),
            ]
            connection.executemany("INSERT INTO metadata VALUES (?, ?)", rows)
            connection.execute("INSERT INTO tiles VALUES (0, 0, 0, ?)", (b"\x1a\x02\x0a\x00",))
            connection.commit()
        return path.read_bytes()


def geopackage_bytes(*changes: str) -> bytes:
    """Zooms 0 and 1 of the whole world, changed by SQL statements."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "seed.gpkg")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA page_size=512")
            connection.execute(f"PRAGMA application_id={gpkg.APPLICATION_ID}")
            connection.executescript(gpkg.schema(gpkg.TILES))
            connection.execute("UPDATE gpkg_spatial_ref_sys SET definition = 'short'")
            for zoom in (0, 1):
                matrix = (gpkg.TILES, zoom, 1 << zoom, 1 << zoom, 256, 256, 1.0, 1.0)
                connection.execute("INSERT INTO gpkg_tile_matrix VALUES (?, ?, ?, ?, ?, ?, ?, ?)", matrix)
                connection.execute("INSERT INTO tiles VALUES (NULL, ?, 0, 0, ?)", (zoom, PNG[:64]))
            for change in changes:
                connection.execute(change)
        return path.read_bytes()


_FOLDER = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def _file(name: str, body: bytes) -> Path:
    path = Path(_FOLDER.name, name)
    path.write_bytes(body)
    return path


def _pmtiles(body: bytes) -> None:
    path = _file("f.pmtiles", body)
    file = PmtilesFile(path)
    try:
        for number in (0, 1, 5, ID_STOP - 1):
            entry = file.find(number)
            if entry is not None:
                file.body(entry)
        for _ in islice(file.walk(), 1000):
            pass
    finally:
        file.close()
    reader = PmtilesReader(path)
    try:
        reader.get(TileId(0, 0, 0))
        reader.source_info()
        reader.describe()
    finally:
        reader.release()


def _sqlite(name: str, form: ReadForm, body: bytes) -> None:
    reader = SqliteReader(_file(name, body), form)
    try:
        reader.source_info()
        reader.get(TileId(0, 0, 0))
        reader.describe()
        list(islice(reader.tile_ids(), 1000))
        list(islice(reader.dead_letters(), 1000))
    finally:
        reader.release()


def _mbtiles(body: bytes) -> None:
    _sqlite("f.mbtiles", FlatForm(), body)


def _geopackage(body: bytes) -> None:
    _sqlite("f.gpkg", GeopackageForm(), body)


def _metadata(body: bytes) -> None:
    rows = rows_of(parse_header(archive_bytes()), parse_metadata(body))
    for name in ("json", "vector_layers", *rows):
        text = rows.get(name, "")
        json_row_of(vector_layers_of(text))
        merged_json_row(text, '{"vector_layers": [{"id": "a"}]}')


def _vector_layers(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    json_row_of(vector_layers_of(text))
    merged_json_row(text, text)


def _template(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    redact(text)
    redact_text(text)
    parse_template(text).url(TileId(3, 1, 2))


def _limit_fields(body: bytes) -> None:
    names = (
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-reset",
        "ratelimit-limit",
        "x-rate-limit-remaining",
    )
    names += ("ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-remaining", "date", "ratelimit-reset")
    values = body.decode("latin-1").split("\n")
    parse_limit_fields(dict(zip(names, values, strict=False)), wall_s=WALL_S)


def _dates(body: bytes) -> None:
    value, _, date = body.decode("latin-1").partition("\n")
    parse_http_date(value, wall_s=WALL_S)
    delay_s = parse_retry_after(value, date_header=date or None, wall_s=WALL_S)
    if delay_s is not None and not 0.0 <= delay_s < float("inf"):
        raise AssertionError(f"a wait of {delay_s} s")


def _directory(body: bytes) -> None:
    parse_directory(body, tile_stop=1 << 40, leaf_stop=1 << 20, ids=(0, ID_STOP))


def _coding(body: bytes) -> None:
    for coding in ("gzip", "deflate"):
        try:
            decode(body, coding, 1 << 20)
        except TilehaulError:
            continue


_REGION = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
_KEY = b"<Contents><Key>a</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated>"
_LISTING = b"<ListBucketResult>" + _KEY + b"</ListBucketResult>"
_WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0"
_GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
_JPEG = b"\xff\xd8\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0\xff\xda\0\x08\1\1\0\0?\0\1\xff\xd9"
_AVIF = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1\0\0\0\x10mdatabcdefgh"

PARSERS = {
    "pmtiles-header": Parser(parse_header, (archive_bytes()[:HEADER_BYTES],), 512),
    "pmtiles-directory": Parser(_directory, (directory_bytes([Entry(0, 1, 0, 9), Entry(4, 0, 9, 9)]),)),
    "pmtiles-metadata": Parser(_metadata, (b'{"name": "a", "vector_layers": [{"id": "b", "fields": {}}]}',)),
    "pmtiles-archive": Parser(_pmtiles, (archive_bytes(),)),
    "mbtiles-archive": Parser(_mbtiles, (mbtiles_bytes(),), 8192),
    "geopackage-archive": Parser(_geopackage, (geopackage_bytes(),), 16384),
    "wms-capabilities": Parser(open_wms_of, WMS_SEEDS, 8192),
    "wmts-capabilities": Parser(open_wmts_of, WMTS_SEEDS, 8192),
    "tms-tilemap": Parser(open_tms_of, TMS_SEEDS, 8192),
    "vector-layers": Parser(_vector_layers, (b'{"vector_layers": [{"id": "b", "fields": {}}]}',)),
    "url-template": Parser(
        _template, (b"https://u:p@{a-c}.h/{z}/{x}/{-y}{r}.png?key=1", b"http://h/{q}?b={bbox-epsg-3857}")
    ),
    "limit-fields": Parser(
        _limit_fields, (b'"a";r=1;t=2\n"a";q=3;w=4\n1700000009', b"\n\n\n10, 10;w=5\n3\n2\n9\n8")
    ),
    "http-dates": Parser(
        _dates,
        (b"Sun, 06 Nov 1994 08:49:37 GMT\nSun Nov  6 08:49:37 1994", b"Sunday, 06-Nov-94 08:49:37 GMT\n"),
        256,
    ),
    "s3-listing": Parser(parse_listing, (_LISTING,)),
    "verify-tile": Parser(
        verify_tile,
        (PNG, _WEBP, _GIF, _JPEG, _AVIF, gzip.compress(b"\x1a\x02\x0a\0"), b"<html>", b"\x1a\x02\x0a\0"),
    ),
    "content-coding": Parser(_coding, (gzip.compress(b"tile" * 9, mtime=0),)),
    "geojson": Parser(parse_region, (json.dumps(_REGION).encode(),)),
}
