"""Streams in applications of one's own: middlewares, dependencies, background tasks, over both outlets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from support.reader import RawStream, open_stream
from support.serving import serving
from yeoul import Event, EventStream, Hub, generate

outlets = pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])


class Shouting:
    """Rewrites the body, piece by piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def shout(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": message.get("body", b"").replace(b"quiet", b"LOUD!")}
            await send(message)

        await self._app(scope, receive, shout)


@asynccontextmanager
async def served(
    build: Callable[[FastAPI, Hub], None] = lambda app, hub: None, *, direct: bool
) -> AsyncIterator[tuple[int, Hub]]:
    """An application with the stream of the topic `t` at `/`, which `build` adds something to."""
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/")
    async def follow(request: Request) -> Response:
        return EventStream(hub, "t", request)

    build(app, hub)
    async with serving(app, direct=direct) as port:
        yield port, hub
        await hub.close()


async def read(stream: RawStream, hub: Hub, *texts: str) -> bytes:
    """What a reader was sent, up to these events."""
    await stream.take(1)
    for text in texts:
        await hub.publish("t", Event(text))
    await stream.take(1 + len(texts))
    return bytes(stream.raw)


def outlet_of(hub: Hub) -> str:
    (reader,) = hub.readers()
    return type(reader._outlet).__name__


@outlets
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_http_middlewares_lose_nothing_of_a_stream(direct: bool, number: int) -> None:
    def build(app: FastAPI, hub: Hub) -> None:
        for _ in range(number):

            @app.middleware("http")
            async def pass_on(request: Request, call_next: Any) -> Any:
                return await call_next(request)

    async with served(build, direct=direct) as (port, hub), await open_stream(port, "/") as stream:
        raw = await read(stream, hub, "a", "b")
        assert raw.startswith(b": yeoul\nretry: 2000\n")
        assert stream.data[1:] == ["a", "b"]


@outlets
@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_a_middleware_that_rewrites_bodies_is_given_all_of_the_stream(direct: bool, where: str) -> None:
    def build(app: FastAPI, hub: Hub) -> None:
        if where == "outside":
            app.add_middleware(CORSMiddleware, allow_origins=["*"])
        app.add_middleware(Shouting)
        if where == "inside":
            app.add_middleware(CORSMiddleware, allow_origins=["*"])

    async with served(build, direct=direct) as (port, hub), await open_stream(port, "/") as stream:
        await read(stream, hub, "quiet", "other", "quiet")
        assert stream.data[1:] == ["LOUD!", "other", "LOUD!"]


@outlets
async def test_an_application_that_is_wrapped_is_given_all_of_the_stream(direct: bool) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/")
    async def follow(request: Request) -> Response:
        return EventStream(hub, "t", request)

    async with serving(Shouting(app), direct=direct) as port:
        async with await open_stream(port, "/") as stream:
            await read(stream, hub, "quiet", "quiet")
            assert stream.data[1:] == ["LOUD!", "LOUD!"]
        await hub.close()


async def test_with_nothing_between_the_hub_writes_to_the_transport() -> None:
    def with_cors(app: FastAPI, hub: Hub) -> None:
        app.add_middleware(CORSMiddleware, allow_origins=["http://a"])

    def with_gzip(app: FastAPI, hub: Hub) -> None:
        app.add_middleware(GZipMiddleware)

    for build, outlet in (
        (lambda app, hub: None, "DirectOutlet"),
        (with_cors, "DirectOutlet"),
        (with_gzip, "_PortableOutlet"),
    ):
        async with served(build, direct=True) as (port, hub):
            headers = {"Origin": "http://a", "Accept-Encoding": "identity"}
            async with await open_stream(port, "/", headers=headers) as stream:
                await read(stream, hub, "a")
                assert outlet_of(hub) == outlet


@outlets
@pytest.mark.parametrize("held", [True, False])
async def test_a_dependency_with_yield_is_held_until_the_stream_ends_unless_its_scope_is_the_function(
    direct: bool, held: bool
) -> None:
    session: list[str] = []

    async def database() -> AsyncIterator[str]:
        session.append("open")
        yield "session"
        session.append("closed")

    scope = None if held else "function"

    def build(app: FastAPI, hub: Hub) -> None:
        @app.get("/guarded")
        async def follow(request: Request, db: str = Depends(database, scope=scope)) -> Response:
            return EventStream(hub, "t", request)

    async with served(build, direct=direct) as (port, hub):
        async with await open_stream(port, "/guarded") as stream:
            await read(stream, hub, "a")
            assert session == (["open"] if held else ["open", "closed"])
        while session != ["open", "closed"]:
            await asyncio.sleep(0.01)


@outlets
@pytest.mark.parametrize("path", ["/tasks", "/attribute", "/answer"])
async def test_background_tasks_run_after_the_stream(direct: bool, path: str) -> None:
    ran: list[str] = []

    async def later(name: str) -> None:
        ran.append(name)

    async def words() -> AsyncIterator[str]:
        yield "one"

    def build(app: FastAPI, hub: Hub) -> None:
        @app.get("/tasks")
        async def with_tasks(request: Request, tasks: BackgroundTasks) -> Response:
            tasks.add_task(later, "/tasks")
            return EventStream(hub, "t", request)

        @app.get("/attribute")
        async def with_attribute(request: Request) -> Response:
            response = EventStream(hub, "t", request)
            response.background = BackgroundTasks()
            response.background.add_task(later, "/attribute")
            return response

        @app.get("/answer")
        async def answer(request: Request, tasks: BackgroundTasks) -> Response:
            tasks.add_task(later, "/answer")
            return await generate(hub, request, words)

    async with served(build, direct=direct) as (port, hub):
        async with await open_stream(port, path) as stream:
            if path == "/answer":
                await stream.rest()
            else:
                await read(stream, hub, "a")
                assert ran == []
        while ran != [path]:
            await asyncio.sleep(0.01)
