"""What one client can cost: time of the event loop, memory, and the places of others."""

from __future__ import annotations

import json
import time

import pytest

from support.machine import budget
from support.reader import Answer, ask, open_stream
from support.tickets import issue_ticket
from support.tokens import bearer, make_jwt
from support.upstream import Answer as Script
from support.upstream import Upstream, stall

ANN = bearer(make_jwt("ann"))
JSON = {"Content-Type": "application/json"}

# Seconds for which no request may hold everybody else up, on a machine that does other things too.
HELD_UP = 2.0


async def post(port: int, path: str, body: bytes, **headers: str) -> Answer:
    return await ask(port, path, method="POST", headers={**JSON, **headers}, body=body)


# --- one request of somebody unknown

# Marks that stand in the wrong order: to sort them takes the square of their number.
MARKS = "a" + "\u0301\u0316" * 150_000

BODIES = {
    "half a million wrong items": ("/auth/tickets", '{"topics":[' + ",".join(["1"] * 500_000) + "]}"),
    "a hundred thousand fields": ("/chat/send", "{" + ",".join(f'"{n:x}":1' for n in range(100_000)) + "}"),
    "a field's name of a megabyte": ("/notifications/send", '{"' + "x" * 1_000_000 + '":1}'),
    "marks to sort": ("/chat/send", json.dumps({"roomId": MARKS, "message": "x"}, ensure_ascii=False)),
    "marks to sort in a category": (
        "/recipes",
        json.dumps({"title": "t", "category": MARKS, "ingredients": ["a"], "body": "b"}, ensure_ascii=False),
    ),
    "deep nesting": ("/realtime/update", "[" * 500_000),
    "deep nesting in data": (
        "/realtime/update",
        '{"entityType":"a","entityId":"b","action":"c","data":' + "[" * 100_000 + "]" * 100_000 + "}",
    ),
    "deep nesting in an event": ("/topics/a", '{"data":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a number of a megabyte": (
        "/realtime/update",
        '{"entityType":"a","entityId":"b","action":"c","data":' + "9" * 1_000_000 + "}",
    ),
    "a number that is none": ("/realtime/update", '{"entityType":"a","entityId":"b","action":"c","data":1e999}'),
    "one member many times": ("/chat/send", "{" + ",".join(['"roomId":"a"'] * 50_000) + "}"),
}


@pytest.mark.parametrize("known", [True, False])
async def test_no_body_holds_everybody_up_or_is_answered_at_length(port: int, known: bool) -> None:
    who = bearer(make_jwt("ann", roles=["admin"])) if known else {}
    for name, (path, body) in BODIES.items():
        began = time.monotonic()
        answer = await post(port, path, body.encode(), **who)
        assert time.monotonic() - began < budget(HELD_UP), name
        assert 400 <= answer.status < 500, name
        assert len(answer.body) < 10_000, name
        assert answer.headers["content-type"] == "application/problem+json", name


async def test_of_a_request_that_is_wrong_in_many_ways_some_are_named_and_all_counted(port: int) -> None:
    body = {"roomId": "a", "message": "x", **{f"field{n}": n for n in range(90)}}
    answer = await post(port, "/chat/send", json.dumps(body).encode(), **ANN)
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"].endswith("field19: unknown field; and 70 more")


# --- what is counted for each user


async def begin(port: int, user: str, path: str = "/generations") -> Answer:
    body = {"prompt": "hi"}
    return await ask(port, path, method="POST", headers=bearer(make_jwt(user)), json_body=body)


@pytest.mark.settings(max_answers_per_user=3)
async def test_one_user_does_not_take_the_places_of_all_answers(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Script((), ending=stall)]
    began = [await begin(port, "ann") for _ in range(4)]
    assert [answer.status for answer in began] == [201, 201, 201, 429]
    assert began[-1].headers["retry-after"]
    assert (await begin(port, "bob")).status == 201
    await ask(port, began[0].headers["location"], method="DELETE", headers=ANN)
    assert (await begin(port, "ann")).status == 201


@pytest.mark.settings(connect_rate="3/minute")
async def test_answers_without_a_stream_are_begun_no_more_often_than_with_one(port: int, upstream: Upstream) -> None:
    assert [(await begin(port, "ann")).status for _ in range(4)] == [201, 201, 201, 429]
    assert (await ask(port, "/sse/chat-normal?message=x", headers=ANN)).status == 429
    assert len(upstream.requests) <= 3


@pytest.mark.settings(memory_max_topics=20, publish_rate="10000/second")
async def test_publishing_to_ever_new_rooms_blocks_no_one_else(port: int) -> None:
    for number in range(40):
        body = {"roomId": f"r{number}", "message": "x"}
        answer = await ask(port, "/chat/send", method="POST", headers=ANN, json_body=body)
        assert answer.status == 202
    async with await open_stream(port, "/notifications/stream", headers=bearer(make_jwt("bob"))) as stream:
        assert stream.status == 200


async def test_tickets_and_keys_of_one_user_have_bounds(port: int) -> None:
    first = await issue_ticket(port, make_jwt("bob"))
    mine = [await issue_ticket(port, make_jwt("ann")) for _ in range(101)]
    assert (await ask(port, f"/auth/me?ticket={mine[0]}")).status == 401, "one's own oldest goes"
    assert (await ask(port, f"/auth/me?ticket={mine[-1]}")).status == 200
    assert (await ask(port, f"/auth/me?ticket={first}")).status == 200, "and nobody else's"


async def test_more_topics_or_kept_events_than_may_be_are_refused_before_they_are_looked_at(port: int) -> None:
    patterns = [f"a{'*x' * 120}{number}" for number in range(20)]
    token = bearer(make_jwt("ann", yeoul={"subscribe": [*patterns, "*"]}))
    topics = "&".join(f"topic={number}{'x' * 6}" for number in range(3_000))
    began = time.monotonic()
    assert (await ask(port, f"/stream?{topics}", headers=token)).status == 422
    assert (await ask(port, f"/stream?topic={'x' * 150}&newest=1001", headers=token)).status == 422
    assert time.monotonic() - began < budget(HELD_UP)
