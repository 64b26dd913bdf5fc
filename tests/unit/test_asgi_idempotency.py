"""The same request twice, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from yeoul.asgi.authentication import IDENTITY
from yeoul.asgi.errors import Problem
from yeoul.asgi.idempotency import IdempotencyKeys
from yeoul.auth.identity import Identity


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Job:
    """Counts how often it was done."""

    def __init__(self, status: int = 202, text: str = "x") -> None:
        self.done = 0
        self.status = status
        self.text = text
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> Response:
        self.done += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return JSONResponse({"id": self.done, "text": self.text}, self.status, {"Location": f"/{self.done}"})


def request(
    key: str | None = "k",
    body: bytes = b"a",
    *,
    user: str | None = "ann",
    path: str = "/topics/a",
    query: bytes = b"",
    kind: bytes = b"text/plain",
    keys: tuple[str, ...] = (),
) -> Request:
    headers = [(b"content-type", kind), (b"host", b"localhost")]
    headers += [(b"idempotency-key", text.encode("latin-1")) for text in (*keys, *([key] if key is not None else []))]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": headers,
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        IDENTITY: Identity(user=user),
    }
    return Request(scope, receive)


Once = Callable[[Request, Callable[[], Awaitable[Response]]], Awaitable[Response]]


async def refusal(keys: IdempotencyKeys, sent: Request, job: Job) -> Problem:
    with pytest.raises(Problem) as caught:
        await keys.once(sent, job)
    return caught.value


async def test_the_same_again_is_answered_alike_and_not_done() -> None:
    keys, job = IdempotencyKeys(60), Job()
    first = await keys.once(request(), job)
    again = await keys.once(request(), job)
    assert job.done == 1
    assert (again.status_code, again.body) == (first.status_code, first.body)
    assert dict(again.headers) == {**first.headers, "idempotency-replayed": "true"}
    assert "idempotency-replayed" not in first.headers
    assert dict((await keys.once(request(), job)).headers) == dict(again.headers)


async def test_without_a_key_each_is_done() -> None:
    keys, job = IdempotencyKeys(60), Job()
    for _ in range(2):
        await keys.once(request(None), job)
    assert (job.done, len(keys)) == (2, 0)


async def test_another_caller_path_query_or_key_is_another_request() -> None:
    keys, job = IdempotencyKeys(60), Job()
    others = [
        request(),
        request("K"),
        request('"k"'),
        request(user="bob"),
        request(user=None),
        request(path="/topics/b"),
        request(query=b"a=b"),
    ]
    for sent in others:
        assert "idempotency-replayed" not in (await keys.once(sent, job)).headers
    assert job.done == len(others)


@pytest.mark.parametrize("other", [request(body=b"b"), request(kind=b"application/json")])
async def test_the_key_with_another_body_is_a_mistake(other: Request) -> None:
    keys, job = IdempotencyKeys(60), Job()
    await keys.once(request(), job)
    problem = await refusal(keys, other, job)
    assert (problem.status, job.done) == (422, 1)
    assert "another body" in problem.detail


async def test_while_the_first_is_under_way_others_are_told_to_wait() -> None:
    keys, job = IdempotencyKeys(60), Job()
    job.gate = asyncio.Event()
    first = asyncio.create_task(keys.once(request(), job))
    await asyncio.sleep(0)
    problem = await refusal(keys, request(), job)
    assert (problem.status, problem.headers) == (409, {"Retry-After": "1"})
    assert (await refusal(keys, request(body=b"b"), job)).status == 422
    job.gate.set()
    await first
    assert (await keys.once(request(), job)).headers["idempotency-replayed"] == "true"
    assert job.done == 1


async def test_of_many_at_once_one_is_done() -> None:
    keys, job = IdempotencyKeys(60), Job()
    answers = await asyncio.gather(*(keys.once(request(), job) for _ in range(20)), return_exceptions=True)
    assert job.done == 1
    assert all(isinstance(answer, Response) or getattr(answer, "status", 0) == 409 for answer in answers)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_what_has_failed_is_tried_again(status: int) -> None:
    keys, job = IdempotencyKeys(60), Job(status)
    await keys.once(request(), job)
    job.status = 202
    assert (await keys.once(request(), job)).status_code == 202
    assert job.done == 2


async def test_what_was_raised_or_cancelled_is_tried_again() -> None:
    keys, job = IdempotencyKeys(60), Job()
    job.error = Problem(403, "no")
    assert (await refusal(keys, request(), job)).status == 403
    job.error, job.gate = None, asyncio.Event()
    cut = asyncio.create_task(keys.once(request(), job))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    job.gate.set()
    assert (await keys.once(request(body=b"b"), job)).status_code == 202


@pytest.mark.parametrize("key", ["", " ", "a b", "a\tb", "\x7f", "é", "k" * 256])
async def test_an_invalid_key_is_refused(key: str) -> None:
    job = Job()
    assert (await refusal(IdempotencyKeys(60), request(key), job)).status == 400
    assert job.done == 0


async def test_the_longest_key_is_accepted_and_two_keys_are_refused() -> None:
    keys, job = IdempotencyKeys(60), Job()
    await keys.once(request("~" * 255), job)
    assert (await refusal(keys, request("a", keys=("a",)), job)).status == 400


async def test_after_its_time_an_answer_is_forgotten() -> None:
    clock = Clock()
    keys, job = IdempotencyKeys(60, clock=clock), Job()
    await keys.once(request(), job)
    clock.now = 59.9
    await keys.once(request("other"), job)
    assert len(keys) == 2
    clock.now = 60.0
    assert "idempotency-replayed" not in (await keys.once(request(body=b"b"), job)).headers
    assert len(keys) == 2
    clock.now = 1_000.0
    await keys.once(request("last"), job)
    assert len(keys) == 1


async def test_what_is_remembered_is_bounded_and_no_client_evicts_others() -> None:
    keys, job = IdempotencyKeys(60, max_answers=50, max_per_caller=10), Job()
    await keys.once(request("mine"), job)
    for number in range(100):
        await keys.once(request(str(number), user="bob"), job)
    assert len(keys) == 11
    assert (await keys.once(request("mine"), job)).headers["idempotency-replayed"] == "true"
    assert (await keys.once(request("99", user="bob"), job)).headers["idempotency-replayed"] == "true"
    for number in range(200):
        await keys.once(request("k", user=str(number)), job)
    assert len(keys) == 50


async def test_the_bytes_of_answers_are_bounded() -> None:
    keys, job = IdempotencyKeys(60, max_bytes=20_000), Job(text="x" * 5_000)
    for number in range(10):
        await keys.once(request(str(number)), job)
    assert len(keys) == 3
    assert (await keys.once(request("9"), job)).headers["idempotency-replayed"] == "true"
    huge = Job(text="x" * 50_000)
    await keys.once(request("huge"), huge)
    await keys.once(request("huge"), huge)
    assert (huge.done, len(keys)) == (2, 0)


async def test_what_is_remembered_has_no_more_of_an_address_than_of_any_other() -> None:
    """It is not counted: a hundred thousand long ones would be a gigabyte."""
    keys, job = IdempotencyKeys(60), Job()
    for number in range(3):
        long = request(path=f"/topics/{number}{'a' * 30_000}", query=b"x" * 30_000)
        assert (await keys.once(long, job)).status_code == 202
    assert job.done == 3
    assert max(len(repr(name)) for name in keys._answers) < 300
