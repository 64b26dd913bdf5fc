"""What one user has of another's: a position, an id, a key, a ticket, a cookie. None of it opens anything."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

import pytest

from support.machine import budget
from support.reader import Answer, RawStream, ask, open_stream, publish, read_head
from support.tickets import cookie_of, issue_ticket, revoke
from support.tokens import bearer, make_jwt
from support.upstream import Answer as Script
from support.upstream import Upstream, stall

ANN, BOB = make_jwt("ann"), make_jwt("bob")
ADMIN = make_jwt("root", roles=["admin"])
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


async def say(port: int, token: str, text: str, **headers: str) -> Answer:
    body = {"roomId": "a", "message": text}
    return await ask(port, "/chat/send", method="POST", headers={**bearer(token), **headers}, json_body=body)


async def notify(port: int, user: str, text: str) -> None:
    body = {"title": "t", "message": text, "userId": user}
    answer = await ask(port, "/notifications/send", method="POST", headers=bearer(ADMIN), json_body=body)
    assert answer.status == 202


# --- positions


async def test_another_users_position_replays_ones_own_and_nothing_else(port: int) -> None:
    await notify(port, "ann", "before")
    async with await open_stream(port, "/notifications/stream", headers=bearer(ANN)) as stream:
        await stream.take(1)
        stolen = stream.last_event_id
        await notify(port, "ann", "secret of ann")
        await notify(port, "bob", "for bob")
        await stream.take(2)
    async with await open_stream(port, "/notifications/stream", headers=bearer(BOB), last_event_id=stolen) as other:
        await other.take(2)
        assert b"secret of ann" not in other.raw
        assert b"for bob" in other.raw
    for path in ("/topics/notifications/ann", "/stream?topic=notifications&topic=notifications/ann"):
        for sent in (bearer(BOB), {**bearer(BOB), "Last-Event-ID": stolen}):
            assert (await ask(port, path, headers=sent)).status == 403


async def test_another_users_answer_is_not_there_whatever_one_has_of_it(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Script(("secret of ann",), ending=stall)]
    async with await open_stream(port, "/sse/chat?message=hi", headers=bearer(ANN)) as stream:
        await stream.take(2)
        location, position = stream.headers["location"], stream.last_event_id
        for path in (location, f"{location}/stream", f"{location}/stream?from=snapshot"):
            assert (await ask(port, path, headers=bearer(BOB))).status == 404
        assert (await ask(port, location, method="DELETE", headers=bearer(BOB))).status == 404
        saved = {"generation_id": location.rsplit("/", 1)[1], "title": "t", "ingredients": ["a"]}
        answer = await ask(port, "/recipes", method="POST", headers=bearer(BOB), json_body=saved)
        assert answer.status == 404
        assert (await ask(port, "/generations", headers=bearer(BOB))).json() == {"generations": []}
        for path in ("/sse/chat?message=hi", "/ask?question=hi", f"/sse/chat?message=hi&lastEventId={position}"):
            headers = bearer(BOB) if "lastEventId" in path else {**bearer(BOB), "Last-Event-ID": position}
            again = await ask(port, path, headers=headers)
            assert "secret of ann" not in again.text
        for path in (location, f"{location}/stream"):
            assert (await ask(port, path)).status == 401
        topic = location.removeprefix("/")
        assert (await ask(port, f"/topics/{topic}", headers=bearer(ADMIN))).status == 422
    assert len(upstream.requests) == 1
    assert (await ask(port, location, headers=bearer(ANN))).json()["state"] == "running"


async def test_the_same_question_of_another_user_is_another_answer(port: int, upstream: Upstream) -> None:
    """Whose reader was lost before its first event is found by the question: never by somebody else's."""
    upstream.scripts = [Script(("secret of ann",), ending=stall), Script(("for bob",), ending=stall)]
    lost = await open_stream(port, "/sse/chat?message=hi", headers=bearer(ANN))
    await upstream.request()
    lost.cut()
    async with await open_stream(port, "/sse/chat?message=hi", headers=bearer(BOB)) as stream:
        await stream.take(2)
        assert b"secret of ann" not in stream.raw
    assert len(upstream.requests) == 2


# --- keys and tickets


async def test_another_users_key_repeats_nothing_of_that_one(port: int) -> None:
    key = {"Idempotency-Key": "same"}
    first = await say(port, ANN, "hello", **key)
    other = await say(port, BOB, "hello", **key)
    assert (first.status, other.status) == (202, 202)
    assert "idempotency-replayed" not in other.headers
    assert other.json()["message"]["sender"]["id"] == "bob"
    assert first.json()["id"] != other.json()["id"]
    assert (await say(port, ANN, "hello", **key)).json() == first.json()


async def test_a_used_ticket_needs_the_pass_of_its_own_user(port: int) -> None:
    paths = [f"/topics/chat/a?ticket={await issue_ticket(port, token)}" for token in (ANN, BOB)]
    streams = [await open_stream(port, path) for path in paths]
    of_ann, of_bob = map(cookie_of, streams)
    text = of_ann["Cookie"].partition("=")[2]
    for headers in ({}, of_bob, {"Cookie": f"yeoul_token={text}"}):
        assert (await ask(port, paths[0], headers=headers)).status == 401
    assert (await ask(port, "/topics/chat/a", headers=of_ann)).status == 401, "a pass alone is nobody"
    assert (await ask(port, f"/topics/chat/a?ticket={text}")).status == 401
    assert (await ask(port, "/topics/chat/a", headers={"Authorization": f"Ticket {text}"})).status == 401
    for stream in streams:
        await stream.close()


async def test_of_many_that_use_a_ticket_at_once_one_gets_in(port: int) -> None:
    path = f"/stream?topic=chat/a&ticket={await issue_ticket(port, ANN, ['chat/a'])}"
    streams = await asyncio.gather(*(open_stream(port, path) for _ in range(50)))
    assert sorted(stream.status for stream in streams) == [200] + [401] * 49
    for stream in streams:
        await stream.close()


async def test_a_ticket_for_topics_leads_to_those_alone(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Script(("secret of ann",), ending=stall)]
    location = (
        await ask(port, "/generations", method="POST", headers=bearer(ANN), json_body={"prompt": "hi"})
    ).headers["location"]
    await upstream.request()
    for path in (
        "/topics/chat/b",
        "/chat/stream?room=b",
        "/chat/rooms/b",
        "/notifications/stream",
        "/realtime/stream",
        "/generations",
        location,
        f"{location}/stream",
        "/recipes",
        "/sse/chat?message=x",
        "/sse/chat-normal?message=x",
        "/ask?question=x",
        "/recipes/generate-ai-stream?ingredients=%5B%22a%22%5D",
        "/admin/overview",
    ):
        ticket = await issue_ticket(port, ANN, ["chat/a"])
        answer = await ask(port, f"{path}{'&' if '?' in path else '?'}ticket={ticket}")
        assert answer.status == 403, path
        assert "secret of ann" not in answer.text
    assert len(upstream.requests) == 1


async def test_a_ticket_makes_no_ticket_and_a_pass_changes_nothing(port: int) -> None:
    path = f"/topics/chat/a?ticket={await issue_ticket(port, ANN)}"
    async with await open_stream(port, path) as stream:
        its_pass = {**cookie_of(stream), **OWN_PAGE}
    ticket = path.partition("?")[2]
    for asked in ("/auth/tickets", "/auth/session", "/chat/send", "/topics/chat/a", "/generations"):
        answer = await ask(port, f"{asked}?{ticket}", method="POST", headers=its_pass, json_body={})
        assert answer.status == 401, asked


# --- what was taken back


async def test_a_ticket_of_a_token_that_was_revoked_meanwhile_opens_nothing(port: int) -> None:
    tickets = [await issue_ticket(port, ANN) for _ in range(3)]
    async with await open_stream(port, f"/topics/chat/a?ticket={tickets[0]}") as stream:
        its_pass = cookie_of(stream)
        assert (await revoke(port, "ann", by=ADMIN)).status == 201
        assert (await stream.rest())[-1].type == "stream.bye"
    for ticket in tickets:
        assert (await ask(port, f"/topics/chat/a?ticket={ticket}", headers=its_pass)).status == 401
    assert (await say(port, ANN, "still here?")).status == 401


async def test_who_is_revoked_while_connecting_keeps_no_stream(port: int) -> None:
    opening = [asyncio.create_task(open_stream(port, "/topics/chat/a", headers=bearer(ANN))) for _ in range(30)]
    revoking = asyncio.create_task(revoke(port, "ann", by=ADMIN))
    streams = await asyncio.gather(*opening)
    assert (await revoking).status == 201
    for stream in streams:
        if stream.status == 200:
            assert json.loads((await stream.rest())[-1].data)["reason"] == "revoked"
        else:
            assert stream.status == 401
        await stream.close()


async def behind(port: int, token: str) -> RawStream:
    """A reader of 8 MB that has them all to come: it takes little, and the kernel holds little for it."""
    for number in range(40):
        await publish(port, "news", f"{number}:" + "x" * 200_000, headers=bearer(ADMIN))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock, limit=16_384)
    head = f"GET /topics/news?newest=40 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    stream = await read_head(reader, writer)
    assert stream.status == 200
    return stream


async def all_that_came(stream: RawStream) -> bytes:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while piece := await stream.reader.read(65_536):
            stream.raw += piece
    await stream.close()
    return bytes(stream.raw)


@pytest.mark.settings(retention_bytes=16_777_216)
async def test_who_is_revoked_in_the_midst_of_a_replay_gets_no_more_of_it(port: int) -> None:
    stream = await behind(port, make_jwt("ann", yeoul={"subscribe": ["news"]}))
    assert (await revoke(port, "ann", by=ADMIN)).json()["closed"] == 1
    came = await all_that_came(stream)
    assert b"data: 39:" not in came
    assert len(came) < 4_000_000, "no more than what was in buffers"


@pytest.mark.settings(retention_bytes=16_777_216, jwt_leeway_s=0)
async def test_a_token_that_expires_in_the_midst_of_a_replay_ends_it(port: int) -> None:
    token = make_jwt("ann", seconds=budget(2.0), yeoul={"subscribe": ["news"]})
    stream = await behind(port, token)
    connections: list[object] = [1]
    while connections:
        answer = await ask(port, "/admin/connections?user=ann", headers=bearer(ADMIN))
        connections = answer.json()["connections"]
    came = await all_that_came(stream)
    assert b"data: 39:" not in came
    assert (await ask(port, "/topics/news", headers=bearer(token))).status == 401
