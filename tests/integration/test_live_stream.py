"""Streams of your own, in an application of your own."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from support.polling import eventually
from support.reader import ask, open_stream
from support.serving import serving
from yeoul import Event, EventStream, Hub, live_stream
from yeoul.asgi.rates import Rates
from yeoul.errors import InvalidTopic
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


async def test_a_refused_request_starts_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert (refused.status, "connection limit reached" in refused.json()["detail"]) == (429, True)
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


# --- whose events they are


def source_of(text: str) -> Callable[[], AsyncIterator[str]]:
    async def source() -> AsyncIterator[str]:
        yield text
        await asyncio.Event().wait()

    return source


async def first(port: int, path: str) -> str:
    async with await open_stream(port, path) as stream:
        assert stream.status == 200, stream.status
        return (await stream.take(2))[1].data


def guarded() -> None:
    raise HTTPException(403)


@hubs
async def test_the_same_path_under_two_prefixes_is_two_streams(direct: bool) -> None:
    """The readers of an open stream must not be sent the events of one that is guarded."""
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    below = FastAPI()
    closed = APIRouter(prefix="/closed", dependencies=[Depends(guarded)])
    routers = {"open": APIRouter(prefix="/open"), "closed": closed}
    included = {"in/a": APIRouter(), "in/b": APIRouter()}
    for name, router in [*routers.items(), *included.items(), ("below", below)]:
        live_stream(router, hub, "/stream")(source_of(name))
    for router in routers.values():
        app.include_router(router)
    for name, router in included.items():
        app.include_router(router, prefix=f"/{name}")
    app.mount("/mounted/here", below)
    app.mount("/and/there", below)

    @app.get("/topics/{name:path}")
    async def follow(request: Request, name: str) -> EventStream:
        return EventStream(hub, name, request, newest=1)

    async with serving(app, direct=direct) as port:
        names = {"open": "open", "in/a": "in/a", "in/b": "in/b", "mounted/here": "below", "and/there": "below"}
        for path, name in names.items():
            assert await first(port, f"/{path}/stream") == name
            assert await first(port, f"/topics/{path}/stream") == name, "the topic is the path"
        assert (await ask(port, "/closed/stream")).status == 403


async def test_parameters_of_prefixes_and_mounts_make_streams_of_their_own() -> None:
    hub = Hub()
    app, inner, router, named = FastAPI(lifespan=hub.lifespan), FastAPI(), APIRouter(), APIRouter(prefix="/of/{owner}")
    runs: list[str] = []

    @live_stream(inner, hub, "/ticks")
    async def ticks() -> AsyncIterator[str]:
        runs.append("ticks")
        yield str(len(runs))
        await asyncio.Event().wait()

    @live_stream(router, hub, "/{size}/files/{name:path}")
    async def files(tenant: str, size: int, name: str) -> AsyncIterator[str]:
        runs.append(f"{tenant} {size} {name}")
        yield runs[-1]
        await asyncio.Event().wait()

    @live_stream(named, hub, "/color/{color}")
    async def colors(owner: str, color: Color) -> AsyncIterator[str]:
        runs.append(f"{owner} {color.name}")
        yield runs[-1]
        await asyncio.Event().wait()

    app.include_router(router, prefix="/t/{tenant}")
    app.include_router(named)
    app.mount("/m/{tenant}", inner)
    async with serving(app) as port:
        async with await open_stream(port, "/m/ann/ticks") as ann, await open_stream(port, "/m/bob/ticks") as bob:
            assert [(await stream.take(2))[1].data for stream in (ann, bob)] == ["1", "2"]
        assert await first(port, "/t/ann/1/files/a/b.txt") == "ann 1 a/b.txt"
        assert await first(port, "/t/bob/1/files/a/b.txt") == "bob 1 a/b.txt"
        assert await first(port, "/of/ann/color/red") == "ann RED"
        before = len(runs)
        assert await first(port, "/t/ann/01/files/a/b.txt") == "ann 1 a/b.txt"
        assert len(runs) == before, "the same values, in another form"


class Color(Enum):
    RED = "red"


async def test_the_root_path_of_a_proxy_is_not_in_the_topic() -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    live_stream(app, hub, "/ticks")(source_of("tick"))

    @app.get("/topic")
    async def follow(request: Request) -> EventStream:
        return EventStream(hub, "ticks", request, newest=1)

    async with serving(app, root_path="/proxied") as port:
        assert await first(port, "/ticks") == await first(port, "/topic") == "tick"


# --- mistakes that are told when the application starts


async def test_two_sources_with_one_path_are_an_error_at_the_start() -> None:
    def same_app(app: FastAPI, hub: Hub) -> None:
        live_stream(app, hub, "/of/{a}")(one_of)
        live_stream(app, hub, "/of/{b}")(other_of)

    def routers(app: FastAPI, hub: Hub) -> None:
        one, other = APIRouter(prefix="/x"), APIRouter()
        live_stream(one, hub, "/of/{a}")(one_of)
        live_stream(other, hub, "/of/{b}")(other_of)
        app.include_router(one)
        app.include_router(other, prefix="/x")

    def mounted(app: FastAPI, hub: Hub) -> None:
        inner = FastAPI()
        live_stream(inner, hub, "/of/{b}")(other_of)
        app.mount("/x", inner)
        live_stream(app, hub, "/x/of/{a}")(one_of)

    async def one_of(a: str) -> AsyncIterator[str]:
        yield a

    async def other_of(b: str) -> AsyncIterator[str]:
        yield b

    for build in (same_app, routers, mounted):
        hub = Hub()
        app = FastAPI(lifespan=hub.lifespan)
        build(app, hub)
        with pytest.raises(ValueError, match=r"of/\{.\}' has two sources, .*\.o\w+_of and .*\.o\w+_of:"):
            async with app.router.lifespan_context(app):
                pass


async def test_where_no_lifespan_runs_the_first_request_says_it(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    app, inner = FastAPI(), FastAPI()
    live_stream(inner, hub, "/stream")(source_of("one"))
    live_stream(inner, hub, "/stream")(source_of("other"))
    app.mount("/inner", inner)
    async with serving(app) as port:
        assert (await ask(port, "/inner/stream")).status == 500
    assert "has two sources" in caplog.text
    await hub.close()


async def test_a_second_application_cannot_publish_to_the_topic_of_the_first() -> None:
    hub = Hub()
    apps = [FastAPI(), FastAPI()]
    for number, app in enumerate(apps):
        live_stream(app, hub, "/stream")(source_of(str(number)))
    async with serving(apps[0]) as one, serving(apps[1]) as other, await open_stream(one, "/stream") as stream:
        assert (await stream.take(2))[1].data == "0"
        assert (await ask(other, "/stream")).status == 500
        assert len(stream.events) == 2
    await hub.close()


async def with_query(q: str) -> AsyncIterator[str]:
    yield q


async def test_a_parameter_that_is_not_in_the_whole_path_is_an_error() -> None:
    hub = Hub()
    with pytest.raises(ValueError, match="those of its path"):
        live_stream(FastAPI(), hub, "/prices")(with_query)
    router = APIRouter()
    live_stream(router, hub, "/prices")(with_query)  # a prefix may have it
    app = FastAPI(lifespan=hub.lifespan)
    app.include_router(router)
    with pytest.raises(ValueError, match="with_query has 'q', which is not in '/prices'"):
        async with app.router.lifespan_context(app):
            pass


def not_async() -> Iterator[str]:
    yield "1"


async def without_yield() -> str:
    return "1"


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("/a", not_async, "a generator that is not async: write `async def`"),
        ("/a", without_yield, "a coroutine function: yield the values"),
        ("/a", "text", "cannot be called"),
        ("/prices/{symbol}", source_of("x"), "those of its path"),
        ("/{a}/{a}", with_query, "those of its path"),
        ("/a/", source_of("x"), "does not end with '/': use '/a'"),
        ("/a b", source_of("x"), "has the character ' '"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(path: str, source: Any, wrong: str) -> None:
    with pytest.raises((TypeError, ValueError, InvalidTopic), match=re.escape(wrong)):
        live_stream(APIRouter(), Hub(), path)(source)


# --- what a source yields


class Price(BaseModel):
    at: datetime
    won: float


@dataclass
class Point:
    x: int
    color: Color


WHEN = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@hubs
async def test_values_are_encoded_as_fastapi_returns_them(direct: bool) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    one, two = Price(at=WHEN, won=1.5), Price(at=WHEN, won=2)
    values = [one, WHEN, {"prices": [two]}, Point(1, Color.RED), UUID(int=7), None]

    @live_stream(app, hub, "/values", newest=10)
    async def stream() -> AsyncIterator[object]:
        for value in values:
            yield value
        await asyncio.Event().wait()

    async with serving(app, direct=direct) as port, await open_stream(port, "/values") as reader:
        events = (await reader.take(1 + len(values)))[1:]
    price = {"at": "2026-01-31T09:30:00Z", "won": 1.5}
    assert [json.loads(event.data) for event in events] == [
        price,
        "2026-01-31T09:30:00+00:00",
        {"prices": [{**price, "won": 2.0}]},
        {"x": 1, "color": "red"},
        "00000000-0000-0000-0000-000000000007",
        None,
    ]


class Opaque:
    __slots__ = ()


UNSENDABLE = {
    "NaN": math.nan,
    "NaN in a model": Price(at=WHEN, won=math.inf),
    "no JSON form": Opaque(),
    "half a surrogate pair": "\ud800",
    "an id": Event("x", id="mine"),
    "a reserved type": Event("x", type="stream.hello"),
    "too large": "x" * 300_000,
}


@hubs
@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
async def test_what_cannot_be_sent_ends_the_stream_and_is_logged_once(
    direct: bool, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    runs = 0

    @live_stream(app, hub, "/values")
    async def values() -> AsyncIterator[object]:
        nonlocal runs
        runs += 1
        yield "good"
        yield value

    @app.get("/both")
    async def both(request: Request) -> EventStream:
        return EventStream(hub, ["values", "other"], request)

    async with serving(app, direct=direct) as port, await open_stream(port, "/both") as several:
        for _ in range(3):
            async with await open_stream(port, "/values") as stream:
                assert stream.status == 200
                events = await stream.rest()
                assert stream.ended, "cleanly"
                assert (events[-1].type, json.loads(events[-1].data)["reason"]) == ("stream.bye", "failed")
        await hub.publish("other", Event("still here"))
        await several.until(lambda events: "still here" in [event.data for event in events])
        assert runs == 1, "not started again with each reader"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1, errors
    assert "values" in errors[0].getMessage()


async def test_a_source_that_has_failed_is_started_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("yeoul.hub.producer._PAUSE_S", 0.05)
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    runs = 0

    @live_stream(app, hub, "/values", linger=0)
    async def values() -> AsyncIterator[object]:
        nonlocal runs
        runs += 1
        yield math.nan if runs == 1 else f"run {runs}"
        await asyncio.Event().wait()

    @app.get("/both")
    async def both(request: Request) -> EventStream:
        return EventStream(hub, ["values", "other"], request)

    async with serving(app) as port:
        # This one has waited, since it follows another topic too.
        async with await open_stream(port, "/both") as several, await open_stream(port, "/values") as stream:
            await stream.rest()
            await several.until(lambda events: "run 2" in [event.data for event in events])

        async def recovered() -> bool:
            async with await open_stream(port, "/values") as stream:
                return "run" in (await stream.take(2))[1].data

        await eventually(recovered)
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_readers_who_were_there_before_the_source_start_it() -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    live_stream(app, hub, "/ticks")(source_of("tick"))

    @app.get("/both")
    async def both(request: Request) -> EventStream:
        return EventStream(hub, ["ticks", "other"], request)

    async with serving(app) as port, await open_stream(port, "/both") as earlier:
        await earlier.take(1)
        assert await first(port, "/ticks") == "tick"
        await earlier.until(lambda events: "tick" in [event.data for event in events])


@hubs
async def test_a_link_from_another_site_opens_no_stream_and_its_pages_may_where_the_application_lets_them(
    direct: bool,
) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    live_stream(app, hub, "/ticks")(source_of("tick"))
    site = {"Sec-Fetch-Site": "cross-site"}
    async with serving(app, direct=direct) as port:
        link = {**site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await ask(port, "/ticks", headers=link)).status == 403
        async with await open_stream(port, "/ticks", headers={**site, "Sec-Fetch-Mode": "cors"}) as stream:
            assert stream.status == 200, "what pages of other origins may read is for CORS to say"
            await stream.take(2)


async def test_a_function_that_returns_no_async_iterator_ends_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)
    source: Any = lambda: ["a", "list"]  # noqa: E731
    live_stream(app, hub, "/values")(source)
    async with serving(app) as port, await open_stream(port, "/values") as stream:
        assert (await stream.rest())[-1].type == "stream.bye"
    assert "returned list, which is not an async iterator" in caplog.text
