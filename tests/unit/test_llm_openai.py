"""The two OpenAI adapters: what they ask for, how they read what comes, and what they make of failures."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

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
    raw,
    reset,
    stall,
)
from yeoul.client import Timeouts, new_session
from yeoul.errors import UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout
from yeoul.llm.answers import ChatAnswer, ResponsesAnswer
from yeoul.llm.openai import HUGGINGFACE_URL, OPENAI_URL, OpenAIChat, OpenAIResponses
from yeoul.llm.provider import Delta, Finish, Message, Prompt, Usage
from yeoul.stream import RetryPolicy

KEY = "sk-secret-0123456789"
ADAPTERS = [OpenAIChat, OpenAIResponses]
Adapter = type[OpenAIChat] | type[OpenAIResponses]
PROMPT = Prompt([Message("system", "Be brief."), Message("user", "양파?")])
ONCE = RetryPolicy(attempts=1)


@asynccontextmanager
async def adapter(kind: Adapter, upstream: Upstream, **options: Any) -> AsyncIterator[OpenAIChat | OpenAIResponses]:
    options = {"model": "m-1", "api_key": KEY, "retry": ONCE, "base_url": upstream.base_url, "name": "model", **options}
    provider = kind(**options)
    try:
        yield provider
    finally:
        await provider.close()


async def collect(provider: OpenAIChat | OpenAIResponses, prompt: Prompt = PROMPT) -> list[Delta | Finish]:
    return [part async for part in provider.stream(prompt)]


async def outcome(kind: Adapter, script: Script, **options: Any) -> tuple[list[str], Finish | UpstreamError]:
    """The texts, and how it ended."""
    texts: list[str] = []
    end: Finish | None = None
    async with Upstream(script) as upstream, adapter(kind, upstream, **options) as provider:
        try:
            async for part in provider.stream(PROMPT):
                if isinstance(part, Finish):
                    assert end is None
                    end = part
                else:
                    assert end is None
                    texts.append(part.text)
        except UpstreamError as error:
            assert end is None
            return texts, error
    assert end is not None
    return texts, end


def both(test: Callable[..., Any]) -> Any:
    return pytest.mark.parametrize("kind", ADAPTERS)(test)


# --- the request


async def test_chat_asks_for_a_stream_with_usage() -> None:
    async with Upstream(Answer()) as upstream, adapter(OpenAIChat, upstream) as provider:
        await collect(provider)
        seen = upstream.requests[0]
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.json == {
        "model": "m-1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "양파?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_responses_takes_system_messages_for_instructions_and_stores_nothing() -> None:
    prompt = Prompt([Message("system", "Be brief."), Message("system", "In Korean."), Message("user", "hi")])
    async with Upstream(Answer()) as upstream, adapter(OpenAIResponses, upstream) as provider:
        await collect(provider, prompt)
        seen = upstream.requests[0]
    assert (seen.method, seen.path) == ("POST", "/v1/responses")
    assert seen.json == {
        "model": "m-1",
        "instructions": "Be brief.\n\nIn Korean.",
        "input": [{"role": "user", "content": "hi"}],
        "stream": True,
        "store": False,
    }


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        (OpenAIChat, {}, "max_tokens"),
        (OpenAIChat, {"max_tokens_field": "max_completion_tokens"}, "max_completion_tokens"),
        (OpenAIResponses, {}, "max_output_tokens"),
    ],
)
async def test_the_prompt_overrides_the_model_and_bounds_the_answer(kind: Adapter, options: Any, field: str) -> None:
    prompt = Prompt(PROMPT.messages, model="m-2", max_tokens=7, temperature=0)
    async with Upstream(Answer()) as upstream, adapter(kind, upstream, **options) as provider:
        await collect(provider, prompt)
        body = upstream.requests[0].json
    assert (body["model"], body[field], body["temperature"]) == ("m-2", 7, 0)


def test_openai_itself_is_sent_the_new_name_of_max_tokens() -> None:
    assert OpenAIChat(model="m", base_url=OPENAI_URL)._body(Prompt([], max_tokens=1))["max_completion_tokens"] == 1
    assert OpenAIChat(model="m", base_url=HUGGINGFACE_URL)._body(Prompt([], max_tokens=1))["max_tokens"] == 1


async def test_usage_can_be_left_out_for_servers_that_refuse_the_option() -> None:
    async with Upstream(Answer()) as upstream, adapter(OpenAIChat, upstream, include_usage=False) as provider:
        await collect(provider)
        assert "stream_options" not in upstream.requests[0].json


async def test_headers_of_the_caller_go_with_ours_and_replace_those_of_their_name() -> None:
    headers = {"X-Title": "Yeoul", "authorization": "Basic abc123"}
    async with Upstream(Answer()) as upstream, adapter(OpenAIChat, upstream, headers=headers) as provider:
        await collect(provider)
        seen = upstream.requests[0].headers
    assert (seen["x-title"], seen["authorization"]) == ("Yeoul", "Basic abc123")


async def test_without_a_key_no_authorization_is_sent() -> None:
    async with Upstream(Answer()) as upstream, adapter(OpenAIChat, upstream, api_key=None) as provider:
        await collect(provider)
        assert "authorization" not in upstream.requests[0].headers


async def test_a_key_with_a_line_end_is_sent_without_it() -> None:
    async with Upstream(Answer()) as upstream, adapter(OpenAIChat, upstream, api_key=f" {KEY}\n") as provider:
        await collect(provider)
        assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


@both
@pytest.mark.parametrize(
    "url", ["api.example", "ftp://a", "http://u:pw-1@a/v1", "https://a/v1?key=pw-1", "http:///v1", ""]
)
def test_a_base_url_that_cannot_be_one_is_refused_without_showing_it(kind: Adapter, url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as caught:
        kind(model="m", base_url=url)
    assert "pw-1" not in str(caught.value)


@both
@pytest.mark.parametrize("key", ["sk-\n-x1y2", "sk-열쇠", "sk-\0"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(kind: Adapter, key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        kind(model="m", api_key=key)
    assert "sk-" not in str(caught.value)


def test_a_slash_after_the_base_url_is_left_out() -> None:
    assert OpenAIChat(model="m", base_url="http://a:1/v1/").base_url == "http://a:1/v1"


# --- the answer


@both
@pytest.mark.parametrize("split", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_tokens_arrive_as_sent_whatever_the_pieces_and_line_ends(
    kind: Adapter, split: int, line_end: bytes
) -> None:
    texts, end = await outcome(kind, Answer(split=split, line_end=line_end, comments=True))
    assert texts == list(TOKENS)
    assert end == Finish("stop", Usage(INPUT_TOKENS, len(TOKENS)))


@both
async def test_the_first_token_is_there_before_the_second_is_sent(kind: Adapter) -> None:
    go = asyncio.Event()
    async with Upstream(Answer(["a", "b"], hold=(1, go))) as upstream, adapter(kind, upstream) as provider:
        parts = provider.stream(PROMPT)
        assert await anext(parts) == Delta("a")
        go.set()
        assert await anext(parts) == Delta("b")
        assert isinstance(await anext(parts), Finish)
        assert [part async for part in parts] == []


@both
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_the_reason_of_the_end_is_told(kind: Adapter, reason: str) -> None:
    _, end = await outcome(kind, Answer(ending=complete(reason=reason)))
    assert isinstance(end, Finish)
    assert end.reason == reason


@both
async def test_an_answer_without_usage_has_none(kind: Adapter) -> None:
    _, end = await outcome(kind, Answer(ending=complete(usage=False)))
    assert end == Finish("stop", None)


@pytest.mark.parametrize("marker", [{"reason": None}, {"done": False}])
async def test_either_marker_ends_a_chat(marker: Any) -> None:
    texts, end = await outcome(OpenAIChat, Answer(ending=complete(**marker)))
    assert texts == list(TOKENS)
    assert isinstance(end, Finish)
    assert end.reason == "stop"


@pytest.mark.parametrize("after", [reset, cut_in_chunk])
async def test_a_cut_after_the_finish_reason_is_a_finished_answer(after: Any) -> None:
    async def end(answer: Answer, exchange: Exchange) -> None:
        await exchange.chunk(exchange.format.finish("length", None))
        await after(answer, exchange)

    assert (await outcome(OpenAIChat, Answer(ending=end)))[1] == Finish("length")


async def test_silence_after_the_finish_reason_does_not_hold_a_finished_answer(monkeypatch: Any) -> None:
    monkeypatch.setattr("yeoul.llm.openai._TRAILER_SECONDS", 0.05)

    async def end(answer: Answer, exchange: Exchange) -> None:
        await exchange.chunk(exchange.format.finish("stop", None))
        await stall(answer, exchange)

    assert (await outcome(OpenAIChat, Answer(ending=end)))[1] == Finish("stop")


@both
async def test_an_upstream_that_stays_open_after_the_end_marker_is_closed(kind: Adapter, monkeypatch: Any) -> None:
    monkeypatch.setattr("yeoul.llm.openai._DRAIN_SECONDS", 0.05)

    async def end(answer: Answer, exchange: Exchange) -> None:
        await exchange.chunk(exchange.format.finish("stop", None) + exchange.format.done)
        await stall(answer, exchange)

    async with Upstream(Answer(ending=end)) as upstream, adapter(kind, upstream) as provider:
        assert (await collect(provider))[-1] == Finish("stop")
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


@both
async def test_a_connection_is_used_for_one_answer_after_the_other(kind: Adapter) -> None:
    async with Upstream(Answer()) as upstream, adapter(kind, upstream) as provider:
        for _ in range(3):
            await collect(provider)
        assert (len(upstream.requests), upstream.connections) == (3, 1)


CHAT_DATA: list[tuple[str, str]] = [
    ('{"choices": []}', ""),
    ('{"choices": null, "usage": null}', ""),
    ("{}", ""),
    ("", ""),
    ("  ", ""),
    ('{"choices": [{}]}', ""),
    ('{"choices": [{"delta": null, "finish_reason": null}]}', ""),
    ('{"choices": [{"delta": {"role": "assistant", "content": ""}}]}', ""),
    ('{"choices": [{"delta": {"content": null, "tool_calls": []}}]}', ""),
    ('{"choices": [{"delta": {"reasoning_content": "hm"}}]}', ""),
    ('{"choices": [{"delta": {"content": " a", "x": 1}, "y": 2}], "obfuscation": "zz"}', " a"),
    ('{"choices": [{"delta": {"content": "\\ud83c\\udf72"}}], "error": null}', "🍲"),
    ('{"choices": [{"delta": {"refusal": "no"}}]}', "no"),
]


@pytest.mark.parametrize(("data", "text"), CHAT_DATA)
def test_chat_chunks_of_every_kind_are_read(data: str, text: str) -> None:
    answer = ChatAnswer("model", lambda text, limit: text[:limit])
    assert answer.take(data) == text
    assert not answer.over
    assert answer.reason is None


RESPONSES_DATA: list[tuple[str, str]] = [
    ('{"type": "response.created", "response": {"error": null}}', ""),
    ('{"type": "response.output_text.delta", "delta": " a"}', " a"),
    ('{"type": "response.refusal.delta", "delta": "no"}', "no"),
    ('{"type": "response.output_text.delta"}', ""),
    ('{"type": "response.reasoning_text.delta", "delta": "hm"}', ""),
    ('{"type": "response.something.new", "delta": {"a": 1}, "message": 7}', ""),
    ("{}", ""),
]


@pytest.mark.parametrize(("data", "text"), RESPONSES_DATA)
def test_responses_events_of_every_kind_are_read(data: str, text: str) -> None:
    answer = ResponsesAnswer("model", lambda text, limit: text[:limit])
    assert answer.take(data) == text
    assert not answer.over
    assert answer.reason is None


@pytest.mark.parametrize(
    ("data", "end"),
    [
        ('{"type": "response.completed"}', Finish("stop")),
        ('{"type": "response.completed", "response": null}', Finish("stop")),
        ('{"type": "response.incomplete", "response": {"incomplete_details": {"reason": "x"}}}', Finish("x")),
        ('{"type": "response.incomplete", "response": {"incomplete_details": null}}', Finish("incomplete")),
        (
            '{"type": "response.completed", "response": {"usage": {"input_tokens": 3.0, "output_tokens": null}}}',
            Finish("stop", Usage(3, 0)),
        ),
    ],
)
def test_responses_ends_are_read(data: str, end: Finish) -> None:
    answer = ResponsesAnswer("model", lambda text, limit: text[:limit])
    assert answer.take(data) == ""
    assert answer.over
    assert answer.finish() == end
    assert answer.take("anything after the end is not looked at") == ""


def test_done_alone_does_not_end_a_response() -> None:
    answer = ResponsesAnswer("model", lambda text, limit: text[:limit])
    answer.take("[DONE]")
    with pytest.raises(UpstreamCut):
        answer.finish()


# --- failures


@both
async def test_a_clean_end_without_a_marker_is_a_cut(kind: Adapter) -> None:
    texts, end = await outcome(kind, Answer(ending=eof))
    assert texts == list(TOKENS)
    assert isinstance(end, UpstreamCut)
    assert str(end) == "model ended its answer without an end marker: it is incomplete"


@both
@pytest.mark.parametrize("ending", [reset, cut_in_chunk])
async def test_a_lost_connection_is_a_cut_after_the_text_that_came(kind: Adapter, ending: Any) -> None:
    texts, end = await outcome(kind, Answer(ending=ending))
    assert texts == list(TOKENS)
    assert isinstance(end, UpstreamCut)


@both
async def test_silence_is_a_time_out(kind: Adapter) -> None:
    texts, end = await outcome(kind, Answer(ending=stall), timeouts=Timeouts(idle=0.05))
    assert texts == list(TOKENS)
    assert isinstance(end, UpstreamTimeout)


@both
async def test_an_error_in_mid_stream_is_told_with_its_message(kind: Adapter) -> None:
    texts, end = await outcome(kind, Answer(ending=error(f"overloaded, {KEY}")))
    assert texts == list(TOKENS)
    assert type(end) is UpstreamError
    assert str(end) == "model reported an error in mid-stream: overloaded, [redacted]"


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (OpenAIChat, '{"error": "out of memory"}', "out of memory"),
        (OpenAIChat, '{"object": "error", "message": "bad", "code": 400}', "bad"),
        (OpenAIChat, '{"error": {"code": 5}}', "it did not say which"),
        (OpenAIResponses, '{"type": "error", "error": {"message": "bad"}}', "bad"),
        (OpenAIResponses, '{"error": {"message": "bad"}}', "bad"),
        (OpenAIResponses, '{"type": "response.failed", "response": {"error": {"code": "x", "message": "bad"}}}', "bad"),
        (OpenAIResponses, '{"type": "response.failed"}', "it did not say which"),
    ],
)
async def test_errors_of_other_shapes_are_told_too(kind: Adapter, data: str, message: str) -> None:
    _, end = await outcome(kind, Answer(ending=raw(f"data: {data}\n\n".encode())))
    assert type(end) is UpstreamError
    assert str(end).endswith(f": {message}")


@both
async def test_a_line_that_is_not_json_is_garbage_and_shown_in_part(kind: Adapter) -> None:
    _, end = await outcome(kind, Answer(ending=garbage))
    assert isinstance(end, UpstreamGarbage)
    assert str(end) == "model sent a line that is not JSON in mid-stream: <html>overloaded</html>"
    _, end = await outcome(kind, Answer(ending=raw(f"data: {KEY} {'x' * 500}\n\n".encode())))
    assert len(str(end)) < 150
    assert KEY not in str(end)


@both
@pytest.mark.parametrize("data", ["[1]", '"text"', '{"type": 1, "choices": 2}', "[" * 5000])
async def test_json_of_another_shape_is_garbage(kind: Adapter, data: str) -> None:
    _, end = await outcome(kind, Answer(ending=raw(f"data: {data}\n\n".encode())))
    assert isinstance(end, UpstreamGarbage)


@both
async def test_a_key_never_occurs_in_messages_reprs_or_logs(kind: Adapter, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    for script in (echo_key, Answer(ending=error(KEY)), Refusal(200, KEY.encode(), "text/plain"), Answer(ending=reset)):
        async with Upstream(script) as upstream, adapter(kind, upstream) as provider:
            with pytest.raises(UpstreamError) as caught:
                await collect(provider)
            assert KEY not in f"{provider!r} {caught.value!r} {caught.value.__cause__!r}"
    assert KEY not in caplog.text


@both
async def test_a_key_in_an_extra_header_is_a_secret_too(kind: Adapter) -> None:
    async def echo(exchange: Exchange) -> None:
        body = json.dumps({"error": exchange.request.headers["api-key"]}).encode()
        await Refusal(401, body)(exchange)

    _, end = await outcome(kind, echo, headers={"api-key": "0123456789abcdef"})
    assert str(end) == "model answered 401 Unauthorized: [redacted]"


@both
async def test_a_passing_refusal_is_tried_again_with_the_same_body(kind: Adapter) -> None:
    scripts = (Refusal(503), Refusal(429, Retry_After="0"), Answer())
    retry = RetryPolicy(attempts=3, base=0)
    async with Upstream(*scripts) as upstream, adapter(kind, upstream, retry=retry) as provider:
        assert isinstance((await collect(provider))[-1], Finish)
        assert len({request.body for request in upstream.requests}) == 1
        assert len(upstream.requests) == 3


# --- the pool


@both
async def test_the_session_is_made_on_first_use_and_closed_with_the_adapter(kind: Adapter) -> None:
    made: list[Any] = []

    def make_session() -> Any:
        made.append(new_session())
        return made[-1]

    async with Upstream(Answer()) as upstream, adapter(kind, upstream, make_session=make_session) as provider:
        assert not made
        await collect(provider)
        await collect(provider)
        assert len(made) == 1
    assert made[0].closed


@both
async def test_a_closed_adapter_refuses(kind: Adapter) -> None:
    provider = kind(model="m")
    await provider.close()
    await provider.close()
    with pytest.raises(UpstreamRefused, match="closed"):
        await collect(provider)


@both
async def test_closing_the_adapter_ends_what_still_streams(kind: Adapter) -> None:
    async with Upstream(Answer(ending=stall)) as upstream, adapter(kind, upstream) as provider:
        suspended, waiting = provider.stream(PROMPT), provider.stream(PROMPT)
        for _ in TOKENS:
            await anext(suspended)
            await anext(waiting)
        reader = asyncio.ensure_future(anext(waiting))
        await asyncio.sleep(0)
        await provider.close()
        for request in upstream.requests:
            await asyncio.wait_for(request.closed.wait(), 30)
        with pytest.raises(UpstreamCut):
            await asyncio.wait_for(reader, 30)
        with pytest.raises(UpstreamCut):
            await anext(suspended)
