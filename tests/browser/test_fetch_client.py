"""The TypeScript client in Chromium, against the server, through a network that drops connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import chain, repeat

import pytest
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from support.browser import chromium
from support.client import bundle, open_page
from support.proxy import Fate, Proxy, proxying
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.upstream import Answer, Exchange, Upstream, complete
from yeoul.app import create_app

TOKENS = [f"{number}, 여울\n" for number in range(60)]

pytestmark = pytest.mark.timeout(240)


@cache
def client() -> str:
    return bundle("import * as yeoul from 'yeoul'; Object.assign(globalThis, { yeoul });")


@asynccontextmanager
async def site(upstream: Upstream, fates: Iterator[Fate], **settings: object) -> AsyncIterator[Proxy]:
    """The server behind a proxy; each connection meets the next fate."""
    model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
    app = create_app(make_settings(upstreams={"up": model}, provider="up", retry_ms=100, **settings))
    # No connection is used twice, so that each fate meets one request.
    async with serving(app, timeout_keep_alive=0) as port, proxying(port, lambda: next(fates)) as proxy:
        yield proxy


def paced(ready: asyncio.Semaphore) -> object:
    async def answer(exchange: Exchange) -> None:
        await exchange.head()
        for token in TOKENS:
            await ready.acquire()
            await exchange.chunk(exchange.format.token(token))
        await complete()(Answer(TOKENS), exchange)

    return answer


READ = """([address, options]) => {
    const seen = { text: "", opened: 0, closed: null };
    globalThis.seen = seen;
    const stream = yeoul.connect(address, {
        ...options,
        onOpen: () => { seen.opened += 1; },
        onEvent: (event) => { seen.text += JSON.parse(event.data).content ?? ""; },
    });
    stream.closed.then(({ reason, error }) => { seen.closed = [reason, error?.code ?? null]; });
}"""


async def closed(page: Page) -> dict[str, object]:
    await page.wait_for_function("seen.closed !== null", timeout=60_000)
    seen: dict[str, object] = await page.evaluate("seen")
    return seen


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("/generations?dialect=json", {"body": {"prompt": "q"}}),
        ("/api/recipes/generate-stream", {"body": {"ingredients": ["양파"]}}),
        ("/recipes/generate-ai-stream?ingredients=%5B%22a%22%5D", {}),
    ],
)
async def test_an_answer_that_is_cut_at_many_points_is_whole_and_was_started_once(
    address: str, options: dict[str, object]
) -> None:
    ready = asyncio.Semaphore(0)

    def fates() -> Iterator[Fate]:
        for size in (700, 480, 520, 470, 380, 900):  # after the first event; then in the head, within events
            for _ in range(8):
                ready.release()
            yield Fate(cut_after=size)
        for _ in TOKENS:
            ready.release()
        yield from repeat(Fate())

    async with Upstream(paced(ready)) as upstream, site(upstream, fates()) as proxy, chromium() as page:
        await open_page(page, proxy.port, client())
        await page.evaluate(READ, [address, options])
        seen = await closed(page)
        assert seen["closed"] == ["end", None]
        assert seen["text"] == "".join(TOKENS)
        assert proxy.cuts >= 4, proxy
        assert len(upstream.requests) == 1


async def test_a_page_of_another_origin_resumes_what_its_post_has_started() -> None:
    ready = asyncio.Semaphore(len(TOKENS))
    fates = chain([Fate(), Fate(cut_after=1_500)], repeat(Fate()))  # the preflight, the POST; then all others

    async def show(request: Request) -> HTMLResponse:  # a real page: Chromium lets no other one use loopback addresses
        return HTMLResponse("<!doctype html>")

    async with (
        serving(Starlette(routes=[Route("/", show)])) as own,
        Upstream(paced(ready)) as upstream,
        site(upstream, fates, cors_origins=[f"http://127.0.0.1:{own}"]) as proxy,
        chromium() as page,
    ):
        await page.goto(f"http://127.0.0.1:{own}/")
        await page.evaluate(client())
        address = f"http://127.0.0.1:{proxy.port}/generations?dialect=json"
        await page.evaluate(READ, [address, {"body": {"prompt": "q"}}])
        seen = await closed(page)
        assert (seen["closed"], seen["text"]) == (["end", None], "".join(TOKENS))
        assert (proxy.cuts, len(upstream.requests)) == (1, 1)


async def test_an_answer_goes_on_after_the_page_was_hidden() -> None:
    ready = asyncio.Semaphore(10)
    async with Upstream(paced(ready)) as upstream, site(upstream, repeat(Fate())) as proxy, chromium() as page:
        await open_page(page, proxy.port, client())
        await page.evaluate(READ, ["/generations?dialect=json", {"body": {"prompt": "q"}}])
        await page.wait_for_function("seen.text.includes('5, ')")
        hide = """(state) => {
            Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        await page.evaluate(hide, "hidden")
        for _ in TOKENS:
            ready.release()
        await page.evaluate(hide, "visible")
        seen = await closed(page)
        assert seen["text"] == "".join(TOKENS)
        assert seen["opened"] == 2
        assert len(upstream.requests) == 1


async def publish(port: int, data: str) -> None:
    response = await ask(
        port, "/topics/news", method="POST", headers={"Content-Type": "text/plain"}, body=data.encode()
    )
    assert response.status == 202


async def test_a_page_that_was_left_goes_on_when_it_is_restored() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        await open_page(page, port, client())
        await page.evaluate(
            """() => new Promise((onHello) => {
                globalThis.seen = [];
                globalThis.stream = yeoul.connect("/topics/news", { onHello, onEvent: ({ data }) => seen.push(data) });
            })"""
        )
        await publish(port, "one")
        await page.wait_for_function("seen.length === 1")
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
        await page.wait_for_function("stream.state === 'paused'")
        await publish(port, "two")
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        await page.wait_for_function("seen.length === 2")
        assert await page.evaluate("seen") == ["one", "two"]
