"""Dialects, pure: what each shows of every event of a topic, and what it never shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.answers import events_of
from yeoul.llm.dialect import GenerationInfo
from yeoul.llm.dialects import DIALECTS
from yeoul.llm.items import (
    Delta,
    File,
    Item,
    Note,
    Reasoning,
    Refusal,
    SourceDocument,
    SourceUrl,
    Step,
    ToolCall,
    ToolResult,
    Usage,
)
from yeoul.llm.outcome import Outcome, State, outcome_events
from yeoul.llm.rendering import control_encoder, renderer
from yeoul.sse import Decoder, Event
from yeoul.stream import Frame

ABOUT = GenerationInfo("w0rk", "m-1", 1_700_000_000)
DONE = Outcome(State.DONE, "stop", usage=Usage(12, 5))
TROUBLES = [state for state in State if state not in (State.DONE, State.RUNNING)]

every = pytest.mark.parametrize("name", DIALECTS)
AI_SDK = ("ai-sdk", "ai-sdk-6", "ai-sdk-5")
MARKED = ("openai", *AI_SDK)  # those that end with a marker whatever the outcome was


def shown(name: str, *events: Event, prefix: str = "", announce: bool = False) -> list[Event]:
    """The events of a topic, from offset 1 on, as this dialect has them on the wire."""
    render = renderer(DIALECTS[name](ABOUT), prefix, announce=announce)
    frames = [Frame("ep", offset, offset - 1, event, 0.0) for offset, event in enumerate(events, 1)]
    return Decoder().feed(b"".join(map(render, frames)))


@every
def test_each_event_keeps_its_position_and_the_works_name(name: str) -> None:
    events = shown(
        name, Event("{}", "start"), Event("a", "text.0"), Event("b", "text.0"), prefix="w0rk.", announce=True
    )
    assert [event.id for event in events] == ["w0rk.ep-1", "w0rk.ep-2", "w0rk.ep-3"]


@every
def test_the_start_is_shown_only_where_it_is_announced(name: str) -> None:
    assert len(shown(name, Event("{}", "start"))) == (name in AI_SDK)
    assert len(shown(name, Event("{}", "start"), announce=True)) == 1


@every
@pytest.mark.parametrize("text", ["안녕", "\u2028\u2029\x85", '"\\\n', " ", "👩‍🍳", "data: x", "\ufeff"])
def test_a_token_comes_back_as_it_was(name: str, text: str) -> None:
    (event,) = shown(name, Event(text, "text.0"))
    read: Any = {
        "plain": lambda data: data,
        "json": lambda data: json.loads(data)["content"],
        "envelope": lambda data: json.loads(data)["data"]["token"],
        "openai": lambda data: json.loads(data)["choices"][0]["delta"]["content"],
        **dict.fromkeys(AI_SDK, lambda data: json.loads(data)["delta"]),
    }[name]
    assert read(event.data) == text
    if name != "plain":
        assert len(event.data.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "types", "data"),
    [
        ("plain", ["message"], ["[DONE]"]),
        ("json", ["message"], ['{"done": true}']),
        ("envelope", ["complete"], ['{"status": 200, "message": "생성 완료", "data": null}']),
    ],
)
def test_done_is_one_event_at_the_very_end(name: str, types: list[str], data: list[str]) -> None:
    events = shown(name, *outcome_events(DONE))
    assert [event.type for event in events] == types
    assert [event.data for event in events] == data
    assert events[0].id == "ep-2.end"


def test_openai_is_done_with_a_reason_then_its_marker() -> None:
    chunk, marker = shown("openai", *outcome_events(DONE))
    assert json.loads(chunk.data) == {
        "id": "chatcmpl-w0rk",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "m-1",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
    }
    assert marker.data == "[DONE]"


def test_openai_says_stop_where_no_reason_is_known_and_no_usage_where_none_is() -> None:
    chunk, _ = shown("openai", *outcome_events(Outcome(State.DONE)))
    assert json.loads(chunk.data)["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in json.loads(chunk.data)


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", "new"])
@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("plain", [("finish", '{"reason": "REASON"}'), ("message", "[DONE]")]),
        ("json", [("message", '{"done": true, "reason": "REASON"}')]),
        (
            "envelope",
            [("complete", '{"status": 200, "message": "생성 완료", "data": null, "reason": "REASON"}')],
        ),
    ],
)
def test_an_answer_that_is_done_but_not_whole_says_so_beside_the_contracts_members(
    name: str, reason: str, events: list[tuple[str, str]]
) -> None:
    seen = [(event.type, event.data) for event in shown(name, *outcome_events(Outcome(State.DONE, reason)))]
    assert seen == [(type, data.replace("REASON", reason)) for type, data in events]
    assert not Outcome(State.DONE, reason).whole


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("plain", {"kind": "rate_limited", "retryable": True, "retry_after": 7.0}),
        ("json", {"kind": "rate_limited", "retryable": True, "retry_after": 7.0}),
        ("envelope", {"retryable": True}),
        ("openai", {"code": "rate_limited", "retryable": True, "retry_after": 7.0}),
    ],
)
def test_a_failure_says_whether_trying_again_helps(name: str, members: dict[str, Any]) -> None:
    failed = Outcome(State.FAILED, error="no", kind="rate_limited", retryable=True, retry_after=7.0)
    (event, *_) = shown(name, *outcome_events(failed))
    said = json.loads(event.data)
    said = said["error"] if name == "openai" else said
    assert said == {**said, **members}
    (event, *_) = shown(name, *outcome_events(Outcome(State.CANCELLED, error="stopped")))
    said = json.loads(event.data)
    said = said["error"] if name == "openai" else said
    assert not said.get("retryable")


@every
@pytest.mark.parametrize("state", TROUBLES)
def test_trouble_is_told_with_its_reason_and_is_never_done(name: str, state: State) -> None:
    events = shown(name, *outcome_events(Outcome(state, error="why: 이유\u2028")))
    # Two versions of the AI SDK know no reason of an abort.
    assert ("이유" in events[0].data) == (state is not State.CANCELLED or name not in ("ai-sdk-6", "ai-sdk-5"))
    assert events[0].id == ("ep-1" if name in MARKED else "ep-1.end")
    assert [event.data for event in events[1:]] == (["[DONE]"] if name in MARKED else [])
    assert not any(
        "true" in event.data or event.type == "complete" or "finish_reason" in event.data or '"finish"' in event.data
        for event in events
    )


@every
def test_no_event_is_named_error_but_where_a_contract_says_so(name: str) -> None:
    events = shown(name, Event("a", "text.0"), *outcome_events(Outcome(State.FAILED, error="no")))
    assert ("error" in {event.type for event in events}) == (name == "envelope")


@every
def test_an_event_of_another_kind_is_not_shown(name: str) -> None:
    assert shown(name, Event("x", "something")) == []


def control(name: str, event: Event) -> list[Event]:
    return Decoder().feed(control_encoder(DIALECTS[name](ABOUT))(event))


@pytest.mark.parametrize("name", ["plain", "json", "envelope"])
def test_events_about_the_stream_are_shown_as_they_are(name: str) -> None:
    event = Event('{"reason": "drain"}', "stream.bye", "ep-7", 1_500)
    (seen,) = control(name, event)
    assert (seen.type, seen.data, seen.id) == ("stream.bye", event.data, "ep-7")


@pytest.mark.parametrize("type", ["stream.gap", "stream.bye"])
def test_openai_tells_of_trouble_with_the_stream_as_an_error_at_that_position(type: str) -> None:
    (seen,) = control("openai", Event("{}", type, "ep-7", 1_500))
    assert (seen.type, seen.id) == ("message", "ep-7")
    assert json.loads(seen.data)["error"]["type"] == "incomplete"


def test_openai_shows_no_other_event_about_the_stream() -> None:
    assert control("openai", Event("{}", "stream.hello", "ep-7")) == []


def test_openai_shows_opening_events_as_they_are() -> None:
    (seen,) = control("openai", Event("{}", "message", "ep-7"))
    assert (seen.type, seen.data) == ("message", "{}")


@pytest.mark.parametrize("outcome", [DONE, Outcome(State.CANCELLED, error="stopped"), Outcome(State.DONE, "length")])
def test_how_it_ended_is_in_each_of_the_last_events(outcome: Outcome) -> None:
    finish, end, last = outcome_events(outcome)
    assert (finish.type, end.type, last.type) == ("finish", "end", "last")
    assert finish.data == end.data == last.data
    assert json.loads(finish.data)["state"] == outcome.state


# --- the AI SDK


@pytest.mark.parametrize(
    ("name", "reason", "chunk"),
    [
        ("ai-sdk", "stop", {"type": "finish", "finishReason": "stop"}),
        ("ai-sdk", None, {"type": "finish", "finishReason": "stop"}),
        ("ai-sdk", "content_filter", {"type": "finish", "finishReason": "content-filter"}),
        ("ai-sdk-6", "tool_calls", {"type": "finish", "finishReason": "tool-calls"}),
        ("ai-sdk-6", "new", {"type": "finish", "finishReason": "other"}),
        ("ai-sdk-5", "length", {"type": "finish"}),
    ],
)
def test_the_ai_sdk_is_done_with_the_reason_that_its_version_knows(
    name: str, reason: str | None, chunk: dict[str, Any]
) -> None:
    finish, marker = shown(name, *outcome_events(Outcome(State.DONE, reason)))
    assert json.loads(finish.data) == chunk
    assert (marker.data, marker.id) == ("[DONE]", "ep-2.end")


@pytest.mark.parametrize(
    ("name", "state", "chunk"),
    [
        ("ai-sdk", State.CANCELLED, {"type": "abort", "reason": "why"}),
        ("ai-sdk-6", State.CANCELLED, {"type": "abort"}),
        ("ai-sdk-5", State.CANCELLED, {"type": "abort"}),
        ("ai-sdk", State.FAILED, {"type": "error", "errorText": "why"}),
        ("ai-sdk", State.INTERRUPTED, {"type": "error", "errorText": "why"}),
        ("ai-sdk-5", State.INCOMPLETE, {"type": "error", "errorText": "why"}),
    ],
)
def test_the_ai_sdk_is_told_how_an_answer_that_is_not_done_ended(name: str, state: State, chunk: Any) -> None:
    events = shown(name, *outcome_events(Outcome(state, error="why")))
    assert [json.loads(event.data) for event in events[:-1]] == [chunk]
    assert events[-1].data == "[DONE]"


def test_the_ai_sdk_is_shown_every_part() -> None:
    made: list[Item] = [
        Note("plan", {"n": 1}, "p"),
        Note("status", {"n": 2}, transient=True),
        Reasoning("hm"),
        Delta("a"),
        ToolCall("c1", "weather", '{"city": "서울"}'),
        ToolResult("c1", {"degrees": 7}),
        ToolCall("c2", "weather", '{"ci', done=True),
        ToolResult("c2", error="what city?"),
        ToolCall("c3", "now", done=True),
        Step(),
        SourceUrl("https://example.com/", "Example"),
        SourceDocument("Report", "application/pdf"),
        File("data:,x", "text/plain"),
        Refusal("no"),
    ]
    events, _ = events_of(made)
    chunks = [json.loads(event.data) for event in shown("ai-sdk", Event("{}", "start"), *events)]
    call = {"toolCallId": "c1", "toolName": "weather"}
    failed = {"toolCallId": "c2", "toolName": "weather"}
    assert chunks == [
        {"type": "start", "messageId": "w0rk"},
        {"type": "data-plan", "id": "p", "data": {"n": 1}},
        {"type": "data-status", "data": {"n": 2}, "transient": True},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "1"},
        {"type": "reasoning-delta", "id": "1", "delta": "hm"},
        {"type": "reasoning-end", "id": "1"},
        {"type": "text-start", "id": "2"},
        {"type": "text-delta", "id": "2", "delta": "a"},
        {"type": "text-end", "id": "2"},
        {"type": "tool-input-start", **call},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"city": "서울"}'},
        {"type": "tool-input-available", **call, "input": {"city": "서울"}},
        {"type": "tool-output-available", "toolCallId": "c1", "output": {"degrees": 7}},
        {"type": "tool-input-start", **failed},
        {"type": "tool-input-delta", "toolCallId": "c2", "inputTextDelta": '{"ci'},
        {
            "type": "tool-input-error",
            **failed,
            "input": '{"ci',
            "errorText": "the arguments of this tool call are not valid JSON",
        },
        {"type": "tool-output-error", "toolCallId": "c2", "errorText": "what city?"},
        {"type": "tool-input-start", "toolCallId": "c3", "toolName": "now"},
        {"type": "tool-input-available", "toolCallId": "c3", "toolName": "now", "input": {}},
        {"type": "finish-step"},
        {"type": "start-step"},
        {"type": "source-url", "sourceId": "source-8", "url": "https://example.com/", "title": "Example"},
        {"type": "source-document", "sourceId": "source-9", "mediaType": "application/pdf", "title": "Report"},
        {"type": "file", "url": "data:,x", "mediaType": "text/plain"},
        {"type": "text-start", "id": "11"},
        {"type": "text-delta", "id": "11", "delta": "no"},
        {"type": "text-end", "id": "11"},
        {"type": "finish-step"},
    ]


@pytest.mark.parametrize("arguments", ["NaN", '{"a": Infinity}', "[" * 100_000, "{'a': 1}"])
def test_the_ai_sdk_is_given_no_arguments_that_it_could_not_read(arguments: str) -> None:
    (event,) = shown(
        "ai-sdk",
        Event(
            json.dumps({"index": 0, "kind": "tool_call", "call": 0, "id": "c", "name": "f", "arguments": arguments}),
            "part.end",
        ),
    )
    assert json.loads(event.data)["type"] == "tool-input-error"


def test_the_message_has_the_id_that_the_app_gives_it() -> None:
    render = renderer(DIALECTS["ai-sdk"](GenerationInfo("w0rk", "m", 0, "msg-1")))
    (event,) = Decoder().feed(render(Frame("ep", 1, 0, Event("{}", "start"), 0.0)))
    assert json.loads(event.data) == {"type": "start", "messageId": "msg-1"}
