"""The examples and the README's code, run as a reader of them would: by a server in a process of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
async def test_the_code_that_the_readme_begins_with_works(readme: str, tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) < 30
    (tmp_path / "app.py").write_text(code[1])
    with served("uvicorn", "app:app", tmp_path) as port:
        async with await open_stream(port, "/notifications/ada") as stream:
            await stream.take(1)
            assert (await ask(port, "/notify/ada?text=lunch", method="POST")).status == 200
            assert (await stream.take(2))[1].data == "lunch"
        async with await open_stream(port, "/chat?question=why") as stream:
            assert (await stream.rest())[-1].data == '{"done": true}'


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
