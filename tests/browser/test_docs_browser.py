"""docs/browser.md: each of its snippets has right types, and does in Chromium what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from support.browser import chromium
from support.client import CLIENT, bundle, open_page
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET, bearer, demo_token, make_jwt
from support.upstream import TOKENS, Answer, Upstream
from yeoul.app import create_app

PAGE = (Path(__file__).parents[2] / "docs" / "browser.md").read_text()
SNIPPETS: dict[str, str] = dict(re.findall(r"```\w+\n(?://|<!--) (\S+?)(?: -->)?\n(.*?)```", PAGE, re.DOTALL))
TEXT = "".join(TOKENS)

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def answers(*scripts: Answer) -> AsyncIterator[tuple[int, Upstream]]:
    async with Upstream(*(scripts or (Answer(TOKENS),))) as upstream:
        model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        app = create_app(make_settings(upstreams={"up": model}, provider="up"))
        async with serving(app) as port:
            yield port, upstream


async def publish(port: int, topic: str, data: str, **headers: str) -> None:
    headers = {"Content-Type": "text/plain", **headers}
    assert (await ask(port, f"/topics/{topic}", method="POST", headers=headers, body=data.encode())).status == 202


async def until_followed(port: int, count: int = 1, **headers: str) -> None:
    """Until the server has so many readers."""
    async with asyncio.timeout(30):
        while len((await ask(port, "/admin/connections", headers=headers)).json()["connections"]) != count:
            await asyncio.sleep(0.01)  # the server has no event for it that could be waited for


async def mount(page: Page, port: int, component: str, use: str, first: str = "") -> None:
    """A page with this React component in StrictMode."""
    script = f"""
        import {{ StrictMode }} from "react";
        import {{ createRoot }} from "react-dom/client";
        {SNIPPETS[component]}
        createRoot(document.querySelector("main")!).render(<StrictMode>{use}</StrictMode>);
    """
    await open_page(page, port, first + bundle(script), "<main></main>")


def test_every_snippet_is_tested() -> None:
    source = Path(__file__).read_text()
    assert [name for name in SNIPPETS if f'"{name}"' not in source] == []


def test_the_types_of_the_snippets_are_right(tmp_path: Path) -> None:
    for name, code in SNIPPETS.items():
        if name.endswith((".ts", ".tsx")):
            (tmp_path / name).write_text(f"{code}\nexport {{}};\n")
    paths = {"yeoul": ["./src/index.ts"], "yeoul/react": ["./src/react.ts"]}
    for package in ("react", "react/jsx-runtime"):
        paths[package] = [f"./node_modules/@types/{package}"]
    paths |= {"vue": ["./node_modules/vue"], "svelte/store": ["./node_modules/svelte/types"]}
    options = {
        "extends": str(CLIENT / "tsconfig.json"),
        "compilerOptions": {
            "jsx": "react-jsx",
            "module": "ESNext",
            "moduleResolution": "Bundler",
            "types": [],
            "paths": {name: [str(CLIENT / path) for path in places] for name, places in paths.items()},
        },
        "include": [str(tmp_path)],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(options))
    tsc = CLIENT / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([tsc, "-p", tmp_path], cwd=CLIENT, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["native.js", "reader.js"])
async def test_an_answer_without_a_library(name: str) -> None:
    async with answers() as (port, upstream), chromium() as page:
        body = "<p id=answer></p><p id=state></p>"
        await open_page(page, port, SNIPPETS[name], body, module=True)
        await page.wait_for_function("text => document.querySelector('#answer').textContent === text", arg=TEXT)
        if name == "reader.js":
            await expect(page.locator("#state")).to_have_text("done")
        assert len(upstream.requests) == 1


async def test_a_native_stream_with_tickets() -> None:
    app = create_app(make_settings(jwt_secret=SECRET))
    token = make_jwt("u1", roles=["admin"])
    async with serving(app) as port, chromium() as page:
        script = f"sessionStorage.token = {json.dumps(token)};\n" + bundle(SNIPPETS["tickets.ts"])
        await open_page(page, port, script, "<p id=news></p>")
        await until_followed(port, **bearer(token))
        await publish(port, "news", "one", **bearer(token))
        await expect(page.locator("#news")).to_have_text("one")


async def test_following_a_topic_with_a_token() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:

        async def login(route: Route) -> None:
            await route.fulfill(body=demo_token("u1", roles="admin"))

        await page.route("**/my-login", login)
        await open_page(page, port, bundle(SNIPPETS["follow.ts"]), "<pre id=messages></pre>")
        await page.wait_for_function("document.title === 'open'")
        await publish(port, "chat/general", "<i>one</i>")
        await expect(page.locator("#messages")).to_have_text("<i>one</i>")
        await page.evaluate("dispatchEvent(new Event('logout'))")
        await page.wait_for_function("document.title === 'closed'")
        await until_followed(port, 0)


async def test_iterating() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        await open_page(page, port, bundle(SNIPPETS["iterate.ts"], module=True), "<p id=news></p>", module=True)
        await until_followed(port)
        for data in ("one ", "enough"):
            await publish(port, "news", data)
        await expect(page.locator("#news")).to_have_text("one enough")
        await until_followed(port, 0)


async def test_an_answer() -> None:
    async with answers() as (port, upstream), chromium() as page:
        body = "<p id=answer></p><p id=state></p><button id=stop></button>"
        await open_page(page, port, bundle(SNIPPETS["answer.ts"], module=True), body, module=True)
        await expect(page.locator("#state")).to_have_text("done")
        assert await page.text_content("#answer") == TEXT
        assert len(upstream.requests) == 1


async def test_an_answer_that_is_stopped() -> None:
    go_on = asyncio.Event()
    async with answers(Answer(TOKENS, hold=(2, go_on))) as (port, upstream), chromium() as page:
        body = "<p id=answer></p><p id=state></p><button id=stop></button>"
        await open_page(page, port, bundle(SNIPPETS["answer.ts"], module=True), body, module=True)
        await expect(page.locator("#answer")).to_have_text("".join(TOKENS[:2]))
        await page.click("#stop")
        await expect(page.locator("#state")).to_contain_text("cancelled: ")
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


async def test_an_answer_that_a_reload_does_not_ask_for_again() -> None:
    go_on = asyncio.Event()
    async with answers(Answer(TOKENS, hold=(2, go_on))) as (port, upstream), chromium() as page:
        await open_page(page, port, bundle(SNIPPETS["reload.ts"], module=True), "<p id=answer></p>", module=True)
        await expect(page.locator("#answer")).to_have_text("".join(TOKENS[:2]))
        await page.reload()
        await expect(page.locator("#answer")).to_have_text("".join(TOKENS[:2]))
        go_on.set()
        await page.wait_for_function("text => document.querySelector('#answer').textContent === text", arg=TEXT)
        assert len(upstream.requests) == 1


async def test_tabs() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        script = bundle(SNIPPETS["tabs.ts"])
        await open_page(page, port, script, "<p id=news></p>")
        await expect(page).to_have_title("this tab has the connection")
        other = await page.context.new_page()
        await open_page(other, port, script, "<p id=news></p>")
        await expect(other).to_have_title("another tab has it")
        await publish(port, "news", "one")
        for tab in (page, other):
            await expect(tab.locator("#news")).to_have_text("one")
        await until_followed(port, 1)


async def test_react_notifications() -> None:
    token = demo_token("u1", roles="user,admin")
    async with serving(create_app(make_settings())) as port, chromium() as page:
        first = f"globalThis.token = {json.dumps(token)};\n"
        await mount(page, port, "Notifications.tsx", "<Notifications token={globalThis.token} />", first)
        await expect(page.locator("section p")).to_have_text("Connected")
        note = {"title": "<b>title</b>", "message": "m"}
        sent = await ask(port, "/notifications/send", method="POST", json_body=note, headers=bearer(token))
        assert sent.status == 202
        await expect(page.locator("section div")).to_have_text("<b>title</b>")


async def test_react_room() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        await mount(page, port, "Room.tsx", '<Room room="a" />')
        await expect(page.locator("section")).to_have_attribute("aria-busy", "false")
        await publish(port, "rooms/a", "hello")
        await expect(page.locator("section p")).to_have_text("hello")


async def test_react_chat() -> None:
    async with answers() as (port, upstream), chromium() as page:
        await mount(page, port, "Chat.tsx", "<Chat />")
        await expect(page.locator("p").nth(1)).to_have_text("idle")
        await page.click("text=Ask")
        await expect(page.locator("p").nth(1)).to_have_text("done")
        assert await page.locator("p").nth(0).text_content() == TEXT
        assert len(upstream.requests) == 1


VUE = """
import { createApp, h } from "vue";
const app = createApp({
  setup() {
    const { events, state } = useStream("/topics/news");
    return () => h("p", `${state.value}: ${events.value.map(({ data }) => data).join(" ")}`);
  },
});
app.mount("main");
globalThis.leave = () => app.unmount();
"""

SVELTE = """
globalThis.leave = stream("/topics/news").subscribe((events) => {
  document.querySelector("main").textContent = `open: ${events.map(({ data }) => data).join(" ")}`;
});
"""


@pytest.mark.parametrize(("name", "use"), [("useStream.ts", VUE), ("stream.ts", SVELTE)])
async def test_other_frameworks(name: str, use: str) -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        await open_page(page, port, bundle(SNIPPETS[name] + use), "<main></main>")
        await until_followed(port)
        await publish(port, "news", "one")
        await expect(page.locator("main")).to_have_text("open: one")
        await page.evaluate("leave()")
        await until_followed(port, 0)


async def test_htmx() -> None:
    async with answers() as (port, upstream), chromium() as page:
        packages = CLIENT / "node_modules"
        script = ";\n".join(
            (packages / name).read_text() for name in ("htmx.org/dist/htmx.js", "htmx-ext-sse/dist/sse.js")
        )
        await open_page(page, port, script, SNIPPETS["htmx.html"])
        await page.wait_for_function("text => document.querySelector('#answer').textContent === text", arg=TEXT)
        assert len(upstream.requests) == 1
