"""What is due without any traffic, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from faults.conftest import Server
from support.polling import eventually
from support.reader import ask, open_stream, publish
from support.serving import serving
from yeoul import Hub, generate


@pytest.mark.settings(heartbeat_s=0.2)
async def test_a_silent_stream_says_that_it_is_alive_between_events_only(server: Server) -> None:
    async with await open_stream(server.port, "/topics/a") as stream:
        await stream.take(1)
        while stream.raw.count(b": keep-alive\n") < 3:
            await stream.read()
        await publish(server.port, "a", "x")
        await stream.take(2)
    text = bytes(stream.raw)
    assert text.endswith(b"\n\n: keep-alive\n: keep-alive\n: keep-alive\n" + text[text.rindex(b"data: ") :])
    assert [event.type for event in stream.events] == ["stream.hello", "message"]


@pytest.mark.settings(heartbeat_s=0.5)
async def test_a_busy_stream_has_no_need_to(server: Server) -> None:
    loop = asyncio.get_running_loop()
    async with await open_stream(server.port, "/topics/a") as stream:
        began, count = loop.time(), 0
        while loop.time() < began + 1.2:
            await publish(server.port, "a", "x")
            count += 1
            await stream.take(count + 1)
        assert b"keep-alive" not in stream.raw


@pytest.mark.settings(retry_ms=1_234)
async def test_the_time_to_wait_before_coming_back_is_told_at_once_and_makes_no_event(server: Server) -> None:
    async with await open_stream(server.port, "/topics/a") as stream:
        await stream.take(1)
        assert stream.decoder.retry_ms == 1_234
        assert bytes(stream.raw).startswith(b": yeoul\nretry: 1234\nevent: stream.hello\n")


@pytest.mark.settings(max_lifetime_s=0.5, heartbeat_s=0.5, retry_ms=1_000)
async def test_a_stream_that_is_old_says_farewell_and_its_reader_goes_on_where_it_was(server: Server) -> None:
    async with await open_stream(server.port, "/topics/a") as stream:
        await publish(server.port, "a", "1")
        await stream.rest()
        assert stream.data[1] == "1"
        assert json.loads(stream.events[-1].data) == {"reason": "lifetime", "reconnect": True}
        assert 200 <= (stream.decoder.retry_ms or 0) <= 1_000
    await publish(server.port, "a", "2")
    async with await open_stream(server.port, "/topics/a", last_event_id=stream.last_event_id) as again:
        assert (await again.take(2))[1].data == "2"


@pytest.mark.settings(max_lifetime_s=0.3, heartbeat_s=0.5)
async def test_a_connection_outlives_a_stream_that_ended_in_order(server: Server) -> None:
    stream = await open_stream(server.port, "/topics/a")
    await stream.rest()
    stream.writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await stream.reader.readline()).startswith(b"HTTP/1.1 200 ")
    await stream.close()


# --- answers


@pytest.fixture(params=["direct", "portable"])
async def library(request: pytest.FixtureRequest) -> AsyncIterator[tuple[int, Hub]]:
    """A small app of a user's own."""
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def hot() -> AsyncIterator[str]:
        for number in range(20_000):
            yield f"{number} "

    @app.get("/hot")
    async def answer(request: Request) -> Response:
        return await generate(hub, request, hot, dialect="plain")

    @app.get("/alive")
    async def alive() -> str:
        return "yes"

    async with serving(app, direct=request.param == "direct") as port:
        yield port, hub


async def test_a_source_that_never_waits_leaves_the_server_to_others(library: tuple[int, Hub]) -> None:
    port, hub = library
    async with await open_stream(port, "/hot") as stream:
        await stream.take(1)
        answered = 0
        while stream.events[-1].data != "[DONE]":
            assert (await ask(port, "/alive")).status == 200
            answered += 1
            if answered == 1:
                assert hub.stats.published < 20_000, "it was answered while the source was still hot"
            for _ in range(50):
                if stream.events[-1].data != "[DONE]":
                    await stream.read()
        assert "".join(stream.data[:-1]) == "".join(f"{number} " for number in range(20_000))


async def test_a_client_that_leaves_before_the_first_byte_leaves_an_answer_that_goes_on(server: Server) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /sse/chat?message=hello&provider=demo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
        writer.transport.abort()

    async def ended() -> bool:
        return bool((await ask(server.port, "/generations")).json() == {"generations": []})

    await eventually(ended)
    assert server.hub.stats.readers == 0
