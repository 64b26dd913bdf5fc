"""What a user began is that user's: an id that leaks leads to nothing."""

from __future__ import annotations

import json

from support.reader import ask, open_stream
from support.tokens import bearer, demo_token
from support.upstream import Answer, Upstream, stall

MINE = bearer(demo_token("mine"))
THEIRS = bearer(demo_token("theirs"))
ADMINS = bearer(demo_token("boss", roles="user,admin"))


async def begun(port: int, upstream: Upstream) -> str:
    upstream.scripts = [Answer(("a",), ending=stall)]
    answer = await ask(port, "/generations", method="POST", headers=MINE, json_body={"prompt": "hi"})
    assert answer.status == 201
    return answer.headers["location"]


async def test_an_answer_is_there_for_its_user_and_for_admins_and_not_for_others(port: int, upstream: Upstream) -> None:
    location = await begun(port, upstream)
    for path in (location, location + "/stream"):
        assert (await ask(port, path, headers=THEIRS)).status == 404
    assert (await ask(port, location, headers=THEIRS, method="DELETE")).status == 404
    assert (await ask(port, location, headers=MINE)).json()["state"] == "running"
    assert (await ask(port, location, headers=ADMINS)).status == 200
    assert (await ask(port, location, headers=MINE, method="DELETE")).json()["state"] == "cancelled"


async def test_another_users_position_is_no_way_into_an_answer(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("secret",), ending=stall)]
    async with await open_stream(port, "/sse/chat?message=hi", headers=MINE) as stream:
        await stream.take(2)
        stolen = stream.last_event_id
    async with await open_stream(port, "/sse/chat?message=hi", headers=THEIRS, last_event_id=stolen) as other:
        events = await other.rest()
    assert [event.type for event in events] == ["failure"]
    assert len(upstream.requests) == 1


async def test_a_finished_answer_of_another_cannot_be_saved_as_a_recipe(port: int, upstream: Upstream) -> None:
    location = await begun(port, upstream)
    body = {"generation_id": location.rsplit("/", 1)[1], "title": "t"}
    assert (await ask(port, "/recipes", method="POST", headers=THEIRS, json_body=body)).status == 404
    assert (await ask(port, "/recipes", method="POST", headers=MINE, json_body=body)).status == 409


async def test_anonymous_work_is_readable_with_its_id(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("a",), ending=stall)]
    location = (await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})).headers["location"]
    assert (await ask(port, location, headers=THEIRS)).status == 200


async def test_a_chat_belongs_to_its_user_whatever_its_id_is(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("secret",), ending=stall)]
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    body = json.dumps({"id": "chat", "messages": [message]}).encode()
    sent = {**MINE, "Content-Type": "application/json"}
    async with await open_stream(port, "/api/chat", method="POST", headers=sent, body=body) as mine:
        await mine.take(4)
        assert (await ask(port, "/api/chat/chat/stream", headers=THEIRS)).status == 204
        assert (await ask(port, "/api/chat/chat/stop", method="POST", headers=THEIRS)).status == 200
        async with await open_stream(port, "/api/chat/chat/stream", headers=MINE) as again:
            assert "secret" in (await again.take(4))[3].data
        await ask(port, "/api/chat/chat/stop", method="POST", headers=MINE)
        assert '"abort"' in (await mine.rest())[-2].data
