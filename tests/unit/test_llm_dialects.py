"""Dialects, pure: what each shows of every event of a topic, and what it never shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from yeoul.llm.dialect import GenerationInfo
from yeoul.llm.dialects import DIALECTS
from yeoul.llm.items import Usage
from yeoul.llm.outcome import Outcome, State, outcome_events
from yeoul.llm.rendering import control_encoder, renderer
from yeoul.sse import Decoder, Event
from yeoul.stream import Frame

ABOUT = GenerationInfo("w0rk", "m-1", 1_700_000_000)
DONE = Outcome(State.DONE, "stop", usage=Usage(12, 5))
TROUBLES = [state for state in State if state not in (State.DONE, State.RUNNING)]

every = pytest.mark.parametrize("name", DIALECTS)


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
    assert shown(name, Event("{}", "start")) == []
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
    assert "이유" in events[0].data
    assert events[0].id == ("ep-1" if name == "openai" else "ep-1.end")
    assert [event.data for event in events[1:]] == (["[DONE]"] if name == "openai" else [])
    assert not any(
        "true" in event.data or event.type == "complete" or "finish_reason" in event.data for event in events
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
