"""What the live apps have in common: grants, rates, idempotency keys, and one connection for all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.apps import ADMIN, SEED_TOKEN, contents, following, received, send
from support.reader import ask, open_stream
from support.serving import one_outlet
from support.tokens import SECRET, bearer, demo_token, make_jwt

SENDERS: dict[str, dict[str, Any]] = {
    "/notifications/send": {"title": "t", "message": "m", "type": "info"},
    "/realtime/update": {"entityType": "user", "entityId": "1", "action": "updated", "data": {}},
    "/chat/send": {"roomId": "general", "message": "hi"},
    "/chat/typing": {"roomId": "general"},
}
STREAMS = {
    "/notifications/send": "/notifications/stream",
    "/realtime/update": "/realtime/stream",
    "/chat/send": "/chat/stream",
}

each_sender = pytest.mark.parametrize("path", SENDERS)


@each_sender
@one_outlet
async def test_a_request_that_is_repeated_with_its_key_is_done_once(port: int, path: str) -> None:
    headers = {**bearer(ADMIN), "Idempotency-Key": "k-1"}
    async with await following(port, STREAMS.get(path, "/chat/stream")) as stream:
        answers = [await ask(port, path, method="POST", json_body=SENDERS[path], headers=headers) for _ in range(3)]
        assert [answer.status for answer in answers] == [202] * 3
        assert answers[0].body == answers[1].body == answers[2].body
        assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true", "true"]
        if path in STREAMS:
            await send(port, path, SENDERS[path])
            sent = await received(stream, 2)
            assert sent[0]["id"] != sent[1]["id"]
            assert sent[0]["id"] in answers[0].text


@each_sender
@one_outlet
@pytest.mark.settings(publish_rate="2/hour")
async def test_a_user_who_sends_too_often_is_told_to_wait(port: int, path: str) -> None:
    answers = [await send(port, path, SENDERS[path]) for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert int(answers[2].headers["retry-after"]) > 3_000
    assert answers[2].headers["cache-control"] == "no-store"
    # The rate is that of the user.
    assert (await send(port, path, SENDERS[path], demo_token("other", "Other", roles="admin"))).status == 202


@each_sender
@one_outlet
@pytest.mark.settings(jwt_secret=SECRET)
async def test_where_there_is_a_key_only_its_tokens_count(port: int, path: str) -> None:
    body = SENDERS[path]
    for token in (None, SEED_TOKEN, make_jwt("ann", secret="x" * 40)):
        assert (await send(port, path, body, token)).status == 401
    answer = await send(port, path, body, make_jwt("ann", name="Ann", roles=["admin"]))
    assert answer.status == 202
    if path in STREAMS:
        sent = next(value for name, value in answer.json().items() if name != "id")
        assert sent["sender"] == {"id": "ann", "name": "Ann"}
        async with await open_stream(port, STREAMS[path], headers=bearer(make_jwt("ann"))) as stream:
            assert stream.status == 200
        assert (await ask(port, STREAMS[path])).status == 401
    assert (await ask(port, "/system/status")).status == 200


@one_outlet
@pytest.mark.settings(jwt_secret=SECRET)
async def test_a_token_may_name_what_may_be_sent(port: int) -> None:
    token = make_jwt("svc", yeoul={"publish": ["notifications", "notifications/*", "realtime/*", "chat/ops"]})
    wanted = [("/notifications/send", 202), ("/realtime/update", 202), ("/chat/send", 403), ("/chat/typing", 403)]
    assert [(path, (await send(port, path, SENDERS[path], token)).status) for path, _ in wanted] == wanted
    assert (await send(port, "/chat/send", {"roomId": "ops", "message": "hi"}, token)).status == 202


async def test_one_connection_carries_all_of_it_and_comes_back_to_all_of_it(port: int) -> None:
    topics = ["notifications", "notifications/ann", "chat/general", "chat/general/presence", "realtime/user"]
    path = "/stream?" + "&".join(f"topic={topic}" for topic in topics)
    ann = demo_token("ann", "Ann")
    async with await following(port, path, ann) as stream:
        await stream.until(lambda events: events[-1].type == "join")
        for sender in STREAMS:
            await send(port, sender, SENDERS[sender])
        first, update, message = await received(stream, 3)
        assert (first["title"], update["entityType"], message["roomId"]) == ("t", "user", "general")
        position = next(event.id for event in stream.events if event.type == "message") or ""
        stream.cut()
    await send(port, "/notifications/send", {"title": "for ann", "message": "m", "userId": "ann"})
    await send(port, "/notifications/send", {"title": "for bob", "message": "m", "userId": "bob"})
    async with await following(port, path, ann, position) as stream:
        back = await received(stream, 3)
        assert back == [update, message, back[2]]
        assert back[2]["title"] == "for ann"
        assert contents(stream, "stream.gap") == []


async def test_a_position_of_another_server_is_answered_by_a_gap(port: int) -> None:
    """After a migration: a status other than 200 would end a native `EventSource` for good."""
    for sender, path in STREAMS.items():
        await send(port, sender, SENDERS[sender])
        async with await following(port, path, last_event_id="5") as stream:
            (gap,) = await received(stream, 1, "stream.gap")
            assert (gap["requested"], gap["reason"]) == ("5", "unknown"), path
            await send(port, sender, SENDERS[sender])
            await stream.until(lambda events: "message" in [event.type for event in events])
    async with await following(port, "/system/status/stream", last_event_id="5") as stream:
        await received(stream, 1)
        assert contents(stream, "stream.gap") == [], "samples that were missed are no loss"


@one_outlet
async def test_each_answer_that_comes_is_documented(port: int) -> None:
    paths = json.loads((await ask(port, "/openapi.json")).body)["paths"]
    for path in SENDERS:
        post = paths[path]["post"]
        problems = {"400", "401", "403", "408", "409", "413", "415", "421", "422", "429", "431", "503"}
        assert {"202", *problems} == set(post["responses"]), path
        assert [parameter["name"] for parameter in post["parameters"]] == ["Idempotency-Key"]
    for path in [*STREAMS.values(), "/system/status/stream"]:
        get = paths[path]["get"]
        assert {"200", "400", "401", "403", "429", "503"} <= set(get["responses"]), path
        assert "text/event-stream" in get["responses"]["200"]["content"]
