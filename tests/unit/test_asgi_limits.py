"""The bound on bodies, as an application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from support.gate import gated, http_scope
from yeoul.asgi.body import BodyLimit


async def run(pieces: Sequence[bytes], *, method: str = "POST", length: str | None = None) -> tuple[list[Any], bytes]:
    """What was sent, and what the application had read, with a bound of 10 bytes."""
    sent: list[Any] = []
    left = list(pieces)
    read = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal read
        more = True
        while more:
            message = await receive()
            read += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> Message:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if length is None else [(b"content-length", length.encode())]
    await gated(app, bodies=BodyLimit(10))(http_scope(method, headers=headers), receive, send)
    return sent, read


async def test_a_body_at_the_bound_passes_whole() -> None:
    sent, read = await run([b"12345", b"67890"], length="10")
    assert sent[0]["status"] == 204
    assert read == b"1234567890"


@pytest.mark.parametrize("length", ["11", "9" * 5_000])
async def test_an_announced_body_over_the_bound_is_refused_unread(length: str) -> None:
    sent, read = await run([b"12345678901"], length=length)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"larger than 10 bytes" in sent[1]["body"]
    assert read == b""


@pytest.mark.parametrize("length", [None, "5", "-1", "x"])
async def test_a_body_that_grows_over_the_bound_ends_its_reader(length: str | None) -> None:
    with pytest.raises(HTTPException) as caught:
        await run([b"12345", b"678901"], length=length)
    assert caught.value.status_code == 413
    assert caught.value.headers == {"Connection": "close"}


async def test_a_body_that_is_not_there_in_time_ends_its_reader() -> None:
    pieces = [b"1", b"2"]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await receive()

    async def receive() -> Message:
        if not pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    with pytest.raises(HTTPException, match=r"not complete after 0\.05 s") as caught:
        await app(http_scope("POST"), BodyLimit(10, 0.05).limited({}, receive), None)  # type: ignore[arg-type]
    assert caught.value.status_code == 408
    assert caught.value.headers == {"Connection": "close"}


async def test_after_its_body_a_request_has_all_the_time_there_is() -> None:
    left = asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": b"1", "more_body": False}]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asyncio.get_running_loop().call_later(0.1, left.set)
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    await app(http_scope("POST"), BodyLimit(10, 0.05).limited({}, receive), None)  # type: ignore[arg-type]
    assert left.is_set()


async def test_a_get_is_left_alone() -> None:
    sent, _ = await run([b"12345678901"], method="GET", length="11")
    assert sent[0]["status"] == 204
