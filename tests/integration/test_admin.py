"""The admin API: what admins see and close, and that other users cannot."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.polling import eventually
from support.reader import RawStream, ask, open_stream, publish
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from yeoul import __version__
from yeoul.app import create_app
from yeoul.hub import SubscribeOptions
from yeoul.hub.limits import Principal
from yeoul.hub.reasons import KICKED

ROUTES = [
    ("GET", "/admin/overview"),
    ("GET", "/admin/connections"),
    ("DELETE", "/admin/connections/x"),
    ("DELETE", "/admin/connections?user=u2"),
    ("GET", "/admin/topics"),
    ("DELETE", "/admin/topics/a"),
]


async def get(port: int, path: str) -> Any:
    answer = await ask(port, path)
    assert answer.status == 200, answer
    return answer.json()


async def connected(port: int, path: str, **who: str) -> RawStream:
    stream = await open_stream(port, path, headers=bearer(demo_token(**who)) if who else {})
    await stream.take(1)
    return stream


# --- who may


@one_outlet
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_it_is_for_admins_alone(port: int, method: str, path: str) -> None:
    answer = await ask(port, path, method=method, headers=bearer(demo_token("u1", roles="user")))
    assert answer.status == 403
    assert "'admin'" in answer.json()["detail"]
    answer = await ask(port, path, method=method, headers={"X-Forwarded-For": "192.0.2.7"})
    assert answer.status == 401
    answer = await ask(port, path, method=method, headers=bearer(demo_token("u1", roles="user,admin")))
    assert answer.status in (200, 404)


# --- connections


async def test_connections_are_shown_with_who_and_what(port: int) -> None:
    began = time.time()
    async with await connected(port, "/stream?topic=chat/a&topic=chat/b", user="김", name="철수") as stream:
        for topic in ("chat/a", "chat/b"):
            await publish(port, topic, "x")
        await stream.take(3)
        (shown,) = (await get(port, "/admin/connections"))["connections"]
        assert (shown["user"], shown["name"], shown["address"]) == ("김", "철수", "127.0.0.1")
        assert shown["topics"] == ["chat/a", "chat/b"]
        assert began - 1 <= shown["since"] <= time.time()
        assert (shown["events"], shown["gaps"], shown["lagging"], shown["expires"]) == (2, 0, False, None)
        assert shown["bytes"] > 0
        assert shown["cursor"] == stream.last_event_id
        assert demo_token("김", "철수") not in json.dumps(shown, ensure_ascii=False)


async def test_connections_are_found_by_user_and_topic(port: int) -> None:
    async with (
        await connected(port, "/topics/chat/a", user="u1"),
        await connected(port, "/topics/chat/b", user="u1"),
        await connected(port, "/topics/chat/a", user="u2"),
    ):

        async def count(query: str) -> int:
            return len((await get(port, f"/admin/connections?{query}"))["connections"])

        assert await count("") == 3
        assert await count("user=u1") == 2
        assert await count("topic=chat/a") == 2
        assert await count("user=u1&topic=chat/a") == 1
        assert await count("user=u") == 0


async def test_a_reader_that_takes_nothing_is_shown_as_lagging(port: int) -> None:
    async with await connected(port, "/topics/a"):

        async def lags() -> Any:
            await publish(port, "a", "x" * 250_000)
            overview = await get(port, "/admin/overview")
            return [reader for reader in overview["lagging"] if reader["behind"]]

        (lagging,) = await eventually(lags)
        (shown,) = (await get(port, "/admin/connections"))["connections"]
        assert shown["lagging"]
        assert lagging["id"] == shown["id"]
        async with await open_stream(port, "/topics/other") as other:
            await other.take(1)
            found = (await ask(port, "/admin/connections?lagging=true")).json()["connections"]
            assert [reader["id"] for reader in found] == [shown["id"]]
        assert lagging["behind"] >= 1


async def test_a_kicked_reader_is_told_and_does_not_come_back(port: int) -> None:
    async with (
        await connected(port, "/topics/a", user="root", roles="admin") as one,
        await connected(port, "/topics/a") as other,
    ):
        shown = (await get(port, "/admin/connections"))["connections"]
        assert (await ask(port, f"/admin/connections/{shown[0]['id']}", method="DELETE")).status == 204
        assert json.loads((await one.rest())[-1].data) == {"reason": "kicked", "reconnect": False}
        answer = await ask(port, f"/admin/connections/{shown[0]['id']}", method="DELETE")
        assert (answer.status, answer.json()["detail"]) == (
            404,
            "there is no connection with this id: it may have ended",
        )
        await publish(port, "a", "still here")
        assert (await other.take(2))[-1].data == "still here"
        assert (await get(port, "/admin/overview"))["connections"]["closed"] == {"kicked": 1}


async def test_all_streams_of_a_user_are_ended(port: int) -> None:
    async with (
        await connected(port, "/topics/chat/a", user="u1") as one,
        await connected(port, "/topics/chat/b", user="u1") as two,
        await connected(port, "/topics/chat/a", user="u2"),
    ):
        answer = await ask(port, "/admin/connections?user=u1", method="DELETE")
        assert (answer.status, answer.json()) == (200, {"ended": 2})
        for stream in (one, two):
            assert (await stream.rest())[-1].type == "stream.bye"
        assert [shown["user"] for shown in (await get(port, "/admin/connections"))["connections"]] == ["u2"]
    assert (await ask(port, "/admin/connections", method="DELETE")).status == 422


@asynccontextmanager
async def crowded(count: int) -> AsyncIterator[tuple[int, Any]]:
    """A server whose hub has so many readers without sockets."""
    app = create_app(make_settings(max_connections=100_000, log_level="warning"))
    async with serving(app) as port:
        hub = app.state.hub
        for number in range(count):
            principal = Principal(user=f"u{number % 7}", address=f"192.0.2.{number % 250}")
            reader = await hub.subscribe([f"t{number % 10}", "all"], SubscribeOptions(principal=principal))
            assert reader.since > 0
        yield port, hub


async def test_pages_have_each_connection_once() -> None:
    async with crowded(250) as (port, hub):
        seen: list[str] = []
        after = ""
        pages = 0
        while True:
            page = await get(port, f"/admin/connections?limit=60{after}")
            seen += [shown["id"] for shown in page["connections"]]
            pages += 1
            if page["next"] is None:
                break
            # A reader that leaves between two pages does not shift the others.
            hub.disconnect(lambda reader, last=seen[-1]: reader.id == last, KICKED)
            after = f"&after={page['next']}"
        assert pages == 5
        assert len(seen) == len(set(seen)) == 250
        own = await get(port, "/admin/connections?user=u3&limit=500")
        assert {shown["user"] for shown in own["connections"]} == {"u3"}


@pytest.mark.parametrize("query", ["after=x", "after=_", "limit=0", "limit=501", "limit=x"])
@one_outlet
async def test_an_invalid_page_is_refused(port: int, query: str) -> None:
    assert (await ask(port, f"/admin/connections?{query}")).status == 422


async def test_ten_thousand_connections_do_not_delay_other_requests() -> None:
    async with crowded(10_000) as (port, hub):
        paths = (
            "/admin/connections?user=nobody",
            "/admin/connections?user=u6&limit=100",
            "/admin/topics?limit=5",
            "/admin/overview",
        )
        for path in paths:
            await get(port, path)  # what happens once, for the first one who asks
        gc.collect()
        worst = 0.0
        done = False

        async def beat() -> None:
            nonlocal worst
            while not done:
                began = time.process_time()  # of this process: the others on this machine are not meant
                await asyncio.sleep(0)
                worst = max(worst, time.process_time() - began)

        beating = asyncio.create_task(beat())
        for path in paths:
            await get(port, path)
        done = True
        await beating
        hub.disconnect(lambda reader: True, KICKED)
        assert worst < 0.025  # about 1 ms, and what the garbage collector may take


# --- topics


async def test_topics_are_shown_the_most_followed_ones_first(port: int) -> None:
    async with (
        await connected(port, "/topics/chat/a"),
        await connected(port, "/stream?topic=chat/a&topic=chat/b"),
        await connected(port, "/topics/other"),
    ):
        await ask(port, "/readyz")
        ids = [await publish(port, "chat/b", str(number)) for number in range(3)]
        shown = await get(port, "/admin/topics")
        assert [(topic["name"], topic["readers"]) for topic in shown["topics"]] == [
            ("chat/a", 2),
            ("chat/b", 1),
            ("other", 1),
        ]
        chat = shown["topics"][1]
        assert (chat["events"], chat["oldest"], chat["newest"], chat["final"]) == (3, ids[0], ids[-1], False)
        assert chat["bytes"] > 0
        assert shown["topics"][0]["oldest"] is None
        some = await get(port, "/admin/topics?prefix=chat/&limit=1")
        assert ([topic["name"] for topic in some["topics"]], some["total"]) == (["chat/a"], 2)


async def test_forgetting_a_topic_takes_nothing_from_those_who_have_it_and_tells_those_who_come_back(port: int) -> None:
    async with await connected(port, "/topics/t") as stream:
        first = await publish(port, "t", "1")
        await publish(port, "t", "2")
        await stream.take(3)
        answer = await ask(port, "/admin/topics/t", method="DELETE")
        assert answer.status == 200, answer
        assert (answer.json()["events"], answer.json()["topic"]) == (2, "t")
        await publish(port, "t", "3")
        assert [event.data for event in (await stream.take(4))[1:]] == ["1", "2", "3"]
        async with await open_stream(port, "/topics/t", last_event_id=first) as back:
            gap, event = (await back.take(3))[1:]
            assert (gap.type, json.loads(gap.data)["reason"], event.data) == ("stream.gap", "evicted", "3")
        async with await open_stream(port, "/topics/t?newest=10") as new:
            assert (await new.take(2))[1].data == "3"


@one_outlet
async def test_the_events_of_a_topic_without_readers_can_be_deleted(port: int) -> None:
    id = await publish(port, "t", "1")
    assert (await ask(port, "/admin/topics/t", method="DELETE")).json()["events"] == 1
    async with await open_stream(port, "/topics/t", last_event_id=id.replace("-1", "-0")) as back:
        assert (await back.take(2))[1].type == "stream.gap"
    answer = await ask(port, "/admin/topics/t", method="DELETE")
    assert (answer.status, answer.json()["detail"]) == (404, "no events are kept in topic 't'")


@one_outlet
@pytest.mark.parametrize("name", ["generations/x", "relays/x", "stream.probe", "bad topic"])
async def test_topics_that_belong_to_others_are_left_alone(port: int, name: str) -> None:
    assert (await ask(port, f"/admin/topics/{name.replace(' ', '%20')}", method="DELETE")).status == 422


# --- the whole


async def test_the_overview_says_how_the_server_is(port: int) -> None:
    async with await connected(port, "/topics/t") as stream:
        await publish(port, "t", "x" * 100)
        await stream.take(2)
        seen = await get(port, "/admin/overview")
    assert (seen["version"], seen["demo"], seen["draining"]) == (__version__, True, False)
    assert 0 <= seen["uptime"] < 60
    assert abs(seen["started"] + seen["uptime"] - time.time()) < 5
    assert seen["connections"] == {
        "open": 1,
        "most": 1_000,
        "lagging": 0,
        "opened": 1,
        "closed": {},
        "refused": {},
        "gaps": 0,
    }
    assert seen["rates"]["published"] > 0
    assert seen["latency"]["p50"] > 0
    assert (seen["broker"]["followed"], seen["broker"]["topics"]) == (1, 1)
    assert seen["broker"]["bytes"] >= 100
    assert seen["broker"]["head"].endswith("-1")
    assert seen["generations"] == {"running": 0, "started": 0}
    assert seen["memory"] > 10_000_000
    assert seen["loop_lag"] >= 0


@pytest.mark.settings(max_connections=1)
async def test_the_overview_counts_who_was_refused(port: int) -> None:
    async with await connected(port, "/topics/t"):
        assert (await ask(port, "/topics/t")).status == 429
        assert (await get(port, "/admin/overview"))["connections"]["refused"] == {"all": 1}
