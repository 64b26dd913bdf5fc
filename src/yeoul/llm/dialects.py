"""The dialects of answers: how each shows the parts of an answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..sse import json_data
from .ai_sdk import AiSdk5, AiSdk6, AiSdk7
from .answer import DONE
from .dialect import Dialect, GenerationInfo, WireEvent
from .items import Usage
from .outcome import Outcome, State

__all__ = [
    "DIALECTS",
    "Envelope",
    "Json",
    "OpenAI",
    "OpenAIWithUsage",
    "Plain",
    "find_dialect",
    "name_of",
    "usage_counts",
]


class Plain(Dialect):
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


class Json(Dialect):
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


class Envelope(Dialect):
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


class OpenAI(Dialect):
    """Chat completion chunks as OpenAI's API sends them, so that its SDKs can read the stream.

    Tool calls and refusals have their places there. Reasoning goes into `reasoning_content`, as most servers that
    imitate OpenAI's API have it; the results of tools, sources, files and notes are left out.
    """

    def __init__(self, info: GenerationInfo) -> None:
        self._head = (
            f'{{"id": {json_data("chatcmpl-" + info.id)}, "object": "chat.completion.chunk", '
            f'"created": {info.created}, "model": {json_data(info.model)}, "choices": '
        )

    def start(self) -> WireEvent | None:
        return self._chunk('{"role": "assistant", "content": ""}', "null")

    def delta(self, text: str) -> WireEvent:
        return self._chunk(f'{{"content": {json_data(text)}}}', "null")

    def pieces(self, kind: str, index: int) -> Callable[[str], WireEvent | None] | None:
        if kind == "text":
            return self.delta
        member = "refusal" if kind == "refusal" else "reasoning_content"
        return lambda text: self._chunk(f'{{"{member}": {json_data(text)}}}', "null")

    def part(self, part: Mapping[str, Any]) -> WireEvent | None:
        # Notes, sources and files have no place: its clients take every event for a chunk.
        if part["kind"] != "tool_call":
            return None
        return self._call(part["call"], {"name": part["name"], "arguments": ""}, part["id"])

    def arguments(self, call: Mapping[str, Any]) -> WireEvent | None:
        return self._call(call["call"], {"arguments": call["arguments"]})

    def finish(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is not State.DONE:
            said = outcome.failure()
            error = {"message": outcome.error, "type": outcome.state, "code": said.pop("kind"), **said}
            return "message", json_data({"error": error})
        usage = ""
        if outcome.usage is not None:
            usage = f', "usage": {json_data(usage_counts(outcome.usage))}'
        kind, data = self._chunk("{}", json_data(outcome.reason or "stop"))
        return kind, data[:-1] + usage + "}"

    def end(self, outcome: Outcome) -> WireEvent | None:
        return "message", DONE

    def _call(self, number: int, function: dict[str, str], id: str | None = None) -> WireEvent:
        named = {} if id is None else {"id": id, "type": "function"}
        return self._chunk(json_data({"tool_calls": [{"index": number, **named, "function": function}]}), "null")

    def _chunk(self, delta: str, reason: str) -> WireEvent:
        return "message", f'{self._head}[{{"index": 0, "delta": {delta}, "finish_reason": {reason}}}]}}'


class OpenAIWithUsage(OpenAI):
    """The same where a client has asked for it by `stream_options.include_usage`: the usage is a chunk of its own,
    without choices, before the end marker."""

    def finish(self, outcome: Outcome) -> WireEvent | None:
        return super().finish(replace(outcome, usage=None))

    def end(self, outcome: Outcome) -> WireEvent | None:
        usage = self._usage(outcome)
        return super().end(outcome) if usage is None else ("message", f"{self._head}[], {usage}}}")

    def last(self, outcome: Outcome) -> WireEvent | None:
        return None if self._usage(outcome) is None else super().end(outcome)

    def _usage(self, outcome: Outcome) -> str | None:
        if outcome.state is not State.DONE or outcome.usage is None:
            return None
        return f'"usage": {json_data(usage_counts(outcome.usage))}'


def usage_counts(usage: Usage) -> dict[str, int]:
    """The usage as OpenAI's chat API has it."""
    read, written = usage.input_tokens, usage.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


# What `?dialect=` may say.
DIALECTS: Mapping[str, type[Dialect]] = {
    "plain": Plain,
    "json": Json,
    "envelope": Envelope,
    "openai": OpenAI,
    "ai-sdk": AiSdk7,
    "ai-sdk-6": AiSdk6,
    "ai-sdk-5": AiSdk5,
}


def find_dialect(name: str) -> type[Dialect]:
    """Raises ValueError, which lists the dialects."""
    dialect = DIALECTS.get(name)
    if dialect is None:
        raise ValueError(f"unknown dialect {name!r}: use one of {', '.join(DIALECTS)}")
    return dialect


def name_of(dialect: type[Dialect]) -> str:
    """The name in `DIALECTS` of this dialect, or of the one that it is a subclass of; "json" if there is none."""
    return next((name for name, form in DIALECTS.items() if issubclass(dialect, form)), "json")
