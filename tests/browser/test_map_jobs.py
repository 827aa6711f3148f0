"""Jobs on the map page: how far they are, their end, and nothing where nobody may see them."""

import re

from browser.pages import WAIT_MS, browsing, marks, playwright
from server.over_http import running
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

pytestmark = marks
expect = playwright.expect

# 341 tiles, at a pace that leaves time to look at the job.
JOB = {
    "source": "world",
    "store": "world.mbtiles",
    "bbox": [-180, -85, 180, 85],
    "zooms": "0-4",
    "rate_limit": 30,
}


async def test_a_job_is_followed_and_ended(browser, tmp_path):
    """The bar moves with the stream, the list is asked for once a change, the button ends the job."""
    with MockThread(MockSettings()) as origin:
        async with running(origin.template, tmp_path) as service:
            url = f"http://127.0.0.1:{service.port}/#layer=world&map=0/0/0"
            async with browsing(browser, url, width=1280) as page:
                await expect(page.locator("#state")).to_have_text("live")
                await expect(page.locator("#jobs_box")).to_be_hidden()
                asked = []
                page.on(
                    "request",
                    lambda request: asked.append((request.method, request.url.partition("/api/")[2])),
                )
                job = (await service.ask("POST", "/api/jobs", JOB)).json()["id"]
                row = page.locator("#jobs li")
                words = row.locator("small")
                await expect(words).to_have_text(
                    re.compile(r"^running: \d+ of 341, \d+/s, [\d.]+ [kM]B$"), timeout=WAIT_MS
                )
                await expect(row.locator("strong")).to_have_text("world \u2192 world.mbtiles")
                bar = row.get_by_role("progressbar")
                await expect(bar).to_have_attribute("max", "341")
                before = float(await bar.get_attribute("value"))
                while float(await bar.get_attribute("value")) == before:
                    await page.evaluate("new Promise(requestAnimationFrame)")
                await page.get_by_role("button", name="End world.mbtiles").click()
                await expect(words).to_have_text(re.compile("^interrupted"), timeout=WAIT_MS)
                await expect(bar).to_be_hidden()
                await expect(page.get_by_role("button", name="End world.mbtiles")).to_be_hidden()
            assert asked.count(("GET", f"jobs/{job}/events")) == 1
            assert asked.count(("DELETE", f"jobs/{job}")) == 1
            assert 1 <= asked.count(("GET", "jobs")) <= 2
        assert origin.stats().requests < 341


async def test_where_a_key_is_wanted_the_page_does_not_ask(browser, tmp_path):
    """No list, no error on the console: the figures say that there is a key."""
    with MockThread(MockSettings()) as origin:
        async with running(origin.template, tmp_path, key="canary-key-of-sixteen") as service:
            url = f"http://127.0.0.1:{service.port}/#layer=world&map=0/0/0"
            async with browsing(browser, url) as page:
                asked = []
                page.on("request", lambda request: asked.append(request.url.partition("/api/")[2]))
                async with page.expect_response("**/api/stats") as told:
                    pass
                assert (await (await told.value).json())["jobs"] == {"running": 0, "key": True}
                async with page.expect_response("**/api/stats"):
                    pass
                assert "jobs" not in asked
