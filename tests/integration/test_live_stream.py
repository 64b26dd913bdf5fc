"""Streams of one's own, in an app of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from support.reader import ask, open_stream
from support.serving import serving
from yeoul import Event, Hub, live_stream
from yeoul.asgi.rates import Rates
from yeoul.hub.producer import Producer

hubs = pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])


@hubs
async def test_each_set_of_values_runs_once_however_many_read(direct: bool) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    runs: list[tuple[str, int]] = []

    @live_stream(app, hub, "/of/{name}/{size}/stream", newest=5)
    async def stream(name: str, size: int) -> AsyncIterator[object]:
        runs.append((name, size))
        yield f"{name}\n{size}"
        yield {"여울": [size, None]}
        yield Event("x", type="mine")
        await asyncio.Event().wait()

    async with serving(app, direct=direct) as port:
        async with (
            await open_stream(port, "/of/a b/1/stream") as one,
            await open_stream(port, "/of/a b/1/stream") as two,
        ):
            for stream_ in (one, two):
                events = (await stream_.take(4))[1:]
                assert [(event.type, event.data) for event in events] == [
                    ("message", "a b\n1"),
                    ("message", '{"여울": [1, null]}'),
                    ("mine", "x"),
                ]
            async with await open_stream(port, "/of/a b/2/stream") as other:
                assert (await other.take(2))[1].data == "a b\n2"
        assert sorted(runs) == [("a b", 1), ("a b", 2)]
        assert (await ask(port, "/of/a/no/stream")).status == 422, "the parameters have types"
        long = await ask(port, f"/of/{'~' * 200}/1/stream")
        assert (long.status, long.headers["content-type"]) == (422, "application/problem+json")
        assert (await ask(port, "/of/b/3/stream", method="HEAD")).status == 200
        assert len(runs) == 2


async def test_whoever_is_refused_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Noted(Producer):
        def __init__(self, hub: Hub, topic: str, *arguments: Any, **options: Any) -> None:
            made.append(topic)
            super().__init__(hub, topic, *arguments, **options)

    monkeypatch.setattr("yeoul.asgi.live_stream.Producer", Noted)
    hub = Hub(max_connections=2)
    app = FastAPI(lifespan=hub.lifespan)
    app.state.rates = Rates(connect="2/minute")

    @live_stream(app, hub, "/of/{name}")
    async def stream(name: str) -> AsyncIterator[str]:
        yield name
        await asyncio.Event().wait()

    async with serving(app) as port, await open_stream(port, "/of/a") as one, await open_stream(port, "/of/a") as two:
        for reader in (one, two):
            await reader.take(2)
        refused = await ask(port, "/of/b")
        assert (refused.status, "2/minute" in refused.json()["detail"]) == (429, True)
        app.state.rates = Rates()
        refused = await ask(port, "/of/c")
        assert (refused.status, "as many streams are open" in refused.json()["detail"]) == (429, True)
    assert made == ["of/a"]


async def test_a_router_does_as_well_and_options_are_those_of_routes() -> None:
    hub = Hub()
    router = APIRouter(prefix="/v1")

    @live_stream(router, hub, "/ticks", tags=["ticks"], summary="Ticks")
    async def ticks() -> AsyncIterator[str]:
        yield "tick"

    app = FastAPI(lifespan=hub.lifespan)
    app.include_router(router)
    operation = app.openapi()["paths"]["/v1/ticks"]["get"]
    assert (operation["tags"], operation["summary"]) == (["ticks"], "Ticks")
    async with serving(app) as port, await open_stream(port, "/v1/ticks") as stream:
        assert (await stream.take(2))[1].data == "tick"


def test_parameters_are_those_of_the_path() -> None:
    hub = Hub()
    with pytest.raises(ValueError, match="those of its path"):

        @live_stream(APIRouter(), hub, "/prices/{symbol}")
        async def prices() -> AsyncIterator[str]:
            yield "1"
