"""The browser that the tests look at pages with can draw what they show; without fonts it draws boxes."""

from __future__ import annotations

import pytest

from support.browser import chromium

_DRAWN = """(text) => {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    context.font = "48px sans-serif";
    context.fillText(text, 10, 60);
    return canvas.toDataURL();
}"""


@pytest.mark.parametrize(("one", "other"), [("여", "울"), ("🌊", "🍀")])
async def test_different_characters_look_different(one: str, other: str) -> None:
    async with chromium() as page:
        assert await page.evaluate(_DRAWN, one) != await page.evaluate(_DRAWN, other)
