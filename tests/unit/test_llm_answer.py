"""An answer as a list of parts: which events an item becomes, and that no cut changes what clients have in the end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.answers import events_of, items, message_in
from yeoul.errors import UpstreamError
from yeoul.llm.answer import Answer
from yeoul.llm.dialect import GenerationInfo
from yeoul.llm.dialects import DIALECTS
from yeoul.llm.items import (
    Delta,
    File,
    Finish,
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
from yeoul.llm.rendering import renderer, snapshot
from yeoul.sse import Decoder, Event, encode
from yeoul.stream import Frame

INFO = GenerationInfo("w0rk", "m", 1_700_000_000)
CALL = ToolCall("c1", "weather")


def shown(*made: Item, done: bool = True) -> list[tuple[str, Any]]:
    """Type and data of each event."""
    events, _ = events_of(made, done=done)
    return [(event.type, json.loads(event.data) if event.data[:1] == "{" else event.data) for event in events]


def begin(index: int, kind: str, **about: Any) -> tuple[str, Any]:
    return "part", {"index": index, "kind": kind, **about}


def end(index: int, kind: str, **about: Any) -> tuple[str, Any]:
    return "part.end", {"index": index, "kind": kind, **about}


STEP = ("step", {"step": 1})
STEP_END = ("step.end", {"step": 1})


def test_pieces_of_one_kind_are_one_part() -> None:
    assert shown(Reasoning("h"), Reasoning("m"), Delta("a"), Delta("b"), Refusal("no")) == [
        STEP,
        begin(0, "reasoning"),
        ("reasoning.0", "h"),
        ("reasoning.0", "m"),
        end(0, "reasoning"),
        begin(1, "text"),
        ("text.1", "a"),
        ("text.1", "b"),
        end(1, "text"),
        begin(2, "refusal"),
        ("refusal.2", "no"),
        end(2, "refusal"),
        STEP_END,
    ]


def test_a_tool_call_comes_in_pieces_and_ends_with_all_its_arguments() -> None:
    about = {"call": 0, "id": "c1", "name": "weather"}
    assert shown(CALL, ToolCall("c1", arguments='{"city"'), ToolCall("c1", arguments=': "서울"}', done=True)) == [
        STEP,
        begin(0, "tool_call", **about),
        ("arguments", {"index": 0, "call": 0, "id": "c1", "arguments": '{"city"'}),
        ("arguments", {"index": 0, "call": 0, "id": "c1", "arguments": ': "서울"}'}),
        end(0, "tool_call", **about, arguments='{"city": "서울"}'),
        STEP_END,
    ]


def test_calls_that_are_written_at_the_same_time_keep_apart() -> None:
    made = [CALL, ToolCall("c2", "search"), ToolCall("c1", arguments="1"), ToolCall("c2", arguments="2")]
    _, states = events_of(made)
    assert [(part.about["call"], part.text) for part in states[-1].parts] == [(0, "1"), (1, "2")]


@pytest.mark.parametrize(
    ("made", "kinds"),
    [
        ([CALL, ToolResult("c1", {"temperature": 7})], ["part", "part.end", "part", "step.end"]),
        ([CALL, Step()], ["part", "part.end", "step.end", "step", "step.end"]),
        ([CALL], ["part", "part.end", "step.end"]),
    ],
)
def test_a_call_ends_with_its_result_its_step_or_the_answer(made: list[Item], kinds: list[str]) -> None:
    assert [kind for kind, _ in shown(*made)][1:] == kinds


def test_an_answer_that_is_not_done_completes_no_tool_call() -> None:
    kinds = [kind for kind, _ in shown(Delta("a"), CALL, ToolCall("c1", arguments='{"ci'), done=False)]
    assert kinds == ["step", "part", "text.0", "part.end", "part", "arguments"]


def test_whole_parts_stand_beside_the_text_and_do_not_cut_it() -> None:
    made = [
        Delta("a"),
        SourceUrl("https://example.com/", "Example"),
        SourceDocument("Report", "application/pdf"),
        File("data:,x", "text/plain"),
        Delta("b"),
    ]
    assert shown(*made) == [
        STEP,
        begin(0, "text"),
        ("text.0", "a"),
        begin(1, "source_url", id="source-1", url="https://example.com/", title="Example"),
        begin(2, "source_document", id="source-2", title="Report", media_type="application/pdf"),
        begin(3, "file", url="data:,x", media_type="text/plain"),
        ("text.0", "b"),
        end(0, "text"),
        STEP_END,
    ]


def test_a_note_with_the_id_of_an_earlier_one_replaces_it() -> None:
    _, states = events_of([Note("plan", {"n": 1}, "p"), Delta("a"), Note("plan", {"n": 2}, "p"), Note("plan", {})])
    parts = [(part.index, part.kind, part.about.get("data")) for part in states[-1].parts]
    assert parts == [(0, "note", {"n": 2}), (1, "text", None), (2, "note", {})]


def test_a_transient_note_is_no_part() -> None:
    events, states = events_of([Note("status", {"stage": "searching"}, transient=True)])
    assert [event.type for event in events] == ["transient"]
    assert states[-1].parts == []
    assert states[-1].compacted() == []


def test_the_usage_of_steps_is_added_up() -> None:
    _, states = events_of([Usage(1, 2), Step(), Usage(3, 4)])
    assert states[-1].usage == Usage(4, 6)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ([ToolCall("c1")], "has no name"),
        ([ToolCall("c1", "f", done=True), ToolCall("c1", arguments="x")], "has ended"),
        ([ToolResult("c1")], "is not known"),
        ([CALL, ToolResult("c1"), ToolResult("c1")], "has a result already"),
    ],
)
def test_an_item_that_cannot_follow_is_refused(made: list[Item], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        events_of(made)


def test_an_invalid_item_is_refused() -> None:
    with pytest.raises(TypeError, match="not Finish"):
        Answer(1_024).events(Finish())


@pytest.mark.parametrize("text", ["x" * 2_000, '"' * 2_000, "\n" * 500, "🍲" * 500, "가" * 700])
def test_no_event_is_longer_than_the_bound(text: str) -> None:
    answer, events = Answer(1_024), list[Event]()

    def take(*made: Item) -> None:
        for item in made:
            events.extend(answer.events(item))
            answer.add(events[len(seen) :])
            seen.extend(events[len(seen) :])

    seen = list[Event]()
    take(Delta(text), Reasoning(text), CALL)
    with pytest.raises(UpstreamError, match="longer than the 1024 bytes"):
        take(*(ToolCall("c1", arguments=text[:100]) for _ in range(20)))
    events += answer.closing(done=True)
    assert max(len(event.data.encode()) for event in events) <= 1_024


# --- properties


@given(items())
def test_indexes_are_dense_and_pieces_belong_to_parts_that_have_begun(made: list[Item]) -> None:
    events, states = events_of(made)
    assert [part.index for part in states[-1].parts] == list(range(len(states[-1].parts)))
    begun = set[int]()
    for event in events:
        if event.type == "part":
            begun.add(json.loads(event.data)["index"])
        elif event.type in ("arguments", "part.end"):
            assert json.loads(event.data)["index"] in begun
        elif "." in event.type and event.type != "step.end":
            assert int(event.type.rpartition(".")[2]) in begun


@given(items(), st.data())
def test_compaction_makes_the_same_parts(made: list[Item], data: st.DataObject) -> None:
    _, states = events_of(made)
    answer = data.draw(st.sampled_from(states))
    again = Answer(65_536)
    again.add(answer.compacted())
    assert [(part.state, part.step, part.ended) for part in again.parts] == [
        (part.state, part.step, part.ended) for part in answer.parts
    ]
    assert [event.type for event in again.closing(done=True)] == [event.type for event in answer.closing(done=True)]


ENDS = [
    Outcome(State.DONE, "stop", usage=Usage(1, 2)),
    Outcome(State.DONE, "length"),
    *(Outcome(state, error="why") for state in State if state not in (State.DONE, State.RUNNING)),
]


@pytest.mark.parametrize("name", DIALECTS)
@given(made=items(), outcome=st.sampled_from(ENDS), announce=st.booleans(), data=st.data())
def test_a_cut_anywhere_and_a_resume_give_the_same_message(
    name: str, made: list[Item], outcome: Outcome, announce: bool, data: st.DataObject
) -> None:
    done = outcome.state is State.DONE
    parts, _ = events_of(made, done=done)
    topic = [Event("{}", "start"), *parts, *outcome_events(outcome)]
    frames = [Frame("ep", offset, offset - 1, event, 0.0) for offset, event in enumerate(topic, 1)]
    render = renderer(DIALECTS[name](INFO), announce=announce)
    whole = [event for frame in frames for event in Decoder().feed(render(frame))]
    cut = data.draw(st.integers(0, len(whole)))
    seen = whole[:cut]
    last = int((seen[-1].id or "").removesuffix(".end").rpartition("-")[2]) if seen else 0
    rest = Decoder().feed(b"".join(render(frame) for frame in frames if frame.offset > last))
    assert message_in(name, [*seen, *rest]) == message_in(name, whole)


@pytest.mark.parametrize("name", DIALECTS)
@given(made=items(), outcome=st.sampled_from(ENDS), data=st.data())
def test_a_snapshot_anywhere_and_what_follows_give_the_same_message(
    name: str, made: list[Item], outcome: Outcome, data: st.DataObject
) -> None:
    # What is replaced or passes is not repeated to a reader that was not there. The AI SDK replaces and passes itself.
    sdk = name.startswith("ai-sdk")
    kept = [item for item in made if sdk or not isinstance(item, Note) or not (item.id or item.transient)]
    parts, states = events_of(kept, done=outcome.state is State.DONE)
    dialect = DIALECTS[name](INFO)
    topic = [Event("{}", "start"), *parts, *outcome_events(outcome)]
    render = renderer(dialect)
    frames = [Frame("ep", offset, offset - 1, event, 0.0) for offset, event in enumerate(topic, 1)]
    cut = data.draw(st.integers(0, len(parts)))
    opening = Decoder().feed(b"".join(encode(Event(text, type)) for type, text in snapshot(dialect, states[cut])))
    rest = Decoder().feed(b"".join(render(frame) for frame in frames if frame.offset > cut + 1))
    assert message_in(name, [*opening, *rest]) == message_in(
        name, [event for frame in frames for event in Decoder().feed(render(frame))]
    )
