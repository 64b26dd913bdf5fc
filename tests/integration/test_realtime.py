"""Live updates over HTTP, over both outlets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.apps import ADMIN, HOSTILE, SEED_TOKEN, contents, following, received, send
from support.reader import ask, open_stream
from support.serving import one_outlet
from support.tokens import bearer, demo_token

ANN = demo_token("ann", "Ann")
NEW = {
    "entityType": "user",
    "entityId": "user123",
    "action": "updated",
    "data": {"status": "online", "lastSeen": "2024-01-15T10:30:00Z"},
}


def of(kind: str, id: str, **more: Any) -> dict[str, Any]:
    return {**NEW, "entityType": kind, "entityId": id, **more}


async def test_the_contract_works_with_its_own_token_as_bearer_and_in_the_address(port: int) -> None:
    async with await open_stream(port, f"/realtime/stream?token={SEED_TOKEN}") as stream:
        assert stream.status == 200
        await stream.take(1)
        answer = await send(port, "/realtime/update", NEW, SEED_TOKEN)
        assert answer.status == 202
        assert answer.headers["cache-control"] == "no-store"
        event = (await stream.take(2))[1]
    update = json.loads(event.data)
    assert answer.json() == {"id": event.id, "update": update}
    assert event.type == "message"
    assert set(update) == {"id", "entityType", "entityId", "action", "data", "sender", "timestamp"}
    assert {**update, **NEW} == update
    assert update["sender"] == {"id": "test123", "name": "testuser"}


async def test_followers_choose_how_much_they_hear_and_hear_each_update_once(port: int) -> None:
    wanted = {
        "/realtime/stream": ["user 1", "user 2", "order 1"],
        "/realtime/stream?entityType=user": ["user 1", "user 2"],
        "/realtime/stream?entityType=user&entityId=2": ["user 2"],
        "/realtime/stream?entityType=user&entityId=2&entityId=1&entityId=2": ["user 1", "user 2"],
        "/realtime/stream?entityType=order&entityId=2": [],
    }
    streams = {path: await following(port, path, ANN) for path in wanted}
    for kind, id in [("user", "1"), ("user", "2"), ("order", "1")]:
        await send(port, "/realtime/update", of(kind, id))
    ids = set()
    for path, stream in streams.items():
        # The same mark in whatever it follows: what came before it has arrived.
        await send(port, "/realtime/update", of("order" if "order" in path else "user", "2", action="mark"))
        await stream.until(lambda events: '"mark"' in events[-1].data)
        heard = [one for one in contents(stream) if one["action"] != "mark"]
        assert [f"{one['entityType']} {one['entityId']}" for one in heard] == wanted[path]
        ids |= {one["id"] for one in heard}
        await stream.close()
    assert len(ids) == 3, "an update has the same id wherever it is read"


async def test_a_reader_that_reconnects_gets_exactly_what_it_missed_of_several_entities(port: int) -> None:
    path = "/realtime/stream?entityType=user&entityId=1&entityId=2&entityId=3"
    async with await following(port, path, ANN) as stream:
        await send(port, "/realtime/update", of("user", "1", data=0))
        await received(stream, 1)
        position = stream.last_event_id
        stream.cut()
    for number in range(1, 7):
        await send(port, "/realtime/update", of("user", str(number % 4), data=number))
    async with await following(port, path, ANN, position) as stream:
        await send(port, "/realtime/update", of("user", "1", data="end"))
        assert [one["data"] for one in await received(stream, 6)] == [1, 2, 3, 5, 6, "end"]


@one_outlet
async def test_sending_and_following_need_a_user(port: int) -> None:
    for answer in (await ask(port, "/realtime/stream"), await send(port, "/realtime/update", NEW, None)):
        assert answer.status == 401
        assert answer.headers["cache-control"] == "no-store"


@one_outlet
@pytest.mark.settings(subscribe=["realtime/user/*"], publish=["realtime/user/ann"])
async def test_a_user_with_a_narrower_grant_is_told_what_to_name(port: int) -> None:
    for path, hint in [
        ("/realtime/stream", "name an `entityType` and an `entityId`"),
        ("/realtime/stream?entityType=user", "name an `entityId`"),
        ("/realtime/stream?entityType=user&entityId=1&entityId=2", None),
        ("/realtime/stream?entityType=order&entityId=1", "'realtime/order/1'"),
    ]:
        answer = await ask(port, path, method="HEAD" if hint is None else "GET", headers=bearer(ANN))
        assert answer.status == (200 if hint is None else 403), path
        assert hint is None or hint in answer.json()["detail"]
    assert (await send(port, "/realtime/update", of("user", "ann"), ANN)).status == 202
    refused = await send(port, "/realtime/update", of("user", "bob"), ANN)
    assert refused.status == 403
    assert "'realtime/user/bob'" in refused.json()["detail"]


@one_outlet
async def test_users_do_not_send_updates_unless_they_are_granted_it(port: int) -> None:
    assert (await send(port, "/realtime/update", NEW, ANN)).status == 403
    for topic in ("realtime", "realtime/user", "realtime/user/user123"):
        refused = await send(port, f"/topics/{topic}", {"data": NEW}, ANN)
        assert refused.status == 403


@one_outlet
@pytest.mark.settings(publish=["realtime", "realtime/*"])
async def test_topics_are_no_way_around_the_sender(port: int) -> None:
    assert (await send(port, "/realtime/update", NEW, ANN)).status == 202
    for topic in ("realtime", "realtime/user", "realtime/user/user123"):
        refused = await send(port, f"/topics/{topic}", {"data": NEW}, ANN)
        assert refused.status == 403
        assert "POST /realtime/update" in refused.json()["detail"]


@one_outlet
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?entityId=1", "entityType"),
        ("?entityType=", "entityType"),
        ("?entityType=" + "x" * 65, "entityType"),
        ("?entityType=user&entityId=", "entityId"),
        ("?entityType=user&" + "&".join(f"entityId={number}" for number in range(51)), "entityId"),
        ("?entityType=user&entityId=" + "%20" * 70, "entityId"),
    ],
)
async def test_a_wrong_choice_is_named(port: int, query: str, field: str) -> None:
    answer = await ask(port, f"/realtime/stream{query}", headers=bearer(ANN))
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"].startswith(field)


@one_outlet
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"entityType": ""}, "entityType"),
        ({"entityType": "x" * 65}, "entityType"),
        ({"entityType": 1}, "entityType"),
        ({"entityId": ""}, "entityId"),
        ({"entityId": 123}, "entityId"),
        ({"entityId": "x" * 129}, "entityId"),
        ({"entityId": "🌊" * 20}, "entityId"),
        ({"entityType": "🌊" * 20}, "entityId"),
        ({"action": ""}, "action"),
        ({"action": "up dated"}, "action"),
        ({"action": "updated\n"}, "action"),
        ({"sender": {"id": "root"}}, "sender"),
    ],
)
async def test_a_wrong_field_is_named(port: int, change: dict[str, Any], field: str) -> None:
    answer = await send(port, "/realtime/update", {**NEW, **change})
    assert answer.status == 422, answer
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@one_outlet
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NaN", 400),
        (b"-Infinity", 400),
        (b'"\\ud800"', 422),
        (b'{"\\udfff": 1}', 422),
        (b"[" * 900 + b"]" * 900, 202),
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b"1" * 5_000, 400),
        (b'"' + b"x" * 300_000 + b'"', 413),
    ],
)
async def test_data_that_cannot_be_sent_is_refused(port: int, data: bytes, status: int) -> None:
    body = b'{"entityType": "t", "entityId": "1", "action": "a", "data": ' + data + b"}"
    headers = {**bearer(ADMIN), "Content-Type": "application/json"}
    answer = await ask(port, "/realtime/update", method="POST", body=body, headers=headers)
    assert answer.status == status, answer.text[:300]


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_value_is_only_ever_a_value(port: int, value: str) -> None:
    async with await following(port, "/realtime/stream", ANN) as stream:
        new = of(value, value, data={value: [value, None, 1.5, True]})
        assert (await send(port, "/realtime/update", new)).status == 202
        await send(port, "/realtime/update", of("user", "after"))
        first, second = await received(stream, 2)
        assert {**first, **new} == first
        assert second["entityId"] == "after"
        assert [event.type for event in stream.events] == ["stream.hello", "message", "message"]


@one_outlet
@pytest.mark.settings(memory_max_topics=4)
async def test_an_update_for_which_one_topic_cannot_be_created_reaches_no_reader(port: int) -> None:
    async with await following(port, "/realtime/stream", ANN) as stream:
        async with await open_stream(port, "/stream?topic=chat/a&topic=chat/b", headers=bearer(ANN)):
            refused = await send(port, "/realtime/update", of("b", "2"))
            assert refused.status == 503
            assert refused.headers["retry-after"] == "60"
            # What was held for the refused one is given back.
            assert (await send(port, "/topics/t", {"data": 1})).status == 202
            assert (await send(port, "/topics/realtime", {"data": {"action": "again"}})).status == 202
        assert [one["action"] for one in await received(stream, 1)] == ["again"]
