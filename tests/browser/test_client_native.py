"""The client's wrapper of the browser's own EventSource."""

from __future__ import annotations

from functools import cache
from itertools import chain, repeat

import pytest

from support.browser import chromium
from support.client import bundle, open_page
from support.proxy import Fate, proxying
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET, bearer, make_jwt
from support.upstream import TOKENS, Answer, Upstream
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)


@cache
def client() -> str:
    return bundle("import * as yeoul from 'yeoul'; Object.assign(globalThis, { yeoul });")


FOLLOW = """([address, token, options]) => {
    globalThis.seen = { events: [], hello: null, gaps: [], byes: [], errors: [], closed: null, tickets: 0 };
    const ticket = token && (async () => {
        seen.tickets += 1;
        const headers = { Authorization: `Bearer ${token}` };
        const response = await fetch("/auth/tickets", { method: "POST", headers });
        return (await response.json()).ticket;
    });
    globalThis.stream = yeoul.connectNative(address, {
        ...options,
        ...(ticket && { ticket }),
        onEvent: ({ type, data }) => seen.events.push([type, data]),
        onHello: (hello) => { seen.hello = hello; },
        onGap: (gap) => seen.gaps.push(gap.reason),
        onBye: (bye) => seen.byes.push(bye.reason),
        onError: (error) => seen.errors.push(error.code),
        onClose: ({ reason }) => { seen.closed = reason; },
    });
}"""


async def publish(port: int, data: str, **headers: str) -> None:
    headers = {"Content-Type": "text/plain", **headers}
    assert (await ask(port, "/topics/news", method="POST", headers=headers, body=data.encode())).status == 202


async def test_events_control_events_and_being_sent_away() -> None:
    async with serving(create_app(make_settings())) as port, chromium() as page:
        await open_page(page, port, client())
        await page.evaluate(FOLLOW, ["/topics/news", None, {"lastEventId": "k3x9q0w2ab-7"}])
        await page.wait_for_function("seen.hello !== null && stream.state === 'open'")
        await publish(port, "one")
        await page.wait_for_function("seen.events.length === 1")
        (shown,) = (await ask(port, "/admin/connections")).json()["connections"]
        assert (await ask(port, f"/admin/connections/{shown['id']}", method="DELETE")).status == 204
        await page.wait_for_function("seen.closed !== null")
        seen = await page.evaluate("seen")
        assert seen["events"] == [["message", "one"]]
        assert seen["gaps"] == ["epoch"]
        assert (seen["byes"], seen["closed"]) == (["kicked"], "bye")


async def test_an_answer_is_closed_at_its_end_without_another_request() -> None:
    async with Upstream(Answer(TOKENS)) as upstream:
        model = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        app = create_app(make_settings(upstreams={"up": model}, provider="up"))
        async with serving(app, timeout_keep_alive=0) as port, proxying(port, Fate) as proxy, chromium() as page:
            await open_page(page, proxy.port, client())
            address = "/ai/chatbot/recommendation/free-text?message=hi"
            await page.evaluate(FOLLOW, [address, None, {"types": ["token", "complete", "error"]}])
            await page.wait_for_function("seen.closed !== null")
            seen = await page.evaluate("seen")
            assert seen["closed"] == "end"
            assert seen["events"][0][0] == "token"
            assert seen["events"][-1][0] in ("complete", "error")
            assert seen["errors"] == []
            assert proxy.connections == 1


async def test_a_stream_that_was_refused_is_opened_again_with_a_new_ticket_where_it_was() -> None:
    app = create_app(make_settings(jwt_secret=SECRET, retry_ms=1_500))
    token = make_jwt("u1", yeoul={"subscribe": ["news"], "publish": ["news"]})
    fates = chain([Fate(), Fate(cut_after=900)], repeat(Fate()))  # the ticket, the stream; then all others
    async with (
        serving(app, timeout_keep_alive=0) as port,
        proxying(port, lambda: next(fates)) as proxy,
        chromium() as page,
    ):
        await open_page(page, proxy.port, client())
        await page.evaluate(FOLLOW, ["/topics/news", token, {}])
        await page.wait_for_function("seen.hello !== null")
        for text in ("one", "x" * 1_000):
            await publish(port, text, **bearer(token))
        await page.wait_for_function("seen.errors.length === 1")
        # The cookie that belongs to the used ticket is gone, as it is after a restart of the server.
        await page.context.clear_cookies()
        await page.wait_for_function("seen.events.length === 2")
        seen = await page.evaluate("seen")
        assert [len(data) for _, data in seen["events"]] == [3, 1_000]
        assert (seen["tickets"], seen["errors"]) == (2, ["network", "http"])
