"""Two layers side by side on the map page, and the address that brings the same view again."""

import re
from contextlib import asynccontextmanager

import pytest

from browser.pages import PaintedSource, browsing, loaded, marks, pixel, playwright, serving, shot, until

pytestmark = marks

RED, BLUE = (200, 30, 40), (30, 60, 200)
VIEW = "#layer=red&map=3/20.00/10.00"


@asynccontextmanager
async def red_and_blue():
    red = PaintedSource(zoom_max=6, colour=bytes(RED))
    blue = PaintedSource(zoom_max=4, colour=bytes(BLUE))
    async with serving(red=red, blue=blue) as (url, _):
        yield url, red, blue


async def seen(page, at, y=100):
    """Which of the two colours lie 30 pixels left and right of `at`."""
    return await nearest(page, at - 30, y), await nearest(page, at + 30, y)


async def nearest(page, x, y):
    """The layer's colour at a pixel; tiles that have just come are not quite opaque yet."""
    red, _, blue = await pixel(page, x, y)
    return RED if red > blue else BLUE


async def test_swipe_divides_the_map_with_pointer_and_keys(browser):
    """Left of the handle one layer, right of it the other, at the same place; nothing is fetched twice."""
    async with red_and_blue() as (url, red, blue), browsing(browser, url + VIEW) as page:
        await loaded(page)
        assert blue.asked == []
        handle = page.locator("#swipe")
        await playwright.expect(handle).to_be_hidden()
        assert await seen(page, 600) == (RED, RED)

        await page.get_by_label("Compare with").select_option("Blue")
        await until(page, "document.querySelectorAll('.leaflet-layer').length === 2")
        await loaded(page)
        assert page.url.endswith(f"{VIEW}&with=blue&swipe=50")
        assert await seen(page, 600) == (RED, BLUE)
        assert sorted(blue.asked, key=str) == sorted(red.asked, key=str)
        asked = len(red.asked) + len(blue.asked)

        await page.mouse.move(600, 200)
        await page.mouse.down()
        await page.mouse.move(840, 260, steps=4)
        await page.mouse.up()
        assert await seen(page, 840) == (RED, BLUE)
        assert await seen(page, 600) == (RED, RED)
        assert page.url.endswith("&swipe=70")

        for key, value in (("ArrowLeft", 69), ("PageDown", 59), ("End", 100), ("Home", 0), ("ArrowRight", 1)):
            await page.keyboard.press(key)
            await playwright.expect(handle).to_have_attribute("aria-valuenow", str(value))
        await playwright.expect(handle).to_have_attribute("aria-valuetext", "1 % Red, 99 % Blue")
        assert await seen(page, 600) == (BLUE, BLUE)
        # The handle has not moved the map, and moving it has asked for nothing.
        assert page.url.endswith(f"{VIEW}&with=blue&swipe=1")
        assert len(red.asked) + len(blue.asked) == asked

        await page.mouse.move(700, 400)
        await page.mouse.down()
        await page.mouse.move(600, 420, steps=4)
        assert await nearest(page, 5, 700) == RED
        assert await seen(page, 600) == (BLUE, BLUE)
        await page.mouse.up()

        await page.get_by_label("Compare with").select_option("nothing")
        await playwright.expect(handle).to_be_hidden()
        assert "with=" not in page.url
        assert await seen(page, 600) == (RED, RED)


async def test_a_finger_moves_the_handle_and_not_the_map(browser):
    """On a phone: the handle follows a touch, the map stays."""
    view = "#layer=red&map=2/20.00/10.00&with=blue&swipe=50"
    async with (
        red_and_blue() as (url, _, _),
        browsing(browser, url + view, width=360, height=640, touch=True) as page,
    ):
        await loaded(page, at_least=2)
        wire = await page.context.new_cdp_session(page)
        for kind, x in (("touchStart", 180), ("touchMove", 210), ("touchMove", 252), ("touchEnd", None)):
            points = [] if x is None else [{"x": x, "y": 320}]
            await wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        await playwright.expect(page.locator("#swipe")).to_have_attribute("aria-valuenow", "70")
        assert page.url.endswith("#layer=red&map=2/20.00/10.00&with=blue&swipe=70")
        assert await seen(page, 252, y=460) == (RED, BLUE)
        await shot(page, "-compare-phone")


async def test_the_address_can_be_sent_to_somebody(browser):
    """Layers, place, handle and colouring come again elsewhere; typing another address changes them."""
    sent = "#layer=blue&map=4/47.00/11.00&with=red&swipe=25&tint=1"
    async with red_and_blue() as (url, red, blue), browsing(browser, f"{url}/{sent}") as page:
        await loaded(page)
        assert page.url.endswith(sent)
        assert await page.locator("input[value=blue]").is_checked()
        await playwright.expect(page.locator("#swipe")).to_have_attribute("aria-valuenow", "25")
        assert {tile_id.z for tile_id in (*red.asked, *blue.asked)} == {4}
        await page.get_by_role("button", name="Swap sides").click()
        assert page.url.endswith("#layer=red&map=4/47.00/11.00&with=blue&swipe=25&tint=1")

        # The shallower layer is enlarged where the other one goes on.
        await page.evaluate("location.hash = '#layer=red&map=6/47.00/11.00&with=blue&swipe=50'")
        await until(page, "!document.querySelector('.tinted')")
        await loaded(page)
        assert max(tile_id.z for tile_id in red.asked) == 6
        assert max(tile_id.z for tile_id in blue.asked) == 4
        assert await seen(page, 600) == (RED, BLUE)


@pytest.mark.parametrize(
    "hash_",
    ["#layer=red&with=red", "#layer=none&with=blue", "#with=red&swipe=x&map=a/b", "#layer=red&swipe=-1"],
)
async def test_nonsense_in_the_address_opens_the_first_layer(browser, hash_):
    async with red_and_blue() as (url, _, _), browsing(browser, f"{url}/{hash_}") as page:
        await loaded(page)
        await playwright.expect(page.locator("#swipe")).to_be_hidden()
        assert re.search(r"#layer=red&map=\d/[\d.]+/[\d.]+$", page.url)


async def test_each_tile_shows_where_it_came_from(browser):
    """A letter, a pattern, a colour, the time and the staleness; a legend with counts."""
    places = {2: "memory", 3: "disk", 4: "store", 5: "fallback"}
    source = PaintedSource(zoom_max=6, places=places, stale={5}, broken={1})
    async with (
        serving(world=source) as (url, _),
        browsing(
            browser, f"{url}/#layer=world&map=3/10/10", width=1280, failures_expected=["status of 502"]
        ) as page,
    ):
        await loaded(page)
        badge = page.locator(".tile.done .badge").first
        await playwright.expect(badge).to_be_hidden()
        await page.get_by_label("Colour tiles by where they came from").check(force=True)
        await playwright.expect(badge).to_be_visible()
        assert page.url.endswith("&tint=1")
        looks = {}
        for place in (*places.values(), "origin", "failed"):
            looks[place] = await page.evaluate(
                f"""(() => {{
                  const cell = document.querySelector('.tile[data-place={place}]');
                  const frame = getComputedStyle(cell, '::after');
                  const letter = getComputedStyle(cell).getPropertyValue('--letter');
                  return [letter, frame.backgroundImage, frame.borderTopColor, frame.borderTopStyle];
                }})()"""
            )
        # Each can be told from every other without its colour, by letter and by pattern.
        assert [looks[place][0] for place in looks] == ['"M"', '"D"', '"S"', '"F"', '"O"', '"!"']
        assert len({look[1] for look in looks.values()}) == len(looks)
        assert len({look[2] for look in looks.values()}) == len(looks)
        assert [place for place, look in looks.items() if look[3] == "dashed"] == ["fallback"]
        told = await page.locator(".tile[data-place=fallback] .badge").first.text_content()
        assert re.fullmatch(r"fallback [\d.]+ ms stale 12 s", told)
        rows = await page.locator("#places li").all_text_contents()
        counts = dict(row.split() for row in rows)
        assert set(counts) == {*looks, "stale"}
        assert counts["stale"] == counts["fallback"]
        for place in looks:
            assert await page.locator(f".tile[data-place={place}]").count() == int(counts[place])
        await shot(page, "-places")
