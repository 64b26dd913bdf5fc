"""The first page in Chromium, with its native EventSource, through a network that drops connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import repeat
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from playwright.async_api import Page, expect

from support.browser import chromium, renders
from support.proxy import Fate, Proxy, proxying
from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET, make_jwt
from support.upstream import Answer, Exchange, Upstream, complete
from yeoul.app import create_app

TOKENS = ["여울은 ", "물살이 ", "빠른\n", "곳", "입니다 ", "🌊", " <b>굵게</b>", " 끝."]
TEXT = "".join(TOKENS)

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def site(upstream: Upstream, fates: Iterator[Fate] | None = None, **settings: object) -> AsyncIterator[Proxy]:
    """The server behind a proxy; each connection meets the next fate."""
    model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
    app = create_app(make_settings(upstreams={"up": model}, provider="up", retry_ms=50, **settings))
    fates = fates or repeat(Fate())
    # No connection is used twice, so that each fate meets one request.
    async with serving(app, timeout_keep_alive=0) as port, proxying(port, lambda: next(fates)) as proxy:
        yield proxy


async def test_an_answer_appears_token_by_token_and_ends() -> None:
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#state")).to_have_attribute("data-state", "done")
        assert await page.inner_text("#answer") == TEXT
        assert await page.locator("#answer b").count() == 0, "an answer is text, not markup"
        assert len(upstream.requests) == 1


async def test_a_connection_cut_again_and_again_goes_on_at_the_next_token() -> None:
    tokens = [f"{number} {token}" for number in range(6) for token in TOKENS]
    ready = asyncio.Semaphore(0)

    async def paced(exchange: Exchange) -> None:
        await exchange.head()
        for token in tokens:
            await ready.acquire()
            await exchange.chunk(exchange.format.token(token))
        await complete()(Answer(tokens), exchange)

    def fates() -> Iterator[Fate]:
        yield Fate()  # the page itself
        for size in (40, 300, 480, 520, 470, 380):  # in the head, before the first event, within events
            for _ in range(8):
                ready.release()
            yield Fate(cut_after=size)
        for _ in tokens:
            ready.release()
        yield from repeat(Fate())

    async with Upstream(paced) as upstream, site(upstream, fates()) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#state")).to_have_attribute("data-state", "done", timeout=30_000)
        assert await page.text_content("#answer") == "".join(tokens)
        assert proxy.cuts >= 4, proxy
        assert len(upstream.requests) == 1, "the model is asked once, however often the reader is cut"


async def test_a_reload_goes_on_with_the_answer_that_was_being_read() -> None:
    hold = asyncio.Event()
    upstream = Upstream(Answer(TOKENS, hold=(4, hold)))
    async with upstream, site(upstream) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#answer")).to_contain_text(TOKENS[3])
        await page.reload()
        await expect(page.locator("#answer")).to_contain_text(TOKENS[3])
        hold.set()
        await expect(page.locator("#state")).to_have_attribute("data-state", "done")
        assert await page.inner_text("#answer") == TEXT
        assert len(upstream.requests) == 1


async def test_stopping_keeps_what_was_said() -> None:
    hold = asyncio.Event()
    upstream = Upstream(Answer(TOKENS, hold=(2, hold)))
    async with upstream, site(upstream) as proxy, chromium(locale="ko-KR") as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        assert await page.inner_text("#ask") == "묻기"
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#answer")).to_contain_text(TOKENS[1].strip())
        await page.click("#stop")
        await expect(page.locator("#state")).to_have_attribute("data-state", "failed")
        assert await page.inner_text("#answer") == "".join(TOKENS[:2])


async def test_a_stream_that_is_over_is_not_asked_for_again() -> None:
    """EventSource comes back after every end; 204 is what stops it."""
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        states = await page.evaluate(
            """() => new Promise((resolve) => {
                const source = new EventSource("/sse/chat?message=hi"), seen = [];
                source.onmessage = ({ data }) => seen.push(data);
                source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(seen); };
            })"""
        )
        assert "".join(states) == TEXT + "[DONE]"
        assert len(upstream.requests) == 1


async def test_gaps_and_farewells_reach_the_browser() -> None:
    settings = {"retention": [{"pattern": "news", "events": 1}], "max_lifetime_s": 1.0}
    async with Upstream() as upstream, site(upstream, **settings) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        events = await page.evaluate(
            """async () => {
                const publish = (data) => fetch("/topics/news", {
                    method: "POST", headers: { "content-type": "text/plain" }, body: data,
                }).then((answer) => answer.json());
                const { id } = await publish("1");
                await publish("2");
                await publish("3");
                return await new Promise((resolve) => {
                    const source = new EventSource(`/topics/news?lastEventId=${id}`), seen = [];
                    const note = ({ type, data }) => {
                        seen.push([type, data]);
                        if (type === "stream.bye") { source.close(); resolve(seen); }
                    };
                    source.onmessage = note;
                    for (const name of ["hello", "gap", "bye"]) source.addEventListener(`stream.${name}`, note);
                });
            }"""
        )
        assert [type for type, _ in events] == ["stream.hello", "stream.gap", "message", "stream.bye"]
        assert json.loads(events[1][1])["reason"] == "evicted"
        assert events[2][1] == "3"
        assert json.loads(events[3][1]) == {"reason": "lifetime", "reconnect": True}


async def test_where_the_server_needs_a_user_the_page_has_a_form_to_sign_in() -> None:
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream, jwt_secret=SECRET) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#state")).to_have_attribute("data-state", "unknown")
        await page.fill("#token", "no token")
        await page.click("#enter")
        await expect(page.locator("#state")).to_contain_text("token")
        await page.fill("#token", make_jwt("ann"))
        await page.click("#enter")
        await expect(page.locator("#state")).to_have_attribute("data-state", "done")
        await expect(page.locator("#signin")).to_be_hidden()
        assert await page.inner_text("#answer") == TEXT
        assert len(upstream.requests) == 1


async def test_a_finished_answer_is_shown_again_after_a_reload_without_asking_again() -> None:
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#state")).to_have_attribute("data-state", "done")
        counts = await page.inner_text("#counts")
        for _ in range(2):
            await page.reload()
            await expect(page.locator("#state")).to_have_attribute("data-state", "done")
            assert await page.inner_text("#answer") == TEXT
            assert await page.locator("#answer b").count() == 0, "an answer is text, not markup"
            assert await page.input_value("#question") == "여울이 뭐예요?"
            assert await page.inner_text("#counts") == counts
        assert len(upstream.requests) == 1


async def test_asking_the_same_again_is_a_new_question() -> None:
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        for count in (1, 2, 3):
            async with page.expect_request("**/sse/chat?*"):
                await page.click("#ask")
            await expect(page.locator("#state")).to_have_attribute("data-state", "done")
            assert await page.inner_text("#answer") == TEXT
            assert len(upstream.requests) == count


async def test_an_answer_that_was_stopped_is_shown_again_as_such() -> None:
    upstream = Upstream(Answer(TOKENS, hold=(2, asyncio.Event())))
    async with upstream, site(upstream) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "여울이 뭐예요?")
        await page.click("#ask")
        await expect(page.locator("#answer")).to_contain_text(TOKENS[1].strip())
        await page.click("#stop")
        await expect(page.locator("#state")).to_have_attribute("data-state", "failed")
        await page.reload()
        await expect(page.locator("#state")).to_have_attribute("data-state", "failed")
        assert await page.inner_text("#answer") == "".join(TOKENS[:2])


async def test_an_answer_that_is_no_longer_kept_leaves_an_empty_page() -> None:
    settings = {"generations_max_kept": 1}
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream, **settings) as proxy, chromium() as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}/")
        await page.fill("#question", "first")
        await page.click("#ask")
        await expect(page.locator("#state")).to_have_attribute("data-state", "done")
        for prompt in ("second", "third"):
            await page.evaluate(
                "(p) => new Promise((done) => { const s = new EventSource(`sse/chat?message=${p}`);"
                "s.onmessage = ({ data }) => { if (data === '[DONE]') { s.close(); done(); } }; })",
                prompt,
            )
        async with page.expect_response("**/generations/*") as response:
            await page.reload()
        assert (await response.value).status == 404
        await expect(page.locator("#state")).to_have_attribute("data-state", "idle")
        assert await page.inner_text("#answer") == ""
        assert await page.evaluate("sessionStorage.length") == 0


async def use_all_of_it(page: Page, base: str, upstream: Upstream) -> None:
    """Asks, reloads, follows the link to the reference, and tries a route there."""
    await page.goto(base)
    await page.fill("#question", "여울이 뭐예요?")
    await page.click("#ask")
    await expect(page.locator("#answer")).to_contain_text(TOKENS[0].strip())
    await page.click("#stop")
    await expect(page.locator("#state")).to_have_attribute("data-state", "failed")
    await page.reload()
    await expect(page.locator("#answer")).to_contain_text(TOKENS[0].strip())
    assert f"{base}sse/chat" in await page.inner_text("footer code")
    await page.click("footer a")
    assert page.url == f"{base}docs"
    ready = page.locator("details[data-find^='get /readyz ']")
    await ready.locator("summary").click()
    await expect(ready.locator("pre", has_text="curl")).to_contain_text(f"{base}readyz")
    await ready.get_by_role("button", name="Send").click()
    await expect(ready.locator("pre").last).to_contain_text("200 OK")
    await page.click("h1 a")
    assert page.url == base
    assert len(upstream.requests) == 1


async def test_the_pages_work_where_the_server_is_mounted_below_a_path() -> None:
    upstream = Upstream(Answer(TOKENS, hold=(2, asyncio.Event())))
    async with upstream, AsyncExitStack() as stack:
        model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        mounted = create_app(make_settings(upstreams={"up": model}, provider="up"))
        outer = FastAPI(lifespan=lambda _: mounted.router.lifespan_context(mounted))
        outer.mount("/apps/yeoul", mounted)
        port = await stack.enter_async_context(serving(outer))
        page = await stack.enter_async_context(chromium())
        failed: list[str] = []
        page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        await use_all_of_it(page, f"http://127.0.0.1:{port}/apps/yeoul/", upstream)
        assert not failed


@pytest.mark.parametrize("direct", [True, False])
async def test_the_pages_work_with_a_root_path(direct: bool) -> None:
    upstream = Upstream(Answer(TOKENS, hold=(2, asyncio.Event())))
    async with upstream, AsyncExitStack() as stack:
        model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        app = create_app(make_settings(upstreams={"up": model}, provider="up"))
        served = app if direct else below("/yeoul", app)
        port = await stack.enter_async_context(serving(served, direct=direct, root_path="/yeoul"))
        page = await stack.enter_async_context(chromium())
        failed: list[str] = []
        page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        await use_all_of_it(page, f"http://127.0.0.1:{port}/yeoul/", upstream)
        assert not failed


def below(prefix: str, app: Any) -> Any:
    """Takes the prefix away, as a proxy does: uvicorn's own protocols put it in front of every path, those that have it
    already included."""

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix(prefix)
            if not path.startswith(prefix + "/"):
                await PlainTextResponse("outside of the prefix", 404)(scope, receive, send)
                return
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return proxied


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_policy_lets_the_page_work_and_no_injected_code(path: str) -> None:
    async with Upstream(Answer(TOKENS)) as upstream, site(upstream) as proxy, chromium() as page:
        await page.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " ({ effectiveDirective }) => violations.push(effectiveDirective));"
        )
        response = await page.goto(f"http://127.0.0.1:{proxy.port}{path}")
        assert response is not None
        assert "unsafe" not in response.headers["content-security-policy"]
        if path == "/":
            await page.fill("#question", "?")
            await page.click("#ask")
            await expect(page.locator("#state")).to_have_attribute("data-state", "done")
            await page.click("#language")
        else:
            await expect(page.locator("section").first).to_be_visible()
            await page.evaluate("for (const node of document.querySelectorAll('details')) node.open = true")
            await page.locator("details .send button").first.click()
            await expect(page.locator("details .send + pre").first).to_be_visible()
        assert await page.evaluate("violations") == []
        assert await page.evaluate("getComputedStyle(document.body).margin") == "0px", "its own styles apply"
        injected = await page.evaluate(
            """() => {
                const refused = (attempt) => { try { attempt(); return false; } catch { return true; } };
                const button = document.createElement("button"), script = document.createElement("script");
                document.body.append(button);
                const results = [
                    refused(() => { document.body.innerHTML += "<img src=x onerror='window.injected = 1'>"; }),
                    refused(() => button.setAttribute("onclick", "window.injected = 2")),
                ];
                button.click();
                script.append("window.injected = 3");
                document.body.append(script);
                return [...results, window.injected ?? null];
            }"""
        )
        assert injected == [True, True, None]


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_korean_and_emoji_are_not_boxes(path: str) -> None:
    async with Upstream() as upstream, site(upstream) as proxy, chromium(locale="ko-KR") as page:
        await page.goto(f"http://127.0.0.1:{proxy.port}{path}")
        for character in "한글여울🌊":
            assert await renders(page, character), f"{character} is a box: scripts/system.sh installs the fonts"
