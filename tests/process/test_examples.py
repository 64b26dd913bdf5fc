"""The examples and the README's code, run as a reader of them would: by a server in a process of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import expect

from support.ai_sdk import ai_sdk
from support.browser import chromium
from support.reader import ask, open_stream
from support.serving import free_port, listening

ROOT = Path(__file__).parents[2]

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "{app}"],
    "uvicorn, direct": ["-m", "uvicorn", "--http", "yeoul.server.protocol:Protocol", "--port", "{port}", "{app}"],
    "granian": ["-m", "granian", "--interface", "asgi", "--port", "{port}", "{app}"],
}


@contextmanager
def served(server: str, app: str, folder: Path = ROOT) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, *(part.format(port=port, app=app) for part in SERVERS[server])]
    with listening(command, port, cwd=folder) as process:
        yield process.port


@pytest.mark.parametrize("server", SERVERS)
async def test_the_chat_goes_on_where_it_was_cut(server: str) -> None:
    with served(server, "examples.chat:app") as port:
        async with await open_stream(port, "/chat?question=why") as stream:
            assert stream.status == 200
            first = list(await stream.take(4))
            stream.cut()
        async with await open_stream(port, "/chat?question=why", last_event_id=first[-1].id or "") as stream:
            rest = await stream.rest()
        data = [event.data for event in [*first, *rest]]
        assert data[-1] == '{"done": true}'
        text = "".join(part.removeprefix('{"content": "').removesuffix('"}') for part in data[:-1])
        assert text == "You asked: why That is a good question, and this is a slow answer. "
        async with await open_stream(port, "/chat?question=why", last_event_id=rest[-1].id or "") as stream:
            assert stream.status == 204


@pytest.mark.parametrize("server", SERVERS)
async def test_notifications_arrive_and_are_kept_for_those_who_come_back(server: str) -> None:
    with served(server, "examples.notifications:app") as port:
        async with await open_stream(port, "/notifications/ada") as stream:
            hello = (await stream.take(1))[0]
            assert (await ask(port, "/notify/ada?text=lunch", method="POST")).status == 200
            event = (await stream.take(2))[1]
            assert (event.type, event.data) == ("notification", "lunch")
        async with await open_stream(port, "/notifications/ada", last_event_id=hello.id or "") as stream:
            assert (await stream.take(2))[1] == event


@pytest.mark.parametrize("server", SERVERS)
async def test_a_chat_of_the_ai_sdk_is_read_again_and_then_stored(server: str) -> None:
    with served(server, "examples.ai_sdk:app") as port:
        async with ai_sdk("ai") as sdk:
            lost = await sdk.run("send", port, "chat", text="hi", cut=4)
            again = await sdk.run("resume", port, "chat", messages=lost["messages"][:1])
        assert again["messages"][1]["parts"][1]["text"] == "You said: hi. This is a slow answer. "
        assert (await ask(port, "/api/chat/chat")).json() == again["messages"]
        assert (await ask(port, "/api/chat/chat/stream")).status == 204


READMES = ["README.md", "README.ko.md"]


def code_in(readme: str, language: str) -> str:
    """The first piece of code in this language."""
    code = re.search(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert code is not None
    return code[1]


@contextmanager
def sample(readme: str, folder: Path) -> Iterator[int]:
    """The README's application and its page, served."""
    code = code_in(readme, "python")
    assert len(code.splitlines()) < 36
    (folder / "app.py").write_text(code)
    (folder / "index.html").write_text(code_in(readme, "html"))
    with served("uvicorn", "app:app", folder) as port:
        yield port


@pytest.mark.parametrize("readme", READMES)
async def test_the_code_that_the_readme_begins_with_works(readme: str, tmp_path: Path) -> None:
    with sample(readme, tmp_path) as port:
        async with await open_stream(port, "/notifications/ada") as stream:
            await stream.take(1)
            assert (await ask(port, "/notify/ada?text=lunch", method="POST")).status == 200
            assert (await stream.take(2))[1].data == "lunch"
        async with await open_stream(port, "/chat?question=why") as stream:
            assert (await stream.rest())[-1].data == '{"done": true}'


@pytest.mark.parametrize("readme", READMES)
async def test_the_page_of_the_readme_shows_events_and_an_answer_to_its_end(readme: str, tmp_path: Path) -> None:
    with sample(readme, tmp_path) as port:
        async with chromium() as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.locator("#answer")).to_contain_text("why")
            await page.wait_for_function("() => news.readyState === EventSource.OPEN")
            assert (await ask(port, "/notify/ada?text=lunch", method="POST")).status == 200
            await expect(page.locator("#news")).to_have_text("lunch")
            await page.wait_for_function("() => chat.readyState === EventSource.CLOSED")
            assert [url for url in asked if "/chat" in url] == [f"http://127.0.0.1:{port}/chat?question=why"]


@pytest.mark.parametrize("readme", READMES)
async def test_the_readmes_fetch_reads_the_same_answer(readme: str, tmp_path: Path) -> None:
    with sample(readme, tmp_path) as port:
        async with chromium() as page:
            await page.goto(f"http://127.0.0.1:{port}/openapi.json")  # a page that asks for nothing else
            program = "async () => { const token = 't', shown = [], show = (id, text) => shown.push(text);"
            shown = await page.evaluate(program + code_in(readme, "js") + "return shown.join(''); }")
            assert shown.endswith("why ")


async def test_the_app_of_the_page_about_apps_works(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "add-an-app.md").read_text(), re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) < 40
    (tmp_path / "haiku.py").write_text(code[1])
    with served("uvicorn, direct", "haiku:app", tmp_path) as port:
        async with await open_stream(port, "/haiku?subject=rapids") as stream:
            events = await stream.rest()
        assert events[-1].data == '{"done": true}'
        async with await open_stream(port, "/haiku?subject=rapids", last_event_id=events[-1].id or "") as stream:
            assert stream.status == 204
