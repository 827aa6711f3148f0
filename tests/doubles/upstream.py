"""One set of tiles behind every kind of address: an HTTP server on loopback that can be told to misbehave."""

# mypy: allow-untyped-defs, allow-untyped-calls

import threading
from math import log2
from urllib.parse import parse_qsl, urlsplit

from doubles.loopback import Answer, Loopback, answer
from doubles.tms import tile_map, tile_set
from doubles.wms import CAPABILITIES_130, HALF_WORLD_M
from doubles.wmts import SCALE_0, document, matrix
from tilehaul.grid.tile_id import TileId

ZOOM_MAX = 4


class Upstream(Loopback):
    """Use as a context manager. `tiles` are served at every kind of address, `files` by ranges of their path.

    `asked` are the tiles that were asked for, one entry a request. `answers` replaces the answer to a tile:
    (status, content type, body, bytes that are held back of it).
    """

    def __init__(self, tiles):
        super().__init__()
        self.tiles, self.files, self.answers, self.asked = dict(tiles), {}, {}, []
        self.lock = threading.Lock()

    def answered(self, path, headers):
        parts = urlsplit(path)
        query = {name.upper(): value for name, value in parse_qsl(parts.query)}
        tile_id = address_of(parts.path, query)
        if tile_id is None:
            if parts.path in self.files:
                return piece(self.files[parts.path], headers["Range"])
            return answer(200, "text/xml", described(self.url, parts.path))
        with self.lock:
            self.asked.append(tile_id)
        if tile_id in self.answers:
            return answer(*self.answers[tile_id])
        if tile_id in self.tiles:
            return answer(200, "image/png", self.tiles[tile_id])
        return answer(404, "text/plain", b"no such tile")


def piece(body, asked):
    first, _, last = asked.removeprefix("bytes=").partition("-")
    cut = body[int(first) : int(last) + 1]
    told = f"bytes {first}-{int(first) + len(cut) - 1}/{len(body)}"
    headers = {"Content-Type": "application/octet-stream", "Content-Range": told, "ETag": '"1"'}
    return Answer(206, headers, cut)


def address_of(path, query):
    """The tile that a request asks for, whatever kind it is of; None: something else."""
    if query.get("REQUEST") == "GetMap":
        return of_box([float(part) for part in query["BBOX"].split(",")])
    if query.get("REQUEST") == "GetTile":
        return TileId(int(query["TILEMATRIX"]), int(query["TILECOL"]), int(query["TILEROW"]))
    if not path.endswith(".png"):
        return None
    kind, *parts = path.removesuffix(".png").strip("/").split("/")
    if kind == "quadkey":
        return of_quadkey(parts[0])
    z, x, y = map(int, parts[-3:])
    if kind == "tms":
        # One level off, as MapProxy has it.
        z += 1
    return TileId(z, x, (1 << z) - 1 - y) if kind in ("tms", "south") else TileId(z, x, y)


def of_quadkey(key):
    digits = [int(digit) for digit in key]
    z = len(digits)
    x = sum((digit & 1) << (z - 1 - at) for at, digit in enumerate(digits))
    y = sum((digit >> 1) << (z - 1 - at) for at, digit in enumerate(digits))
    return TileId(z, x, y)


def of_box(box):
    west, _, east, north = box
    z = round(log2(2 * HALF_WORLD_M / (east - west)))
    side_m = 2 * HALF_WORLD_M / (1 << z)
    return TileId(z, round((west + HALF_WORLD_M) / side_m), round((HALF_WORLD_M - north) / side_m))


def described(url, path):
    """What a service says of itself."""
    if path == "/wms":
        return (CAPABILITIES_130 % {"url": f"{url}/wms?", "east": "180", "most": "2048"}).encode()
    if path == "/wmts.xml":
        levels = "".join(matrix(str(z), SCALE_0 / (1 << z), side=1 << z) for z in range(ZOOM_MAX + 1))
        text = document(url, levels).decode()
        begin, end = text.index("<TileMatrixSetLimits>"), text.index("</TileMatrixSetLimits>")
        text = text[:begin] + text[end + len("</TileMatrixSetLimits>") :]
        return text.replace(f"{url}/alps/{{style}}/{{Time}}/{{TileMatrixSet}}", f"{url}/wmts").encode()
    return tile_map(*(tile_set(z - 1, z, base=f"{url}/tms/1.0.0/alps/") for z in range(1, ZOOM_MAX + 1)))
