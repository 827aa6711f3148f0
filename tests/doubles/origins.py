"""One server on loopback for every kind of source over HTTP: it counts tiles, and heeds conditions."""

# mypy: allow-untyped-defs, allow-untyped-calls

import io
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from PIL import Image

from doubles.loopback import Answer, Loopback
from doubles.tms import tile_map, tile_set
from doubles.wms import CAPABILITIES_130
from doubles.wmts import document

KINDS = ("xyz", "wmts-rest", "wmts-kvp", "tms", "wms", "bucket", "pmtiles")
LISTING = (
    '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
    "<Contents><Key>map/1/1/0.png</Key><Size>70</Size></Contents>"
    "<CommonPrefixes><Prefix>map/1/</Prefix></CommonPrefixes></ListBucketResult>"
)


class Asked(NamedTuple):
    """One request for tiles: the condition it came with, and what was sent."""

    condition: tuple[str, str] | None
    status: int
    body_bytes: int


def picture(shade, side=256):
    """A PNG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 10, 10)).save(out, "PNG", compress_level=1)
    return out.getvalue()


class Origin(Loopback):
    """Use as a context manager. `asked` are the requests for tiles; documents and listings do not count.

    `headers` go with every tile; `gone`: there is none any more. `shade` is the colour of every tile, but not
    of those of `file`, a PMTiles file: the first 16 KiB of it are a document.
    """

    def __init__(self):
        super().__init__()
        self.asked, self.headers, self.shade, self.file = [], {}, 1, b""
        self.gone = False

    def answered(self, path, headers):
        parts = urlsplit(path)
        query = {name.upper(): value for name, value in parse_qsl(parts.query)}
        said = self.said(parts.path, query)
        if said is not None:
            return Answer(200 if said else 404, {}, said)
        return self.tile(query, headers)

    def tile(self, query, headers):
        etag, date = headers.get("If-None-Match"), headers.get("If-Modified-Since")
        condition = ("etag", etag) if etag else ("date", date) if date else None
        current = etag == self.headers.get("ETag") if etag else False
        current |= bool(date) and not etag and date == self.headers.get("Last-Modified")
        told, status = dict(self.headers), 200
        asked = headers.get("Range")
        body = b""
        if self.gone:
            status = 404
        elif current:
            status = 304
        elif asked:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
            body, status = self.file[first : last + 1], 206
            told["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(self.file)}"
        else:
            body = picture(self.shade, int(query.get("WIDTH", 256)))
        if not (asked or "").startswith("bytes=0-"):
            self.asked.append(Asked(condition, status, len(body)))
        return Answer(status, told, body)

    def said(self, path, query):
        """The document there, empty for none; None: tiles are there."""
        if query.get("REQUEST") == "GetCapabilities":
            if query.get("SERVICE") == "WMTS":
                return document(self.url)
            return (CAPABILITIES_130 % {"url": f"{self.url}/wms?", "east": "180", "most": "2048"}).encode()
        if path == "/tms":
            levels = [tile_set(order, order + 1, f"{self.url}/tms/") for order in range(2)]
            return tile_map(*levels)
        if query.get("LIST-TYPE"):
            return LISTING.encode()
        return b"" if path.endswith("metadata.json") else None

    def location(self, kind):
        """Where a kind of source is."""
        return {
            "xyz": f"{self.url}/xyz/{{z}}/{{x}}/{{y}}.png",
            "wmts-rest": f"wmts+{self.url}/kvp?layer=alps&tilehaul.encoding=rest",
            "wmts-kvp": f"wmts+{self.url}/kvp?layer=alps&tilehaul.encoding=kvp",
            "tms": f"tms+{self.url}/tms",
            "wms": f"wms+{self.url}/wms?layers=relief&tilehaul.meta=2&tilehaul.buffer=0",
            "bucket": "s3://tiles/map",
            "pmtiles": f"{self.url}/world.pmtiles",
        }[kind]
