"""Tabs of one browser that share a connection, counted at the server."""

from __future__ import annotations

from functools import cache

import pytest
from playwright.async_api import Page

from support.browser import chromium
from support.client import bundle, open_page
from support.polling import eventually
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)

FOLLOW = """([address, options]) => {
    globalThis.seen = [];
    globalThis.gaps = [];
    globalThis.stream = yeoul.connect(address, {
        share: true,
        ...options,
        onEvent: ({ data }) => seen.push(data),
        onGap: (gap) => gaps.push(gap),
    });
}"""


@cache
def client() -> str:
    return bundle("import * as yeoul from 'yeoul'; Object.assign(globalThis, { yeoul });")


async def tab(page: Page, port: int, address: str = "/topics/news", **options: object) -> Page:
    """A further tab of the page's browser, which follows the address."""
    opened = await page.context.new_page()
    await open_page(opened, port, client())
    await opened.evaluate(FOLLOW, [address, options])
    await opened.wait_for_function("stream.state === 'open'")
    return opened


async def sees(page: Page, events: list[str]) -> None:
    await page.wait_for_function("count => seen.length >= count", arg=len(events))
    assert await page.evaluate("seen") == events
    assert await page.evaluate("gaps") == []


async def publish(port: int, data: str) -> None:
    headers = {"Content-Type": "text/plain"}
    assert (await ask(port, "/topics/news", method="POST", headers=headers, body=data.encode())).status == 202


async def connections(port: int) -> int:
    return len((await ask(port, "/admin/connections")).json()["connections"])


async def test_two_tabs_share_one_connection_and_hand_it_over() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        first = await tab(page, port)
        second = await tab(page, port)
        third = await tab(page, port)
        assert await connections(port) == 1
        assert [await one.evaluate("stream.leads") for one in (first, second, third)] == [True, False, False]
        await publish(port, "one")
        for one in (first, second, third):
            await sees(one, ["one"])

        await first.close()
        await publish(port, "two")
        for one in (second, third):
            await sees(one, ["one", "two"])
        assert await second.evaluate("stream.leads")
        assert await connections(port) == 1

        await second.evaluate("stream.close()")
        await publish(port, "three")
        await sees(third, ["one", "two", "three"])
        assert await second.evaluate("seen") == ["one", "two"]
        late = await tab(page, port)
        await sees(late, ["one", "two", "three"])
        assert await connections(port) == 1

        await late.close()
        await third.close()

        async def none_left() -> bool:
            return await connections(port) == 0

        await eventually(none_left)


async def test_seven_tabs_are_no_more_for_the_server_than_one() -> None:
    """Browsers open six connections to a host over HTTP/1.1: the seventh tab would wait."""
    async with serving(create_app(make_settings())) as port, chromium() as page:
        tabs = [await tab(page, port) for _ in range(7)]
        await publish(port, "one")
        for one in tabs:
            await sees(one, ["one"])
        assert await connections(port) == 1


async def test_tabs_of_two_users_share_nothing() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        tabs = {
            user: await tab(page, port, "/notifications/stream", share=user, token=demo_token(user, name=user))
            for user in ("ann", "ben")
        }
        assert await connections(port) == 2
        for user in tabs:
            note = {"title": f"for {user}", "message": "m", "userId": user}
            by = bearer(demo_token("root", roles="admin"))
            sent = await ask(port, "/notifications/send", method="POST", json_body=note, headers=by)
            assert sent.status == 202
        for user, one in tabs.items():
            await one.wait_for_function("seen.length === 1")
            assert (await one.evaluate("JSON.parse(seen[0]).title")) == f"for {user}"


async def test_a_tab_that_is_hidden_leaves_the_connection_to_one_that_is_seen() -> None:
    hide = """(state) => {
        Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    async with serving(create_app(make_settings())) as port, chromium() as page:
        first, second = await tab(page, port), await tab(page, port)
        await publish(port, "one")
        await first.evaluate(hide, "hidden")
        await second.wait_for_function("stream.leads")
        await publish(port, "two")
        await sees(second, ["one", "two"])
        await first.evaluate(hide, "visible")
        await sees(first, ["one", "two"])
        assert not await first.evaluate("stream.leads")
        assert await connections(port) == 1
