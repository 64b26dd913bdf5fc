"""The native EventSource in Chromium as its token ends, and as whoever reads is sent away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page

from support.browser import chromium
from support.machine import budget
from support.reader import ask, publish
from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET, bearer, make_jwt
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)

ADMIN = bearer(make_jwt("boss", roles=["admin"]))
RIGHTS = {"yeoul": {"subscribe": ["news"], "publish": ["news"]}}

# Keeps all that comes; with a token, renews the session when it is told that it ends.
FOLLOW = """([url, renewed]) => {
    window.seen = [];
    window.source = new EventSource(url);
    for (const type of ["message", "stream.gap", "stream.reauth", "stream.bye"])
        window.source.addEventListener(type, async ({ type, data }) => {
            window.seen.push([type, data]);
            if (type === "stream.reauth" && renewed)
                await fetch("/auth/session", { method: "POST", headers: { Authorization: `Bearer ${renewed}` } });
        });
}"""


@asynccontextmanager
async def signed_in(seconds: float) -> AsyncIterator[tuple[int, Page]]:
    """A page whose session cookie holds a token of so short a life."""
    # Deadlines are looked at ten times per heartbeat: one second would be much of such a token.
    app = create_app(make_settings(jwt_secret=SECRET, jwt_leeway_s=0, heartbeat_s=1, retry_ms=50))
    async with serving(app) as port, chromium() as page:
        await page.goto(f"http://127.0.0.1:{port}/livez")
        status = await page.evaluate(
            """async (token) => (await fetch("/auth/session", {
                method: "POST", headers: { Authorization: `Bearer ${token}` },
            })).status""",
            make_jwt("u1", seconds=seconds, **RIGHTS),
        )
        assert status == 200
        yield port, page


async def seen(page: Page, type: str) -> list[Any]:
    return [entry for entry in await page.evaluate("() => window.seen") if entry[0] == type]


async def test_told_in_time_a_page_renews_its_session_and_misses_nothing_beyond_the_tokens_end() -> None:
    async with signed_in(budget(4)) as (port, page):
        await page.evaluate(FOLLOW, ["/topics/news", make_jwt("u1", seconds=86_400, **RIGHTS)])
        await page.wait_for_function("() => window.source.readyState === EventSource.OPEN")
        await publish(port, "news", "before", headers=ADMIN)
        await page.wait_for_function("() => window.seen.some(([type]) => type === 'stream.bye')")
        (farewell,) = await seen(page, "stream.bye")
        assert '"reason": "expired"' in farewell[1]
        assert '"reconnect": true' in farewell[1]
        await publish(port, "news", "after", headers=ADMIN)
        await page.wait_for_function("() => window.seen.at(-1)[1] === 'after'")
        assert [data for _, data in await seen(page, "message")] == ["before", "after"]
        (told,) = await seen(page, "stream.reauth")
        assert '"in"' in told[1]
        assert not await seen(page, "stream.gap")


async def test_a_page_that_does_not_renew_ends_closed() -> None:
    async with signed_in(budget(3)) as (_, page):
        await page.evaluate(FOLLOW, ["/topics/news", None])
        await page.wait_for_function("() => window.source.readyState === EventSource.CLOSED")
        assert [type for type, _ in await page.evaluate("() => window.seen")] == ["stream.reauth", "stream.bye"]


async def test_who_is_revoked_is_told_so_and_does_not_come_back() -> None:
    async with signed_in(86_400) as (port, page):
        await page.evaluate(FOLLOW, ["/topics/news", None])
        await page.wait_for_function("() => window.source.readyState === EventSource.OPEN")
        answer = await ask(port, "/auth/revocations", method="POST", headers=ADMIN, json_body={"userId": "u1"})
        assert answer.json()["closed"] == 1
        await page.wait_for_function("() => window.source.readyState === EventSource.CLOSED")
        (farewell,) = await seen(page, "stream.bye")
        assert '"reason": "revoked"' in farewell[1]
        assert '"reconnect": false' in farewell[1]
