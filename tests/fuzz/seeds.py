"""Good bytes to begin from, one or a few for each parser."""

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from tilehaul.codec.pmtiles import HEADER_BYTES, PmtilesHeader, Span, header_bytes, packed
from tilehaul.codec.pmtiles_directory import Entry, directory_bytes
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.stores import geopackage_schema as gpkg

PNG = plain_png(TileId(0, 0, 0))
REGION = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
KEY = b"<Contents><Key>a</Key><Size>1</Size></Contents><IsTruncated>false</IsTruncated>"
LISTING = b"<ListBucketResult>" + KEY + b"</ListBucketResult>"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0"
GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
JPEG = b"\xff\xd8\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0\xff\xda\0\x08\1\1\0\0?\0\1\xff\xd9"
AVIF = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1\0\0\0\x10mdatabcdefgh"

OWS = (
    b'<ows:ExceptionReport xmlns:ows="http://www.opengis.net/ows/1.1">'
    b'<ows:Exception exceptionCode="TileOutOfRange">'
    b"<ows:ExceptionText>no such tile</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"
)
REGION_JOB = json.dumps(
    {"source": "s", "store": "a", "zooms": "1,3", "region": REGION, "deadline": 9}
).encode()
JOB = b'{"source": "s", "store": "a.mbtiles", "zooms": "0-3", "bbox": [5, 45, 11, 48], "max_failures": "1%"}'


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
