"""A hub and the event loops that it is used on: one after the other, and never two at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from support.outlets import MemoryOutlet
from support.reader import ask, open_stream
from support.serving import serving
from yeoul import EventStream, Hub, generate
from yeoul.hub import Subscription
from yeoul.hub.reasons import EndReason
from yeoul.llm.generations import Generations
from yeoul.sse import Event

LOOPS: list[Callable[[Coroutine[Any, Any, None]], None]] = [asyncio.run]
try:
    import uvloop

    LOOPS.append(uvloop.run)
except ImportError:
    pass


def in_a_loop_of_its_own(work: Coroutine[Any, Any, None], run: Callable[..., None] = asyncio.run) -> None:
    """To its end, on another thread: this one has a loop that is running."""
    failed: list[BaseException] = []

    def go() -> None:
        try:
            run(work)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join(60)
    if failed:
        raise failed[0]


def app_of(hub: Hub) -> FastAPI:
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/topics/{topic}")
    async def follow(topic: str, request: Request) -> Response:
        return EventStream(hub, topic, request, newest=10)

    @app.post("/topics/{topic}")
    async def post(topic: str, text: str) -> dict[str, str]:
        return {"id": str(await hub.publish(topic, Event(text)))}

    @app.get("/chat")
    async def chat(request: Request) -> Response:
        async def answer() -> Any:
            yield "hello"

        return await generate(hub, request, answer)

    return app


async def test_an_application_that_is_started_twice_serves_twice() -> None:
    """As with `with TestClient(app)`: a lifespan, then another one."""
    hub = Hub(heartbeat=0.1)
    app = app_of(hub)
    for number in range(3):
        async with serving(app) as port, await open_stream(port, "/topics/a") as stream:
            await ask(port, f"/topics/a?text={number}", method="POST")
            await stream.until(lambda events, last=str(number): events and events[-1].data == last)
            assert stream.data[1:] == [str(earlier) for earlier in range(number + 1)], "what is kept stays"
            while b": keep-alive\n" not in stream.raw:
                await stream.read()
            async with await open_stream(port, "/chat") as answer:
                await answer.rest()
                assert answer.data[-1] == '{"done": true}'
    assert hub.stats.readers == 0


@pytest.mark.parametrize("run", LOOPS)
async def test_what_was_published_before_serving_is_there_and_heartbeats_come(run: Callable[..., None]) -> None:
    hub = Hub(heartbeat=0.1)

    async def before() -> None:
        await hub.publish("a", Event("early"))

    in_a_loop_of_its_own(before(), run)
    async with serving(app_of(hub)) as port, await open_stream(port, "/topics/a") as stream:
        assert [event.data for event in (await stream.take(2))[1:]] == ["early"]
        while b": keep-alive\n" not in stream.raw:
            await stream.read()
        await ask(port, "/topics/a?text=late", method="POST")
        await stream.until(lambda events: events[-1].data == "late")


@pytest.mark.parametrize("run", LOOPS)
async def test_streams_and_answers_of_a_loop_that_has_ended_are_gone(run: Callable[..., None]) -> None:
    hub = Hub()
    left: list[tuple[str, EndReason | None]] = []
    hub.watch("a", lambda topic, reader, reason: left.append((topic, reason)))
    generations = Generations.of(hub)
    readers: list[Subscription] = []

    async def silent() -> Any:
        await asyncio.Event().wait()
        yield "never"

    async def before() -> None:
        reader = await hub.subscribe(["a"])
        reader.start(MemoryOutlet())
        readers.append(reader)
        await generations.start(silent())
        for number in range(3):
            await hub.publish("a", Event(str(number)))  # a round of delivery that does not come

    in_a_loop_of_its_own(before(), run)
    assert hub.stats.readers == 1
    async with hub:
        assert readers[0].closed
        assert (hub.stats.readers, hub.stats.closed) == (0, {"event loop": 1})
        assert [reason and reason.name for _, reason in left] == [None, "event loop"]
        assert generations.running() == []
        reader = await hub.subscribe(["a"])
        outlet = MemoryOutlet(reader=reader)
        reader.start(outlet)
        await hub.publish("a", Event("3"))
        assert [event.data for event in await outlet.take(1)] == ["3"]
        await generations.start(silent())
        assert len(generations.running()) == 1
        hub.hurry()


async def test_a_hub_is_not_used_on_two_loops_at_once() -> None:
    async with Hub() as hub:

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another event loop, which is running"):
                await hub.publish("a", Event("x"))

        await asyncio.to_thread(in_a_loop_of_its_own, elsewhere())
        await hub.publish("a", Event("y"))
