"""Chat rooms over HTTP, over both outlets."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from support.apps import ADMIN, HOSTILE, SEED_TOKEN, contents, following, received, send
from support.polling import eventually
from support.reader import RawStream, ask, open_stream, publish
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from yeoul.app import create_app
from yeoul.hub.reasons import REVOKED
from yeoul.sse import Event

# Without a grace period: for tests about leaving.
no_grace = pytest.mark.settings(chat_grace_s=0)

ANN, BOB, CYD = demo_token("ann", "Ann"), demo_token("bob", "Bob"), demo_token("cyd", "Cyd")


async def say(port: int, message: str, token: str = BOB, room: str = "general") -> Any:
    answer = await send(port, "/chat/send", {"roomId": room, "message": message}, token)
    assert answer.status == 202, answer
    return answer.json()


async def people(port: int, room: str = "general", token: str = ADMIN) -> list[str]:
    answer = await ask(port, f"/chat/rooms/{room}", headers=bearer(token))
    assert answer.status == 200, answer
    return [user["id"] for user in answer.json()["users"]]


def moves(stream: RawStream) -> list[str]:
    """The joins and leaves that the stream has had so far."""
    signs = {"join": "+", "leave": "-"}
    events = [event for event in stream.events if event.type in signs]
    return [signs[event.type] + json.loads(event.data)["user"]["id"] for event in events]


async def heard(port: int, stream: RawStream, room: str = "general") -> None:
    """Until everything that was published so far has arrived: a mark has."""
    mark = (await say(port, "mark", room=room))["message"]["id"]
    await stream.until(lambda events: mark in events[-1].data)


# --- messages


async def test_the_contract_works_with_its_own_token_as_bearer_and_in_the_address(port: int) -> None:
    async with await open_stream(port, f"/chat/stream?token={SEED_TOKEN}&room=general") as stream:
        assert stream.status == 200
        await stream.take(2)
        body = {"roomId": "general", "message": "안녕하세요! 모두들 어떻게 지내세요?"}
        answer = await send(port, "/chat/send", body, SEED_TOKEN)
        assert answer.status == 202
        assert answer.headers["cache-control"] == "no-store"
        message = (await received(stream, 1))[0]
        event = next(event for event in stream.events if event.type == "message")
    assert answer.json() == {"id": event.id, "message": message}
    assert re.fullmatch(r"[\w-]{22}", message.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message.pop("timestamp"))
    sender = {"id": "test123", "name": "testuser"}
    assert message == {"roomId": "general", "message": body["message"], "sender": sender}


async def test_every_member_of_the_room_gets_each_message_once_the_sender_included(port: int) -> None:
    async with (
        await following(port, "/chat/stream?room=general", ANN) as ann,
        await following(port, "/chat/stream", BOB) as bob,
        await following(port, "/chat/stream?room=other", CYD) as cyd,
    ):
        for text in ("1", "2"):
            await say(port, text)
        await say(port, "3", ANN)
        await say(port, "elsewhere", CYD, "other")
        for stream in (ann, bob):
            assert [one["message"] for one in await received(stream, 3)] == ["1", "2", "3"]
            await heard(port, stream)
            assert [one["message"] for one in contents(stream) if one["message"] != "mark"] == ["1", "2", "3"]
        assert [one["message"] for one in await received(cyd, 1)] == ["elsewhere"]


@pytest.mark.settings(chat_history=3)
async def test_a_new_reader_gets_the_last_messages(port: int) -> None:
    for number in range(5):
        await say(port, str(number))
    async with await following(port, "/chat/stream", ANN) as stream:
        await say(port, "now")
        assert [one["message"] for one in await received(stream, 4)] == ["2", "3", "4", "now"]


async def test_a_reader_that_reconnects_gets_exactly_the_messages_that_it_missed(port: int) -> None:
    await say(port, "old")
    async with await following(port, "/chat/stream", ANN) as stream:
        await say(port, "0")
        await received(stream, 2)
        position = stream.last_event_id
        stream.cut()
    for text in ("1", "2", "3"):
        await say(port, text)
    async with await following(port, "/chat/stream", ANN, position) as stream:
        await say(port, "4")
        assert [one["message"] for one in await received(stream, 4)] == ["1", "2", "3", "4"]
        assert "stream.gap" not in [event.type for event in stream.events]


async def test_a_restarted_server_says_that_messages_are_gone_and_who_is_there(port: int) -> None:
    async with await following(port, "/chat/stream", ANN, "0000000000-7") as stream:
        await heard(port, stream)
        types = [event.type for event in stream.events]
        assert types[:3] == ["stream.hello", "presence", "stream.gap"]
        assert types.count("join") == 1


@one_outlet
async def test_reading_and_writing_need_a_user_also_on_this_machine(port: int) -> None:
    for answer in (
        await ask(port, "/chat/stream?room=general"),
        await ask(port, "/chat/rooms/general"),
        await send(port, "/chat/send", {"roomId": "general", "message": "hi"}, None),
        await send(port, "/chat/typing", {"roomId": "general"}, None),
    ):
        assert answer.status == 401
        assert answer.headers["cache-control"] == "no-store"


@one_outlet
@pytest.mark.settings(subscribe=["chat/open"], publish=["chat/open"])
async def test_rooms_are_for_those_whose_token_names_them(port: int) -> None:
    for answer in (
        await ask(port, "/chat/stream?room=secret", headers=bearer(ANN)),
        await ask(port, "/chat/rooms/secret", headers=bearer(ANN)),
        await ask(port, "/topics/chat/open/presence", headers=bearer(ANN)),
        await send(port, "/chat/send", {"roomId": "secret", "message": "hi"}, ANN),
        await send(port, "/chat/typing", {"roomId": "secret"}, ANN),
        await send(port, "/topics/chat/secret", {"data": "hi"}, ANN),
    ):
        assert answer.status == 403
        assert "claim `yeoul." in answer.json()["detail"]
    await say(port, "hi", ANN, "open")
    assert (await ask(port, "/chat/stream?room=open", method="HEAD", headers=bearer(ANN))).status == 200


@one_outlet
async def test_topics_are_no_way_around_the_sender_and_the_operator_may_use_them(port: int) -> None:
    for topic in ("chat/general", "chat/general/presence"):
        refused = await send(port, f"/topics/{topic}", {"data": "forged"}, ANN)
        assert refused.status == 403
        assert "POST /chat/send" in refused.json()["detail"]
        await publish(port, topic, "by whoever runs this server")


@one_outlet
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"roomId": "general"}, "message"),
        ({"roomId": "general", "message": ""}, "message"),
        ({"roomId": "general", "message": " \n\u3000"}, "message"),
        ({"roomId": "general", "message": "x" * 4_001}, "message"),
        ({"roomId": "general", "message": {"a": 1}}, "message"),
        ({"roomId": "general", "message": "\udc00"}, "message"),
        ({"message": "hi"}, "roomId"),
        ({"roomId": "", "message": "hi"}, "roomId"),
        ({"roomId": "x" * 65, "message": "hi"}, "roomId"),
        ({"roomId": "general/presence", "message": "hi"}, "roomId"),
        ({"roomId": "a b", "message": "hi"}, "roomId"),
        ({"roomId": "a\nb", "message": "hi"}, "roomId"),
        ({"roomId": "*", "message": "hi"}, "roomId"),
        ({"roomId": "..", "message": "hi"}, "roomId"),
        ({"roomId": "a\u200bb", "message": "hi"}, "roomId"),
        ({"roomId": 7, "message": "hi"}, "roomId"),
        ({"roomId": "general", "message": "hi", "sender": {"id": "root"}}, "sender"),
    ],
)
async def test_a_wrong_field_is_named(port: int, body: dict[str, Any], field: str) -> None:
    answer = await send(port, "/chat/send", body, ANN)
    assert answer.status == 422, answer
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@one_outlet
@pytest.mark.parametrize("room", ["", "a/b", "a b", "*", ".", "x" * 65, "%0A", "%00", "%E2%80%AE"])
async def test_a_wrong_room_is_named(port: int, room: str) -> None:
    answer = await ask(port, f"/chat/stream?room={room}", headers=bearer(ANN))
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"] == "room"


async def test_rooms_have_names_of_any_script_and_one_that_looks_the_same_is_the_same(port: int) -> None:
    for room, written in [("서울", "서울"), ("café", "cafe\u0301"), ("हिन्दी", "हिन्दी"), ("x" * 64, "x" * 64)]:
        async with await following(port, f"/chat/stream?room={room}", ANN) as stream:
            await say(port, "hi", room=written)
            assert (await received(stream, 1))[0]["roomId"] == room
            assert await people(port, written) == ["ann"]


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_value_is_only_ever_a_value(port: int, value: str) -> None:
    token = demo_token("<b>", '"><script>alert(1)</script>')
    async with await following(port, "/chat/stream", token) as stream:
        await say(port, f"m{value}m", token)
        await say(port, "after")
        first, second = await received(stream, 2)
        assert (first["message"], second["message"]) == (f"m{value}m", "after")
        assert {event.type for event in stream.events} == {"stream.hello", "presence", "join", "message"}
        assert len(stream.events) == 5


# --- who is there


async def test_a_reader_gets_the_members_and_the_others_get_its_join(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        await ann.until(lambda events: moves(ann) == ["+ann"])
        async with await following(port, "/chat/stream", BOB) as bob:
            (there,) = await received(bob, 1, "presence")
            assert there["roomId"] == "general"
            assert there["count"] == 2
            assert [(user["id"], user["name"]) for user in there["users"]] == [("ann", "Ann"), ("bob", "Bob")]
            assert all(re.fullmatch(r"\S+T\S+\.\d{3}Z", user["since"]) for user in there["users"])
            (join,) = (await received(ann, 2, "join"))[1:]
            assert join == {"roomId": "general", "user": there["users"][1], "timestamp": join["timestamp"]}


@no_grace
async def test_two_tabs_are_one_person(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        one = await following(port, "/chat/stream", BOB)
        two = await following(port, "/chat/stream", BOB)
        await ann.until(lambda events: moves(ann) == ["+ann", "+bob"])
        await one.close()
        await heard(port, ann)
        await two.close()
        await ann.until(lambda events: moves(ann)[-1] == "-bob")
        assert moves(ann) == ["+ann", "+bob", "-bob"]
        assert await people(port) == ["ann"]


@no_grace
@pytest.mark.parametrize("end", ["cut", "close"])
async def test_a_user_whose_connection_is_gone_has_left(port: int, end: str) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        bob = await following(port, "/chat/stream", BOB)
        await ann.until(lambda events: "+bob" in moves(ann))
        if end == "cut":
            bob.cut()
        else:
            await bob.close()
        await ann.until(lambda events: "-bob" in moves(ann))
        (leave,) = contents(ann, "leave")
        assert (leave["roomId"], leave["user"]["name"]) == ("general", "Bob")


@pytest.mark.settings(chat_grace_s=600)
async def test_a_reconnect_within_the_grace_is_no_leave_and_brings_no_second_join(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        bob = await following(port, "/chat/stream", BOB)
        await ann.until(lambda events: "+bob" in moves(ann))
        for _ in range(3):
            position = bob.last_event_id
            bob.cut()
            bob = await following(port, "/chat/stream", BOB, position)
            assert [user["id"] for user in (await received(bob, 1, "presence"))[0]["users"]] == ["ann", "bob"]
        await heard(port, ann)
        assert moves(ann) == ["+ann", "+bob"]
        await bob.close()
        assert await people(port) == ["ann", "bob"]


@pytest.mark.settings(chat_grace_s=0.05)
async def test_the_grace_ends(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        async with await following(port, "/chat/stream", BOB):
            await ann.until(lambda events: "+bob" in moves(ann))
        await ann.until(lambda events: "-bob" in moves(ann))
        assert await people(port) == ["ann"]


@no_grace
async def test_a_reader_of_the_topic_itself_is_a_member_and_an_anonymous_one_is_not(port: int) -> None:
    async with (
        await following(port, "/chat/stream", ANN) as ann,
        await following(port, "/stream?topic=chat/general&topic=chat/other&topic=chat/general/presence", BOB) as bob,
        await following(port, "/topics/chat/general", None),
        await following(port, "/topics/chat/general/presence", CYD),
    ):
        await ann.until(lambda events: "+bob" in moves(ann))
        assert await people(port) == ["ann", "bob"]
        assert await people(port, "other") == ["bob"]
        await bob.close()
        await ann.until(lambda events: "-bob" in moves(ann))
        await heard(port, ann)
        assert moves(ann) == ["+ann", "+bob", "-bob"]


@no_grace
@one_outlet
async def test_a_user_in_fifty_rooms_is_a_member_of_each_and_leaves_each(port: int) -> None:
    rooms = [f"r{number}" for number in range(50)]
    stream = await following(port, "/stream?" + "&".join(f"topic=chat/{room}" for room in rooms), BOB)
    assert [await people(port, room) for room in rooms] == [["bob"]] * 50
    stream.cut()

    async def empty() -> bool:
        return [await people(port, room) for room in (rooms[0], rooms[-1])] == [[], []]

    await eventually(empty)


@no_grace
async def test_a_user_who_changes_rooms_leaves_one_and_joins_the_other(port: int) -> None:
    async with (
        await following(port, "/chat/stream?room=a", ANN) as ann,
        await following(port, "/chat/stream?room=b", CYD) as cyd,
    ):
        async with await following(port, "/chat/stream?room=a", BOB):
            await ann.until(lambda events: "+bob" in moves(ann))
        async with await following(port, "/chat/stream?room=b", BOB):
            await cyd.until(lambda events: "+bob" in moves(cyd))
        await ann.until(lambda events: "-bob" in moves(ann))
        await cyd.until(lambda events: "-bob" in moves(cyd))


@pytest.mark.settings(retention=[{"pattern": "chat/*/presence", "events": 2}])
async def test_a_reader_that_reconnects_late_gets_the_members_and_no_old_joins(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        await say(port, "0")
        await received(ann, 1)
        position = ann.last_event_id
        ann.cut()
    for number in range(5):
        await send(port, "/chat/typing", {"roomId": "general"}, demo_token(f"u{number}", "U"))
    await say(port, "1")
    async with await following(port, "/chat/stream", ANN, position) as ann:
        await say(port, "2")
        assert [one["message"] for one in await received(ann, 2)] == ["1", "2"]
        types = [event.type for event in ann.events]
        assert "typing" not in types
        assert "stream.gap" not in types, "nothing that cannot be seen from the list is lost"
        assert types.count("presence") == 1


@one_outlet
@no_grace
def members(stream: RawStream) -> int:
    """As the reader has counted them: those of the last list, and who came and went since."""
    count = 0
    for event in stream.events:
        data = json.loads(event.data) if event.type in ("presence", "join", "leave") else {}
        count = data["count"] if event.type == "presence" else count + {"join": 1, "leave": -1}.get(event.type, 0)
    return count


async def test_many_users_who_enter_at_once_are_announced_as_one_list(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        await ann.until(lambda events: "+ann" in moves(ann))
        tokens = [demo_token(f"user{number}", f"User {number}") for number in range(150)]
        crowd = await asyncio.gather(*(following(port, "/chat/stream", token) for token in tokens))
        # On a slow machine they come in several rushes: the last few may be announced one by one.
        await ann.until(lambda events: members(ann) == 151)
        whole = contents(ann, "presence")[-1]
        assert whole["count"] > 100
        assert len(whole["users"]) == 100
        assert len(moves(ann)) + len(contents(ann, "presence")) < 100
        for stream in crowd:
            stream.cut()
        await ann.until(lambda events: contents(ann, "presence")[-1]["count"] == 1 or "-user149" in moves(ann))

        async def alone() -> bool:
            return await people(port) == ["ann"]

        await eventually(alone)


@pytest.mark.parametrize("direct", [True, False])
async def test_a_server_that_shuts_down_announces_no_leave(direct: bool) -> None:
    app = create_app(make_settings(chat_grace_s=0))
    async with serving(app, direct=direct) as port:
        ann = await following(port, "/chat/stream", ANN)
        bob = await following(port, "/chat/stream", BOB)
        await ann.until(lambda events: "+bob" in moves(ann))
        hub = app.state.hub
        await hub.publish("chat/general/presence", Event("after what was told before"))
        before = hub.stats.published
        await hub.close()
        assert hub.stats.published == before
        for stream in (ann, bob):
            await stream.rest()
            assert stream.events[-1].type == "stream.bye"
            assert not contents(stream, "leave")
            await stream.close()


async def test_a_user_who_is_kicked_or_revoked_has_left_at_once() -> None:
    app = create_app(make_settings(chat_grace_s=600))
    async with (
        serving(app) as port,
        await following(port, "/chat/stream", ANN) as ann,
        await following(port, "/chat/stream", BOB) as bob,
    ):
        await ann.until(lambda events: "+bob" in moves(ann))
        hub = app.state.hub
        assert hub.disconnect(lambda reader: reader.principal.user == "bob", REVOKED) == 1
        await ann.until(lambda events: "-bob" in moves(ann))
        await bob.rest()


# --- who is typing


async def test_typing_is_announced_to_the_room_once_in_a_while(port: int) -> None:
    async with await following(port, "/chat/stream", ANN) as ann:
        answers = [await send(port, "/chat/typing", {"roomId": "general"}, BOB) for _ in range(3)]
        answers.append(await send(port, "/chat/typing", {"roomId": "general", "typing": False}, BOB))
        assert [(answer.status, answer.json()["told"]) for answer in answers] == [
            (202, True),
            (202, False),
            (202, False),
            (202, True),
        ]
        assert all(answer.headers["cache-control"] == "no-store" for answer in answers)
        await heard(port, ann)
        words = contents(ann, "typing")
        assert [word["typing"] for word in words] == [True, False]
        assert words[0]["user"] == {"id": "bob", "name": "Bob"}
        assert words[0]["roomId"] == "general"


@one_outlet
@pytest.mark.parametrize("body", [{}, {"roomId": "a b"}, {"roomId": "a", "typing": "x"}, {"roomId": "a", "x": 1}])
async def test_a_wrong_word_of_typing_is_refused(port: int, body: dict[str, Any]) -> None:
    assert (await send(port, "/chat/typing", body, ANN)).status == 422
