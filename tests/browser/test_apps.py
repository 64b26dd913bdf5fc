"""The applications, asked by Chromium's own EventSource through a network that drops."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

import pytest
from playwright.async_api import Page

from support.browser import chromium
from support.proxy import Fate, Proxy, proxying
from support.serving import serving
from support.settings import make_settings
from support.upstream import Answer, Upstream
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)

# Follows a stream until the browser is told not to come back; everything that was dispatched, and how often it was cut.
FOLLOW = """([path, types]) => new Promise((resolve) => {
    const source = new EventSource(path), events = [];
    let cuts = 0;
    for (const type of ["message", ...types]) {
        source.addEventListener(type, (event) => {
            if (event.data !== undefined) events.push([event.type, event.data, performance.now()]);
        });
    }
    source.addEventListener("error", (event) => {
        if (event.data !== undefined) return;
        if (source.readyState === EventSource.CLOSED) resolve({ events, cuts });
        cuts += 1;
    });
})"""


@asynccontextmanager
async def browsing(upstream: Upstream, *cuts: int) -> AsyncIterator[tuple[Page, Proxy]]:
    """A page of the server, whose next connections are cut after so many bytes."""
    model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
    app = create_app(make_settings(upstreams={"up": model}, provider="up", retry_ms=50, own_documents=True))

    def fates() -> Iterator[Fate]:
        yield Fate()  # the page itself
        yield from (Fate(cut_after=size) for size in cuts)
        yield from repeat(Fate())

    fate = fates()
    async with (
        serving(app, timeout_keep_alive=0) as port,
        proxying(port, lambda: next(fate)) as proxy,
        chromium() as page,
    ):
        await page.goto(f"http://127.0.0.1:{proxy.port}/livez")
        yield page, proxy


async def follow(page: Page, path: str, *types: str) -> list[tuple[str, Any]]:
    told = await page.evaluate(FOLLOW, [path, list(types)])
    return [(type, data) for type, data, _ in told["events"]]


async def test_challenges_arrive_token_by_token_and_the_end_does_not_loop() -> None:
    wanted = {"challenges": [{"title": "텀블러 🌊", "description": "매일 쓰기"}]}
    text = json.dumps(wanted, ensure_ascii=False)
    upstream = Upstream(Answer([text[at : at + 4] for at in range(0, len(text), 4)]))
    path = "/ai/chatbot/recommendation/base-info?sessionId=s&location=회사&workType=직장인&category=제로웨이스트"
    async with upstream, browsing(upstream, 900, 420) as (page, proxy):
        events = await follow(page, path, "token", "complete", "error")
        assert events[-1] == ("complete", '{"status": 200, "message": "모든 챌린지 추천 완료", "data": null}')
        tokens = [json.loads(data)["data"]["token"] for type, data in events if type == "token"]
        assert len(tokens) > 10
        assert json.loads("".join(tokens)) == wanted
        assert proxy.cuts >= 1, "connections that the browser opens to spare use up fates, too"
        assert len(upstream.requests) == 1


async def test_an_error_on_a_stream_is_told_once() -> None:
    async with Upstream() as upstream, browsing(upstream) as (page, _):
        events = await follow(page, "/ai/chatbot/recommendation/free-text", "token", "complete", "error")
        assert events == [
            ("error", '{"status": 500, "message": "message 파라미터가 필요합니다", "data": null}'),
        ]


async def test_documents_are_asked_in_stages() -> None:
    upstream = Upstream(Answer(["It", " resumes", " [1]", "."]))
    async with upstream, browsing(upstream, 600, 2_000) as (page, _):
        path = "/ask?question=How does a stream resume after a dropped connection?"
        events = await follow(page, path, "status", "sources")
        assert [type for type, _ in events[:3]] == ["status", "sources", "status"]
        assert json.loads(events[1][1])["sources"], "the server's own documentation is there without doing anything"
        rest = [json.loads(data) for type, data in events[3:]]
        assert "".join(part.get("content", "") for part in rest) == "It resumes [1]."
        assert rest[-1] == {"done": True}
        assert len(upstream.requests) == 1


async def test_the_recipe_gateway_relays_token_by_token() -> None:
    tokens = ["양파와 ", "감자를 ", "볶아요 ", "🍲"]
    upstream = Upstream(Answer(tokens))
    path = '/recipes/generate-ai-stream?ingredients=["양파","감자"]&preferences=한식&provider=up'
    async with upstream, browsing(upstream, 450, 450, 450) as (page, proxy):
        events = await follow(page, path)
        parts = [json.loads(data) for _, data in events]
        assert "".join(part.get("content", "") for part in parts) == "".join(tokens)
        assert parts[-1] == {"done": True}
        assert proxy.cuts >= 1
        assert len(upstream.requests) == 1
