"""The page about streams of one's own: its code, served and read as its readers would."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.async_api import expect

from process.test_examples import served
from support.browser import chromium
from support.reader import ask, open_stream

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-stream.md").read_text()

pytestmark = pytest.mark.timeout(240)


@contextmanager
def app_named(name: str, folder: Path) -> Iterator[int]:
    for language, code in re.findall(r"```(python|html)\n(.*?)```", PAGE, re.DOTALL):
        file = "clock.html" if language == "html" else re.match(r'"""(\w+\.py):', code)[1]  # type: ignore[index]
        (folder / file).write_text(code)
    with served("uvicorn, direct", f"{name}:app", folder) as port:
        yield port


async def test_a_generator_is_a_stream_that_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    with app_named("clock", tmp_path) as port:
        async with await open_stream(port, "/clock/stream") as stream:
            await stream.take(3)
            first = [event for event in stream.events if event.type == "message"]
            stream.cut()
        assert json.loads(first[0].data)["customData"] == "Hello"
        async with await open_stream(port, "/clock/stream", last_event_id=first[0].id or "") as stream:
            await stream.take(3)
            again = [event for event in stream.events if event.type == "message"]
        assert again[0] == first[1]


async def test_the_page_shows_both_streams(tmp_path: Path) -> None:
    with app_named("clock", tmp_path) as port:
        async with chromium() as page:
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.locator("#state")).to_have_text("connected")
            await expect(page.locator("#time")).to_contain_text("T")
            await expect(page.locator("#price")).to_have_text(re.compile(r"\d+\.\d\d"))


async def test_what_happens_is_published_and_followed(tmp_path: Path) -> None:
    with app_named("orders", tmp_path) as port:
        for state in ("packed", "sent"):
            assert (await ask(port, f"/orders/7/{state}", method="POST")).status == 200
        async with await open_stream(port, "/orders/7/stream") as stream:
            events = [event for event in await stream.take(3) if event.type == "moved"]
        assert [event.data for event in events] == ["packed", "sent"]


async def test_a_stream_beside_the_server_is_for_those_whose_token_grants_it(tmp_path: Path) -> None:
    with app_named("mine", tmp_path) as port:
        async with await open_stream(port, "/queue/stream") as stream:
            assert [event.data for event in await stream.take(2)][1] == '{"waiting": 0}'
        denied = await ask(port, "/queue/stream?token=" + "dTE6QW5uOmFAZXhhbXBsZS5jb206dXNlcg==")
        assert denied.status == 403
        assert "queue/stream" in denied.json()["detail"]
