"""The four forms of an answer on the wire, byte for byte, for every way in which it can end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from openai import APIError, AsyncOpenAI

from support.polling import generation
from support.reader import RawStream, ask, open_stream
from support.serving import serving
from support.upstream import Answer, Upstream, complete, eof, error, stall
from yeoul.asgi.generate import generation_stream
from yeoul.hub import Hub
from yeoul.hub.reasons import LIFETIME
from yeoul.llm.dialects import DIALECTS, OpenAI
from yeoul.llm.generations import Generations
from yeoul.llm.items import Delta, Finish, Note, Reasoning, Refusal, SourceUrl, Step, ToolCall, ToolResult, Usage
from yeoul.stream import LastEventId

# Korean, several code points in one emoji, a separator that splits lines in some readers, quotes, a line break.
TOKENS = ("안", " 👩‍🍳", "\u2028", '"\\', "a\nb")

ESCAPED = ('"안"', '" 👩‍🍳"', '"\\u2028"', '"\\"\\\\"', '"a\\nb"')


async def body_of(port: int, dialect: str, **asked: Any) -> tuple[RawStream, dict[str, Any]]:
    """The stream of a new answer, read to its end, and the answer."""
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi", **asked})
    async with await open_stream(port, f"{answer.headers['location']}/stream?dialect={dialect}") as stream:
        await stream.rest()
    return stream, await generation(port, answer.headers["location"])


def without_ids(stream: RawStream) -> str:
    lines = stream.raw.decode().split("\n")
    assert lines[:2] == [": yeoul", "retry: 2000"]
    return "\n".join(line for line in lines[2:] if not line.startswith("id: "))


def chunk(about: dict[str, Any], delta: str, reason: str = "null", usage: str = "") -> str:
    return (
        f'data: {{"id": "chatcmpl-{about["id"]}", "object": "chat.completion.chunk", "created": '
        f'{int(about["created"])}, "model": "m", "choices": [{{"index": 0, "delta": {delta}, '
        f'"finish_reason": {reason}}}]{usage}}}\n\n'
    )


async def test_plain_is_these_bytes(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS)]
    stream, _ = await body_of(port, "plain")
    assert without_ids(stream) == (
        'data: 안\n\ndata:  👩‍🍳\n\ndata: \u2028\n\ndata: "\\\n\ndata: a\ndata: b\n\ndata: [DONE]\n\n'
    )


async def test_json_is_these_bytes(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS)]
    stream, _ = await body_of(port, "json")
    tokens = "".join(f'data: {{"content": {text}}}\n\n' for text in ESCAPED)
    assert without_ids(stream) == tokens + 'data: {"done": true}\n\n'


async def test_envelope_is_these_bytes(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS)]
    stream, _ = await body_of(port, "envelope")
    tokens = "".join(
        f'event: token\ndata: {{"status": 200, "message": "토큰 생성", "data": {{"token": {text}}}}}\n\n'
        for text in ESCAPED
    )
    end = 'event: complete\ndata: {"status": 200, "message": "생성 완료", "data": null}\n\n'
    assert without_ids(stream) == tokens + end


async def test_openai_is_these_bytes(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS)]
    stream, about = await body_of(port, "openai")
    tokens = "".join(chunk(about, f'{{"content": {text}}}') for text in ESCAPED)
    usage = ', "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}'
    assert without_ids(stream) == tokens + chunk(about, "{}", '"stop"', usage) + "data: [DONE]\n\n"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_event_has_an_id_and_they_rise(port: int, dialect: str) -> None:
    stream, _ = await body_of(port, dialect)
    ids = [event.id for event in stream.events]
    assert None not in ids
    assert stream.raw.count(b"\nid: ") == len(ids)
    positions = [LastEventId.parse(id or "") for id in ids]
    assert [position.final for position in positions] == [*(False for _ in positions[1:]), True]
    offsets = [position.cursor.offset for position in positions]
    assert offsets == sorted(set(offsets))


# --- every way to end


TROUBLES = {
    "failed": (error("the model is overloaded"), "the model is overloaded"),
    "incomplete": (eof, "before it was finished"),
    "cancelled": (stall, "this answer was stopped"),
}


@pytest.mark.parametrize("state", TROUBLES)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_that_is_not_done_says_why_and_never_done(
    port: int, upstream: Upstream, dialect: str, state: str
) -> None:
    ending, why = TROUBLES[state]
    upstream.scripts = [Answer(("안",), ending=ending)]
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
    location = answer.headers["location"]
    async with await open_stream(port, f"{location}/stream?dialect={dialect}") as stream:
        await stream.take(1)
        if state == "cancelled":
            await ask(port, location, method="DELETE")
        await stream.rest()
    check_trouble(dialect, stream, state, why)
    assert (await generation(port, location))["state"] == state


def check_trouble(dialect: str, stream: RawStream, state: str, why: str) -> None:
    # The AI SDK is shown where a message, a step and a part begin, and where a text that is cut ends.
    around = ("start", "start-step", "text-start", "text-delta", "text-end")
    shown_events = stream.events[1:]
    if dialect.startswith("ai-sdk"):
        shown_events = [e for e in shown_events if e.data == "[DONE]" or json.loads(e.data)["type"] not in around]
    events = [(event.type, event.data) for event in shown_events]
    kind, data = events[0]
    shown = json.loads(data)
    match dialect:
        case "plain":
            assert (kind, shown["state"], len(events)) == ("failure", state, 1)
            text = shown["message"]
        case "json":
            assert (kind, set(shown), len(events)) == ("message", {"error", "kind", "retryable"}, 1)
            text = shown["error"]
        case "envelope":
            assert (kind, shown["status"], shown["data"], len(events)) == ("error", 500, None, 1)
            text = shown["message"]
        case _ if dialect.startswith("ai-sdk"):
            assert (kind, shown["type"]) == ("message", "abort" if state == "cancelled" else "error")
            assert events[1:] == [("message", "[DONE]")]
            # Two versions know no reason of an abort.
            text = shown.get("errorText") or shown.get("reason") or why
            assert b'"finish"' not in stream.raw
        case _:
            assert (kind, shown["error"]["type"]) == ("message", state)
            assert shown["error"]["code"] in (state, "cut")
            assert events[1:] == [("message", "[DONE]")]
            text = shown["error"]["message"]
    assert why in text
    assert b"finish_reason" not in stream.raw.partition(b"error")[2]
    assert b'"done"' not in stream.raw
    assert b"complete\n" not in stream.raw


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_that_a_shutdown_interrupts_says_so_to_its_reader(dialect: str, direct: bool) -> None:
    hub = Hub()
    generations = Generations(hub, grace_seconds=0)
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/")
    async def stream(request: Request) -> Response:
        async def source() -> AsyncIterator[Delta | Finish]:
            yield Delta("안")
            await asyncio.get_running_loop().create_future()

        made = await generations.start(source())
        return generation_stream(hub, request, made, DIALECTS[dialect])

    async with serving(app, direct=direct) as port, await open_stream(port, "/") as reader:
        await reader.take(1)
        await hub.close()
        await reader.rest()
        check_trouble(dialect, reader, "interrupted", "ask again")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_reason_other_than_stop_is_told_where_the_dialect_has_a_place_for_it(
    port: int, upstream: Upstream, dialect: str
) -> None:
    upstream.scripts = [Answer(TOKENS, ending=complete(reason="length", usage=False))]
    stream, about = await body_of(port, dialect)
    assert (about["state"], about["finish_reason"], about["usage"]) == ("done", "length", None)
    if dialect in ("ai-sdk", "ai-sdk-6"):
        assert json.loads(stream.data[-2]) == {"type": "finish", "finishReason": "length"}
    if dialect == "openai":
        assert json.loads(stream.data[-2])["choices"][0]["finish_reason"] == "length"
        assert "usage" not in json.loads(stream.data[-2])


# --- the official SDK


@pytest.fixture(params=[True, False], ids=["direct", "portable"])
async def sdk(request: pytest.FixtureRequest) -> AsyncIterator[tuple[AsyncOpenAI, dict[str, Any]]]:
    """The SDK in front of a route that streams our dialect; what `script` holds is yielded, or raised."""
    hub = Hub(heartbeat=0.01)
    generations = Generations(hub, grace_seconds=0)
    app = FastAPI(lifespan=hub.lifespan)
    script: dict[str, Any] = {"items": [], "pause": 0.0}

    async def source() -> AsyncIterator[Delta | Finish]:
        for item in script["items"]:
            await asyncio.sleep(script["pause"])
            if isinstance(item, Exception):
                raise item
            yield item

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        made = await generations.start(source(), model="m-1")
        script["answer"] = made
        return generation_stream(hub, request, made, OpenAI, started=script.get("started", True))

    async with (
        serving(app, direct=request.param) as port,
        AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client,
    ):
        yield client, script
        await hub.close()


async def chunks_of(client: AsyncOpenAI) -> list[Any]:
    stream = await client.chat.completions.create(
        model="m-1", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    return [chunk async for chunk in stream]


@pytest.mark.parametrize("started", [True, False])
async def test_the_sdk_reads_text_reason_and_usage(sdk: tuple[AsyncOpenAI, dict[str, Any]], started: bool) -> None:
    client, script = sdk
    script |= {"items": [*map(Delta, TOKENS), Finish("length", Usage(12, 5))], "started": started}
    chunks = await chunks_of(client)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(TOKENS)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert chunks[0].choices[0].delta.role == ("assistant" if started else None)
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{script['answer'].id}"}
    assert {(chunk.model, chunk.object) for chunk in chunks} == {("m-1", "chat.completion.chunk")}
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 5, 17)


async def test_the_sdk_reads_reasoning_tool_calls_and_a_refusal(sdk: tuple[AsyncOpenAI, dict[str, Any]]) -> None:
    client, script = sdk
    script["items"] = [
        Note("status", {"stage": "searching"}),
        Reasoning("hm"),
        Delta("a"),
        SourceUrl("https://example.com/"),
        ToolCall("c1", "weather", '{"city": '),
        ToolCall("c2", "search", "{}", done=True),
        ToolCall("c1", arguments='"서울"}'),
        Refusal("no"),
        Finish("tool_calls"),
    ]
    chunks = await chunks_of(client)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.reasoning_content for delta in deltas if hasattr(delta, "reasoning_content")] == ["hm"]
    assert [delta.refusal for delta in deltas if delta.refusal] == ["no"]
    calls: dict[int, list[Any]] = {}
    for piece in (piece for delta in deltas for piece in delta.tool_calls or ()):
        call = calls.setdefault(piece.index, [piece.id, piece.type, piece.function.name, ""])
        call[3] += piece.function.arguments
    assert calls == {0: ["c1", "function", "weather", '{"city": "서울"}'], 1: ["c2", "function", "search", "{}"]}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


PARTS = [
    Reasoning("hm"),
    Refusal("no"),
    ToolCall("c1", "f", "{}"),
    ToolResult("c1", 7),
    SourceUrl("https://x/"),
    Step(),
]


@pytest.mark.parametrize("dialect", ["plain", "json", "envelope"])
async def test_dialects_of_text_show_text_and_refusals_alone(dialect: str) -> None:
    hub = Hub()
    generations = Generations(hub, grace_seconds=0)
    app = FastAPI(lifespan=hub.lifespan)

    async def source(*items: Any) -> AsyncIterator[Any]:
        for item in items:
            yield item

    @app.get("/{which}")
    async def stream(request: Request, which: str) -> Response:
        items = [*PARTS, Delta("a")] if which == "parts" else [Delta("no"), Delta("a")]
        return generation_stream(hub, request, await generations.start(source(*items, Finish())), DIALECTS[dialect])

    async with serving(app) as port:
        bodies = []
        for which in ("parts", "text"):
            async with await open_stream(port, f"/{which}") as reader:
                await reader.rest()
                bodies.append(without_ids(reader))
        await hub.close()
    assert bodies[0] == bodies[1]


async def test_heartbeats_and_ids_do_not_disturb_the_sdk(sdk: tuple[AsyncOpenAI, dict[str, Any]]) -> None:
    client, script = sdk
    script |= {"items": [*map(Delta, TOKENS), Finish()], "pause": 0.06}
    chunks = await chunks_of(client)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(TOKENS)
    assert script["answer"].hub.stats.heartbeats > 0


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([Delta("안"), RuntimeError("secret")], "the model's stream failed"),
        ([Delta("안")], "without its end marker"),
    ],
)
async def test_an_answer_that_is_not_done_raises_in_the_sdk(
    sdk: tuple[AsyncOpenAI, dict[str, Any]], items: list[Any], why: str
) -> None:
    client, script = sdk
    script["items"] = items
    with pytest.raises(APIError, match=why):
        await chunks_of(client)


async def test_a_stream_that_this_server_cuts_short_raises_in_the_sdk(
    sdk: tuple[AsyncOpenAI, dict[str, Any]],
) -> None:
    client, script = sdk
    script |= {"items": [Delta("안"), Delta("never"), Finish()], "pause": 0.2}
    asked = asyncio.create_task(chunks_of(client))
    while "answer" not in script or not script["answer"].tokens:
        await asyncio.sleep(0.005)
    for reader in list(script["answer"].readers):
        reader.end(LIFETIME)
    with pytest.raises(APIError, match="ended"):
        await asked
