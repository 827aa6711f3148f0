"""The map page in a real browser: tiles, what is known of them, figures, nothing on the console."""

import re

import pytest

from browser.pages import WAIT_MS, PaintedSource, browsing, loaded, marks, playwright, serving, shot, until
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId

pytestmark = marks


async def test_tiles_hover_and_figures(browser):
    """The map shows tiles of our server only; pointing at one tells its address, place and time."""
    source = PaintedSource(zoom_max=8, attribution='<a href="https://example.com/">Them</a><img src=x>')
    async with serving(world=source) as (url, layers), browsing(browser, url) as page:
        await loaded(page)
        assert len(source.asked) == len(set(source.asked)) > 4
        await page.mouse.move(700, 400)
        readout = page.locator("#readout")
        await playwright.expect(readout).to_contain_text(
            re.compile(r"^3/\d/\dorigin[\d.]+ ms[\d.]+ kBpngfresh for 60 min$")
        )
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
        await page.get_by_text("Tile grid and addresses").click()
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
        await page.locator(".layer", has_text="Alps").click()
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
