"""How an answer looks on the wire. Pure.

A generation's topic holds five kinds of event: `start`, `delta` (one piece of text), `note.<type>` (something beside
the text, as JSON), `finish` (how it ended) and `end` (nothing follows). A dialect turns each into at most one event of
the wire, so that every position stays a position in every dialect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from ..sse import Event, encode, json_data
from ..stream import Frame
from .provider import Usage

__all__ = [
    "DIALECTS",
    "DONE",
    "NOTE",
    "Answer",
    "Dialect",
    "Outcome",
    "State",
    "control_encoder",
    "outcome_events",
    "renderer",
]

DONE = "[DONE]"
# Stands before the type of a note in the topic, so that it is never taken for another kind.
NOTE = "note."


class State(StrEnum):
    """`incomplete`: the provider's stream ended without its terminal marker. `interrupted`: this server went away."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended. `reason`: the provider's finish reason; `error`: for people, where it is not done."""

    state: State
    reason: str | None = None
    error: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What dialects say about the generation itself. `created`: Unix time in seconds."""

    id: str
    model: str
    created: int


# What an event of the wire is made of: its type and its data.
Parts = tuple[str, str]


class Dialect(Protocol):
    """One wire form. Each method answers None where this dialect shows nothing."""

    bears_control: bool  # whether its clients can be shown `stream.*` events

    def __init__(self, answer: Answer) -> None: ...

    def start(self) -> Parts | None: ...

    def delta(self, text: str) -> Parts: ...

    def note(self, kind: str, data: str) -> Parts | None: ...

    def finish(self, outcome: Outcome) -> Parts | None: ...

    def end(self, outcome: Outcome) -> Parts | None: ...


class Plain:
    """`data: <token>`, then `data: [DONE]`; an answer that is not done ends with a `failure` event instead."""

    bears_control = True

    def __init__(self, answer: Answer) -> None: ...

    def start(self) -> Parts | None:
        return "message", ""

    def delta(self, text: str) -> Parts:
        return "message", text

    def note(self, kind: str, data: str) -> Parts | None:
        return kind, data

    def finish(self, outcome: Outcome) -> Parts | None:
        if outcome.state is State.DONE:
            return None
        return "failure", json_data({"state": outcome.state, "message": outcome.error})

    def end(self, outcome: Outcome) -> Parts | None:
        return ("message", DONE) if outcome.state is State.DONE else None


class Json:
    """`{"content": "…"}` per token, then `{"done": true}` or `{"error": "…"}`."""

    bears_control = True

    def __init__(self, answer: Answer) -> None: ...

    def start(self) -> Parts | None:
        return "message", '{"content": ""}'

    def delta(self, text: str) -> Parts:
        return "message", f'{{"content": {json_data(text)}}}'

    def note(self, kind: str, data: str) -> Parts | None:
        return kind, data

    def finish(self, outcome: Outcome) -> Parts | None:
        if outcome.state is State.DONE:
            return None
        return "message", json_data({"error": outcome.error})

    def end(self, outcome: Outcome) -> Parts | None:
        return ("message", '{"done": true}') if outcome.state is State.DONE else None


class Envelope:
    """Named events `token`, `complete` and `error`, each `{"status", "message", "data"}`.

    `error` is the one type here that collides with `EventSource`'s own event: this dialect's contract asks for it.
    """

    bears_control = True
    per_token = "토큰 생성"
    at_the_end = "생성 완료"

    def __init__(self, answer: Answer) -> None: ...

    def start(self) -> Parts | None:
        return self.delta("")

    def delta(self, text: str) -> Parts:
        return "token", json_data({"status": 200, "message": self.per_token, "data": {"token": text}})

    def note(self, kind: str, data: str) -> Parts | None:
        return kind, f'{{"status": 200, "message": {json_data(kind)}, "data": {data}}}'

    def finish(self, outcome: Outcome) -> Parts | None:
        if outcome.state is State.DONE:
            return None
        return "error", json_data({"status": 500, "message": outcome.error, "data": None})

    def end(self, outcome: Outcome) -> Parts | None:
        if outcome.state is not State.DONE:
            return None
        return "complete", json_data({"status": 200, "message": self.at_the_end, "data": None})


class OpenAI:
    """Chat completion chunks as OpenAI's API sends them, so that its SDKs can read the stream."""

    bears_control = False

    def __init__(self, answer: Answer) -> None:
        self._head = (
            f'{{"id": {json_data("chatcmpl-" + answer.id)}, "object": "chat.completion.chunk", '
            f'"created": {answer.created}, "model": {json_data(answer.model)}, "choices": '
        )

    def start(self) -> Parts | None:
        return self._chunk('{"role": "assistant", "content": ""}', "null")

    def delta(self, text: str) -> Parts:
        return self._chunk(f'{{"content": {json_data(text)}}}', "null")

    def note(self, kind: str, data: str) -> Parts | None:
        return None  # its clients take every event for a chunk

    def finish(self, outcome: Outcome) -> Parts | None:
        if outcome.state is not State.DONE:
            return "message", json_data({"error": {"message": outcome.error, "type": outcome.state, "code": None}})
        usage = ""
        if outcome.usage is not None:
            read, written = outcome.usage.input_tokens, outcome.usage.output_tokens
            counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            usage = f', "usage": {json_data(counts)}'
        kind, data = self._chunk("{}", json_data(outcome.reason or "stop"))
        return kind, data[:-1] + usage + "}"

    def end(self, outcome: Outcome) -> Parts | None:
        return "message", DONE

    def _chunk(self, delta: str, reason: str) -> Parts:
        return "message", f'{self._head}[{{"index": 0, "delta": {delta}, "finish_reason": {reason}}}]}}'


# What `?dialect=` may say.
DIALECTS: Mapping[str, type[Dialect]] = {"plain": Plain, "json": Json, "envelope": Envelope, "openai": OpenAI}


def outcome_events(outcome: Outcome) -> tuple[Event, Event]:
    """The `finish` and `end` events of a topic."""
    usage = outcome.usage
    data = {
        "state": outcome.state,
        "reason": outcome.reason,
        "error": outcome.error,
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }
    text = json_data(data)
    return Event(text, "finish"), Event(text, "end")


def _outcome(event: Event) -> Outcome:
    data = json.loads(event.data)
    usage = data["usage"]
    return Outcome(State(data["state"]), data["reason"], data["error"], None if usage is None else Usage(**usage))


def renderer(dialect: Dialect, id_prefix: str = "", *, announce: bool = False) -> Callable[[Frame], bytes]:
    """Frames of a generation's topic → bytes. `announce`: show `start` too, whose id names the work before its first
    token comes."""

    def parts(event: Event) -> Parts | None:
        match event.type:
            case "delta":
                return dialect.delta(event.data)
            case "start":
                return dialect.start() if announce else None
            case "finish":
                return dialect.finish(_outcome(event))
            case "end":
                return dialect.end(_outcome(event))
            case kind if kind.startswith(NOTE):
                return dialect.note(kind.removeprefix(NOTE), event.data)
        return None

    def render(frame: Frame) -> bytes:
        shown = parts(frame.event)
        if shown is None:
            return b""
        kind, data = shown
        return encode(Event(data, kind, f"{id_prefix}{frame.epoch}-{frame.offset}"))

    return render


# Events about the stream that a reader must hear of in any dialect, in words. Its clients take a stream that just ends
# for a whole answer.
_TROUBLE = {
    "stream.gap": "part of this answer is no longer kept: ask for the answer's full text",
    "stream.bye": "the server ended this stream before the answer's end: send its last id to read on",
}


def control_encoder(dialect: Dialect) -> Callable[[Event], bytes]:
    """How this dialect shows events about the stream itself; one that cannot still tells of trouble, as an error."""
    if dialect.bears_control:
        return encode

    def control(event: Event) -> bytes:
        if not event.type.startswith("stream."):
            return encode(event)
        if event.type not in _TROUBLE:
            return b""
        shown = dialect.finish(Outcome(State.INCOMPLETE, error=_TROUBLE[event.type]))
        return b"" if shown is None else encode(replace(event, data=shown[1], type=shown[0]))

    return control
