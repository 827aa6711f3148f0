"""The PMTiles library for browsers reads, in Chromium, over ranges from nginx, what tilehaul wrote."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import base64
import gzip
import os
import random
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager, suppress

import pytest
import pytest_asyncio

from doubles.chromium import ARGS, CHROMIUM, PACKAGES
from tilehaul.codec.sniff import VECTOR_TILE
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import plain_png
from tilehaul.ports.store import JobKey
from tilehaul.ports.tile import Tile
from tilehaul.stores.pmtiles import PmtilesStore

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
# `make browser-test` brings it.
LIBRARY = PACKAGES / "pmtiles" / "dist" / "pmtiles.js"

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(not LIBRARY.exists(), reason="the npm package pmtiles is not installed"),
]

# A browser's cache would answer some of what is counted.
CONFIG = """daemon off; {user} pid {root}/pid; error_log {root}/error.log; worker_processes 1; events {{}}
http {{
  {temp}
  log_format told '$uri $status $http_range $body_bytes_sent';
  access_log {root}/access.log told;
  server {{
    listen 127.0.0.1:{port};
    root {root}/files;
    types {{ text/html html; text/javascript js; }}
    add_header Cache-Control no-store;
  }}
}}
"""
PAGE = '<!DOCTYPE html><link rel="icon" href="data:,"><script src="pmtiles.js"></script>'
READ = """async ([name, places]) => {
  const archive = new pmtiles.PMTiles(`${location.origin}/${name}`);
  const header = await archive.getHeader();
  const metadata = await archive.getMetadata();
  const bodies = [];
  for (const [z, x, y] of places) {
    const tile = await archive.getZxy(z, x, y);
    bodies.push(tile ? btoa(String.fromCharCode(...new Uint8Array(tile.data))) : null);
  }
  return { header, metadata, bodies };
}"""


class Nginx:
    def __init__(self, root, port):
        self.root, self.url = root, f"http://127.0.0.1:{port}"
        self.files = root / "files"

    async def answers(self, name, count):
        """(status, first byte, last byte, bytes sent) of each request for a file; the log comes late."""
        found = []
        for _ in range(200):
            lines = (self.root / "access.log").read_text().splitlines()
            words = [line.split() for line in lines if line.startswith(f"/{name} ")]
            found = [
                (int(status), *map(int, asked.removeprefix("bytes=").split("-")), int(sent))
                for _, status, asked, sent in words
            ]
            if len(found) >= count:
                break
            await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def nginx(root):
    (root / "files").mkdir()
    (root / "files" / "page.html").write_text(PAGE)
    shutil.copy(LIBRARY, root / "files" / "pmtiles.js")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temp = " ".join(f"{kind}_temp_path {root}/{kind};" for kind in kinds)
    # As root its workers would be somebody who may not read the test's folders.
    user = "user root;" if os.geteuid() == 0 else ""
    (root / "conf").write_text(CONFIG.format(root=root, port=port, temp=temp, user=user))
    command = [str(NGINX), "-c", str(root / "conf"), "-e", str(root / "error.log")]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            await asyncio.sleep(0.01)
        yield Nginx(root, port)
    finally:
        server.terminate()
        server.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page():
    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield await started.new_page()
        await started.close()


async def written(path, tiles, told):
    store = PmtilesStore(path, durability="fast")
    await store.begin(JobKey("s", "S", "a", len(tiles), metadata=told))
    await store.commit(tiles)
    await store.finish(complete=True)
    await store.close()


async def read(page, server, name, tile_ids):
    await page.goto(f"{server.url}/page.html")
    got = await page.evaluate(READ, [name, [[i.z, i.x, i.y] for i in tile_ids]])
    got["bodies"] = [body if body is None else base64.b64decode(body) for body in got["bodies"]]
    return got


async def test_tiles_behind_leaves_by_ranges_alone(page, tmp_path):
    """21,845 tiles, no two alike: every tile asked for costs one request, every leaf it lies behind one."""
    tiles = [TileId(z, x, y) for z in range(8) for x in range(1 << z) for y in range(1 << z)]
    bodies = {i: plain_png(TileId(0, 0, 0)) + str(i).encode() for i in tiles}
    some = [TileId(0, 0, 0), TileId(4, 9, 3), TileId(7, 127, 127), *random.Random(7).sample(tiles, 9)]
    beyond = [TileId(8, 0, 0)]
    async with nginx(tmp_path) as server:
        path = server.files / "world.pmtiles"
        told = (("name", "World"), ("attribution", "us & <them>"), ("bounds", "-180,-85,180,85"))
        await written(path, [Tile(i, body, "image/png") for i, body in bodies.items()], told)
        got = await read(page, server, path.name, some + beyond)
        answers = await server.answers(path.name, 2 + len(some))
    header = got["header"]
    assert got["bodies"] == [*(bodies[i] for i in some), None]
    assert (header["numAddressedTiles"], header["numTileContents"]) == (len(tiles), len(tiles))
    assert (header["tileType"], header["minZoom"], header["maxZoom"], header["clustered"]) == (2, 0, 7, True)
    assert (header["minLon"], header["maxLat"]) == (-180, 85)
    assert got["metadata"]["name"] == "World"
    assert got["metadata"]["attribution"] == "us & <them>"
    assert {status for status, *_ in answers} == {206}
    data = [first for _, first, *_ in answers if first >= header["tileDataOffset"]]
    leaves_stop = header["leafDirectoryOffset"] + header["leafDirectoryLength"]
    leaves = [first for _, first, *_ in answers if header["leafDirectoryOffset"] <= first < leaves_stop]
    assert len(data) == len(some)
    assert len(leaves) == len(set(leaves)) > 1
    # The header with the root, and the metadata.
    assert len(answers) == 2 + len(leaves) + len(data)
    assert sum(sent for *_, sent in answers) < path.stat().st_size / 5


async def test_vector_tiles_are_kept_packed_and_read_plain(page, tmp_path):
    """The archive says gzip once for all tiles; the library unpacks them."""
    tile_id, plain = TileId(1, 1, 0), b"\x1a\x0b\x0a\x05roads\x28\x80\x20\x78\x02"
    layers = '{"vector_layers": [{"id": "roads", "fields": {"kind": "String"}}]}'
    async with nginx(tmp_path) as server:
        path = server.files / "roads.pmtiles"
        tile = Tile(tile_id, gzip.compress(plain, mtime=0), VECTOR_TILE)
        await written(path, [tile], (("name", "Roads"), ("format", "pbf"), ("json", layers)))
        got = await read(page, server, path.name, [tile_id, TileId(1, 0, 0)])
        answers = await server.answers(path.name, 3)
    assert got["bodies"] == [plain, None]
    assert (got["header"]["tileType"], got["header"]["tileCompression"]) == (1, 2)
    assert got["metadata"]["vector_layers"] == [{"id": "roads", "fields": {"kind": "String"}}]
    assert [status for status, *_ in answers] == [206] * 3
