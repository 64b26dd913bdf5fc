"""/docs in Chromium: the API as its own document describes it, to be read and tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Locator, Page, expect

from support.browser import chromium
from support.reader import publish
from support.serving import serving
from support.settings import make_settings
from support.tokens import demo_token
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def reference(**context: object) -> AsyncIterator[tuple[Page, int]]:
    async with serving(create_app(make_settings())) as port, chromium(**context) as page:
        await page.goto(f"http://127.0.0.1:{port}/docs")
        await expect(page.locator("section").first).to_be_visible()
        yield page, port


def route(page: Page, method: str, path: str) -> Locator:
    return page.locator(f"details[data-find^='{method} {path} ']")


@pytest.mark.parametrize("width", [390, 1280])
async def test_every_route_can_be_opened_and_nothing_is_wider_than_the_page(width: int) -> None:
    async with reference(viewport={"width": width, "height": 800}) as (page, _):
        described = await page.evaluate(
            "fetch('/openapi.json').then(a => a.json()).then(d => Object.values(d.paths).flatMap(Object.keys).length)"
        )
        assert await page.locator("details").count() == described
        await page.evaluate("for (const node of document.querySelectorAll('details')) node.open = true")
        await expect(page.locator("details > .inside")).to_have_count(described)
        assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_nothing_is_loaded_from_elsewhere() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"http://127.0.0.1:{port}/docs")
        await expect(page.locator("section").first).to_be_visible()
    assert [url for url in asked if not url.startswith("data:")] == [
        f"http://127.0.0.1:{port}/docs",
        f"http://127.0.0.1:{port}/openapi.json",
    ]


async def test_a_route_is_found_by_its_words() -> None:
    async with reference() as (page, _):
        await page.fill("#filter", "post chat")
        await expect(route(page, "post", "/chat/send")).to_be_visible()
        await expect(route(page, "get", "/livez")).to_be_hidden()


async def test_a_request_is_sent_as_its_command_says_with_the_token() -> None:
    async with reference() as (page, _):
        await page.fill("#token", demo_token("ann"))
        send = route(page, "post", "/chat/send")
        await send.locator("summary").click()
        await send.locator("textarea").fill('{"roomId": "a", "message": "it\'s <b>me</b>"}')
        command = send.locator("pre", has_text="curl")
        await expect(command).to_contain_text('-H "Authorization: Bearer $TOKEN"')
        await expect(command).to_contain_text("it'\\''s <b>me</b>")
        await send.get_by_role("button", name="Send").click()
        await expect(send.locator("pre").last).to_contain_text("202 Accepted")
        await expect(send.locator("pre").last).to_contain_text('"sender": {"id": "ann"')
        assert await send.locator("b", has_text="me").count() == 0, "an answer is text, not markup"


async def test_a_stream_is_shown_as_it_comes_until_it_is_stopped() -> None:
    async with reference() as (page, port):
        follow = route(page, "get", "/topics/{topic}")
        await follow.locator("summary").click()
        await follow.get_by_label("topic").fill("news/a-b")
        await follow.get_by_role("button", name="Send").click()
        shown = follow.locator("pre").last
        await expect(shown).to_contain_text("stream.hello")
        await publish(port, "news/a-b", "first")
        await expect(shown).to_contain_text("data: first")
        await follow.get_by_role("button", name="Stop").click()
        await expect(shown).to_contain_text("(stopped)")
