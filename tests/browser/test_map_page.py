"""The map page in a real browser: tiles, what is known of them, figures, nothing on the console."""

import asyncio
import os
import random
import re
import struct
import time
import zlib
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from doubles.chromium import ARGS, CHROMIUM
from tilehaul.errors import BrokenError
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.layer import Layer
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.net.clock import SystemClock
from tilehaul.policy.freshness import FreshnessRule
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
pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]


def plain_png(tile_id: TileId) -> bytes:
    """A tile of one colour that depends on the address."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    luck = random.Random(str(tile_id))
    colour = bytes((20 + luck.randrange(30), 70 + luck.randrange(60), 100 + luck.randrange(60)))
    rows = (b"\0" + colour * 256) * 256
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


class PaintedSource:
    """Every tile painted; those of `broken` columns fail, those of `holes` are absent."""

    def __init__(self, *, broken=(), holes=(), **info):
        self.info = SourceInfo(**{"name": "painted", "identity": "p", "media_type": "image/png", **info})
        self.broken = set(broken)
        self.holes = set(holes)
        self.asked = []

    async def get(self, tile_id):
        self.asked.append(tile_id)
        if tile_id.x in self.broken:
            raise BrokenError("the origin failed", cause="http_500")
        if tile_id.x in self.holes:
            return NoTile(tile_id, "http_404")
        return Tile(tile_id, plain_png(tile_id), self.info.media_type)


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
        layers.append(Layer(name, wrapped, title=name.title(), stats=stats))
    async with Server(make_app(layers, cache, clock=clock), port=0, drain_s=1) as server:
        yield server.url, {layer.name: layer for layer in layers}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield started
        await started.close()


@asynccontextmanager
async def browsing(browser, url, *, width=1200, height=800, dark=True, failures_expected=()):
    """A page on `url`. Leaving fails the test for any console error or failed request not expected."""
    wrong = []

    def tell(kind, text, address=""):
        if not any(re.search(expected, f"{text} {address}") for expected in failures_expected):
            wrong.append(f"{kind}: {text} {address}")

    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
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


async def shot(page, name):
    """A picture of the page when TILEHAUL_SCREENSHOT names a file; `name` is put before its ending."""
    told = os.environ.get("TILEHAUL_SCREENSHOT")
    if told:
        path = Path(told)
        await page.screenshot(path=str(path.with_stem(f"{path.stem}{name}")))


async def test_tiles_hover_and_figures(browser):
    """The map shows tiles of our server only; pointing at one tells its address, place and time."""
    source = PaintedSource(zoom_max=8, attribution='<a href="https://example.com/">Them</a><img src=x>')
    async with serving(world=source) as (url, layers), browsing(browser, url) as page:
        await loaded(page)
        assert len(source.asked) == len(set(source.asked)) > 4
        await page.mouse.move(700, 400)
        readout = page.locator("#readout")
        await playwright.expect(readout).to_contain_text(re.compile(r"^3/\d/\dorigin[\d.]+ ms[\d.]+ kBpng$"))
        await playwright.expect(readout).to_have_attribute("data-place", "origin")
        z, x, y = re.match(r"(\d)/(\d)/(\d)", await readout.text_content()).groups()
        assert TileId(int(z), int(x), int(y)) in source.asked
        credit = page.locator(".leaflet-control-attribution")
        assert await credit.locator("a", has_text="Them").get_attribute("href") == "https://example.com/"
        assert await credit.locator("img").count() == 0

        asked = len(source.asked)
        await page.reload()
        await loaded(page)
        await page.mouse.move(710, 410)
        await playwright.expect(readout).to_contain_text("memory")
        assert len(source.asked) == asked
        stats = layers["world"].stats
        assert stats.hits >= 4
        for box, value in (("#requests", stats.hits + stats.misses), ("#hits", stats.hits)):
            await playwright.expect(page.locator(box)).to_have_text(str(value), timeout=WAIT_MS)
        await playwright.expect(page.locator("#state")).to_have_text("live")
        await playwright.expect(page.locator("#errors")).to_have_text("0")
        await page.locator(".toggle").click()
        await playwright.expect(page.locator(".tile .address").first).to_be_visible()
        await page.mouse.move(710, 410)
        await playwright.expect(page.locator("#places")).to_have_text(re.compile(r"^memory \d+$"))
        await shot(page, "")


async def test_errors_and_holes_are_shown_on_the_tile(browser):
    """A failed tile shows status and cause instead of a blank; a missing one says so, quietly."""
    source = PaintedSource(zoom_max=8, broken={3}, holes={5})
    expected = [r"status of (502|404).*/api/tiles/"]
    async with serving(world=source) as (url, _), browsing(browser, url, failures_expected=expected) as page:
        await loaded(page)
        failed = page.locator(".tile.failed .plaque").first
        assert await failed.text_content() == "502http_500"
        await playwright.expect(failed).to_be_visible()
        assert await page.locator(".tile.missing .plaque").first.text_content() == "no tile here"
        box = await page.locator(".tile.failed").nth(1).bounding_box()
        await page.mouse.move(box["x"] + 128, box["y"] + 128)
        await playwright.expect(page.locator("#readout")).to_contain_text("502http_500")
        await playwright.expect(page.locator("#causes")).to_contain_text("http_500 \u00d7", timeout=WAIT_MS)
        await playwright.expect(page.locator("#places")).to_contain_text(
            re.compile(r"^origin \d+missing \d+failed \d+$")
        )
        await shot(page, "-errors")


async def test_layers_switch_and_fit(browser):
    """Choosing a layer fits its bounds at a zoom it has; the address brings the same map again."""
    alps = PaintedSource(zoom_min=6, zoom_max=12, bounds_deg=(5.9, 45.8, 10.5, 47.8))
    async with (
        serving(world=PaintedSource(zoom_max=5), alps=alps) as (url, _),
        browsing(browser, url) as page,
    ):
        await loaded(page)
        assert alps.asked == []
        await page.get_by_text("Alps").click()
        await until(page, "location.hash.startsWith('#layer=alps&map=8/')")
        await loaded(page)
        west, _, east, _ = alps.info.bounds_deg
        for tile_id in alps.asked:
            left = tile_id.x / 2**tile_id.z * 360 - 180
            assert west - 360 / 2**tile_id.z < left < east
        await page.reload()
        await loaded(page)
        assert await page.locator("input[value=alps]").is_checked()


async def test_closer_than_the_deepest_zoom_enlarges_it(browser):
    """Beyond the layer's zooms no tile is asked for; pointing still finds the tile shown."""
    source = PaintedSource(zoom_max=2)
    async with (
        serving(world=source) as (url, _),
        browsing(browser, f"{url}/#layer=world&map=4/20/10") as page,
    ):
        await loaded(page, at_least=1)
        assert {tile_id.z for tile_id in source.asked} == {2}
        await page.mouse.move(700, 400)
        await playwright.expect(page.locator("#readout")).to_contain_text(re.compile(r"^2/2/1origin"))


@pytest.mark.parametrize("dark", [True, False])
async def test_page_fits_a_phone(browser, dark):
    """At 400 pixels nothing is cut off or scrolls sideways; the panel folds and unfolds."""
    async with (
        serving(world=PaintedSource(zoom_max=8, attribution="Imagery of a source with a long name")) as (
            url,
            _,
        ),
        browsing(browser, url, width=400, height=780, dark=dark) as page,
    ):
        await loaded(page)
        assert await page.evaluate("document.documentElement.scrollWidth") == 400
        await playwright.expect(page.locator("#body")).to_be_hidden()
        await page.mouse.click(200, 400)
        await playwright.expect(page.locator("#readout")).to_contain_text("origin")
        await shot(page, f"-phone-{'dark' if dark else 'light'}")
        await page.locator("#fold").click()
        await playwright.expect(page.locator("#layers")).to_be_visible()
        panel = await page.locator("#panel").bounding_box()
        assert panel["x"] >= 0
        assert panel["x"] + panel["width"] <= 400
        await asyncio.sleep(0)
        await shot(page, f"-phone-open-{'dark' if dark else 'light'}")


async def test_service_without_layers_says_so(browser):
    """An empty service is an instruction, not an empty map."""
    async with serving() as (url, _), browsing(browser, url) as page:
        await playwright.expect(page.locator("#note")).to_contain_text("no layers")


async def test_a_picture_in_its_own_pixels_is_no_layer_of_the_map(browser):
    """It is not offered beside maps; alone, the page says what shows it."""
    wall = PaintedSource(zoom_max=3, pyramid=Pyramid(1500, 900))
    world = PaintedSource(zoom_max=5)
    async with serving(wall=wall, world=world) as (url, _), browsing(browser, f"{url}/#layer=wall") as page:
        await loaded(page)
        assert await page.locator("#layers input").evaluate_all("all => all.map(one => one.value)") == [
            "world"
        ]
    async with serving(wall=wall) as (url, _), browsing(browser, url) as page:
        await playwright.expect(page.locator("#note")).to_contain_text("pictures and no map")
    assert wall.asked == []
