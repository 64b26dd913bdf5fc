"""Tickets over sockets: one use, one browser, and nothing more than they are for."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from support.machine import budget
from support.polling import metrics
from support.reader import Answer, ask, open_stream, publish
from support.serving import one_outlet
from support.tickets import cookie_of, issue_ticket
from support.tokens import SECRET, bearer, demo_token, make_jwt
from support.upstream import Upstream

with_key = pytest.mark.settings(jwt_secret=SECRET)


async def wish(port: int, body: Any, **headers: str) -> Answer:
    return await ask(port, "/auth/tickets", method="POST", headers=headers, json_body=body)


# --- the way there and back


async def test_a_ticket_opens_one_stream_and_no_second(port: int) -> None:
    path = f"/topics/chat/a?ticket={await issue_ticket(port)}"
    async with await open_stream(port, path) as stream:
        assert stream.status == 200
        await stream.take(1)
        await publish(port, "chat/a", "hello")
        assert (await stream.take(2))[1].data == "hello"
    again = await ask(port, path)
    assert again.status == 401
    assert "has been used" in again.json()["detail"]
    assert "/auth/tickets" in again.json()["detail"]
    assert again.headers["www-authenticate"] == 'Bearer realm="yeoul", error="invalid_token"'


@with_key
async def test_of_fifty_that_use_it_at_once_one_gets_in(port: int) -> None:
    path = f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt())}"
    streams = await asyncio.gather(*(open_stream(port, path) for _ in range(50)))
    try:
        assert sorted(stream.status for stream in streams) == [200] + [401] * 49
        assert (await metrics(port))["yeoul_connections"] == 1
    finally:
        for stream in streams:
            await stream.close()


@with_key
async def test_with_its_pass_it_comes_back_and_misses_nothing(port: int) -> None:
    token = make_jwt("u1", yeoul={"subscribe": ["news/*"], "publish": ["news/*"]})

    path = f"/topics/news/a?ticket={await issue_ticket(port, token)}"
    stream = await open_stream(port, path)
    assert "; HttpOnly; SameSite=Strict" in stream.headers["set-cookie"]
    cookie = cookie_of(stream)
    await stream.take(1)
    for round_number in range(3):
        await publish(port, "news/a", f"{round_number} before", headers=bearer(token))
        last = (await stream.until(lambda events: events[-1].data.endswith("before")))[-1].id or ""
        stream.cut()
        await publish(port, "news/a", f"{round_number} missed", headers=bearer(token))
        stream = await open_stream(port, path, headers=cookie, last_event_id=last)
        assert stream.status == 200
        assert "set-cookie" not in stream.headers
        await publish(port, "news/a", f"{round_number} after", headers=bearer(token))
        events = await stream.until(lambda events: events and events[-1].data.endswith("after"))
        said = [event.data for event in events if event.type == "message"]
        assert said == [f"{round_number} missed", f"{round_number} after"]
    await stream.close()


@with_key
async def test_several_tabs_share_one_pass(port: int) -> None:
    token = make_jwt("u1")
    paths = [f"/topics/chat/a?ticket={await issue_ticket(port, token)}" for _ in range(3)]
    first = await open_stream(port, paths[0])
    cookie = cookie_of(first)
    others = [await open_stream(port, path, headers=cookie) for path in paths[1:]]
    assert ["set-cookie" in stream.headers for stream in others] == [False, False]
    for stream in (first, *others):
        stream.cut()
    for path in paths:
        async with await open_stream(port, path, headers=cookie) as stream:
            assert stream.status == 200


@with_key
async def test_neither_another_users_pass_nor_none_nor_a_made_up_one_brings_it_back(port: int) -> None:
    path = f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt('u1'))}"
    other = f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt('u2'))}"
    async with await open_stream(port, path), await open_stream(port, other) as of_other:
        ticket = path.partition("ticket=")[2]
        for headers in ({}, cookie_of(of_other), {"Cookie": "yeoul_pass=x"}, {"Cookie": f"yeoul_pass={ticket}"}):
            assert (await ask(port, path, headers=headers)).status == 401


@with_key
@one_outlet
async def test_two_users_in_one_browser_keep_both_their_ways_back(port: int) -> None:
    paths = [f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt(user))}" for user in ("u1", "u2")]
    first = await open_stream(port, paths[0])
    second = await open_stream(port, paths[1], headers=cookie_of(first))
    cookie = cookie_of(second)
    first.cut()
    second.cut()
    for path in paths:
        async with await open_stream(port, path, headers=cookie) as stream:
            assert stream.status == 200


@with_key
@one_outlet
async def test_an_answer_is_attached_to_though_the_cut_came_before_its_first_event(
    port: int, upstream: Upstream
) -> None:
    path = f"/sse/chat?message=hi&ticket={await issue_ticket(port, make_jwt())}"
    stream = await open_stream(port, path)
    cookie = {**cookie_of(stream), "Sec-Fetch-Site": "same-origin"}
    stream.cut()
    async with await open_stream(port, path, headers=cookie) as again:
        await again.rest()
        assert again.events[-1].data == "[DONE]"
    assert len(upstream.requests) == 1, "the model is asked once"


# --- how long


@pytest.mark.settings(jwt_secret=SECRET, ticket_s=1)
@one_outlet
async def test_a_ticket_that_is_too_old_is_refused(port: int) -> None:
    answer = await wish(port, None, **bearer(make_jwt()))
    assert answer.json()["expires_in"] == 1
    await asyncio.sleep(1.01)  # its time is what is tested
    refused = await ask(port, f"/topics/chat/a?ticket={answer.json()['ticket']}")
    assert refused.status == 401
    assert "expired" in refused.json()["detail"]


@pytest.mark.settings(jwt_secret=SECRET, jwt_leeway_s=0)
@one_outlet
async def test_the_way_back_ends_with_the_token(port: int) -> None:
    seconds = budget(2.5)
    path = f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt(seconds=seconds))}"
    stream = await open_stream(port, path)
    age = re.search("Max-Age=([0-9]+);", stream.headers["set-cookie"])
    assert age is not None
    assert int(age[1]) <= int(seconds)
    events = await stream.rest()
    assert events[-1].type == "stream.bye"
    await stream.close()
    answer = await ask(port, path, headers=cookie_of(stream))
    assert answer.status == 401


# --- for what


@with_key
async def test_a_ticket_for_topics_is_for_those_alone(port: int, upstream: Upstream) -> None:
    token = make_jwt("u1", roles=["admin"])
    for path, status in (
        ("/topics/chat/a", 200),
        ("/topics/chat/c", 403),
        ("/topics/notifications", 403),
        ("/stream?topic=chat/a&topic=chat/b", 200),
        ("/stream?topic=chat/a&topic=chat/c", 403),
        ("/auth/revocations", 403),
        ("/sse/chat?message=hi", 403),
    ):
        text = await issue_ticket(port, token, ["chat/a", "chat/b"])
        async with await open_stream(port, f"{path}{'&' if '?' in path else '?'}ticket={text}") as stream:
            assert stream.status == status, path
    assert upstream.requests == []


@with_key
@one_outlet
async def test_only_topics_that_one_may_follow_are_granted(port: int) -> None:
    token = bearer(make_jwt("u1"))
    granted = await wish(port, {"topics": ["notifications/u1", "chat/방", "chat/방"]}, **token)
    assert granted.status == 201
    assert granted.json()["topics"] == ["notifications/u1", "chat/방"]
    assert granted.headers["cache-control"] == "no-store"
    denied = await wish(port, {"topics": ["chat/a", "notifications/u2"]}, **token)
    assert denied.status == 403
    assert "'notifications/u2'" in denied.json()["detail"]
    for topics in ([], ["a b"], [f"chat/{number}" for number in range(51)], "chat/a", [1], ["x" * 201]):
        assert (await wish(port, {"topics": topics}, **token)).status == 422, topics
    assert (await wish(port, {"topic": ["chat/a"]}, **token)).status == 422


@one_outlet
async def test_a_ticket_is_not_taken_for_post_and_is_not_used_up_by_it(port: int) -> None:
    text = await issue_ticket(port)
    for headers, query in (({}, f"?ticket={text}"), ({"Authorization": f"Ticket {text}"}, "")):
        for path in ("/topics/chat/a", "/auth/tickets", "/auth/session"):
            sent = {"Content-Type": "text/plain", **headers}
            answer = await ask(port, f"{path}{query}", method="POST", headers=sent, body=b"x")
            assert answer.status == 401
            assert "for GET" in answer.json()["detail"]
    assert (await ask(port, f"/topics/chat/a?ticket={text}", method="HEAD")).status == 401
    async with await open_stream(port, f"/topics/chat/a?ticket={text}") as stream:
        assert stream.status == 200


@one_outlet
async def test_a_user_without_a_name_gets_none(port: int) -> None:
    answer = await wish(port, None)
    assert answer.status == 401
    assert "demo token" in answer.json()["detail"]


@with_key
@one_outlet
async def test_with_a_key_anonymous_requests_get_none(port: int) -> None:
    assert (await wish(port, None)).status == 401
    assert (await wish(port, None, **bearer(demo_token()))).status == 401


@with_key
@one_outlet
async def test_a_token_in_an_address_is_refused_with_a_hint_and_more_than_one_credential_is_none(port: int) -> None:
    token = make_jwt()
    answer = await ask(port, f"/topics/chat/a?token={token}")
    assert answer.status == 401
    assert "/auth/tickets" in answer.json()["detail"]
    text = await issue_ticket(port, token)
    assert (await ask(port, f"/topics/chat/a?ticket={text}", headers=bearer(token))).status == 400
    assert (await ask(port, f"/topics/chat/a?ticket={text}&ticket={text}")).status == 400
    async with await open_stream(port, f"/topics/chat/a?ticket={text}") as stream:
        assert stream.status == 200


@pytest.mark.settings(jwt_secret=SECRET, cors_origins=["https://app.example.com"])
async def test_an_allowed_page_of_another_site_gets_a_pass_that_its_browser_sends(port: int) -> None:
    path = f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt())}"
    page = {"Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    async with await open_stream(port, path, headers=page) as stream:
        assert stream.headers["set-cookie"].endswith("; HttpOnly; SameSite=None; Secure")
        assert stream.headers["access-control-allow-origin"] == "https://app.example.com"
    foreign = {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
    assert (await ask(port, path, headers={**foreign, **cookie_of(stream)})).status == 403
