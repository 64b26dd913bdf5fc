"""OpenAI's API in front of the server's providers, read with OpenAI's own SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, NotFoundError, UnprocessableEntityError

from support.reader import ask, open_stream
from support.tokens import demo_token
from support.upstream import Answer, Exchange, Refusal, Upstream, complete, eof

HI: Any = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
async def sdk(port: int) -> AsyncIterator[AsyncOpenAI]:
    """The SDK, unmodified: only its address and its key are ours."""
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=demo_token(), max_retries=0) as client:
        yield client


async def test_a_completion_comes_whole(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("안", "녕"))]
    completion = await sdk.chat.completions.create(model="m-2", messages=HI, max_tokens=7, temperature=0.5)
    (choice,) = completion.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == ("안녕", "assistant", "stop")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (12, 2)
    assert (completion.model, completion.object) == ("m-2", "chat.completion")
    asked = upstream.requests[0].json
    assert (asked["model"], asked["messages"], asked["max_tokens"], asked["temperature"]) == ("m-2", HI, 7, 0.5)


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_completion_comes_as_a_stream(sdk: AsyncOpenAI, upstream: Upstream, include_usage: bool) -> None:
    upstream.scripts = [Answer(("안", "녕"))]
    options: Any = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = await sdk.chat.completions.create(model="m", messages=HI, stream=True, **options)
    chunks = [chunk async for chunk in stream]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "안녕"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
    assert usage.total_tokens == 14
    assert (chunks[-1].choices == []) == include_usage


async def test_the_sdks_own_helper_puts_the_stream_together(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.scripts = [tool_call]
    async with sdk.chat.completions.stream(model="m", messages=HI, tools=[TOOL]) as stream:
        completion = await stream.get_final_completion()
    (call,) = completion.choices[0].message.tool_calls or ()
    assert (call.id, call.function.name, call.function.arguments) == ("c1", "weather", '{"city": "서울"}')
    assert completion.choices[0].finish_reason == "tool_calls"


async def tool_call(exchange: Exchange) -> None:
    deltas: list[Any] = [
        {"role": "assistant", "reasoning_content": "hm"},
        {
            "tool_calls": [
                {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"서울"}'}}]},
    ]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    await exchange.head()
    for choice in [*choices, {"index": 0, "delta": {}, "finish_reason": "tool_calls"}]:
        await exchange.chunk(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
    await exchange.chunk(b"data: [DONE]\n\n")
    await exchange.end()


async def test_tools_and_what_is_more_than_text_go_to_the_model_and_back(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.scripts = [tool_call]
    calls: Any = [{"id": "c0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c0", "content": "7 degrees"},
    ]
    options: Any = {"tool_choice": "auto", "parallel_tool_calls": False, "seed": 7, "extra_body": {"top_k": 3}}
    completion = await sdk.chat.completions.create(model="m", messages=messages, tools=[TOOL], **options)
    message = completion.choices[0].message
    assert (message.content, completion.choices[0].finish_reason) == (None, "tool_calls")
    assert [(c.id, c.function.arguments) for c in message.tool_calls or ()] == [("c1", '{"city": "서울"}')]
    assert message.model_extra == {"reasoning_content": "hm"}
    asked = upstream.requests[0].json
    assert (asked["messages"], asked["tools"]) == (messages, [TOOL])
    assert (asked["tool_choice"], asked["parallel_tool_calls"], asked["seed"], asked["top_k"]) == ("auto", False, 7, 3)


async def test_a_response_format_is_the_models(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    shape: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    await sdk.chat.completions.create(model="m", messages=HI, response_format=shape)
    assert upstream.requests[0].json["response_format"] == shape


async def test_the_models_that_may_be_chosen_are_listed(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    listed = [model async for model in sdk.models.list()]
    assert [(model.id, model.owned_by) for model in listed][:3] == [("m", "up"), ("m-2", "up"), ("demo-1", "demo")]
    assert (await sdk.models.retrieve("m-2")).owned_by == "up"
    for model in listed:
        assert (await sdk.models.retrieve(model.id)).id == model.id
    with pytest.raises(NotFoundError, match="'dear' is not offered here"):
        await sdk.models.retrieve("dear")


async def test_a_model_of_another_provider_is_chosen_by_its_name(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    for model in ("demo-fast", "demo/demo-fast"):
        completion = await sdk.chat.completions.create(model=model, messages=HI)
        assert "demo" in (completion.choices[0].message.content or "")
        assert completion.model == "demo-fast"
    assert not upstream.requests


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"store": True}, "store"),
        ({"model": "demo-fast", "tools": [TOOL]}, "tools"),
        ({"model": "demo-fast", "messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_wrong_request_names_its_parameter_and_asks_no_model(
    sdk: AsyncOpenAI, upstream: Upstream, sent: dict[str, Any], param: str, stream: bool
) -> None:
    with pytest.raises(UnprocessableEntityError) as raised:
        await sdk.chat.completions.create(**{"model": "m", "messages": HI, "stream": stream, **sent})
    assert raised.value.param == param
    assert not upstream.requests


async def test_an_unknown_model_is_not_found(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    with pytest.raises(NotFoundError) as raised:
        await sdk.chat.completions.create(model="dear", messages=HI)
    assert raised.value.param == "model"
    assert not upstream.requests


@pytest.mark.parametrize(
    ("script", "status"),
    [(Refusal(429, b"{}", Retry_After="60"), 429), (Refusal(401, b"{}"), 502), (Answer(("a",), ending=eof), 502)],
)
async def test_a_model_that_fails_is_an_error_with_a_status(
    sdk: AsyncOpenAI, upstream: Upstream, script: Any, status: int
) -> None:
    upstream.scripts = [script]
    with pytest.raises(APIStatusError) as raised:
        await sdk.chat.completions.create(model="m", messages=HI)
    assert raised.value.status_code == status


async def test_a_stream_that_is_cut_raises_and_is_no_end(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("a",), ending=eof)]
    options: Any = {"stream_options": {"include_usage": True}}
    stream = await sdk.chat.completions.create(model="m", messages=HI, stream=True, **options)
    reasons = list[str]()

    async def read() -> None:
        async for chunk in stream:
            reasons.extend(choice.finish_reason for choice in chunk.choices if choice.finish_reason)

    with pytest.raises(APIError, match="before it was finished"):
        await read()
    assert reasons == []


async def test_the_same_key_is_the_same_answer_and_one_call_of_the_model(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    headers = {"Idempotency-Key": "k1"}
    ids = set()
    for stream in (False, False):
        completion = await sdk.chat.completions.create(model="m", messages=HI, stream=stream, extra_headers=headers)
        ids.add(completion.id)
    assert len(ids) == len(upstream.requests) == 1


async def test_the_stream_of_a_completion_is_read_on_where_it_was_cut(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("안", "녕", "!"), ending=complete())]
    body = json.dumps(
        {"model": "m", "messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    ).encode()
    sent = {"Content-Type": "application/json"}
    async with await open_stream(port, "/v1/chat/completions", method="POST", headers=sent, body=body) as stream:
        place = stream.headers["location"]
        whole = await stream.rest()
    assert [event.data for event in whole[-1:]] == ["[DONE]"]
    for cut in range(1, len(whole)):
        again = open_stream(
            port, "/v1/chat/completions", method="POST", headers=sent, body=body, last_event_id=whole[cut - 1].id or ""
        )
        async with await again as stream:
            assert [event.data for event in await stream.rest()] == [event.data for event in whole[cut:]]
    assert (await ask(port, place)).json()["text"] == "안녕!"
    assert len(upstream.requests) == 1
