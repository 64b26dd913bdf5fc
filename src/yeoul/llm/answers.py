"""What the events of an answer mean, in OpenAI's two formats. Pure: the data of an event in, its text out.

Read tolerantly: servers that imitate OpenAI leave out fields, send null for them and add their own. Strictly: the
terminal marker, because an answer without one was cut off, whatever its text looks like.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from ..client.refusal import error_message
from ..errors import UpstreamCut, UpstreamError, UpstreamGarbage
from .provider import Finish, Usage

__all__ = ["Answer", "ChatAnswer", "ResponsesAnswer"]

# Enough to recognise a line by, too little to flood a log.
_SHOWN_CHARS = 80


class Answer(ABC):
    """One answer while it is read.

    `reason` is why it ended, None before the upstream has said that it did. `over`: its last event has come.
    `readable(text, limit)` makes upstream text fit to be shown.
    """

    _done_reason: ClassVar[str | None]

    def __init__(self, name: str, readable: Callable[[str, int], str]) -> None:
        self.reason: str | None = None
        self.over = False
        self._usage: Usage | None = None
        self._name = name
        self._readable = readable

    def take(self, data: str) -> str:
        """The text in this event's data, "" where it has none.

        Raises UpstreamGarbage for data that is not of this format, UpstreamError for an error in it.
        """
        if self.over or not data or data.isspace():
            return ""
        if data == "[DONE]":
            self.over = True
            self.reason = self.reason or self._done_reason
            return ""
        try:
            return self._read(data)
        except (msgspec.DecodeError, RecursionError) as error:
            what = "JSON of another shape" if isinstance(error, msgspec.ValidationError) else "a line that is not JSON"
            shown = self._readable(data, _SHOWN_CHARS)
            raise UpstreamGarbage(f"{self._name} sent {what} in mid-stream: {shown}") from error

    def finish(self) -> Finish:
        """How it ended. Raises UpstreamCut where the upstream did not say that it has."""
        if self.reason is None:
            raise UpstreamCut(f"{self._name} ended its answer without an end marker: it is incomplete")
        return Finish(self.reason, self._usage)

    @abstractmethod
    def _read(self, data: str) -> str: ...

    def _failed(self, error: object) -> UpstreamError:
        message = self._readable(error_message(error), 300)
        return UpstreamError(f"{self._name} reported an error in mid-stream: {message or 'it did not say which'}")

    def _end(self, reason: str) -> None:
        self.reason = self._readable(reason, _SHOWN_CHARS)


class _ChatDelta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _ChatChoice(msgspec.Struct):
    delta: _ChatDelta | None = None
    finish_reason: str | None = None


class _ChatChunk(msgspec.Struct):
    choices: list[_ChatChoice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    object: Any = None
    message: Any = None


_chat_chunk = msgspec.json.Decoder(_ChatChunk).decode


class ChatAnswer(Answer):
    """Chat Completions. Either marker ends it, a `finish_reason` or `[DONE]`: some servers never send the one, some
    never the other. After a `finish_reason` the usage may follow."""

    _done_reason = "stop"

    def _read(self, data: str) -> str:
        chunk = _chat_chunk(data)
        if chunk.error or chunk.object == "error":
            raise self._failed(chunk.error or {"message": chunk.message})
        if chunk.usage:
            self._usage = _usage(chunk.usage, "prompt_tokens", "completion_tokens")
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._end(choice.finish_reason)
        delta = choice.delta
        return (delta.content or delta.refusal or "") if delta is not None else ""


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    error: Any = None
    incomplete_details: _Incomplete | None = None
    usage: dict[str, Any] | None = None


class _ResponsesEvent(msgspec.Struct):
    type: str = ""
    delta: Any = None
    error: Any = None
    message: Any = None
    # Raw: it repeats the whole answer and its instructions in several events, and is of interest in one.
    response: msgspec.Raw = msgspec.Raw(b"null")


_responses_event = msgspec.json.Decoder(_ResponsesEvent).decode
_response = msgspec.json.Decoder(_Response | None).decode

_INCOMPLETE_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class ResponsesAnswer(Answer):
    """Responses: ends with `response.completed`, `.incomplete`, `.failed` or `error`; `[DONE]` alone says nothing."""

    _done_reason = None

    def _read(self, data: str) -> str:
        event = _responses_event(data)
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                return event.delta if isinstance(event.delta, str) else ""
            case "response.completed" | "response.incomplete" | "response.failed":
                self._close(event.type, _response(event.response) or _Response())
            case "error":
                raise self._failed(event.error or {"message": event.message})
            case "" if event.error:
                raise self._failed(event.error)
        return ""

    def _close(self, type: str, response: _Response) -> None:
        if type == "response.failed":
            raise self._failed(response.error)
        details = response.incomplete_details
        why = (details and details.reason) or "incomplete"
        self._end("stop" if type == "response.completed" else _INCOMPLETE_REASONS.get(why, why))
        if response.usage:
            self._usage = _usage(response.usage, "input_tokens", "output_tokens")
        self.over = True


def _usage(counts: dict[str, Any], input_key: str, output_key: str) -> Usage:
    return Usage(_count(counts.get(input_key)), _count(counts.get(output_key)))


def _count(value: object) -> int:
    # Some servers count in floats, some send null until the end.
    return int(value) if isinstance(value, int | float) else 0
