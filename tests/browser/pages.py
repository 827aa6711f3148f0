"""Pages in a real browser: the service they ask, the browser itself, waiting and looking."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import io
import os
import random
import re
import struct
import time
import zlib
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from doubles.chromium import CHROMIUM
from tilehaul.errors import BrokenError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.net.clock import SystemClock
from tilehaul.policy.freshness import Freshness, FreshnessRule
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.server.app import Server, make_app
from tilehaul.sources.background import Background
from tilehaul.sources.cached import CachedSource
from tilehaul.sources.coalesced import CoalescedSource
from tilehaul.sources.timed import TimedSource
from tilehaul.stores.memory_cache import MemoryCache

WAIT_MS = 10_000
POLL_S = 0.02

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
marks = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


def colour_of(tile_id: TileId) -> bytes:
    """A colour that depends on the address, three bytes."""
    luck = random.Random(str(tile_id))
    return bytes((20 + luck.randrange(30), 70 + luck.randrange(60), 100 + luck.randrange(60)))


def plain_png(colour: bytes) -> bytes:
    """A tile of one colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + colour * 256) * 256
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


class PaintedSource:
    """Every tile painted; those of `broken` columns fail, those of `holes` are absent.

    `places` names where the tiles of a column say they were found; those of `stale` columns come 12 s past
    their freshness. `colour`: of all tiles, three bytes. `lanes` are those the service tells of.
    """

    def __init__(self, *, broken=(), holes=(), places=None, stale=(), colour=b"", lanes=(), **info):
        self.info = SourceInfo(**{"name": "painted", "identity": "p", "media_type": "image/png", **info})
        self.broken = set(broken)
        self.holes = set(holes)
        self.places = places or {}
        self.stale = set(stale)
        self.colour = colour
        self.lanes = lanes
        self.asked = []

    async def get(self, tile_id):
        self.asked.append(tile_id)
        if tile_id.x in self.broken:
            raise BrokenError("the origin failed", cause="http_500")
        if tile_id.x in self.holes:
            return NoTile(tile_id, "http_404")
        return Tile(
            tile_id,
            plain_png(self.colour or colour_of(tile_id)),
            self.info.media_type,
            place=self.places.get(tile_id.x, "origin"),
            freshness=Freshness(60.0, 72.0, 600.0, 600.0) if tile_id.x in self.stale else None,
        )


@asynccontextmanager
async def serving(**sources):
    clock, cache, layers = SystemClock(), MemoryCache(now_s=time.monotonic), []
    for name, source in sources.items():
        stats = TileStats()
        wrapped = CachedSource(
            CoalescedSource(TimedSource(source, clock=clock, watch=stats), joined=stats.joined),
            cache=cache,
            layer=name,
            rule=FreshnessRule(),
            luck=random.Random(1).random,
            background=Background(),
        )
        layers.append(
            Layer(name, wrapped, title=name.title(), stats=stats, lanes=lambda source=source: source.lanes)
        )
    async with Server(make_app(layers, cache, clock=clock), port=0, drain_s=1) as server:
        yield server.url, {layer.name: layer for layer in layers}


@asynccontextmanager
async def browsing(
    browser, url, *, width=1200, height=800, dark=True, touch=False, script="", failures_expected=()
):
    """A page on `url`. Leaving fails the test for any console error or failed request not expected.

    `script` runs before the page's own.
    """
    wrong = []

    def tell(kind, text, address=""):
        if not any(re.search(expected, f"{text} {address}") for expected in failures_expected):
            wrong.append(f"{kind}: {text} {address}")

    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
    )
    if script:
        await context.add_init_script(script)
    page = await context.new_page()
    page.on(
        "console",
        lambda message: (
            message.type in ("error", "warning")
            and tell("console", message.text, message.location.get("url", ""))
        ),
    )
    page.on("pageerror", lambda error: tell("error", str(error)))
    page.on(
        "requestfailed",
        # The page itself gives up tiles that have left the view, and a reload gives up everything.
        lambda request: (
            request.failure != "net::ERR_ABORTED" and tell("request", str(request.failure), request.url)
        ),
    )
    await page.goto(url)
    try:
        yield page
    finally:
        await context.close()
    assert wrong == []


async def until(page, condition):
    """Wait until an expression is true. playwright's own way needs eval, which our policy forbids."""
    async with asyncio.timeout(WAIT_MS / 1000):
        while not await page.evaluate(condition):
            await asyncio.sleep(POLL_S)


async def loaded(page, kind="done", at_least=4):
    await until(
        page,
        f"document.querySelectorAll('.tile.{kind}').length >= {at_least} && "
        "!document.querySelector('.tile.loading')",
    )


async def pixel(page, x, y):
    """The colour of one pixel, three numbers."""
    seen = await page.screenshot(clip={"x": x, "y": y, "width": 1, "height": 1})
    with Image.open(io.BytesIO(seen)) as picture:
        return picture.convert("RGB").getpixel((0, 0))


async def shot(page, name):
    """A picture of the page when TILEHAUL_SCREENSHOT names a file; `name` is put before its ending."""
    told = os.environ.get("TILEHAUL_SCREENSHOT")
    if told:
        path = Path(told)
        await page.screenshot(path=str(path.with_stem(f"{path.stem}{name}")))
