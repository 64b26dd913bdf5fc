"""Pages of other origins, as a browser lets them ask: one that is named, and one that is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from support.browser import chromium
from support.reader import open_stream, publish
from support.serving import serving
from support.settings import make_settings
from support.upstream import Answer, Upstream
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)


async def page_of(request: Request) -> Response:
    return HTMLResponse("<!doctype html><title>a page</title>")


@dataclass
class Site:
    server: str
    port: int
    page: str
    upstream: Upstream


@asynccontextmanager
async def site(*, named: bool) -> AsyncIterator[Site]:
    """The server, and a page on another port whose origin is named in its settings, or not."""
    async with serving(Starlette(routes=[Route("/", page_of)])) as page_port, Upstream(Answer(["a", "b"])) as upstream:
        origin = f"http://127.0.0.1:{page_port}"
        model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        app = create_app(
            make_settings(upstreams={"up": model}, provider="up", cors_origins=[origin] if named else [], retry_ms=50)
        )
        async with serving(app) as port:
            yield Site(f"http://127.0.0.1:{port}", port, origin, upstream)


async def test_a_page_that_is_named_streams_publishes_and_comes_back() -> None:
    async with site(named=True) as at, chromium() as page:
        await page.goto(at.page)
        seen = await page.evaluate(
            """async (server) => {
                const publish = async (data, key) => {
                    const answer = await fetch(`${server}/topics/news`, {
                        method: "POST", credentials: "include", body: data,
                        headers: { "content-type": "text/plain", "idempotency-key": key },
                    });
                    return [(await answer.json()).id, answer.headers.get("idempotency-replayed")];
                };
                const source = new EventSource(`${server}/topics/news`, { withCredentials: true });
                await new Promise((resolve) => source.addEventListener("stream.hello", resolve));
                const first = new Promise((resolve) => { source.onmessage = ({ data }) => resolve(data); });
                const [id] = await publish("one", "k1");
                const [again, replayed] = await publish("one", "k1");
                await publish("two", "k2");
                const data = await first;
                source.close();
                const answer = await fetch(`${server}/topics/news`, {
                    credentials: "include", headers: { "last-event-id": id, "cache-control": "no-cache" },
                });
                const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
                let text = "";
                while (!text.includes("data: two")) text += (await reader.read()).value;
                await reader.cancel();
                const refused = await fetch(`${server}/sse/chat?message=x&lastEventId=nonsense`);
                return { data, same: again === id, replayed, missed: text.includes("data: one"),
                         status: refused.status, detail: (await refused.json()).detail };
            }""",
            at.server,
        )
        assert (seen["data"], seen["same"], seen["replayed"], seen["missed"]) == ("one", True, "true", False)
        assert seen["status"] == 400
        assert "nonsense" in seen["detail"], "why it was refused can be read"
        answer = await page.evaluate(
            """(server) => new Promise((resolve) => {
                const source = new EventSource(`${server}/sse/chat?message=hi`, { withCredentials: true }), seen = [];
                source.onmessage = ({ data }) => { seen.push(data); if (data === "[DONE]") resolve(seen.join("")); };
            })""",
            at.server,
        )
        assert answer == "ab[DONE]"


async def test_a_page_that_is_not_named_reads_nothing_publishes_nothing_and_starts_nothing() -> None:
    async with site(named=False) as at, chromium() as page:
        await page.goto(at.page)
        await publish(at.port, "news", "a secret")
        tried = await page.evaluate(
            """async (server) => {
                const outcome = (promise) => promise.then((answer) => answer.type, () => "refused");
                const stream = (path) => new Promise((resolve) => {
                    const source = new EventSource(server + path, { withCredentials: true });
                    source.onmessage = source.onopen = () => resolve("open");
                    source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? "refused" : "again");
                });
                const loaded = (tag, attribute, path) => new Promise((resolve) => {
                    const element = document.createElement(tag);
                    element[attribute] = server + path;
                    element.onload = element.onerror = ({ type }) => resolve(type);
                    document.body.append(element);
                });
                const work = "/sse/chat?message=hi", simple = { method: "POST", mode: "no-cors", body: "x" };
                return {
                    stream: await stream("/topics/news?newest=1"),
                    answer: await stream(work),
                    read: await outcome(fetch(server + "/topics/news?newest=1")),
                    preflight: await outcome(fetch(server + "/topics/news", {
                        method: "POST", headers: { "idempotency-key": "k" }, body: "x" })),
                    blind: await outcome(fetch(server + "/topics/news", simple)),
                    work: await outcome(fetch(server + work, { mode: "no-cors", credentials: "include" })),
                    image: await loaded("img", "src", work),
                    frame: await loaded("iframe", "src", work),
                    script: await loaded("script", "src", work),
                };
            }""",
            at.server,
        )
        refused = ("stream", "answer", "read", "preflight")
        assert {name: tried[name] for name in refused} == dict.fromkeys(refused, "refused")
        assert (tried["image"], tried["script"]) == ("error", "error")
        await page.set_content(f"<form method=post action='{at.server}/topics/news'><button>send</button></form>")
        await page.click("button")
        await page.wait_for_load_state()
        assert "may not use this server" in await page.content()
        await page.goto(at.page)
        await page.set_content(f"<a href='{at.server}/sse/chat?message=hi'>read more</a>")
        await page.click("a")
        await page.wait_for_load_state()
        assert "starts no work" in await page.content()
        assert at.upstream.requests == []
        async with await open_stream(at.port, "/topics/news?newest=100") as stream:
            await publish(at.port, "news", "last")
            await stream.until(lambda events: events[-1].data == "last" if events else False)
        assert [event.data for event in stream.events if event.type == "message"] == ["a secret", "last"]
