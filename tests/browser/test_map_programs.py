"""MapLibre and OpenLayers in Chromium, from a page of another origin: the right tile in the right place.

Their files come from npm (`make browser-test`); the lock file in `clients` has their digests.
"""

import functools
import math
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio

from browser.pages import (
    PaintedSource,
    browsing,
    colour_of,
    marks,
    pixel,
    playwright,
    serving,
    until,
)
from doubles.chromium import ARGS, CHROMIUM, PACKAGES
from tilehaul.grid.tile_id import TileId

CLIENTS = Path(__file__).parent / "clients"
pytestmark = [
    *marks,
    pytest.mark.skipif(
        not PACKAGES.exists(),
        reason="their files are missing (npm ci in tests/browser/clients)",
    ),
]

# 1024 x 768 pixels around 0/0 at zoom 3 show 4 x 4 tiles at most, cut or whole.
SIZE = {"width": 1024, "height": 768}
ZOOM = 3
SHOWN = {TileId(ZOOM, x, y) for x in range(2, 6) for y in range(2, 6)}
PLACES = [(-67, 40), (-22, 20), (30, -30), (67, -45), (60, 52), (-80, -52)]
# What a program may make of a colour on its way to the screen, in levels of 255.
LEVELS = 2


def tile_at(lng, lat):
    """By the textbook, not by our own grid."""
    side = 1 << ZOOM
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    return TileId(ZOOM, int((lng + 180) / 360 * side), int(y * side))


class _Handler(SimpleHTTPRequestHandler):
    def guess_type(self, path):
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def log_message(self, *args):
        """Nobody reads it."""


@contextmanager
def clients():
    """A site that is not our service: another port is another origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=CLIENTS)) as site:
        thread = threading.Thread(target=site.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}"
        site.shutdown()
        thread.join()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    """With WebGL in software: MapLibre draws with nothing else."""
    args = [arg for arg in ARGS if arg != "--disable-gpu"]
    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[*args, "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
        )
        yield started
        await started.close()


@pytest.mark.parametrize(
    ("program", "document"),
    [
        ("maplibre", "/api/tiles/world"),
        ("openlayers", "/wmts/1.0.0/WMTSCapabilities.xml"),
        ("openlayers", "/wmts?SERVICE=WMTS&REQUEST=GetCapabilities"),
    ],
)
async def test_tiles_lie_where_they_belong(browser, program, document):
    """From our document alone: each place has its own tile's colour; each tile was asked for once."""
    source = PaintedSource(zoom_min=ZOOM, zoom_max=ZOOM)
    async with serving(world=source) as (url, layers):
        with clients() as site:
            async with browsing(browser, f"{site}/{program}.html#{url}{document}", **SIZE) as page:
                await until(page, "window.drawn === true")
                for lng, lat in PLACES:
                    x, y = await page.evaluate(f"window.pixelOf({lng}, {lat})")
                    wanted = colour_of(tile_at(lng, lat))
                    seen = await pixel(page, x, y)
                    assert max(abs(one - other) for one, other in zip(seen, wanted, strict=True)) <= LEVELS
    assert sorted(source.asked) == sorted(set(source.asked))
    assert set(source.asked) >= SHOWN
    # Each was asked for once. A program may fetch a ring of tiles around those it shows, no more.
    assert len(source.asked) <= len(SHOWN) + 20
    assert layers["world"].stats.misses == len(source.asked)
    assert layers["world"].stats.errors == {}
