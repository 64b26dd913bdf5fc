"""How an answer looks on the wire. Pure.

A generation's topic holds six kinds of event: `start`, `delta` (one piece of text), `note.<type>` (something beside
the text, as JSON), `finish` (how it ended), `end` (its end marker) and `last` (nothing follows). A dialect turns each
into at most one event of the wire, so that every position stays a position in every dialect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from ..sse import Event, encode, json_data
from ..sse.encoder import encode_fields
from ..stream import END_EVENT, FINAL_MARK, Frame
from .provider import Usage

__all__ = [
    "DIALECTS",
    "DONE",
    "NOTE",
    "Dialect",
    "GenerationInfo",
    "Outcome",
    "State",
    "WireEvent",
    "control_encoder",
    "name_of",
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
    """How a generation ended.

    `reason`: the provider's finish reason, where it is done. Where it is not: `error` says why, for readers; `kind` is
    the class of failure (`UpstreamError.kind`, or the state), `retryable` whether the same request may succeed later,
    and `retry_after` after how many seconds, where that is known.
    """

    state: State
    reason: str | None = None
    error: str | None = None
    usage: Usage | None = None
    kind: str | None = None
    retryable: bool = False
    retry_after: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the text is all that the model had to say: neither cut at a bound, nor withheld, nor a tool call."""
        return self.state is State.DONE and self.reason in (None, "stop")

    def failure(self) -> dict[str, object]:
        """What error events say beside their message."""
        said: dict[str, object] = {"kind": self.kind or str(self.state), "retryable": self.retryable}
        if self.retry_after is not None:
            said["retry_after"] = self.retry_after
        return said


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """What dialects say about the generation itself. `created`: Unix time in seconds."""

    id: str
    model: str
    created: int


# An event of the wire: its type and its data.
WireEvent = tuple[str, str]


class Dialect(Protocol):
    """One wire form. Each method answers None where this dialect shows nothing."""

    bears_control: bool  # whether its clients can be shown `stream.*` events

    def __init__(self, info: GenerationInfo) -> None: ...

    def start(self) -> WireEvent | None: ...

    def delta(self, text: str) -> WireEvent: ...

    def note(self, kind: str, data: str) -> WireEvent | None: ...

    def finish(self, outcome: Outcome) -> WireEvent | None: ...

    def end(self, outcome: Outcome) -> WireEvent | None: ...


class Plain:
    """`data: <token>`, then `data: [DONE]`. An answer that is done but not whole has an event `finish` before that; one
    that is not done ends with an event `failure` instead."""

    bears_control = True

    def __init__(self, info: GenerationInfo) -> None: ...

    def start(self) -> WireEvent | None:
        return "message", ""

    def delta(self, text: str) -> WireEvent:
        return "message", text

    def note(self, kind: str, data: str) -> WireEvent | None:
        return kind, data

    def finish(self, outcome: Outcome) -> WireEvent | None:
        if outcome.whole:
            return None
        if outcome.state is State.DONE:
            return "finish", json_data({"reason": outcome.reason})
        return "failure", json_data({"state": outcome.state, "message": outcome.error, **outcome.failure()})

    def end(self, outcome: Outcome) -> WireEvent | None:
        return ("message", DONE) if outcome.state is State.DONE else None


class Json:
    """`{"content": "…"}` per token, then `{"done": true}` (with a `reason` where the answer is not whole) or
    `{"error": "…"}`."""

    bears_control = True

    def __init__(self, info: GenerationInfo) -> None: ...

    def start(self) -> WireEvent | None:
        return "message", '{"content": ""}'

    def delta(self, text: str) -> WireEvent:
        return "message", f'{{"content": {json_data(text)}}}'

    def note(self, kind: str, data: str) -> WireEvent | None:
        return kind, data

    def finish(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is State.DONE:
            return None
        return "message", json_data({"error": outcome.error, **outcome.failure()})

    def end(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is not State.DONE:
            return None
        return "message", '{"done": true}' if outcome.whole else json_data({"done": True, "reason": outcome.reason})


class Envelope:
    """Named events `token`, `complete` and `error`, each `{"status", "message", "data"}`. Beside these members,
    `complete` has a `reason` where the answer is not whole, and `error` a `retryable` where trying again may help.

    `error` is the one type here that collides with `EventSource`'s own event: this dialect's contract asks for it.
    """

    bears_control = True
    per_token = "토큰 생성"
    at_the_end = "생성 완료"

    def __init__(self, info: GenerationInfo) -> None:
        self._before_token = f'{{"status": 200, "message": {json_data(self.per_token)}, "data": {{"token": '

    def start(self) -> WireEvent | None:
        return self.delta("")

    def delta(self, text: str) -> WireEvent:
        return "token", f"{self._before_token}{json_data(text)}}}}}"

    def note(self, kind: str, data: str) -> WireEvent | None:
        return kind, f'{{"status": 200, "message": {json_data(kind)}, "data": {data}}}'

    def finish(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is State.DONE:
            return None
        said = {"status": 500, "message": outcome.error, "data": None}
        if outcome.retryable:
            said |= {"retryable": True}
        return "error", json_data(said)

    def end(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is not State.DONE:
            return None
        data = {"status": 200, "message": self.at_the_end, "data": None}
        return "complete", json_data(data if outcome.whole else {**data, "reason": outcome.reason})


class OpenAI:
    """Chat completion chunks as OpenAI's API sends them, so that its SDKs can read the stream."""

    bears_control = False

    def __init__(self, info: GenerationInfo) -> None:
        self._head = (
            f'{{"id": {json_data("chatcmpl-" + info.id)}, "object": "chat.completion.chunk", '
            f'"created": {info.created}, "model": {json_data(info.model)}, "choices": '
        )

    def start(self) -> WireEvent | None:
        return self._chunk('{"role": "assistant", "content": ""}', "null")

    def delta(self, text: str) -> WireEvent:
        return self._chunk(f'{{"content": {json_data(text)}}}', "null")

    def note(self, kind: str, data: str) -> WireEvent | None:
        return None  # its clients take every event for a chunk

    def finish(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is not State.DONE:
            said = outcome.failure()
            error = {"message": outcome.error, "type": outcome.state, "code": said.pop("kind"), **said}
            return "message", json_data({"error": error})
        usage = ""
        if outcome.usage is not None:
            read, written = outcome.usage.input_tokens, outcome.usage.output_tokens
            counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
            usage = f', "usage": {json_data(counts)}'
        kind, data = self._chunk("{}", json_data(outcome.reason or "stop"))
        return kind, data[:-1] + usage + "}"

    def end(self, outcome: Outcome) -> WireEvent | None:
        return "message", DONE

    def _chunk(self, delta: str, reason: str) -> WireEvent:
        return "message", f'{self._head}[{{"index": 0, "delta": {delta}, "finish_reason": {reason}}}]}}'


# What `?dialect=` may say.
DIALECTS: Mapping[str, type[Dialect]] = {"plain": Plain, "json": Json, "envelope": Envelope, "openai": OpenAI}


def name_of(dialect: type[Dialect]) -> str:
    """The name in `DIALECTS` whose streams read on where one of this dialect was cut. An app's own variant has that of
    the dialect it varies; a dialect of its own kind is taken for the default, "json"."""
    return next((name for name, form in DIALECTS.items() if issubclass(dialect, form)), "json")


def outcome_events(outcome: Outcome) -> tuple[Event, Event, Event]:
    """The `finish`, `end` and `last` events of a topic."""
    usage = outcome.usage
    data = {
        "state": outcome.state,
        "reason": outcome.reason,
        "error": outcome.error,
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "kind": outcome.kind,
        "retryable": outcome.retryable,
        "retry_after": outcome.retry_after,
    }
    text = json_data(data)
    return Event(text, "finish"), Event(text, "end"), Event(text, "last")


def _outcome(event: Event) -> Outcome:
    data = json.loads(event.data)
    usage = data.pop("usage")
    return Outcome(State(data.pop("state")), usage=None if usage is None else Usage(**usage), **data)


def renderer(
    dialect: Dialect, id_prefix: str = "", *, announce: bool = False, end_event: bool = False
) -> Callable[[Frame], bytes]:
    """Frames of a generation's topic → bytes. `announce`: show `start` too, whose id names the work before its first
    token comes. `end_event`: show `last` as `stream.end`, where the dialect's clients can bear it."""
    delta = dialect.delta
    end_event = end_event and dialect.bears_control

    def other(event: Event) -> WireEvent | None:
        match event.type:
            case "start":
                return dialect.start() if announce else None
            case "finish":
                return dialect.finish(_outcome(event))
            case "end":
                return dialect.end(_outcome(event))
            case "last" if end_event:
                return END_EVENT, json_data({"state": _outcome(event).state})
            case kind if kind.startswith(NOTE):
                return dialect.note(kind.removeprefix(NOTE), event.data)
        return None

    def is_last(event: Event) -> bool:
        """Whether nothing is shown after it."""
        if end_event:
            return event.type == "last"
        return event.type == "end" or (event.type == "finish" and dialect.end(_outcome(event)) is None)

    def render(frame: Frame) -> bytes:
        event = frame.event
        shown = delta(event.data) if event.type == "delta" else other(event)
        if shown is None:
            return b""
        kind, data = shown
        mark = FINAL_MARK if is_last(event) else ""
        return encode_fields(data, kind, id=f"{id_prefix}{frame.epoch}-{frame.offset}{mark}")

    return render


# Events about the stream that a reader must hear of in any dialect, in words. Its clients take a stream that just ends
# for a whole info.
_TROUBLE = {
    "stream.gap": "part of this answer is no longer kept: ask for the answer's full text",
    "stream.bye": "the server ended this stream before the answer's end: send its last id to read on",
}


def control_encoder(dialect: Dialect) -> Callable[[Event], bytes]:
    """How this dialect shows events about the stream itself. One that cannot show them still reports trouble, as an
    error."""
    if dialect.bears_control:
        return encode

    def control(event: Event) -> bytes:
        if not event.type.startswith("stream."):
            return encode(event)
        if event.type not in _TROUBLE:
            return b""
        shown = dialect.finish(Outcome(State.INCOMPLETE, error=_TROUBLE[event.type], retryable=True))
        return b"" if shown is None else encode(replace(event, data=shown[1], type=shown[0]))

    return control
