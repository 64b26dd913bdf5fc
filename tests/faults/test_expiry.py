"""Streams end with the token of whoever reads them, on real clocks and over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from support.machine import budget
from support.reader import RawStream, open_stream
from support.serving import serving
from yeoul import Hub, generate
from yeoul.asgi.authentication import IDENTITY
from yeoul.asgi.event_stream import EventStream
from yeoul.auth.identity import Identity
from yeoul.errors import InvalidToken
from yeoul.hub import SubscribeOptions
from yeoul.hub.limits import Principal
from yeoul.llm.generations import Generations
from yeoul.sse import Event


@dataclass
class App:
    """An app whose streams are for whoever has `?left=` seconds left, and answers that wait for their second token."""

    port: int
    hub: Hub
    finish: asyncio.Event


@pytest.fixture(params=["direct", "portable"])
async def app(request: pytest.FixtureRequest) -> AsyncIterator[App]:
    hub = Hub(heartbeat=0.3, send_timeout=30)
    api = FastAPI(lifespan=hub.lifespan)
    finish = asyncio.Event()

    async def tokens() -> AsyncIterator[str]:
        yield "one "
        await finish.wait()
        yield "two"

    @api.get("/follow")
    async def follow(request: Request, left: float) -> Response:
        return EventStream(hub, ["a"], request, principal=Principal("ann", expires=time.time() + left))

    @api.get("/answer")
    async def answer(request: Request, left: float, dialect: str) -> Response:
        request.scope[IDENTITY] = Identity("ann", expires=time.time() + left)
        return await generate(hub, request, tokens, dialect=dialect)

    async with serving(api, direct=request.param == "direct") as port:
        yield App(port, hub, finish)


def about(stream: RawStream) -> list[tuple[str, dict[str, object]]]:
    found = [(event.type, json.loads(event.data)) for event in stream.events if event.type.startswith("stream.")]
    return [entry for entry in found if entry[0] != "stream.hello"]


async def test_a_reader_is_told_before_its_token_ends_and_sent_away_when_it_has(app: App) -> None:
    began = time.time()
    async with await open_stream(app.port, "/follow?left=1.5") as stream:
        await stream.until(lambda events: events and events[-1].type == "stream.reauth")
        told = time.time()
        await app.hub.publish("a", Event("still there"))
        await stream.rest()
        ended = time.time()
    assert began + 1.1 < told < ended
    assert began + 1.45 < ended < began + budget(3)
    assert "still there" in stream.data
    (reauth, data), (bye, why) = about(stream)
    assert (reauth, bye) == ("stream.reauth", "stream.bye")
    assert began + 0.5 <= float(str(data["expires"])) <= began + budget(1.6)
    assert 0.0 < float(str(data["in"])) <= 0.4
    assert why == {"reason": "expired", "reconnect": True}
    assert app.hub.stats.closed == {"expired": 1}


async def test_with_a_new_token_it_goes_on_where_it_was(app: App) -> None:
    async with await open_stream(app.port, "/follow?left=0.4") as stream:
        await app.hub.publish("a", Event("1"))
        await stream.rest()
        await app.hub.publish("a", Event("2"))
    async with await open_stream(app.port, "/follow?left=60", last_event_id=stream.last_event_id) as again:
        await again.take(2)
        assert again.data[1:] == ["2"]


async def test_a_token_that_has_ended_opens_nothing(app: App) -> None:
    async with await open_stream(app.port, "/follow?left=-1") as stream:
        await stream.rest()
        assert stream.status == 401
        assert 'error="invalid_token"' in stream.headers["www-authenticate"]
        assert "expired" in json.loads(stream.raw)["detail"]
    with pytest.raises(InvalidToken):
        await app.hub.subscribe(["a"], SubscribeOptions(principal=Principal(expires=time.time() - 1)))
    assert app.hub.stats.opened == 0


async def test_one_that_takes_nothing_is_ended_in_time_and_given_nothing_more(app: App) -> None:
    async with await open_stream(app.port, "/follow?left=1.5") as stream:
        await stream.take(1)
        [reader] = app.hub.readers()
        text = "x" * 60_000
        while not reader.lagging or app.hub.stats.published < 40:
            await app.hub.publish("a", Event(text))
            await asyncio.sleep(0)
        while not reader.closed:
            await asyncio.sleep(0.01)  # the wheel's own time
        closed, events = time.time(), reader.events
        assert closed - reader.since < budget(3)
        await app.hub.publish("a", Event("secret"))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await stream.rest()
        assert "secret" not in stream.data
        assert len(stream.events) <= events + 3
    assert app.hub.stats.closed == {"expired": 1}
    assert app.hub.stats.lagging == 0


@pytest.mark.parametrize("dialect", ["json", "openai"])
async def test_an_answer_ends_for_its_reader_goes_on_and_is_read_to_its_end_later(app: App, dialect: str) -> None:
    async with await open_stream(app.port, f"/answer?left=0.5&dialect={dialect}") as stream:
        await stream.rest()
    [generation] = Generations.of(app.hub).running()
    if dialect == "json":
        assert about(stream)[-1] == ("stream.bye", {"reason": "expired", "reconnect": True})
    else:
        assert about(stream) == []
        assert "error" in json.loads(stream.data[-1])
    position = stream.last_event_id
    app.finish.set()
    path = f"/answer?left=60&dialect={dialect}"
    async with await open_stream(app.port, path, last_event_id=position) as again:
        await again.rest()
        assert again.status == 200
        assert b"two" in again.raw
        assert b"one " not in again.raw
    assert generation.text == "one two"
    assert app.hub.stats.closed == {"expired": 1, "final": 1}
