"""The scripted upstream against the official SDK: what it is taken for, and that the SDK and our adapters agree on it.

Without this, our adapters would only be shown to understand a server that the same hands wrote.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from support.formats import INPUT_TOKENS
from support.upstream import (
    TOKENS,
    Answer,
    Exchange,
    Refusal,
    Script,
    Upstream,
    complete,
    cut_in_chunk,
    echo_key,
    eof,
    error,
    garbage,
    reset,
    stall,
)
from yeoul.client import Timeouts
from yeoul.errors import UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout
from yeoul.llm.items import Delta, Finish
from yeoul.llm.openai import OpenAIChat, OpenAIResponses
from yeoul.llm.provider import Message, Prompt
from yeoul.stream import RetryPolicy

KEY = "sk-contract-0123456789"
APIS = ["chat", "responses"]


@dataclass
class Read:
    """What one client made of one answer."""

    texts: list[str]
    reason: str | None = None
    usage: tuple[int, int] | None = None
    failure: Exception | None = None


@asynccontextmanager
async def sdk(upstream: Upstream, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key=KEY, max_retries=0, **options) as client:
        yield client


async def read_with_sdk(api: str, script: Script, **options: Any) -> Read:
    read = Read([])
    async with Upstream(script) as upstream, sdk(upstream, **options) as client:
        try:
            await (_sdk_chat if api == "chat" else _sdk_responses)(client, read)
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            read.failure = error
    return read


async def _sdk_chat(client: openai.AsyncOpenAI, read: Read) -> None:
    async with await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
    ) as stream:
        async for chunk in stream:
            if hasattr(chunk.usage, "prompt_tokens"):  # the SDK does not check what it parses
                read.usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            if chunk.choices and chunk.choices[0].delta.content:
                read.texts.append(chunk.choices[0].delta.content)
            if chunk.choices:
                read.reason = chunk.choices[0].finish_reason or read.reason


async def _sdk_responses(client: openai.AsyncOpenAI, read: Read) -> None:
    async with await client.responses.create(model="m", input="hi", stream=True) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                read.texts.append(event.delta)
            elif event.type in ("response.completed", "response.incomplete"):
                read.reason = event.type
                usage = event.response.usage
                read.usage = (usage.input_tokens, usage.output_tokens) if usage else None
            elif event.type == "error":
                read.failure = openai.OpenAIError(event.message)


async def read_with_ours(api: str, script: Script, **options: Any) -> Read:
    read = Read([])
    kind = OpenAIChat if api == "chat" else OpenAIResponses
    async with Upstream(script) as upstream:
        provider = kind(model="m", base_url=upstream.base_url, api_key=KEY, retry=RetryPolicy(attempts=1), **options)
        try:
            async for part in provider.stream(Prompt([Message("user", "hi")])):
                if isinstance(part, Finish):
                    read.reason = part.reason
                    read.usage = part.usage and (part.usage.input_tokens, part.usage.output_tokens)
                else:
                    read.texts += [part.text] if isinstance(part, Delta) else []
        except UpstreamError as error:
            read.failure = error
        finally:
            await provider.close()
    return read


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "script",
    [
        Answer(),
        Answer(split=1),
        Answer(split=5, line_end=b"\r\n"),
        Answer(ending=complete(usage=False)),
        Answer(["a"], ending=complete(reason="length")),
    ],
)
async def test_both_read_the_same_answer(api: str, script: Answer) -> None:
    theirs, ours = await read_with_sdk(api, script), await read_with_ours(api, script)
    assert theirs.failure is None
    assert ours.failure is None
    assert theirs.texts == ours.texts == list(script.tokens)
    assert theirs.usage == ours.usage


@pytest.mark.parametrize(
    ("api", "reason", "theirs"),
    [
        ("chat", "stop", "stop"),
        ("chat", "length", "length"),
        ("chat", "content_filter", "content_filter"),
        ("responses", "stop", "response.completed"),
        ("responses", "length", "response.incomplete"),
        ("responses", "content_filter", "response.incomplete"),
    ],
)
async def test_both_read_the_same_reason_of_the_end(api: str, reason: str, theirs: str) -> None:
    script = Answer(ending=complete(reason=reason))
    assert (await read_with_sdk(api, script)).reason == theirs
    ours = await read_with_ours(api, script)
    assert ours.reason == reason
    assert ours.usage == (INPUT_TOKENS, len(TOKENS))


@pytest.mark.parametrize("api", APIS)
async def test_the_sdk_reads_the_whole_answer_too(api: str) -> None:
    async with Upstream(Answer()) as upstream, sdk(upstream) as client:
        if api == "chat":
            answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            text = answer.choices[0].message.content
        else:
            text = (await client.responses.create(model="m", input="hi")).output_text
    assert text == "".join(TOKENS)


REFUSALS: list[tuple[Script, type[Exception], int]] = [
    (echo_key, openai.AuthenticationError, 401),
    (Refusal(404, b'{"error": {"message": "no such model"}}'), openai.NotFoundError, 404),
    (Refusal(429, b'{"error": {"message": "slow down"}}', Retry_After="7"), openai.RateLimitError, 429),
    (Refusal(500, b"<html><title>Oops</title></html>", "text/html"), openai.InternalServerError, 500),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("script", "error", "status"), REFUSALS)
async def test_both_report_a_refusal_with_its_status(
    api: str, script: Script, error: type[Exception], status: int
) -> None:
    theirs, ours = await read_with_sdk(api, script), await read_with_ours(api, script)
    assert isinstance(theirs.failure, error)
    assert isinstance(ours.failure, UpstreamRefused)
    assert ours.failure.status == status


FAILURES: list[tuple[Any, type[Exception], type[Exception]]] = [
    (error("overloaded"), openai.OpenAIError, UpstreamError),
    (reset, openai.APIConnectionError, UpstreamCut),
    (cut_in_chunk, openai.APIConnectionError, UpstreamCut),
    (garbage, json.JSONDecodeError, UpstreamGarbage),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("ending", "theirs", "ours"), FAILURES)
async def test_both_report_a_failure_in_mid_stream_after_the_same_text(
    api: str, ending: Any, theirs: type[Exception], ours: type[Exception]
) -> None:
    script = Answer(ending=ending)
    with_sdk, with_ours = await read_with_sdk(api, script), await read_with_ours(api, script)
    assert isinstance(with_sdk.failure, theirs)
    assert isinstance(with_ours.failure, ours)
    assert with_sdk.texts == with_ours.texts == list(TOKENS)


@pytest.mark.parametrize("api", APIS)
async def test_both_report_the_message_of_an_error_in_mid_stream(api: str) -> None:
    script = Answer(ending=error("overloaded"))
    theirs, ours = await read_with_sdk(api, script), await read_with_ours(api, script)
    assert "overloaded" in str(theirs.failure)
    assert isinstance(ours.failure, UpstreamError)
    assert ours.failure.detail == "overloaded"


@pytest.mark.parametrize("api", APIS)
async def test_both_report_silence(api: str) -> None:
    script = Answer(ending=stall)
    assert isinstance((await read_with_sdk(api, script, timeout=0.1)).failure, openai.APITimeoutError)
    ours = await read_with_ours(api, script, timeouts=Timeouts(idle=0.1))
    assert isinstance(ours.failure, UpstreamTimeout)


@pytest.mark.parametrize("api", APIS)
async def test_only_ours_reports_a_clean_end_without_a_marker(api: str) -> None:
    script = Answer(ending=eof)
    theirs, ours = await read_with_sdk(api, script), await read_with_ours(api, script)
    assert (theirs.failure, theirs.reason) == (None, None)  # taken for an answer that is complete
    assert isinstance(ours.failure, UpstreamCut)


# --- what the SDK reads on through, an answer here must not be lost over


def _chunk(delta: str, rest: str = "") -> bytes:
    return f'data: {{"id": "x", "choices": [{{"index": 0, "delta": {delta}{rest}}}]}}\n\n'.encode()


_LAST = _chunk("{}", ', "finish_reason": "stop"') + b"data: [DONE]\n\n"

ODD: dict[str, bytes] = {
    "NaN in logprobs": _chunk(
        '{"content": "a"}', ', "logprobs": {"content": [{"logprob": NaN}]}, "finish_reason": null'
    ),
    "false for no reason": _chunk('{"content": "a"}', ', "finish_reason": false'),
    "false for no refusal": _chunk('{"content": "a", "refusal": false}', ', "finish_reason": null'),
    "a list for no usage": b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": []}\n\n',
    "members of the server's own": _chunk('{"content": "a", "x": {"y": [1]}}', ', "z": 7'),
    "half a character in each chunk": _chunk('{"content": "A\\ud83d"}') + _chunk('{"content": "\\ude00B"}'),
    "thoughts beside the text": _chunk('{"content": null, "reasoning_content": "hm"}') + _chunk('{"content": "a"}'),
    "comments and an event of another kind": b": ping\n\n" + _chunk('{"content": "a"}') + b": ping\n\n",
    "no end of the last event": _chunk('{"content": "a"}'),
}


@pytest.mark.parametrize("name", ODD)
async def test_both_read_on_through_odd_fields(name: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(ODD[name])
        await exchange.chunk(_LAST.rstrip() if name == "no end of the last event" else _LAST)
        await exchange.end()

    theirs, ours = await read_with_sdk("chat", script), await read_with_ours("chat", script)
    assert theirs.failure is None
    assert ours.failure is None
    # JSON can name halves of characters; the SDK hands them on, and together they are one.
    joined = "".join(theirs.texts).encode("utf-16", "surrogatepass").decode("utf-16")
    assert "".join(ours.texts) == joined
    assert ours.reason == "stop"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_chunk('{"content": "a"}', ', "finish_reason": null') + b"data: [DONE]\n\n", None),
        (_chunk('{"content": "a"}', ', "finish_reason": "abort"') + b"data: [DONE]\n\n", "abort"),
        (b"data: [DONE]\n\n", None),
    ],
)
async def test_only_ours_reports_a_missing_end(body: bytes, reason: str | None) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(body)
        await exchange.end()

    theirs, ours = await read_with_sdk("chat", script), await read_with_ours("chat", script)
    assert (theirs.failure, theirs.reason) == (None, reason)  # taken for an answer that is complete
    assert isinstance(ours.failure, UpstreamError)


async def test_both_ask_for_the_next_answer_where_a_pooled_connection_was_closed() -> None:
    async def close(exchange: Exchange) -> None:
        exchange.cut(rst=False)

    async with Upstream(Answer(), close, Answer()) as upstream:
        provider = OpenAIChat(model="m", base_url=upstream.base_url, retry=RetryPolicy(attempts=1))
        for _ in range(2):
            assert isinstance([item async for item in provider.stream(Prompt([Message("user", "hi")]))][-1], Finish)
        await provider.close()
        assert len(upstream.requests) == 3
    async with Upstream(Answer(), close, Answer()) as upstream:
        async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key=KEY) as client:
            for _ in range(2):
                read = Read([])
                await _sdk_chat(client, read)
                assert read.texts
        assert len(upstream.requests) == 3
