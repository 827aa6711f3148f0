"""Chromium, started once for each file of tests."""

# mypy: allow-untyped-defs, allow-untyped-calls

import pytest_asyncio


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    # Not above: where playwright is missing the tests are skipped, which this file could not be.
    from browser.pages import playwright  # noqa: PLC0415
    from doubles.chromium import ARGS, CHROMIUM  # noqa: PLC0415

    async with playwright.async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield started
        await started.close()
