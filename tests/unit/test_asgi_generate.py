"""Answering with a generation: what needs no socket to be seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from yeoul.asgi.generate import end_or_departure, generation_stream
from yeoul.hub import Hub
from yeoul.llm.dialects import DIALECTS, Json, find_dialect
from yeoul.llm.generation import Generation
from yeoul.llm.generations import Generations
from yeoul.llm.items import Delta, Finish
from yeoul.llm.outcome import State


async def started(hub: Hub, go_on: asyncio.Event) -> Generation:
    async def source() -> AsyncIterator[Delta | Finish]:
        yield Delta("a")
        await go_on.wait()
        yield Finish()

    return await Generations(hub, grace_seconds=0).start(source())


def request(left: asyncio.Event) -> Request:
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "GET", "headers": [], "query_string": b""}, receive)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_found_by_its_name(name: str) -> None:
    assert find_dialect(name) is DIALECTS[name]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown dialect 'x': use one of plain, json, envelope, openai"):
        find_dialect("x")


async def test_waiting_for_the_whole_answer_returns_how_it_ended(hub: Hub) -> None:
    go_on = asyncio.Event()
    generation = await started(hub, go_on)
    go_on.set()
    outcome = await end_or_departure(request(asyncio.Event()), generation)
    assert outcome.state is State.DONE


async def test_a_client_that_leaves_before_the_whole_answer_stops_it(hub: Hub) -> None:
    left = asyncio.Event()
    generation = await started(hub, asyncio.Event())
    left.set()
    async with asyncio.timeout(20):
        outcome = await end_or_departure(request(left), generation)
    assert outcome.state is State.CANCELLED


async def test_a_request_that_is_cancelled_stops_the_answer_it_waits_for(hub: Hub) -> None:
    generation = await started(hub, asyncio.Event())
    waiting = asyncio.create_task(end_or_departure(request(asyncio.Event()), generation))
    while not generation.text:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await generation.ended()
    assert generation.outcome.state is State.CANCELLED


async def test_a_stream_says_nothing_of_its_length_and_takes_headers(hub: Hub) -> None:
    go_on = asyncio.Event()
    generation = await started(hub, go_on)
    response = generation_stream(hub, request(asyncio.Event()), generation, Json, headers={"location": "/x"})
    assert response.headers["location"] == "/x"
    assert "content-length" not in response.headers
    go_on.set()
    await generation.ended()
