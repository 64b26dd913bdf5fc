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
from yeoul.llm.items import Delta, Finish, Usage
from yeoul.llm.openai import HUGGINGFACE_URL, OPENAI_URL, OpenAIChat, OpenAIResponses
from yeoul.llm.provider import Message, Prompt, Schema
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
                    texts += [part.text] if isinstance(part, Delta) else []
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
    prompt = Prompt([], max_tokens=1)
    openai, other = (OpenAIChat(model="m", base_url=url) for url in (OPENAI_URL, HUGGINGFACE_URL))
    assert openai._body(prompt, openai._variant)["max_completion_tokens"] == 1
    assert other._body(prompt, other._variant)["max_tokens"] == 1


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
    "url", ["api.example", "ftp://a", "http://u:pw-1@a/v1", "https://a/v1#pw-1", "http:///v1", "http://a:pw-1", ""]
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


async def test_a_finish_reason_alone_ends_a_chat() -> None:
    texts, end = await outcome(OpenAIChat, Answer(ending=complete(done=False)))
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


# --- failures


@both
async def test_a_clean_end_without_a_marker_is_a_cut(kind: Adapter) -> None:
    texts, end = await outcome(kind, Answer(ending=eof))
    assert texts == list(TOKENS)
    assert isinstance(end, UpstreamCut)
    assert str(end) == "model ended its answer before it was finished"


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
    assert str(end) == "model reported an error in mid-stream"
    assert end.detail == "overloaded, [redacted]"


@both
async def test_a_line_that_is_not_json_is_garbage_and_shown_in_part_to_the_log(kind: Adapter) -> None:
    _, end = await outcome(kind, Answer(ending=garbage))
    assert isinstance(end, UpstreamGarbage)
    assert str(end) == "model sent something that cannot be read"
    assert end.detail == "a line that is not JSON: <html>overloaded</html>"
    _, end = await outcome(kind, Answer(ending=raw(f"data: {KEY} {'x' * 500}\n\n".encode())))
    assert isinstance(end, UpstreamGarbage)
    assert len(end.full) < 250
    assert KEY not in end.full


@both
@pytest.mark.parametrize("data", ["[1]", '"text"', "[" * 5000])
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
            assert KEY not in f"{provider!r} {caught.value!r} {caught.value.full} {caught.value.__cause__!r}"
    assert KEY not in caplog.text


@both
async def test_a_key_in_an_extra_header_is_a_secret_too(kind: Adapter) -> None:
    async def echo(exchange: Exchange) -> None:
        body = json.dumps({"error": exchange.request.headers["api-key"]}).encode()
        await Refusal(401, body)(exchange)

    _, end = await outcome(kind, echo, headers={"api-key": "0123456789abcdef"})
    assert isinstance(end, UpstreamRefused)
    assert end.detail.endswith(
        "/v1/chat/completions: [redacted]" if kind is OpenAIChat else "/v1/responses: [redacted]"
    )


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


# --- an upstream's end is never taken for done without proof


def chunk(content: str | None, reason: Any = None, **delta: Any) -> bytes:
    choice = {
        "index": 0,
        "delta": {**delta, **({} if content is None else {"content": content})},
        "finish_reason": reason,
    }
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


def bare(content: str) -> bytes:
    """A chunk without a member for a reason."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': content}}]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def sent(*pieces: bytes, then: Any = None) -> Script:
    """These bytes as one chunk each, then a clean end of the body, or what `then` does."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for piece in pieces:
            await exchange.chunk(piece)
        await (exchange.end() if then is None else then(exchange))

    return script


async def rst(exchange: Exchange) -> None:
    exchange.cut(rst=True)


async def fin(exchange: Exchange) -> None:
    exchange.cut(rst=False)


async def silence(exchange: Exchange) -> None:
    await exchange.request.closed.wait()


CUT, FAILED, GARBAGE = UpstreamCut, UpstreamError, UpstreamGarbage

ENDS: dict[str, tuple[Script, list[str], type[Exception] | str]] = {
    "null reasons, then [DONE]": (sent(chunk("a"), chunk("b"), DONE), ["a", "b"], CUT),
    "null reasons, then [DONE], and the body is not ended": (sent(chunk("a"), DONE, then=fin), ["a"], CUT),
    "no reasons, then [DONE]": (sent(bare("a"), DONE), ["a"], "stop"),
    "no reasons, then [DONE] and a cut": (sent(bare("a"), DONE, then=fin), ["a"], CUT),
    "no reasons, then [DONE] and a reset": (sent(bare("a"), DONE, then=rst), ["a"], CUT),
    "a reason, then a reset": (sent(chunk("a"), chunk(None, "stop"), then=rst), ["a"], "stop"),
    "a reason, [DONE], then a reset": (sent(chunk("a"), chunk(None, "stop"), DONE, then=rst), ["a"], "stop"),
    "a reason with every chunk, then a reset": (
        sent(chunk("a", "stop"), chunk("b", "stop"), then=rst),
        ["a", "b"],
        CUT,
    ),
    "a reason with every chunk, then [DONE]": (sent(chunk("a", "stop"), chunk("b", "stop"), DONE), ["a", "b"], "stop"),
    "a reason with every chunk, then a clean end": (sent(chunk("a", "stop"), chunk("b", "stop")), ["a", "b"], "stop"),
    'the reason "null" with every chunk, then [DONE]': (sent(chunk("a", "null"), DONE), ["a"], CUT),
    "only [DONE]": (sent(DONE), [], GARBAGE),
    "a shape that is not known, then [DONE]": (sent(b'data: {"token": {"text": "a"}}\n\n', DONE), [], GARBAGE),
    "an event error, then [DONE]": (sent(chunk("a"), b'event: error\ndata: {"message": "x"}\n\n', DONE), ["a"], FAILED),
    "a line error, then [DONE]": (sent(chunk("a"), b'error: {"message": "x"}\n\n', DONE), ["a"], FAILED),
    "a line error, then the end": (sent(chunk("a"), b'error: {"message": "x"}\n'), ["a"], FAILED),
    "a bare error in mid-stream": (sent(chunk("a"), b'{"error": {"message": "x"}}\n'), ["a"], FAILED),
    "a bare error as the body": (sent(b'{"error": {"message": "x"}}'), [], FAILED),
    "a code and a message, then [DONE]": (sent(b'data: {"code": 500, "message": "x"}\n\n', DONE), [], FAILED),
    "a detail, then [DONE]": (sent(chunk("a"), b'data: {"detail": "x"}\n\n', DONE), ["a"], FAILED),
    "the reason error": (sent(chunk("a"), chunk(None, "error"), DONE), ["a"], FAILED),
    "the reason abort": (sent(chunk("a"), chunk(None, "abort"), DONE), ["a"], FAILED),
}


@pytest.mark.parametrize("name", ENDS)
async def test_an_answer_is_done_only_where_the_upstream_proved_it(name: str) -> None:
    script, texts, ended = ENDS[name]
    got, end = await outcome(OpenAIChat, script)
    assert got == texts
    if isinstance(ended, str):
        assert isinstance(end, Finish)
        assert end.reason == ended
    else:
        assert type(end) is ended
    if ended is FAILED:
        assert isinstance(end, UpstreamError)
        assert end.detail.endswith(("x", "'error'", "'abort'"))


async def test_a_reason_with_text_does_not_shorten_the_wait_for_more(monkeypatch: Any) -> None:
    monkeypatch.setattr("yeoul.llm.openai._TRAILER_SECONDS", 0.05)

    async def slowly(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(chunk("a", "stop"))
        await exchange.chunk(chunk("b", "stop"))
        await asyncio.sleep(0.3)  # the pace of the upstream, longer than the wait for a trailer
        await exchange.chunk(chunk("c", "stop"))
        await exchange.chunk(DONE)
        await exchange.end()

    texts, end = await outcome(OpenAIChat, slowly)
    assert texts == ["a", "b", "c"]
    assert end == Finish("stop")


async def test_silence_after_a_provisional_reason_is_a_time_out() -> None:
    script = sent(chunk("a", "stop"), chunk("b", "stop"), then=silence)
    texts, end = await outcome(OpenAIChat, script, timeouts=Timeouts(idle=0.1))
    assert texts == ["a", "b"]
    assert isinstance(end, UpstreamTimeout)


# --- the end of the body

UNTERMINATED: dict[str, tuple[Script, list[str], type[Exception] | str]] = {
    "[DONE] with one line end": (sent(bare("a"), b"data: [DONE]\n"), ["a"], "stop"),
    "[DONE] without a line end": (sent(bare("a"), b"data: [DONE]"), ["a"], "stop"),
    "[DONE] with spaces around": (sent(bare("a"), b"data:  [DONE] \n\n"), ["a"], "stop"),
    "a reason with one line end": (sent(chunk("a"), chunk(None, "stop").rstrip()), ["a"], "stop"),
    "text and a reason without a line end": (sent(chunk("a"), chunk("b", "stop").rstrip()), ["a", "b"], "stop"),
    "a chunk that is not whole": (sent(chunk("a"), chunk("b", "stop")[:-9]), ["a"], CUT),
    "[DONE] without a line end, and a cut": (sent(bare("a"), b"data: [DONE]", then=fin), ["a"], CUT),
    "a reason with one line end, and a cut": (sent(chunk("a"), chunk(None, "stop").rstrip(), then=fin), ["a"], CUT),
}


@pytest.mark.parametrize("name", UNTERMINATED)
async def test_the_last_event_counts_without_its_end_where_the_body_is_whole(name: str) -> None:
    script, texts, ended = UNTERMINATED[name]
    got, end = await outcome(OpenAIChat, script)
    assert got == texts
    if isinstance(ended, str):
        assert isinstance(end, Finish)
        assert end.reason == ended
    else:
        assert type(end) is ended


async def test_garbage_after_the_reason_takes_nothing_back() -> None:
    script = sent(chunk("a"), chunk(None, "stop"), b"data: {oops\n\n", b"data: <html>\n\n", DONE)
    assert await outcome(OpenAIChat, script) == (["a"], Finish("stop"))


# --- labels and whole answers


@both
@pytest.mark.parametrize("label", ["application/json", "text/plain", "application/octet-stream", ""])
async def test_a_stream_is_read_whatever_its_label_says(kind: Adapter, label: str) -> None:
    async def mislabelled(exchange: Exchange) -> None:
        lines = [
            "HTTP/1.1 200 OK",
            "Transfer-Encoding: chunked",
            *([f"Content-Type: {label}"] if label else []),
            "",
            "",
        ]
        await exchange.write("\r\n".join(lines).encode())
        answer = Answer(comments=True)
        await answer.send(exchange, exchange.format.begin())
        for token in TOKENS:
            await answer.send(exchange, exchange.format.token(token))
        await answer.ending(answer, exchange)

    texts, end = await outcome(kind, mislabelled)
    assert texts == list(TOKENS)
    assert isinstance(end, Finish)


@both
@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
async def test_a_whole_answer_to_a_request_for_a_stream_keeps_its_text(kind: Adapter, label: str) -> None:
    async def whole(exchange: Exchange) -> None:
        body = json.dumps(
            exchange.format.whole("all of it", {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5})
        )
        await Refusal(200, body.encode(), label)(exchange)

    texts, end = await outcome(kind, whole)
    assert texts == ["all of it"]
    assert end == Finish("stop", Usage(3, 2))


@both
async def test_a_whole_answer_that_is_cut_is_not_taken_for_one(kind: Adapter) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.head(content_type="application/json")
        await exchange.chunk(b'{"choices": [{"message": {"content": "all')
        await fin(exchange)

    assert isinstance((await outcome(kind, cut))[1], UpstreamCut)


@pytest.mark.parametrize(
    ("body", "failure"),
    [(b'{"error": {"message": "x"}}', UpstreamError), (b'{"a": 1}', UpstreamGarbage), (b'{"a": ', UpstreamGarbage)],
)
async def test_a_document_that_is_no_answer_is_not_taken_for_one(body: bytes, failure: type[Exception]) -> None:
    _, end = await outcome(OpenAIChat, Refusal(200, body))
    assert type(end) is failure


# --- requests that are adapted


def refusing(*fields: str, status: int = 400, says: str = "Unsupported parameter: '{}' is not supported") -> Script:
    """A server that refuses requests with one of these fields, and names the first."""

    async def script(exchange: Exchange) -> None:
        for field in fields:
            if field in exchange.request.json:
                body = json.dumps({"error": {"message": says.format(field), "param": field}})
                await Refusal(status, body.encode())(exchange)
                return
        await Answer()(exchange)

    return script


@pytest.mark.parametrize(
    ("field", "says", "status"),
    [
        ("stream_options", "Unrecognized request argument supplied: {}", 400),
        ("stream_options", "[{{'loc': ['body', '{}'], 'msg': 'Extra inputs are not permitted'}}]", 422),
        ("max_tokens", "Unsupported parameter: '{}' is not supported. Use 'max_completion_tokens' instead.", 400),
        ("temperature", "Unsupported value: '{}' does not support 0.5 with this model.", 400),
    ],
)
async def test_a_field_that_is_refused_by_name_is_left_out_or_renamed_and_remembered(
    field: str, says: str, status: int
) -> None:
    prompt = Prompt(PROMPT.messages, max_tokens=7, temperature=0.5)
    async with (
        Upstream(refusing(field, says=says, status=status)) as upstream,
        adapter(OpenAIChat, upstream) as provider,
    ):
        for _ in range(2):
            assert isinstance((await collect(provider, prompt))[-1], Finish)
        bodies = [request.json for request in upstream.requests]
    assert [field in body for body in bodies] == [True, False, False]
    if field == "max_tokens":
        assert bodies[-1]["max_completion_tokens"] == 7


async def test_several_refused_fields_are_found_one_after_the_other() -> None:
    prompt = Prompt(PROMPT.messages, max_tokens=7, temperature=0.5)
    script = refusing("stream_options", "max_tokens", "temperature")
    async with Upstream(script) as upstream, adapter(OpenAIChat, upstream) as provider:
        assert isinstance((await collect(provider, prompt))[-1], Finish)
        assert isinstance((await collect(provider, prompt))[-1], Finish)
        assert len(upstream.requests) == 5


async def test_a_bound_that_is_refused_for_its_value_is_never_given_up() -> None:
    prompt = Prompt(PROMPT.messages, max_tokens=100_000)
    script = refusing("max_tokens", says="{} is too large: 100000. This model supports at most 4096 tokens.")
    async with Upstream(script) as upstream, adapter(OpenAIChat, upstream) as provider:
        with pytest.raises(UpstreamRefused) as caught:
            await collect(provider, prompt)
        assert len(upstream.requests) == 1
    assert "too large" in caught.value.detail


async def test_a_bound_that_is_refused_under_both_names_is_never_given_up() -> None:
    script = refusing("max_tokens", "max_completion_tokens")
    async with Upstream(script) as upstream, adapter(OpenAIChat, upstream) as provider:
        with pytest.raises(UpstreamRefused):
            await collect(provider, Prompt(PROMPT.messages, max_tokens=7))
        assert len(upstream.requests) == 2


SCHEMA = Schema("thing", {"type": "object", "properties": {}, "required": [], "additionalProperties": False})


def knowing(*formats: str | None, status: int) -> Script:
    """A server that takes these response formats only."""

    async def script(exchange: Exchange) -> None:
        body = exchange.request.json
        form = body.get("response_format") or (body.get("text") or {}).get("format") or {"type": None}
        await (Answer() if form["type"] in formats else Refusal(status, b"no"))(exchange)

    return script


@both
@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize(("known", "requests"), [(("json_schema", None), 1), (("json_object", None), 2), ((None,), 3)])
async def test_a_response_format_that_is_not_known_is_replaced_by_a_weaker_one(
    kind: Adapter, status: int, known: Any, requests: int
) -> None:
    prompt = Prompt(PROMPT.messages, schema=SCHEMA)
    retry = RetryPolicy(attempts=3, base=0)
    async with Upstream(knowing(*known, status=status)) as upstream, adapter(kind, upstream, retry=retry) as provider:
        assert isinstance((await collect(provider, prompt))[-1], Finish)
        assert len(upstream.requests) == requests, "a failed format is not asked for again"
        for _ in range(2):
            await collect(provider, prompt)
        # A 500 may have had another reason: it is believed the second time.
        assert len(upstream.requests) == requests * (2 if status == 500 else 1) + (1 if status == 500 else 2)
        await collect(provider)
        assert "response_format" not in upstream.requests[-1].json


async def test_a_query_in_the_base_url_goes_with_every_request() -> None:
    async with Upstream(Answer()) as upstream:
        url = f"{upstream.base_url}/deployments/a%2Fb/?api-version=2024-10-21&subscription-key=pw-12345"
        headers = {"api-key": "0123456789abcdef"}
        async with adapter(OpenAIChat, upstream, base_url=url, api_key=None, headers=headers) as provider:
            assert isinstance((await collect(provider))[-1], Finish)
            assert "pw-12345" not in repr(provider)
            assert provider._readable("key pw-12345 is wrong", 99) == "key [redacted] is wrong"
        seen = upstream.requests[0]
    query = "api-version=2024-10-21&subscription-key=pw-12345"
    assert seen.path == f"/v1/deployments/a%2Fb/chat/completions?{query}"
    assert seen.headers["api-key"] == "0123456789abcdef"
    assert "authorization" not in seen.headers


async def test_a_server_without_the_responses_api_is_named_as_the_likely_reason() -> None:
    _, end = await outcome(OpenAIResponses, Refusal(404, b'{"detail": "Not Found"}'))
    assert isinstance(end, UpstreamRefused)
    assert "kind `openai-chat`" in end.detail


# --- time


async def test_comments_keep_a_connection_but_not_the_clock_of_tokens() -> None:
    async def pinging(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(chunk("a"))
        while not exchange.request.closed.is_set():
            await exchange.chunk(b": ping\n\n")
            await asyncio.sleep(0.02)  # the pace of the upstream

    times = Timeouts(idle=0.3, comments_count=False)
    texts, end = await outcome(OpenAIChat, pinging, timeouts=times)
    assert texts == ["a"]
    assert isinstance(end, UpstreamTimeout)


@pytest.mark.parametrize(
    "sign", [b": queued\n\n", b'data: {"choices": []}\n\n', b"data: {}\n\n", chunk("", role="assistant")]
)
async def test_the_time_to_the_first_token_has_one_clock_whatever_comes_before_it(sign: bytes) -> None:
    async def queued(exchange: Exchange) -> None:
        await exchange.head()
        while not exchange.request.closed.is_set():
            await exchange.chunk(sign)
            await asyncio.sleep(0.02)  # the pace of the upstream

    times = Timeouts(first_byte=5, first_event=0.3, idle=0.1, comments_count=False)
    began = asyncio.get_running_loop().time()
    _, end = await outcome(OpenAIChat, queued, timeouts=times)
    assert isinstance(end, UpstreamTimeout)
    assert str(end) == "model began no answer within 0.3 s (first-event time-out)"
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_thinking_is_a_sign_of_life() -> None:
    async def thinking(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(8):
            await exchange.chunk(chunk(None, reasoning_content="hm"))
            await asyncio.sleep(0.1)  # the pace of the upstream
        await exchange.chunk(chunk("a"))
        await exchange.chunk(chunk(None, "stop"))
        await exchange.end()

    times = Timeouts(first_event=0.7, idle=0.7, comments_count=False)
    assert await outcome(OpenAIChat, thinking, timeouts=times) == (["a"], Finish("stop"))
