"""One server on loopback for every kind of source over HTTP: it counts tiles, and heeds conditions."""

# mypy: allow-untyped-defs, allow-untyped-calls

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from PIL import Image

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


class Origin:
    """Use as a context manager. `asked` are the requests for tiles; documents and listings do not count.

    `headers` go with every tile; `gone`: there is none any more. `shade` is the colour of every tile, but not
    of those of `file`, a PMTiles file: the first 16 KiB of it are a document.
    """

    def __init__(self):
        self.asked, self.headers, self.shade, self.file = [], {}, 1, b""
        self.gone = False
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
                said = origin.said(path, {name.upper(): value for name, value in query.items()})
                if said is not None:
                    self.reply(200 if said else 404, {}, said)
                    return
                self.tile({name.upper(): value for name, value in query.items()})

            def tile(self, query):
                etag, date = self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since")
                condition = ("etag", etag) if etag else ("date", date) if date else None
                current = etag == origin.headers.get("ETag") if etag else False
                current |= bool(date) and not etag and date == origin.headers.get("Last-Modified")
                told, status = dict(origin.headers), 200
                asked = self.headers.get("Range")
                body = b""
                if origin.gone:
                    status = 404
                elif current:
                    status = 304
                elif asked:
                    first, last = map(int, asked.removeprefix("bytes=").split("-"))
                    body, status = origin.file[first : last + 1], 206
                    told["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(origin.file)}"
                else:
                    body = picture(origin.shade, int(query.get("WIDTH", 256)))
                if not (asked or "").startswith("bytes=0-"):
                    origin.asked.append(Asked(condition, status, len(body)))
                self.reply(status, told, body)

            def reply(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

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

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
