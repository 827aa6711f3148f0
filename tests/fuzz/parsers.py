"""What is fuzzed: each parser with the bytes it begins from. Nothing but a TilehaulError may come out."""

import gzip
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from doubles.wms import EXCEPTION
from doubles.wmts import document
from fuzz.seeds import (
    AVIF,
    GIF,
    JOB,
    JPEG,
    LISTING,
    OWS,
    PNG,
    REGION,
    REGION_JOB,
    WEBP,
    archive_bytes,
    geopackage_bytes,
    mbtiles_bytes,
)
from fuzz.services import WMS_SEEDS, WMTS_SEEDS, open_wms_of, open_wmts_of
from fuzz.tms import TMS_SEEDS, open_tms_of
from tilehaul.codec import picture_form
from tilehaul.codec.coding import decode
from tilehaul.codec.http_dates import parse_http_date, parse_retry_after
from tilehaul.codec.limit_fields import parse_limit_fields
from tilehaul.codec.pmtiles import (
    HEADER_BYTES,
    parse_header,
    parse_metadata,
)
from tilehaul.codec.pmtiles_directory import ID_STOP, Entry, directory_bytes, parse_directory
from tilehaul.codec.s3_listing import parse_listing
from tilehaul.codec.safe_url import redact, redact_text
from tilehaul.codec.safe_xml import exception_said, is_out_of_range
from tilehaul.codec.url_template import parse_template
from tilehaul.codec.verify import verify_tile
from tilehaul.config.job_request import area_of, failures_of, parse_job_request, store_of
from tilehaul.errors import TilehaulError
from tilehaul.grid.geojson import parse_region
from tilehaul.grid.tile_id import TileId
from tilehaul.stores.geopackage_form import GeopackageForm
from tilehaul.stores.mbtiles_dedup import FlatForm
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.pmtiles_metadata import rows_of
from tilehaul.stores.pmtiles_reader import PmtilesReader
from tilehaul.stores.sqlite_form import ReadForm
from tilehaul.stores.sqlite_reader import SqliteReader
from tilehaul.stores.vector_layers import json_row_of, merged_json_row, vector_layers_of

DIGITS = b">" + b"1" * 5000 + b"<"
DIGITS_PAIR = b"[1, " + b"1" * 400 + b"]"
WALL_S = 1_700_000_000.0


@dataclass(frozen=True)
class Parser:
    """`parse` is given any bytes; `seeds` are good ones to begin from.

    Python refuses whole numbers of more than 4,300 digits with an error of its own: bodies may be longer.
    """

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    bytes_max: int = 8192


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


def _mbtiles(body: bytes) -> None:
    _read_all(_file("f.mbtiles", body), FlatForm())


def _geopackage(body: bytes) -> None:
    _read_all(_file("f.gpkg", body), GeopackageForm())


def _read_all(path: Path, form: ReadForm) -> None:
    reader = SqliteReader(path, form)
    try:
        reader.source_info()
        reader.get(TileId(0, 0, 0))
        reader.describe()
        list(islice(reader.tile_ids(), 1000))
        list(islice(reader.dead_letters(), 1000))
    finally:
        reader.release()


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


def _wmts_numbers(body: bytes) -> None:
    """Good XML around any words where numbers belong: plain mutation seldom leaves the XML whole."""
    words = body.decode("utf-8", "replace").replace("<", "").replace("&", "").split("\n")
    places = iter(words)
    number = re.compile(r"(?<=>)-?[\d.]+( -?[\d.]+)?(?=</)")
    open_wmts_of(number.sub(lambda found: next(places, found[0]), document().decode()).encode("utf-8"))


def _pictures(body: bytes) -> None:
    """Each form is given every body, not only those that begin like it."""
    for check in (
        picture_form.check_png,
        picture_form.check_jpeg,
        picture_form.check_webp,
        picture_form.check_gif,
        picture_form.check_avif,
    ):
        try:
            check(body)
        except TilehaulError:
            continue


def _job_request(body: bytes) -> None:
    request = parse_job_request(body)
    area = area_of(request, tiles_max=1000)
    for _ in area:
        pass
    store_of(request.store, Path(_FOLDER.name))
    failures_of(request.max_failures)


def _exceptions(body: bytes) -> None:
    is_out_of_range(body)
    if len(exception_said(b"<ExceptionReport>" + body).splitlines()) > 1:
        raise AssertionError("more than one line")


PARSERS = {
    "pmtiles-header": Parser(parse_header, (archive_bytes()[:HEADER_BYTES],), 512),
    "pmtiles-directory": Parser(_directory, (directory_bytes([Entry(0, 1, 0, 9), Entry(4, 0, 9, 9)]),)),
    "pmtiles-metadata": Parser(_metadata, (b'{"name": "a", "vector_layers": [{"id": "b", "fields": {}}]}',)),
    "pmtiles-archive": Parser(_pmtiles, (archive_bytes(),)),
    "mbtiles-archive": Parser(_mbtiles, (mbtiles_bytes(),)),
    "geopackage-archive": Parser(_geopackage, (geopackage_bytes(),), 16384),
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
    "s3-listing": Parser(parse_listing, (LISTING, LISTING.replace(b">1<", DIGITS))),
    "wms-capabilities": Parser(open_wms_of, WMS_SEEDS),
    "wmts-capabilities": Parser(open_wmts_of, WMTS_SEEDS),
    "tms-tilemap": Parser(open_tms_of, TMS_SEEDS),
    "wmts-numbers": Parser(
        _wmts_numbers, (b"-180 -85\n180 85\n1\n559082264.0287178\n0 0\n256\n256\n1\n1",), 512
    ),
    "ogc-exceptions": Parser(_exceptions, (EXCEPTION.encode(), OWS)),
    "job-request": Parser(_job_request, (JOB, REGION_JOB)),
    "picture-forms": Parser(_pictures, (PNG, WEBP, GIF, JPEG, AVIF)),
    "verify-tile": Parser(
        verify_tile,
        (PNG, WEBP, GIF, JPEG, AVIF, gzip.compress(b"\x1a\x02\x0a\0"), b"<html>", b"\x1a\x02\x0a\0"),
    ),
    "content-coding": Parser(_coding, (gzip.compress(b"tile" * 9, mtime=0),)),
    "geojson": Parser(
        parse_region,
        (json.dumps(REGION).encode(), json.dumps(REGION).encode().replace(b"[1, 1]", DIGITS_PAIR)),
    ),
}
