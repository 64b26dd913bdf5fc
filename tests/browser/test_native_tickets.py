"""Tickets in Chromium: its native EventSource comes back by itself where it was let in, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Page
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from support.browser import chromium
from support.proxy import Fate, Proxy, proxying
from support.reader import publish
from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET, bearer, make_jwt
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)

TOPIC = "news/a"
TOKEN = make_jwt("u1", yeoul={"subscribe": ["news/*"], "publish": ["news/*"]})

FOLLOW = """(url) => {
    window.seen = [];
    window.source = new EventSource(url);
    window.source.onmessage = ({ data }) => window.seen.push(data);
}"""


@dataclass
class Site:
    """The application, the statuses that streams of the topic were answered with, and the proxy in front."""

    app: ASGIApp
    statuses: list[int] = field(default_factory=list)
    port: int = 0
    proxy: Proxy | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["method"] == "GET" and TOPIC in scope["path"]:
                self.statuses.append(message["status"])
            await send(message)

        await self.app(scope, receive, noted)

    async def visit(self, page: Page) -> None:
        assert self.proxy is not None
        await page.goto(f"http://127.0.0.1:{self.proxy.port}/livez")  # a page that asks for nothing else

    async def publish(self, data: str) -> None:
        await publish(self.port, TOPIC, data, headers=bearer(TOKEN))


@asynccontextmanager
async def site(fate: Callable[[], Fate] = Fate) -> AsyncIterator[Site]:
    made = Site(create_app(make_settings(jwt_secret=SECRET, retry_ms=50)))
    # No connection is used twice, so that each fate meets one request.
    async with serving(made, timeout_keep_alive=0) as made.port, proxying(made.port, fate) as made.proxy:
        yield made


async def ticket_url(page: Page) -> str:
    text: str = await page.evaluate(
        """async (token) => {
            const headers = { Authorization: `Bearer ${token}` };
            return (await (await fetch("/auth/tickets", { method: "POST", headers })).json()).ticket;
        }""",
        TOKEN,
    )
    return f"/topics/{TOPIC}?ticket={text}"


async def test_cut_again_and_again_it_comes_back_with_its_used_ticket_and_misses_nothing() -> None:
    data = [f"{number} {'물살' * 20}" for number in range(80)]
    async with site(lambda: Fate(cut_after=2_500)) as served, chromium() as page:
        await served.visit(page)
        await page.evaluate(FOLLOW, await ticket_url(page))
        await page.wait_for_function("() => window.source.readyState === EventSource.OPEN")
        for part in data:
            await served.publish(part)
        await page.wait_for_function(f"() => window.seen.length >= {len(data)}")
        assert await page.evaluate("() => window.seen") == data
        assert await page.evaluate("() => document.cookie") == "", "no script sees the pass"
        assert served.proxy is not None
        assert served.proxy.cuts >= 3
    assert len(served.statuses) >= 4
    assert set(served.statuses) == {200}


async def test_two_streams_of_one_page_come_back_both() -> None:
    async with site(lambda: Fate(cut_after=2_500)) as served, chromium() as page:
        await served.visit(page)
        urls = [await ticket_url(page) for _ in range(2)]
        await page.evaluate(
            """(urls) => {
                window.seen = urls.map(() => []);
                window.sources = urls.map((url) => new EventSource(url));
                window.sources.forEach((source, index) => {
                    source.onmessage = ({ data }) => window.seen[index].push(data);
                });
            }""",
            urls,
        )
        await page.wait_for_function("() => window.sources.every(({ readyState }) => readyState === EventSource.OPEN)")
        data = [f"{number} {'x' * 200}" for number in range(20)]
        for part in data:
            await served.publish(part)
        await page.wait_for_function(f"() => window.seen.every((seen) => seen.length >= {len(data)})")
        assert await page.evaluate("() => window.seen") == [data, data]
    assert set(served.statuses) == {200}


async def test_a_copied_address_is_refused_once_and_asked_for_no_more() -> None:
    async with site() as served, chromium() as page:
        await served.visit(page)
        url = await ticket_url(page)
        await page.evaluate(FOLLOW, url)
        await page.wait_for_function("() => window.source.readyState === EventSource.OPEN")
        assert page.context.browser is not None
        other = await (await page.context.browser.new_context()).new_page()
        await served.visit(other)
        await other.evaluate(FOLLOW, url)
        await other.wait_for_function("() => window.source.readyState === EventSource.CLOSED")
        # Longer than the time after which it would come back.
        await other.evaluate("() => new Promise((resolve) => setTimeout(resolve, 500))")
        assert served.statuses == [200, 401]
        await served.publish("still there")
        await page.wait_for_function("() => window.seen.length === 1")
