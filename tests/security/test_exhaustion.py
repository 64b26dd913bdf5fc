"""What one client can cost: time of the event loop, memory, and the places of others."""

from __future__ import annotations

import json
import time

import pytest

from support.reader import Answer, ask
from support.tokens import bearer, make_jwt

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
        assert time.monotonic() - began < HELD_UP, name
        assert 400 <= answer.status < 500, name
        assert len(answer.body) < 10_000, name
        assert answer.headers["content-type"] == "application/problem+json", name


async def test_of_a_request_that_is_wrong_in_many_ways_some_are_named_and_all_counted(port: int) -> None:
    body = {"roomId": "a", "message": "x", **{f"field{n}": n for n in range(90)}}
    answer = await post(port, "/chat/send", json.dumps(body).encode(), **ANN)
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"].endswith("field19: there is no such field; and 70 more")
