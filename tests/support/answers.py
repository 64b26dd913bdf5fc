"""Answers of every shape, and what clients make of them in each dialect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from yeoul.llm.answer import Answer
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
from yeoul.sse import Event

__all__ = ["events_of", "items", "message_in"]

# Without CR, which arrives as LF in the dialect `plain`: a CR and an LF are two line breaks in two events, one in one.
_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\r")
_TEXTS = st.text(_CHARACTERS, min_size=1, max_size=6) | st.just("[DONE]")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=3,
)
_OBJECTS = st.dictionaries(_TEXTS, _JSON, max_size=2)


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """A valid sequence of items, without the `Finish`."""
    made, calls, ended, results = list[Item](), list[str](), set[str](), set[str]()
    for kind in draw(st.lists(st.sampled_from(sorted(_MAKERS)), max_size=14)):
        open_calls = [call for call in calls if call not in ended]
        waiting = [call for call in calls if call not in results]
        if kind == "call":
            id = f"call-{len(calls)}"
            calls.append(id)
            made.append(ToolCall(id, draw(st.sampled_from(["weather", "search"])), draw(st.sampled_from(["", "{"]))))
        elif kind == "arguments" and open_calls:
            call = draw(st.sampled_from(open_calls))
            made.append(ToolCall(call, arguments=draw(_TEXTS), done=draw(st.booleans())))
            ended |= {call} if made[-1].done else set()
        elif kind == "result" and waiting:
            call = draw(st.sampled_from(waiting))
            made.append(ToolResult(call, draw(_JSON)) if draw(st.booleans()) else ToolResult(call, error=draw(_TEXTS)))
            results.add(call)
            ended.add(call)
        elif kind == "step":
            made.append(Step())
            ended |= set(calls)
        elif (strategy := _MAKERS[kind]) is not None:
            made.append(draw(strategy))
    return made


_MAKERS: dict[str, st.SearchStrategy[Item] | None] = {
    "text": st.builds(Delta, _TEXTS),
    "more text": st.builds(Delta, _TEXTS),
    "reasoning": st.builds(Reasoning, _TEXTS),
    "refusal": st.builds(Refusal, _TEXTS),
    "source": st.builds(SourceUrl, _TEXTS, st.none() | _TEXTS),
    "document": st.builds(SourceDocument, _TEXTS, filename=st.none() | _TEXTS),
    "file": st.builds(File, st.just("data:image/png;base64,AA=="), st.just("image/png")),
    "note": st.builds(
        Note, st.sampled_from(["status", "plan"]), _OBJECTS, st.none() | st.sampled_from("xy"), st.booleans()
    ),
    "usage": st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
    "call": None,
    "arguments": None,
    "result": None,
    "step": None,
}


def events_of(made: Iterable[Item], *, done: bool = True, longest: int = 16_384) -> tuple[list[Event], list[Answer]]:
    """The topic's events between `start` and `finish`, and the answer after each number of them."""
    events, states = list[Event](), [Answer(longest * 4)]
    answer = Answer(longest * 4)
    for item in made:
        events += _taken(answer, answer.events(item))
    events += answer.closing(done=done)
    for end in range(1, len(events) + 1):
        states.append(Answer(longest * 4))
        states[-1].add(events[:end])
    return events, states


def _taken(answer: Answer, events: list[Event]) -> list[Event]:
    answer.add(events)
    return events


def message_in(dialect: str, events: Sequence[Event]) -> Any:
    """What a client of this dialect has after these events of the wire."""
    return _CLIENTS[dialect](events)


def _plain(events: Sequence[Event]) -> Any:
    text = "".join(event.data for event in events if event.type == "message" and event.data != "[DONE]")
    return text, [(event.type, event.data) for event in events if event.type != "message"]


def _json(events: Sequence[Event]) -> Any:
    said = [json.loads(event.data) for event in events if event.type == "message"]
    text = "".join(entry.get("content", "") for entry in said)
    return text, [entry for entry in said if "content" not in entry], _named(events)


def _envelope(events: Sequence[Event]) -> Any:
    text = "".join(json.loads(event.data)["data"]["token"] for event in events if event.type == "token")
    return text, _named([event for event in events if event.type != "token"])


def _named(events: Sequence[Event]) -> Any:
    return [(event.type, json.loads(event.data)) for event in events if event.type != "message"]


def _openai(events: Sequence[Event]) -> Any:
    """As OpenAI's SDKs put a message together."""
    message: dict[str, Any] = {}
    ends = list[Any]()
    for event in events:
        if event.data == "[DONE]":
            ends.append("[DONE]")
            continue
        chunk = json.loads(event.data)
        if "error" in chunk:
            ends.append(chunk["error"])
            continue
        (choice,) = chunk["choices"]
        for name, value in choice["delta"].items():
            if name != "tool_calls":
                message[name] = message.get(name, "") + value if name != "role" else value
        for call in choice["delta"].get("tool_calls", ()):
            calls = message.setdefault("tool_calls", [])
            if call["index"] == len(calls):
                calls.append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
            calls[call["index"]]["arguments"] += call["function"]["arguments"]
        ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    return message, ends


def _ai_sdk(events: Sequence[Event]) -> Any:
    """As the AI SDK puts a message together; raises where it would."""
    message: dict[str, Any] = {"parts": []}
    parts, open_flows, calls, ends = message["parts"], {}, {}, list[Any]()
    for event in events:
        if event.data == "[DONE]":
            ends.append("[DONE]")
            continue
        assert event.type == "message"
        chunk = json.loads(event.data)
        match chunk.pop("type"):
            case "start":
                assert not parts
                message["id"] = chunk["messageId"]
            case "start-step":
                parts.append({"type": "step-start"})
            case "finish-step":
                assert not open_flows
            case "text-start" | "reasoning-start" as kind:
                open_flows[kind.removesuffix("-start"), chunk["id"]] = part = {"type": kind, "text": "", "done": False}
                parts.append(part)
            case "text-delta" | "reasoning-delta" as kind:
                open_flows[kind.removesuffix("-delta"), chunk["id"]]["text"] += chunk["delta"]
            case "text-end" | "reasoning-end" as kind:
                open_flows.pop((kind.removesuffix("-end"), chunk["id"]))["done"] = True
            case "tool-input-start":
                calls[chunk["toolCallId"]] = call = {**chunk, "text": ""}
                parts.append(call)
            case "tool-input-delta":
                calls[chunk["toolCallId"]]["text"] += chunk["inputTextDelta"]
            case "tool-input-available" | "tool-input-error" | "tool-output-available" | "tool-output-error" as kind:
                calls[chunk["toolCallId"]][kind] = chunk
            case "source-url" | "source-document" | "file" as kind:
                parts.append({"type": kind, **chunk})
            case "finish" | "abort" | "error" as kind:
                ends.append((kind, chunk))
            case kind:
                assert kind.startswith("data-")
                if chunk.get("transient"):
                    continue
                data = {"type": kind, **chunk}
                same = [part for part in parts if part.get("type") == kind and part.get("id") == data.get("id", part)]
                if same:
                    same[0].update(data)
                else:
                    parts.append(data)
    return message, ends


_CLIENTS: dict[str, Any] = {
    "plain": _plain,
    "json": _json,
    "envelope": _envelope,
    "openai": _openai,
    "ai-sdk": _ai_sdk,
    "ai-sdk-6": _ai_sdk,
    "ai-sdk-5": _ai_sdk,
}
