"""The React hooks in Chromium, in StrictMode, against the server."""

from __future__ import annotations

import asyncio
from functools import cache

import pytest
from playwright.async_api import expect

from support.apps import SEED_TOKEN
from support.browser import chromium
from support.client import bundle, open_page
from support.polling import eventually
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.tokens import bearer
from support.upstream import TOKENS, Answer, Upstream
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)

PAGE = """
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useGeneration, useSSE, useTopic } from "yeoul/react";

function Notifications({ token }: { token: string }) {
  const { events, isConnected } = useSSE<{ title: string }>({
    endpoint: "/notifications/stream",
    token,
    onConnect: () => { globalThis.connects = (globalThis.connects ?? 0) + 1; },
    onError: (error) => console.error("SSE Error:", error),
  });
  return (
    <section id="notifications">
      <p>Connection: {isConnected ? "Connected" : "Disconnected"}</p>
      {events.map((event) => <div key={event.id}>{event.data.title}</div>)}
    </section>
  );
}

function News() {
  const { events, isConnected } = useTopic<string>(["news", "weather"]);
  return <p id="news">{isConnected ? "open:" : "closed:"} {events.map(({ data }) => data).join(" ")}</p>;
}

function Answer() {
  const { text, state, start, stop } = useGeneration("/generations");
  return (
    <section id="answer">
      <button id="ask" onClick={() => start({ prompt: "q" })}>Ask</button>
      <button id="stop" onClick={() => void stop()}>Stop</button>
      <p id="text">{text}</p>
      <p id="state">{state}</p>
    </section>
  );
}

function App() {
  const [isThere, setThere] = useState(true);
  return (
    <StrictMode>
      <button id="leave" onClick={() => setThere(false)}>Leave</button>
      {isThere && <><Notifications token={globalThis.token} /><News /><Answer /></>}
    </StrictMode>
  );
}

createRoot(document.querySelector("main")!).render(<App />);
"""


@cache
def script() -> str:
    return f"globalThis.token = {SEED_TOKEN!r};\n" + bundle(PAGE)


async def connections(port: int) -> int:
    return len((await ask(port, "/admin/connections")).json()["connections"])


async def test_hooks_have_one_connection_each_in_strict_mode_and_none_when_the_component_is_gone() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        await open_page(page, port, script(), "<main></main>")
        await expect(page.locator("#notifications p")).to_have_text("Connection: Connected")
        await expect(page.locator("#news")).to_have_text("open: ")
        assert await connections(port) == 2
        note = {"title": "<b>새로운</b> 메시지", "message": "안녕하세요!", "type": "info"}
        sent = await ask(port, "/notifications/send", method="POST", json_body=note, headers=bearer(SEED_TOKEN))
        assert sent.status == 202
        for topic in ("news", "weather"):
            await ask(
                port, f"/topics/{topic}", method="POST", headers={"Content-Type": "text/plain"}, body=topic.encode()
            )
        await expect(page.locator("#notifications div")).to_have_text(note["title"])
        await expect(page.locator("#news")).to_have_text("open: news weather")
        assert await page.evaluate("connects") == 1
        await page.click("#leave")

        async def none_left() -> bool:
            return await connections(port) == 0

        await eventually(none_left)


async def test_an_answer_is_shown_as_it_comes_and_is_stopped_at_the_server() -> None:
    go_on = asyncio.Event()
    async with Upstream(Answer(TOKENS), Answer(TOKENS, hold=(2, go_on))) as upstream:
        model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        app = create_app(make_settings(upstreams={"up": model}, provider="up"))
        async with serving(app) as port, chromium() as page:
            await open_page(page, port, script(), "<main></main>")
            await expect(page.locator("#state")).to_have_text("idle")
            await page.click("#ask")
            await expect(page.locator("#state")).to_have_text("done")
            assert await page.text_content("#text") == "".join(TOKENS)
            await page.click("#ask")
            await expect(page.locator("#text")).to_have_text("".join(TOKENS[:2]))
            await page.click("#stop")
            await expect(page.locator("#state")).to_have_text("cancelled")
            assert len(upstream.requests) == 2
            await asyncio.wait_for(upstream.requests[1].closed.wait(), 20)
