"""A real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright, expect

CHROMIUM = "/usr/bin/chromium"

# A browser on a busy machine is slow, not broken.
expect.set_options(timeout=20_000)


@asynccontextmanager
async def chromium(**context: object) -> AsyncIterator[Page]:
    """A page in a browser of its own; what the page logs as an error fails the test."""
    assert shutil.which(CHROMIUM), f"{CHROMIUM} is missing: `make test` installs it (Debian: apt-get install chromium)"
    errors: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        try:
            page = await (await browser.new_context(**context)).new_page()  # type: ignore[arg-type]
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            yield page
        finally:
            await browser.close()
    assert not errors, errors


async def renders(page: Page, character: str) -> bool:
    """Whether the page's font, or one that stands in for it, has this character: otherwise it is drawn like one that no
    font has."""
    pixels = """([text]) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 60 });
        const context = canvas.getContext("2d");
        context.font = `40px ${getComputedStyle(document.body).fontFamily}`;
        context.fillText(text, 5, 45);
        return [...context.getImageData(0, 0, 60, 60).data].join();
    }"""
    drawn, missing = [await page.evaluate(pixels, [text]) for text in (character, "\U0010ffff")]
    return bool(drawn != missing)
