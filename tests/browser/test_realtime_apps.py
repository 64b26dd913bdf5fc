"""The real-time apps, followed by Chromium's own EventSource and sent to by its fetch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.apps import HOSTILE, SEED_TOKEN
from support.browser import chromium
from support.serving import serving
from support.settings import make_settings
from support.tokens import demo_token
from yeoul.app import create_app

pytestmark = pytest.mark.timeout(240)

# Follows each path as the contract's own example does, and waits until all are open.
FOLLOW = """async ([paths, types]) => {
    window.got = Object.fromEntries(paths.map((path) => [path, []]));
    await Promise.all(paths.map((path) => new Promise((resolve) => {
        const source = new EventSource(path);
        source.onmessage = (event) => window.got[path].push(["message", JSON.parse(event.data)]);
        source.onerror = () => window.got[path].push(["error", source.readyState]);
        for (const type of types) {
            source.addEventListener(type, (event) => window.got[path].push([type, JSON.parse(event.data)]));
        }
        source.addEventListener("stream.hello", () => resolve());
    })));
}"""

SEND = """async ([path, body, token]) => {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    return [answer.status, await answer.json()];
}"""

HAS = """([path, type, count]) => window.got[path].filter(([got]) => got === type).length >= count"""


@pytest.mark.parametrize("direct", [True, False])
async def test_all_four_streams_reach_onmessage_at_once(direct: bool) -> None:
    token = f"token={SEED_TOKEN}"
    notes, updates, chat, status = (
        f"/notifications/stream?{token}",
        f"/realtime/stream?{token}",
        f"/chat/stream?{token}&room=general",
        "/system/status/stream",
    )
    app = create_app(make_settings(status_interval_s=0.2))
    async with serving(app, direct=direct, timeout_keep_alive=0) as port, chromium() as page:
        await page.goto(f"http://127.0.0.1:{port}/livez")
        await page.evaluate(FOLLOW, [[notes, updates, chat, status], ["presence", "join", "leave", "typing"]])

        async def sent(path: str, body: Any, who: str = SEED_TOKEN) -> Any:
            code, answer = await page.evaluate(SEND, [path, body, who])
            assert code == 202, answer
            return answer

        async def got(path: str, type: str = "message", count: int = 1) -> list[Any]:
            await page.wait_for_function(HAS, arg=[path, type, count])
            return [data for kind, data in (await page.evaluate("window.got"))[path] if kind == type]

        title = "새로운 메시지 " + HOSTILE[0]
        answer = await sent("/notifications/send", {"title": title, "message": HOSTILE[1], "type": "info"})
        assert await got(notes) == [answer["notification"]]
        assert answer["notification"]["title"] == title

        body = {"entityType": "user", "entityId": "user123", "action": "updated", "data": {"status": HOSTILE[3]}}
        answer = await sent("/realtime/update", body)
        assert await got(updates) == [answer["update"]]

        answer = await sent("/chat/send", {"roomId": "general", "message": HOSTILE[4]})
        assert await got(chat) == [answer["message"]]
        assert [user["id"] for user in (await got(chat, "presence"))[0]["users"]] == ["test123"]
        assert (await got(chat, "join"))[0]["user"]["name"] == "testuser"
        await sent("/chat/typing", {"roomId": "general"}, demo_token("bob", "Bob"))
        assert (await got(chat, "typing"))[0]["user"] == {"id": "bob", "name": "Bob"}

        samples = await got(status, count=2)
        assert samples[0]["streams"]["connections"] >= 1
        everything = await page.evaluate("window.got")
        assert "error" not in json.dumps([[kind for kind, _ in events] for events in everything.values()])
