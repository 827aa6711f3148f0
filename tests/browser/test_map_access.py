"""The map page by keyboard, on a phone, and for who hears it: measured by axe where it is there."""

import pytest

from browser.pages import PaintedSource, browsing, loaded, marks, playwright, serving, shot
from doubles.chromium import PACKAGES

pytestmark = marks

AXE = PACKAGES / "axe-core" / "axe.min.js"
SIZES = pytest.mark.parametrize(("width", "height"), [(360, 640), (1280, 800)])
VIEW = "/#layer=world&map=2/20/10&with=other&swipe=60&tint=1"
STOPS_MAX = 40

# The focused element's name, and whether it, or what stands for it on the screen, is marked as such.
FOCUSED = """(() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  const shows = [one, one.nextElementSibling, one.querySelector('.grip')].filter(Boolean);
  const marks = shows.map((shown) => getComputedStyle(shown));
  const plain = 'rgba(0, 0, 0, 0.45) 0px 0px 0px 1px, rgba(0, 0, 0, 0.4) 0px 4px 14px 0px';
  const marked = marks.some((style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2)
    || (one.id === 'swipe' && marks.at(-1).boxShadow !== plain);
  const box = one.getBoundingClientRect();
  const shown = one.type === 'checkbox' ? one.nextElementSibling.getBoundingClientRect() : box;
  return [one.id || one.value || one.textContent.trim(), marked, shown.width > 0 && shown.height > 0];
})()"""


def two_layers():
    return serving(world=PaintedSource(zoom_max=8, attribution="Somebody"), other=PaintedSource(zoom_max=5))


async def stops_of(page):
    """Every stop of the Tab key, until it leaves the page at its end."""
    stops = []
    for _ in range(STOPS_MAX):
        await page.keyboard.press("Tab")
        told = await page.evaluate(FOCUSED)
        if told is None or (stops and told == stops[0]):
            return stops
        stops.append(told)
    pytest.fail(f"no end after {STOPS_MAX} stops: {stops}")


@SIZES
async def test_every_control_is_reached_by_tab_and_left_again(browser, width, height):
    """In order, each with a mark that can be seen, to the end of the page; what is folded is no stop."""
    over_the_map = ["map", "+", "swipe", "fold"]
    in_the_panel = ["world", "compare", "swap", "tint", "grid", "Last 5 minutes", "Caches"]
    async with two_layers() as (url, _), browsing(browser, url + VIEW, width=width, height=height) as page:
        await loaded(page, at_least=2)
        stops = await stops_of(page)
        if width < 600:
            assert not set(in_the_panel) & {name for name, _, _ in stops}
            await page.locator("#fold").press("Enter")
            stops += await stops_of(page)
        names = [name for name, _, _ in stops]
        assert [name for name in names if name in over_the_map + in_the_panel] == over_the_map + in_the_panel
        assert [name for name, marked, shown in stops if not (marked and shown)] == []


async def test_the_map_is_read_by_its_keys(browser):
    """With the map focused the readout tells of the tile in the middle, arrows move, + comes closer."""
    async with two_layers() as (url, _), browsing(browser, f"{url}/#layer=world&map=3/20/10") as page:
        await loaded(page)
        await page.keyboard.press("Tab")
        readout = page.locator("#readout")
        await playwright.expect(readout).to_contain_text("3/4/3origin")
        await page.keyboard.press("+")
        await playwright.expect(readout).to_contain_text("4/8/7")
        await page.keyboard.press("Tab")
        await playwright.expect(readout).to_have_text("Point at a tile")


@SIZES
async def test_nothing_is_cut_off(browser, width, height):
    """No sideways scrolling; the panels lie in the window, above the readout; targets are large."""
    async with two_layers() as (url, _), browsing(browser, url + VIEW, width=width, height=height) as page:
        await loaded(page, at_least=2)
        if width < 600:
            await playwright.expect(page.locator("#body")).to_be_hidden()
            await shot(page, "-phone-360")
            await page.locator("#fold").click()
            for control in (
                "#fold",
                "#compare",
                "#swap",
                ".layer",
                "summary:visible",
                ".toggle",
                "#swipe .grip",
            ):
                for box in await page.locator(control).evaluate_all(
                    "(all) => all.map((one) => one.getBoundingClientRect().height)"
                ):
                    assert box >= 44, control
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        readout = await page.locator("#readout").bounding_box()
        for panel in await page.locator(".panel:not([hidden])").all():
            box = await panel.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= readout["y"]
            assert await panel.evaluate("(one) => one.scrollWidth <= one.clientWidth")
        await shot(page, f"-{width}")


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm ci in tests/browser/clients)")
@pytest.mark.parametrize("dark", [True, False])
@SIZES
async def test_axe_finds_nothing(browser, width, height, dark):
    """Names, roles, contrast and order, by the rules of axe-core, with everything on the page open."""
    async with (
        two_layers() as (url, _),
        browsing(browser, url + VIEW, width=width, height=height, dark=dark, script=AXE.read_text()) as page,
    ):
        await loaded(page, at_least=2)
        if width < 600:
            await page.locator("#fold").click()
        await page.get_by_text("Caches", exact=True).click()
        found = await page.evaluate("axe.run(document).then((result) => result.violations)")
        told = [(one["id"], one["help"], [node["target"] for node in one["nodes"]][:4]) for one in found]
        assert told == []
