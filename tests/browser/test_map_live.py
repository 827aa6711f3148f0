"""The figures and charts of the map page, while the service answers and when it does not."""

import re
from collections import Counter

from browser.pages import WAIT_MS, PaintedSource, browsing, loaded, marks, playwright, serving, shot, until
from tilehaul.ports.lane import LaneSnapshot

pytestmark = marks

expect = playwright.expect
HELD = LaneSnapshot(
    name="tiles.example.com (tile)",
    lane_class="tile",
    limit=8,
    in_flight=3,
    queue_depth=2,
    gate="held",
    gate_wait_s=12.4,
    breaker="half_open",
)


def polls_of(page):
    """Counts what the page asks of /api/stats from now on."""
    asked = Counter()
    page.on("request", lambda request: asked.update([request.url.partition("/api/")[2]]))
    return asked


async def chart(page, title):
    """What a chart says to who does not see it, and the figures written beside it."""
    figure = page.locator(".chart", has_text=title)
    return figure.locator("svg"), figure.locator(".now")


async def test_charts_follow_the_figures(browser):
    """Each poll is a point; the words say now and highest; hidden, the page asks nothing."""
    source = PaintedSource(zoom_max=6, lanes=(HELD,))
    async with serving(world=source) as (url, layers), browsing(browser, url, width=1280) as page:
        await page.clock.install()
        await page.reload()
        await loaded(page)
        # From here on its time goes on only as it is told to.
        await page.clock.pause_at(await page.evaluate("Date.now() + 100"))
        await page.wait_for_load_state("networkidle")
        asked = polls_of(page)
        line = "document.querySelectorAll('.chart path')[2].getAttribute('d')"
        points = await page.evaluate(f"{line}.split(/[ML]/).length")
        for number in range(1, 5):
            await page.clock.run_for(2000)
            await until(page, f"{line}.split(/[ML]/).length === {points + number}")
        assert asked["stats"] == 4
        for title, words, now in (
            ("Requests per second", r"requests now [\d.]+, highest [\d.]+", r"[\d.]+"),
            ("From cache", r"hits now (none|[\d.]+ %), highest [\d.]+ %", r"\u2013|[\d.]+ %"),
            ("Fetch time", r"p50 now [\d.]+ m?s, highest .*; p95 now .*; p99 now .*", r"p50 [\d.]+ m?s.*"),
            (
                "Lanes",
                r"in flight now 3, highest 3; queue now 2, highest 2; limit now 8, highest 8",
                r"in flight 3.*",
            ),
        ):
            picture, written = await chart(page, title)
            await expect(picture).to_have_attribute(
                "aria-label", re.compile(rf"^{title}, last 5 minutes: {words}$")
            )
            await expect(written).to_have_text(re.compile(f"^{now}$"))
        row = page.locator("#lanes_rows tr")
        assert await row.locator("th, td").all_text_contents() == [
            "world 1",
            "3 / 8",
            "2",
            "held 13 s",
            "half open",
        ]
        assert await row.locator(".bad").count() == 2
        await page.get_by_text("Caches", exact=True).click()
        rows = page.locator("#caches_rows tr")
        await expect(rows.first).to_have_text(
            re.compile(rf"^memory{len(source.asked)}[\d.]+ kB of [\d.]+ MB\d+0$")
        )
        await expect(rows.last).to_have_text("diskoff")

        await page.evaluate("""
            Object.defineProperty(document, 'hidden', { value: true, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'));
        """)
        before = asked["stats"]
        await page.clock.run_for(20_000)
        assert asked["stats"] == before
        await page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        # The time nobody looked is a gap in the line, not a line across it.
        await until(page, f"{line}.split('M').length === 3")
        assert asked["stats"] == before + 1
        assert layers["world"].stats.misses == len(source.asked)
        await shot(page, "-charts")


async def test_five_minutes_are_kept(browser):
    """Older points leave the chart, however long the page is open."""
    async with serving(world=PaintedSource(zoom_max=6)) as (url, _), browsing(browser, url) as page:
        await page.clock.install()
        await page.reload()
        await loaded(page)
        line = "document.querySelectorAll('.chart path')[2].getAttribute('d')"
        await until(page, f"{line} !== ''")
        for _ in range(8):
            before = await page.evaluate(line)
            await page.clock.fast_forward(60_000)
            # Each answer draws the line anew, a minute further to the left.
            await until(page, f"{line} !== {before!r}")
        xs = [float(x) for x in re.findall(r"M(-?[\d.]+)", await page.evaluate(line))]
        # Of nine; the page's clock runs on between the jumps.
        assert len(xs) in (4, 5)
        assert xs == sorted(xs)
        assert xs[0] >= 0
        assert xs[-1] == 240


async def test_charts_without_anything_to_show_say_so(browser):
    async with serving() as (url, _), browsing(browser, url, width=1280) as page:
        await expect(page.locator("#state")).to_have_text("live")
        for words in (
            "No requests in these 5 minutes",
            "Nothing fetched yet",
            "No layer has an origin elsewhere",
        ):
            await expect(page.get_by_text(words, exact=True)).to_be_visible()
        await expect(page.locator("#lanes")).to_be_hidden()


async def test_a_service_that_goes_away_is_told_of_and_comes_back(browser):
    """The page says since when its figures are old, and goes on when there is an answer again."""
    async with (
        serving(world=PaintedSource(zoom_max=6)) as (url, _),
        browsing(browser, url, width=1280, failures_expected=["api/stats", "ERR_FAILED"]) as page,
    ):
        await loaded(page)
        await expect(page.locator("#state")).to_have_text("live")
        await page.route("**/api/stats", lambda route: route.abort())
        await expect(page.locator("#state")).to_have_text("no answer", timeout=WAIT_MS)
        told = page.get_by_role("alert")
        await expect(told).to_have_text(
            re.compile(r"asked again every 2 s\. These figures are of .*\d\d:\d\d")
        )
        await page.unroute("**/api/stats")
        await expect(page.locator("#state")).to_have_text("live", timeout=WAIT_MS)
        await expect(page.locator("#away")).to_be_hidden()
