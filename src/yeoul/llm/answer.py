"""An answer as a list of parts, and the events of its topic that carry them. Pure.

Between `start` and `finish` a generation's topic holds these types of event. Every part has an `index`: dense, from 0
on, the same for every reader.

================ ====================================================================================
`step`           a call of the model begins: `{"step": 1}`; `step.end` ends it
`part`           a part begins, or stands whole: `{"index", "kind", …}`
`text.0`         the next piece of the text that is part 0, as it is; `reasoning.0`, `refusal.0` likewise
`arguments`      the next piece of a tool call's arguments: `{"index", "call", "id", "arguments"}`
`part.end`       a part that came in pieces is complete: as its `part`, a tool call with all its `arguments`
`transient`      a note that is no part of the answer: `{"name", "id"?, "data"}`
`usage`          the tokens of one step
================ ====================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import UpstreamError
from ..sse import Event, json_data
from .items import (
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

__all__ = ["DONE", "Answer", "Part"]

# The end marker of several formats.
DONE = "[DONE]"

# The longest piece of text in one event, in characters: a provider may send its whole answer as one.
_MAX_PIECE = 16_384

# Bytes of JSON around the arguments of a tool call, and the most that a character of these takes in JSON.
_AROUND_ARGUMENTS = 256
_BYTES_PER_CHARACTER = 6

# Parts that come as pieces of text. At most one of them is open at a time.
_FLOWS: dict[type, str] = {Delta: "text", Reasoning: "reasoning", Refusal: "refusal"}


@dataclass(slots=True)
class Part:
    """One part: `text`, `reasoning`, `refusal`, `tool_call` (came in pieces), `tool_result`, `source_url`,
    `source_document`, `file`, `note` (came whole).

    `about` has the members of its event beside `index` and `kind`, `step` the number of the step in which it began (0:
    before the first). `ended`: no more pieces follow. `size`: bytes of a tool call in JSON.
    """

    index: int
    kind: str
    step: int
    about: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    ended: bool = False
    size: int = 0

    @property
    def text(self) -> str:
        """All pieces so far; for a tool call those of its arguments."""
        if len(self.pieces) > 1:
            self.pieces[:] = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""

    @property
    def in_pieces(self) -> bool:
        return self.kind == "tool_call" or self.kind in _FLOWS.values()

    @property
    def state(self) -> dict[str, Any]:
        """All that is known of it, as JSON."""
        whole = {"index": self.index, "kind": self.kind, **self.about}
        if self.kind == "tool_call":
            return {**whole, "arguments": self.text}
        return {**whole, "text": self.text} if self.in_pieces else whole


class Answer:
    """The parts so far. `events` says which events an item becomes, `add` takes them in once they are published: a
    reader who is shown the parts, and then what is published later, misses nothing and gets nothing twice.

    `max_event_bytes` bounds the data of one event. `longest`: characters of text in one event, at most. `text_type` is
    the type of event for the next piece of text, and `text_pieces` what it is appended to; None while no text is open.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self.parts: list[Part] = []
        self.usage: Usage | None = None
        self.text_type: str | None = None
        self.text_pieces: list[str] | None = None
        self.longest = max(1, min(_MAX_PIECE, max_event_bytes // 4))  # UTF-8 has at most 4 bytes a character
        self._max_event_bytes = max_event_bytes
        self._steps = 0
        self._in_step = False
        self._flow: Part | None = None  # the open part of text, reasoning or refusal
        self._calls: dict[str, Part] = {}
        self._results: set[str] = set()
        self._notes: dict[tuple[str, str], Part] = {}  # those with an id, by type and id

    @property
    def text(self) -> str:
        """What there is to read: its texts, and a refusal's."""
        return "".join(part.text for part in self.parts if part.kind in ("text", "refusal"))

    def events(self, item: Item) -> list[Event]:
        """Raises ValueError for an item that cannot follow, such as the result of an unknown call; UpstreamError for a
        tool call that is too long; TypeError for what is no item."""
        match item:
            case Delta() | Reasoning() | Refusal():
                return self._flow_events(_FLOWS[type(item)], item.text)
            case ToolCall():
                return self._call_events(item)
            case ToolResult():
                return self._result_events(item)
            case Note():
                return self._note_events(item)
            case Step():
                return [*self._ends(calls=True), *_step_events(self._steps)]
            case SourceUrl() | SourceDocument() | File():
                return [*self._first_step(), self._begin(*_reference(item, len(self.parts)))]
            case Usage():
                return [
                    Event(json_data({"input_tokens": item.input_tokens, "output_tokens": item.output_tokens}), "usage")
                ]
        raise TypeError(f"a source yields items such as Delta, Note and Finish, not {type(item).__name__}")

    def closing(self, *, done: bool) -> list[Event]:
        """What stands before the end. An answer that is not `done` ends inside its step, and its tool calls are not
        completed: nothing must call a tool with half of its arguments."""
        ended = [_event("step.end", {"step": self._steps})] if done and self._in_step else []
        return [*self._ends(calls=done), *ended]

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            match event.type:
                case "part":
                    self._add_part(json.loads(event.data))
                case "part.end":
                    part = self.parts[json.loads(event.data)["index"]]
                    part.ended = True
                    if part is self._flow:
                        self._flow = self.text_type = self.text_pieces = None
                case "arguments":
                    data = json.loads(event.data)
                    call = self.parts[data["index"]]
                    call.pieces.append(data["arguments"])
                    call.size += _json_bytes(data["arguments"])
                case "step":
                    self._steps += 1
                    self._in_step = True
                case "step.end":
                    self._in_step = False
                case "usage":
                    used = Usage(**json.loads(event.data))
                    self.usage = used if self.usage is None else self.usage + used
                case "transient":
                    pass
                case piece:
                    self.parts[int(piece.rpartition(".")[2])].pieces.append(event.data)

    def compacted(self) -> list[Event]:
        """The fewest events that make the same parts."""
        events, step = list[Event](), 0
        for part in self.parts:
            for begun in range(step, part.step):
                events += _step_events(begun)
            step = max(step, part.step)
            about = {"index": part.index, "kind": part.kind, **part.about}
            events.append(_event("part", about))
            if part.kind == "tool_call":
                if part.text:
                    events.append(_arguments(part, part.text))
                if part.ended:
                    events.append(_event("part.end", {**about, "arguments": part.text}))
            elif part.in_pieces:
                events += [Event(piece, f"{part.kind}.{part.index}") for piece in _pieces(part.text, len(part.text))]
                if part.ended:
                    events.append(_event("part.end", about))
        for begun in range(step, self._steps):
            events += _step_events(begun)
        if self._steps and not self._in_step:
            events.append(_event("step.end", {"step": self._steps}))
        return events

    def _flow_events(self, kind: str, text: str) -> list[Event]:
        if not text:
            return []
        flow, events = self._flow, list[Event]()
        index = len(self.parts) if flow is None or flow.kind != kind else flow.index
        if flow is None or flow.kind != kind:
            events = [*self._first_step(), *self._ends(calls=False), self._begin(kind, {})]
        return [*events, *(Event(piece, f"{kind}.{index}") for piece in _pieces(text, self.longest))]

    def _call_events(self, item: ToolCall) -> list[Event]:
        events, call = list[Event](), self._calls.get(item.id)
        if call is None:
            if item.name is None:
                raise ValueError(f"tool call {item.id!r} has no name: the first ToolCall of an id must have one")
            about = {"call": len(self._calls), "id": item.id, "name": item.name}
            call = Part(len(self.parts), "tool_call", self._steps, about, size=_json_bytes(item.id + item.name))
            events = [*self._first_step(), *self._ends(calls=False), self._begin(call.kind, about)]
        elif call.ended:
            raise ValueError(f"tool call {item.id!r} has ended: give another call an id of its own")
        pieces = _pieces(item.arguments, self._longest_arguments(item.id))
        if call.size + sum(map(_json_bytes, pieces)) > self._max_event_bytes - _AROUND_ARGUMENTS:
            long = f"a tool call is longer than the {self._max_event_bytes} bytes of one event: it was ended there"
            raise UpstreamError(long, kind="too_long", retryable=False)
        events += [_arguments(call, piece) for piece in pieces]
        if item.done:
            events.append(_call_end(call, call.text + "".join(pieces)))
        return events

    def _result_events(self, item: ToolResult) -> list[Event]:
        call = self._calls.get(item.id)
        if call is None:
            raise ValueError(f"the tool call {item.id!r} is not known: yield its ToolCall before its result")
        if item.id in self._results:
            raise ValueError(f"the tool call {item.id!r} has a result already")
        about = {"id": item.id, "name": call.about["name"]}
        result = {"output": item.output} if item.error is None else {"error": item.error}
        ended = [] if call.ended else [_call_end(call, call.text)]
        return [*self._ends(calls=False), *ended, self._begin("tool_result", {**about, **result})]

    def _note_events(self, note: Note) -> list[Event]:
        named = {"name": note.type} if note.id is None else {"name": note.type, "id": note.id}
        about = {**named, "data": note.data}
        if note.transient:
            return [_event("transient", about)]
        known = None if note.id is None else self._notes.get((note.type, note.id))
        index = len(self.parts) if known is None else known.index
        return [_event("part", {"index": index, "kind": "note", **about})]

    def _longest_arguments(self, id: str) -> int:
        room = self._max_event_bytes - _AROUND_ARGUMENTS - _json_bytes(id)
        return max(1, min(_MAX_PIECE, room // _BYTES_PER_CHARACTER))

    def _begin(self, kind: str, about: dict[str, Any]) -> Event:
        return _event("part", {"index": len(self.parts), "kind": kind, **about})

    def _first_step(self) -> list[Event]:
        return [] if self._steps else _step_events(0)

    def _ends(self, *, calls: bool) -> list[Event]:
        """The ends of the open part of text and, if asked for, of the open tool calls."""
        flow = self._flow
        events = [] if flow is None else [_event("part.end", {"index": flow.index, "kind": flow.kind})]
        if calls:
            events += [_call_end(call, call.text) for call in self._calls.values() if not call.ended]
        return events

    def _add_part(self, about: dict[str, Any]) -> None:
        index, kind = about.pop("index"), about.pop("kind")
        if index < len(self.parts):
            self.parts[index].about = about  # a note with the id of an earlier one
            return
        part = Part(index, kind, self._steps, about)
        self.parts.append(part)
        if kind == "tool_call":
            part.size = _json_bytes(about["id"] + about["name"])
            self._calls[about["id"]] = part
        elif kind == "tool_result":
            self._results.add(about["id"])
        elif kind == "note" and "id" in about:
            self._notes[about["name"], about["id"]] = part
        elif part.in_pieces:
            self._flow = part
            is_text = kind == "text"
            self.text_type = f"text.{index}" if is_text else None
            self.text_pieces = part.pieces if is_text else None


def _event(type: str, data: dict[str, Any]) -> Event:
    return Event(json_data(data), type)


def _json_bytes(text: str) -> int:
    return len(json_data(text).encode())


def _step_events(begun: int) -> list[Event]:
    """The next step, where so many have begun."""
    ended = [_event("step.end", {"step": begun})] if begun else []
    return [*ended, _event("step", {"step": begun + 1})]


def _arguments(call: Part, text: str) -> Event:
    about = call.about
    return _event("arguments", {"index": call.index, "call": about["call"], "id": about["id"], "arguments": text})


def _call_end(call: Part, arguments: str) -> Event:
    return _event("part.end", {"index": call.index, "kind": call.kind, **call.about, "arguments": arguments})


def _reference(item: SourceUrl | SourceDocument | File, index: int) -> tuple[str, dict[str, Any]]:
    """Kind and members of a part that refers to something."""
    about: dict[str, Any]
    match item:
        case SourceUrl():
            kind, about = "source_url", {"id": item.id or f"source-{index}", "url": item.url, "title": item.title}
        case SourceDocument():
            about = {"id": item.id or f"source-{index}", "title": item.title}
            about |= {"media_type": item.media_type, "filename": item.filename}
            kind = "source_document"
        case File():
            kind, about = "file", {"url": item.url, "media_type": item.media_type}
    return kind, {name: value for name, value in about.items() if value is not None}


def _pieces(text: str, longest: int) -> list[str]:
    """The text as events can carry it: halves of surrogate pairs have no form in UTF-8."""
    if not text:
        return []
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if text == DONE:
        # As one event it would be the end marker of the plain dialect.
        return [DONE[:1], DONE[1:]]
    return [text[at : at + longest] for at in range(0, len(text), longest)]
