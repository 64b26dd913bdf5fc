"""As a library: an application of one's own, a hub, and `generate` around any source of text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from support.event_source import EventSource
from support.reader import open_stream
from support.serving import serving
from support.upstream import TOKENS, Answer, Upstream, complete, eof, reset
from yeoul import Event, EventStream, Hub, generate, stream_route
from yeoul.hub.job import CANCEL

outlets = pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])


@dataclass
class Chunk:
    """As an SDK has them: the text is somewhere in it, or is not."""

    text: str | None


class SDKStream:
    """An SDK's stream: an async iterator that is closed, not aclosed."""

    def __init__(self, *chunks: Chunk, silent: bool = False) -> None:
        self._chunks = list(chunks)
        self._silent = silent
        self.waiting = asyncio.Event()
        self.closed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        if self._chunks:
            return self._chunks.pop(0)
        if not self._silent:
            raise StopAsyncIteration
        self.waiting.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def close(self) -> None:
        self.closed.set()


@asynccontextmanager
async def app_with(source: Any, *, direct: bool = True, **options: Any) -> AsyncIterator[tuple[int, Hub]]:
    """A small application whose `/` answers with this source (as `source(hub)` gives it); its port and its hub."""
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.api_route("/", methods=["GET", "POST"])
    async def answer(request: Request) -> Response:
        return await generate(hub, request, source, **options)

    async with serving(app, direct=direct) as port:
        yield port, hub
        for work in _running(hub):
            work.cancel()
        await hub.close()


def _running(hub: Hub) -> list[Any]:
    from yeoul.llm.generations import Generations

    return Generations.of(hub).running()


def contents(source: EventSource) -> list[str]:
    return [json.loads(event.data)["content"] for event in source.events[:-1]]


async def words() -> AsyncIterator[str]:
    for word in ("안녕", "", " 🌊", "\n", "[DONE]"):
        yield word


@outlets
async def test_a_function_that_makes_a_generator_becomes_resumable(direct: bool) -> None:
    calls = 0

    def source() -> AsyncIterator[str]:
        nonlocal calls
        calls += 1
        return words()

    async with app_with(source, direct=direct) as (port, _):
        reader = EventSource(port, "/")
        await reader.read_events(2)
        await reader.read_all([90])
        assert "".join(contents(reader)) == "안녕 🌊\n[DONE]"
        assert json.loads(reader.events[-1].data) == {"done": True}
        assert reader.statuses[-1] == 204
        assert calls == 1
        # The same address is told for a moment that its stream is complete.
        await EventSource(port, "/?n=2").read_all()
        assert calls == 2


@outlets
async def test_a_generator_itself_may_be_handed_over(direct: bool) -> None:
    async with app_with(words(), direct=direct) as (port, _):
        reader = EventSource(port, "/")
        await reader.read_all()
        assert "".join(contents(reader)) == "안녕 🌊\n[DONE]"


async def test_an_sdk_asked_when_the_answer_starts_is_awaited_read_and_closed() -> None:
    streams: list[SDKStream] = []

    async def create() -> SDKStream:
        await asyncio.sleep(0)
        streams.append(SDKStream(Chunk("a"), Chunk(None), Chunk(""), Chunk("b")))
        return streams[-1]

    async with app_with(create, text=lambda chunk: chunk.text, dialect="plain") as (port, _):
        reader = EventSource(port, "/")
        await reader.read_all()
        assert [event.data for event in reader.events] == ["", "a", "b", "[DONE]"]
        assert [stream.closed.is_set() for stream in streams] == [True]


async def test_a_source_is_not_touched_by_a_reader_who_comes_back_or_only_looks() -> None:
    calls = 0

    def source() -> AsyncIterator[str]:
        nonlocal calls
        calls += 1
        return words()

    async with app_with(source) as (port, _):
        head = await open_stream(port, "/", method="HEAD")
        await head.close()
        lost = EventSource(port, "/", last_event_id="gone.abc-1")
        (event,) = await lost.read_all()
        assert "ask again" in json.loads(event.data)["error"]
        assert calls == 0


async def test_a_stream_of_an_sdk_that_turns_out_not_to_be_needed_is_closed() -> None:
    stream = SDKStream(Chunk("a"))
    async with app_with(stream, text=lambda chunk: chunk.text) as (port, _):
        lost = EventSource(port, "/", last_event_id="gone.abc-1")
        await lost.read_all()
        assert stream.closed.is_set()


@pytest.mark.parametrize(
    "make",
    [
        lambda error: _failing(error),
        lambda error: lambda: _failing(error),
        lambda error: lambda: _raise(error),
        lambda error: lambda: _raise_later(error),
    ],
    ids=["generator", "factory", "factory that fails", "awaitable that fails"],
)
async def test_what_a_source_raises_is_not_shown(
    make: Callable[[Exception], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with app_with(make(RuntimeError("key sk-SECRET"))) as (port, _):
        reader = EventSource(port, "/")
        await reader.read_all()
        assert json.loads(reader.events[-1].data) == {
            "error": "the model's stream failed (RuntimeError)",
            "kind": "failed",
            "retryable": False,
        }
        assert reader.statuses == [200, 204]
    assert "sk-SECRET" in caplog.text


async def _failing(error: Exception) -> AsyncIterator[str]:
    yield "some"
    raise error


def _raise(error: Exception) -> AsyncIterator[str]:
    raise error


async def _raise_later(error: Exception) -> AsyncIterator[str]:
    raise error


async def test_an_item_that_is_no_text_fails_and_the_log_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    stream = SDKStream(Chunk("a"))
    async with app_with(lambda: stream) as (port, _):
        reader = EventSource(port, "/")
        await reader.read_all()
        assert json.loads(reader.events[-1].data)["error"] == "the model's stream failed (TypeError)"
    assert "the source yields Chunk, not str: pass text=, a function that returns the text" in caplog.text
    assert stream.closed.is_set()


@outlets
async def test_a_source_is_closed_when_its_answer_is_cancelled(direct: bool) -> None:
    stream = SDKStream(Chunk("a"), silent=True)
    options = {"text": lambda chunk: chunk.text, "on_disconnect": CANCEL}
    async with app_with(lambda: stream, direct=direct, **options) as (port, _):
        reader = await open_stream(port, "/")
        await reader.take(2)
        await stream.waiting.wait()
        assert not stream.closed.is_set()
        reader.cut()
        async with asyncio.timeout(20):
            await stream.closed.wait()


async def test_the_names_of_provider_and_model_are_the_applications() -> None:
    async with app_with(words, dialect="openai", provider="ours", model="m-7") as (port, hub):
        reader = EventSource(port, "/")
        await reader.read_all()
        assert json.loads(reader.events[0].data)["model"] == "m-7"
        from yeoul.llm.generations import Generations

        assert Generations.of(hub).stats.ended == {("ours", "done"): 1}


async def test_a_dialect_that_there_is_not_is_a_bug_of_the_applications() -> None:
    hub = Hub()
    request = Request({"type": "http", "method": "GET", "headers": [], "query_string": b""})
    with pytest.raises(ValueError, match="unknown dialect 'xml': use one of plain, json, envelope, openai"):
        await generate(hub, request, words, dialect="xml")


async def test_too_many_answers_are_refused_and_the_source_is_let_go() -> None:
    from yeoul.llm.generations import Generations

    hub = Hub()
    Generations(hub, max_running=1, grace_seconds=0)
    streams: list[SDKStream] = []
    app = FastAPI(lifespan=hub.lifespan)

    @app.post("/")
    async def answer(request: Request) -> Response:
        streams.append(SDKStream(Chunk("a"), silent=True))
        return await generate(hub, request, streams[-1], text=lambda chunk: chunk.text)

    async with serving(app) as port:
        async with await open_stream(port, "/", method="POST") as first:
            await first.take(2)
            async with await open_stream(port, "/", method="POST") as second:
                assert second.status == 429
            assert [stream.closed.is_set() for stream in streams] == [False, True]
        await hub.close()


@outlets
async def test_a_page_follows_a_topic_of_the_applications_own(direct: bool) -> None:
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/news")
    async def received(request: Request) -> Response:
        return EventStream(hub, ["news"], request)

    async with serving(app, direct=direct) as port:
        async with await open_stream(port, "/news") as stream:
            await stream.take(1)
            first = await hub.publish("news", Event("안녕", "greeting"))
            event = (await stream.take(2))[1]
            assert (event.type, event.data, event.id) == ("greeting", "안녕", str(first))
        await hub.publish("news", Event("missed"))
        async with await open_stream(port, "/news", last_event_id=str(first)) as again:
            assert (await again.take(2))[1].data == "missed"
        await hub.close()


# --- streams of the OpenAI SDK


async def chat(client: openai.AsyncOpenAI) -> Any:
    return await client.chat.completions.create(model="m", stream=True, messages=[{"role": "user", "content": "hi"}])


async def responses(client: openai.AsyncOpenAI) -> Any:
    return await client.responses.create(model="m", stream=True, input="hi")


@pytest.mark.parametrize("create", [chat, responses])
@pytest.mark.parametrize(
    ("script", "end"),
    [
        (Answer(), {"done": True}),
        (Answer(ending=complete(reason="length")), {"done": True, "reason": "length"}),
        (Answer(ending=eof), "incomplete"),
        (Answer(ending=reset), "failed"),
    ],
)
async def test_a_stream_of_the_openai_sdk_is_an_answer(create: Any, script: Answer, end: object) -> None:
    async with (
        Upstream(script) as upstream,
        openai.AsyncOpenAI(base_url=upstream.base_url, api_key="k", max_retries=0) as client,
        app_with(lambda: create(client)) as (port, _),
    ):
        async with await open_stream(port, "/") as stream:
            *texts, last = await stream.rest()
        assert "".join(json.loads(event.data)["content"] for event in texts) == "".join(TOKENS)
        if isinstance(end, dict):
            assert json.loads(last.data) == end
        else:
            assert "error" in json.loads(last.data)
        assert len(upstream.requests) == 1


async def test_a_source_that_is_not_asynchronous_is_refused_at_the_call() -> None:
    hub = Hub()
    request = Request({"type": "http", "method": "GET", "headers": [], "query_string": b""})
    for source in (iter(["a"]), ["a"], "text", None):
        with pytest.raises(TypeError, match="not an async iterator"):
            await generate(hub, request, source)  # type: ignore[arg-type]
    await hub.close()


def test_a_stream_is_one_in_the_openapi_document_of_an_application() -> None:
    app = FastAPI()

    @app.get("/by-class", response_class=EventStream)
    async def by_class(request: Request) -> Response:
        raise NotImplementedError

    @stream_route(app, "/by-route")
    async def by_route(request: Request) -> Response:
        raise NotImplementedError

    for path in ("/by-class", "/by-route"):
        response = app.openapi()["paths"][path]["get"]["responses"]["200"]
        assert list(response["content"]) == ["text/event-stream"], path
