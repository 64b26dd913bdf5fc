"""Notifications over HTTP, over both outlets."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support.apps import ADMIN, HOSTILE, SEED_TOKEN, contents, following, received, send
from support.reader import ask, open_stream
from support.serving import one_outlet
from support.tokens import bearer, demo_token

ANN, BOB = demo_token("ann", "Ann"), demo_token("bob", "Bob")
NEW = {"title": "새로운 메시지", "message": "안녕하세요! 새로운 알림입니다.", "type": "info"}


async def test_the_contract_works_with_its_own_token_as_bearer_and_in_the_address(port: int) -> None:
    async with await open_stream(port, f"/notifications/stream?token={SEED_TOKEN}") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        await stream.take(1)
        answer = await send(port, "/notifications/send", NEW, SEED_TOKEN)
        assert answer.status == 202
        assert answer.headers["cache-control"] == "no-store"
        event = (await stream.take(2))[1]
    notification = json.loads(event.data)
    assert answer.json() == {"id": event.id, "notification": notification}
    assert event.type == "message"
    assert re.fullmatch(r"[\w-]{22}", notification.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", notification.pop("timestamp"))
    assert notification == {**NEW, "userId": None, "sender": {"id": "test123", "name": "testuser"}}


async def test_a_notification_reaches_its_user_alone_on_every_stream_of_that_one(port: int) -> None:
    async with (
        await following(port, "/notifications/stream", ANN) as phone,
        await following(port, "/notifications/stream", ANN) as desk,
        await following(port, "/notifications/stream", BOB) as bob,
    ):
        await send(port, "/notifications/send", {**NEW, "userId": "ann"})
        await send(port, "/notifications/send", {**NEW, "title": "for all"})
        for stream in (phone, desk):
            assert [one["title"] for one in await received(stream, 2)] == [NEW["title"], "for all"]
        assert [one["title"] for one in await received(bob, 1)] == ["for all"]
        assert contents(phone)[0]["userId"] == "ann"


async def test_another_users_position_shows_nothing_that_was_for_that_one(port: int) -> None:
    async with await following(port, "/notifications/stream", ANN) as ann:
        for number in range(3):
            await send(port, "/notifications/send", {**NEW, "title": f"secret {number}", "userId": "ann"})
        await received(ann, 3)
        position = ann.events[0].id or ""
    await send(port, "/notifications/send", {**NEW, "title": "for all"})
    async with await following(port, "/notifications/stream", BOB, last_event_id=position) as bob:
        assert [one["title"] for one in await received(bob, 1)] == ["for all"]
        assert b"secret" not in bob.raw


async def test_a_reader_that_reconnects_gets_exactly_what_it_missed_of_both_topics(port: int) -> None:
    async with await following(port, "/notifications/stream", ANN) as stream:
        await send(port, "/notifications/send", {**NEW, "title": "0"})
        await received(stream, 1)
        position = stream.last_event_id
        stream.cut()
    for number in range(1, 5):
        await send(port, "/notifications/send", {**NEW, "title": f"{number}", "userId": "ann" if number % 2 else None})
    await send(port, "/notifications/send", {**NEW, "title": "other", "userId": "bob"})
    async with await following(port, "/notifications/stream", ANN, position) as stream:
        await send(port, "/notifications/send", {**NEW, "title": "5"})
        assert [one["title"] for one in await received(stream, 5)] == ["1", "2", "3", "4", "5"]
        assert "stream.gap" not in [event.type for event in stream.events]


@one_outlet
async def test_two_notifications_never_share_an_id(port: int) -> None:
    answers = [await send(port, "/notifications/send", NEW) for _ in range(3)]
    assert len({answer.json()["notification"]["id"] for answer in answers}) == 3
    assert len({answer.json()["id"] for answer in answers}) == 3


@one_outlet
async def test_users_notify_themselves_and_only_admins_others_and_all_users(port: int) -> None:
    own = await send(port, "/notifications/send", {**NEW, "userId": "ann"}, ANN)
    assert own.status == 202
    assert own.json()["notification"]["sender"] == {"id": "ann", "name": "Ann"}
    for body, hint in [({**NEW, "userId": "bob"}, "'notifications/bob'"), (NEW, "name a `userId`")]:
        answer = await send(port, "/notifications/send", body, ANN)
        assert answer.status == 403
        assert answer.headers["cache-control"] == "no-store"
        assert hint in answer.json()["detail"]
        assert "yeoul.publish" in answer.json()["detail"]
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@one_outlet
async def test_sending_and_following_need_a_user_also_on_this_machine(port: int) -> None:
    for answer in (
        await ask(port, "/notifications/stream"),
        await send(port, "/notifications/send", NEW, None),
        await send(port, "/notifications/send", NEW, "rubbish"),
        await ask(port, "/notifications/stream?token=rubbish"),
    ):
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert "rubbish" not in answer.text


async def test_a_user_is_known_by_the_whole_id_whatever_characters_it_has(port: int) -> None:
    odd = ["a b/c", "*", "../ann", "안녕🌊", "ann%2Fx"]
    for user in odd:
        async with await following(port, "/notifications/stream", demo_token(user, "Odd")) as stream:
            await send(port, "/notifications/send", {**NEW, "userId": "ann"})
            await send(port, "/notifications/send", {**NEW, "userId": user})
            assert (await received(stream, 1))[0]["userId"] == user


@one_outlet
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": " \n "}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": 7}, "title"),
        ({"title": None}, "title"),
        ({"message": ""}, "message"),
        ({"message": "\u3000\t"}, "message"),
        ({"message": "x" * 4_001}, "message"),
        ({"message": ["x"]}, "message"),
        ({"message": "\ud800"}, "message"),
        ({"type": ""}, "type"),
        ({"type": "In fo"}, "type"),
        ({"type": "info\n"}, "type"),
        ({"type": "a" * 33}, "type"),
        ({"userId": ""}, "userId"),
        ({"userId": "x" * 201}, "userId"),
        ({"userId": "🌊" * 20}, "userId"),
        ({"userId": 42}, "userId"),
        ({"sender": {"id": "root"}}, "sender"),
        ({"id": "mine"}, "id"),
    ],
)
async def test_a_wrong_field_is_named(port: int, change: dict[str, Any], field: str) -> None:
    answer = await send(port, "/notifications/send", {**NEW, **change})
    assert answer.status == 422, answer
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert answer.headers["cache-control"] == "no-store"


@one_outlet
@pytest.mark.parametrize("body", [b"{", b"", b'"text"', b"[]", b"null", b'{"a":' * 100_000])
async def test_an_invalid_notification_is_refused(port: int, body: bytes) -> None:
    headers = {**bearer(ADMIN), "Content-Type": "application/json"}
    answer = await ask(port, "/notifications/send", method="POST", body=body, headers=headers)
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    headers["Content-Type"] = "text/plain"
    answer = await ask(port, "/notifications/send", method="POST", body=json.dumps(NEW).encode(), headers=headers)
    assert answer.status == 415


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_value_is_only_ever_a_value(port: int, value: str) -> None:
    async with await following(port, "/notifications/stream", demo_token("ann<b>", "<i>Ann</i>")) as stream:
        await send(port, "/notifications/send", {"title": f"t{value}t", "message": f"m{value}m", "userId": "ann<b>"})
        await send(port, "/notifications/send", {**NEW, "title": "after"})
        first, second = await received(stream, 2)
        assert (first["title"], first["message"]) == (f"t{value}t", f"m{value}m")
        assert second["title"] == "after"
        assert [event.type for event in stream.events] == ["stream.hello", "message", "message"]
        lines = bytes(stream.raw).decode().splitlines()
        assert {line.partition(":")[0] for line in lines if line} <= {"", "retry", "id", "event", "data"}


@pytest.mark.settings(max_event_bytes=1_024)
@one_outlet
async def test_what_is_larger_than_an_event_is_refused(port: int) -> None:
    answer = await send(port, "/notifications/send", {**NEW, "message": "x" * 1_024})
    assert answer.status == 413


@one_outlet
async def test_topics_are_no_way_around_the_sender(port: int) -> None:
    for user, status in [(ANN, 403), (ADMIN, 202)]:
        answer = await send(port, "/topics/notifications/ann", {"data": {"title": "forged"}}, user)
        assert answer.status == status
    refused = await send(port, "/topics/notifications/ann", {"data": 1}, ANN)
    assert "POST /notifications/send" in refused.json()["detail"]
    for path in ("/topics/notifications/bob", "/stream?topic=notifications&topic=notifications/bob"):
        assert (await ask(port, path, headers=bearer(ANN))).status == 403


async def test_head_answers_headers_only(port: int) -> None:
    answer = await ask(port, "/notifications/stream", method="HEAD", headers=bearer(ANN))
    assert (answer.status, answer.body) == (200, b"")
