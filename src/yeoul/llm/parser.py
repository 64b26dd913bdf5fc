"""What the events of an answer mean, in OpenAI's two formats. Pure: an event in, the pieces of the answer in it out.

An answer is done only where the upstream proved it:

- A chunk with a `finish_reason` and no text proves the end. A connection that is lost later loses nothing.
- A chunk that has the member `finish_reason`, even as null, promises a reason: `[DONE]` without one is then no proof.
  Where no chunk has the member, `[DONE]` proves the end, unless the body breaks off after it.
- A reason with text, or with text after it, is provisional, and so are those that follow: some servers send one with
  every chunk. Then `[DONE]` or a clean end of the body must follow.
- An answer without text, tool call or reason is never done.

What is not needed is not checked, because servers that imitate OpenAI leave out fields, send null or another type, and
add their own. So the usual chunk is decoded by a strict and fast decoder that knows a few fields; any other chunk is
decoded by a tolerant one.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from ..client.refusal import error_message
from ..errors import UpstreamCut, UpstreamError, UpstreamGarbage
from ..sse import Event
from .items import Delta, Finish, Piece, Reasoning, Refusal, SourceUrl, ToolCall, Usage

__all__ = ["AnswerParser", "ChatParser", "ResponsesParser"]

_DONE = "[DONE]"

# Characters of a line that are shown: enough to recognise it by, too few to flood a log.
_SHOWN_CHARS = 120

# Finish reasons of other families of servers, in OpenAI's words; None for those that are no reason.
_REASONS: Mapping[str, str | None] = {
    "": None,
    "null": None,
    "none": None,
    "complete": "stop",
    "completed": "stop",
    "done": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "recitation": "content_filter",
    "safety": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
}

# What reasons contain that say that the answer was not finished.
_FAILED_REASON = re.compile(
    r"abort|cancel|error|exception|fail|insufficient|interrupt|malformed|time_?out", re.IGNORECASE
)

# Names of events that report an error. (`response.failed` is one of the format's own.)
_ERROR_EVENT = re.compile(r"(?!response\.).*(error|exception|fail)", re.IGNORECASE)

# The members of an object that reports an error and has nothing else.
_ERROR_MEMBERS = frozenset({"message", "param", "request_id", "requestId", "timestamp"})

# What codes and types of errors contain that the same request meets again.
_PERMANENT = re.compile(r"invalid|context_length|quota|billing|policy|content_filter|not_found|auth|permission")

# Members of a delta that are known; a text in any other is one that cannot be read.
_KNOWN_DELTA = frozenset({"role", "name", "content", "refusal", "tool_calls", "function_call", "annotations"})
# What servers call a model's reasoning. Of several in one delta the first counts: the others repeat it.
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "reasoning_details")

# JSON beside the format that is looked at, in characters: enough for an error, on several lines too.
_MAX_IGNORED = 8_192

# Output items of a response that are kept where their text has not come as deltas.
_MAX_ITEMS = 100


class AnswerParser(ABC):
    """One answer while it is read.

    - `over`: the end marker has come. Nothing that follows is looked at.
    - `proven`: the upstream has said why the answer ended, so that nothing can be lost any more.
    - `unusual`: set by each event that is more, or less, than the usual next text; a caller may reset it.
    - `alive`: set by those of them that are part of the answer (a text, a thought, a tool call), and not only a sign of
      life; a caller may reset it.

    `name` is what messages call the upstream; `readable(text, limit)` makes upstream text fit for a log.
    """

    def __init__(self, name: str, readable: Callable[[str, int], str]) -> None:
        self.over = False
        self.proven = False
        self.alive = False
        self.unusual = False
        self._name = name
        self._readable = readable
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._has_text = False
        self._calls_tools = False
        # The first half of a surrogate pair, whose second half may begin the next piece of the same kind.
        self._half = ""
        self._half_of: object = None
        self._unread = ""  # the first thing that could not be read, and did not have to be
        self._ignored = ""  # lines that may be the beginning of a JSON object

    @abstractmethod
    def feed(self, event: Event) -> Sequence[Piece]:
        """The pieces in this event.

        Raises UpstreamError for an error that the upstream reports, UpstreamGarbage for data that cannot be read and
        could be part of the answer.
        """

    def feed_ignored(self, lines: Sequence[bytes]) -> None:
        """Lines that are not in the format of an event stream. Raises UpstreamError where one reports an error."""
        for line in [] if self.proven else lines:
            text = line.decode(errors="replace").rstrip()
            field, _, value = text.partition(":")
            bare = self._ignored_object(text)
            if bare is not None and _error_in(bare, None) is not None:
                raise self._reported(bare)
            if field.strip().lower() == "error":
                parsed = _loads(value)
                raise self._reported(value.strip() if parsed is None else parsed)
            self._skip(text)

    def _ignored_object(self, line: str) -> dict[str, Any] | None:
        """The JSON object that this line is, or ends."""
        if line.startswith("{"):
            self._ignored = line
        elif self._ignored:
            self._ignored += f"\n{line}"
        if len(self._ignored) > _MAX_IGNORED:
            self._ignored = ""
        value = _loads(self._ignored) if line.endswith("}") else None
        if not isinstance(value, dict):
            return None
        self._ignored = ""
        return value

    def feed_unterminated(self, event: Event) -> Sequence[Piece]:
        """As `feed`, of an event that no blank line ended before the end of the body: it counts where it is whole."""
        whole = event.data.strip() == _DONE or isinstance(_loads(event.data), dict)
        return self.feed(event) if whole else ()

    def end_document(self) -> None:
        """The answer came as one JSON value, and it has been fed whole."""
        self.over = True

    @property
    def needs_body_end(self) -> bool:
        """Whether the end marker proves the end only together with the end of the body."""
        return False

    def rest(self) -> Sequence[Piece]:
        """What was held back, to be asked for at the end."""
        half, of, self._half, self._half_of = self._half, self._half_of, "", None
        return (_piece_of(of, "\ufffd"),) if half else ()

    @abstractmethod
    def finish(self, *, clean: bool, broken: bool = False) -> Finish:
        """How the answer ended.

        `clean`: the whole body was received; `broken`: the connection was lost instead. (Neither, where it is still
        open.) Raises UpstreamCut where the upstream did not prove that its answer is finished, UpstreamGarbage where
        nothing could be read as one.
        """

    def _decoded(self, event: Event) -> dict[str, Any] | None:
        """The event's JSON object, None where there is nothing to read in it."""
        data = event.data.strip()
        value = _loads(data) if data else None
        if data and _ERROR_EVENT.match(event.type):
            if self.proven:
                return None
            raise self._reported(data if value is None else value)
        if isinstance(value, dict):
            return value
        # Events with a name of their own, and what follows the end, cannot be part of the text.
        if data and data != "null" and event.type == "message" and not self.proven:
            what = "a line that is not JSON" if value is None else "JSON of an unknown shape"
            detail = f"{what}: {self._readable(data, _SHOWN_CHARS)}"
            self._note_garbage(UpstreamGarbage(f"{self._name} sent something that cannot be read", detail=detail))
        return None

    def _note_garbage(self, error: UpstreamGarbage) -> None:
        raise error

    def _skip(self, data: object) -> None:
        if not self._unread:
            self._unread = self._readable(data if isinstance(data, str) else json.dumps(data), _SHOWN_CHARS)

    def _joined(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces without halves of surrogate pairs. JSON can name them, and some servers cut a character in two."""
        joined = list[Piece]()
        for piece in pieces:
            text, of = _text_of(piece)
            if self._half and text and of != self._half_of:
                joined += self.rest()
            if text and (self._half or not text.isascii()):
                text, self._half = self._half + text, ""
                if "\ud800" <= text[-1] <= "\udbff":
                    text, self._half, self._half_of = text[:-1], text[-1], of
                piece = _with_text(piece, text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
            if not isinstance(piece, Delta | Reasoning | Refusal) or piece.text:
                joined.append(piece)
        return joined

    def _reported(self, error: object) -> UpstreamError:
        """What the upstream reports, in words or as an object."""
        codes = _codes_of(error)
        status = next((int(code) for code in codes if len(code) == 3 and code.isdecimal()), 0)
        limited = status == 429 or any("rate_limit" in code for code in codes)
        permanent = (400 <= status < 500 and status != 408) or any(map(_PERMANENT.search, codes))
        said = error_message(error) or (error if isinstance(error, str) else json.dumps(error))
        return UpstreamError(
            f"{self._name} reported an error in mid-stream",
            detail=self._readable(said, 300),
            kind="rate_limited" if limited else None,
            retryable=limited or not permanent,
        )

    def _cut(self, why: str) -> UpstreamCut:
        unread = f"; it also sent: {self._unread}" if self._unread else ""
        return UpstreamCut(f"{self._name} ended its answer before it was finished", detail=why + unread)

    def _unreadable(self) -> UpstreamGarbage:
        unread = f"; it sent: {self._unread}" if self._unread else ""
        return UpstreamGarbage(
            f"{self._name} sent nothing that can be read as an answer",
            detail=f"there was no text, no tool call and no reason for the end{unread}",
        )


class _Delta(msgspec.Struct, gc=False):
    """With text and nothing else: what stands beside it must be read, too."""

    content: str
    refusal: None = None
    tool_calls: tuple[()] | None = None
    function_call: None = None
    annotations: tuple[()] | None = None
    reasoning_content: None = None
    reasoning: None = None
    reasoning_text: None = None
    reasoning_details: tuple[()] | None = None
    thinking: None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta
    index: Literal[0] = 0
    finish_reason: msgspec.UnsetType | None = msgspec.UNSET


class _Chunk(msgspec.Struct, gc=False):
    """The usual chunk: one choice, which has text and goes on. No other chunk fits."""

    choices: tuple[_Choice]
    usage: None = None
    error: None = None


_usual_chunk = msgspec.json.Decoder(_Chunk).decode


class ChatParser(AnswerParser):
    """Chat Completions. `[DONE]` is the end marker; after a `finish_reason` the usage may follow."""

    def __init__(self, name: str, readable: Callable[[str, int], str]) -> None:
        super().__init__(name, readable)
        self._promised = False  # a chunk had the member `finish_reason`
        self._repeats = False  # a reason was followed by more of the answer
        self._together = False  # a reason came with a part of the answer
        self._thought = False
        self._garbage: UpstreamGarbage | None = None  # after the first reason
        self._usual = True  # nothing has come that the usual chunk would have to be put together with
        self._chars = 0  # of text in deltas
        self._messages = ""  # text in whole messages
        self._thoughts = ""  # reasoning in whole messages
        self._calls = _Calls()

    def feed(self, event: Event) -> Sequence[Piece]:
        if self._usual and event.type == "message":
            try:
                choice = _usual_chunk(event.data).choices[0]
            except (msgspec.DecodeError, RecursionError):
                return self._feed_any(event)
            if choice.finish_reason is None:
                self._promised = True
            text = choice.delta.content
            if text:
                self._has_text = True
                self._chars += len(text)
                return (Delta(text),)
        return self._feed_any(event)

    @property
    def needs_body_end(self) -> bool:
        return self.over and self._reason is None and not self._promised

    def finish(self, *, clean: bool, broken: bool = False) -> Finish:
        reason, nothing = self._reason, not (self._has_text or self._calls_tools)
        if reason is not None and (self.over or self.proven or clean):
            if nothing and self._unread and not self._thought:
                raise self._unreadable()
            return Finish(reason, self._usage)
        if reason is not None:
            raise self._cut(
                "the connection was lost, and its finish reasons were provisional: they came with text or before it"
            )
        if not self.over:
            raise self._cut("neither a finish reason nor an end marker came")
        if self._promised:
            raise self._cut("its end marker came without the finish reason that its chunks promised")
        if nothing:
            raise self._unreadable()
        if broken:
            raise self._cut("the connection was lost after the end marker, and no chunk had a finish reason")
        return Finish("stop" if self._has_text else "tool_calls", self._usage)

    def _feed_any(self, event: Event) -> Sequence[Piece]:
        self.unusual = True
        if not self.over and event.data.strip() == _DONE:
            self.over = True
            self._usual = False
        if self.over:
            return ()
        chunk = self._decoded(event)
        pieces = () if chunk is None else self._joined(self._read(chunk))
        self._usual = self._reason is None and not self._half and not self._messages
        return pieces

    def _note_garbage(self, error: UpstreamGarbage) -> None:
        # After a reason it could be part of the answer only if more of the answer follows.
        if self._reason is None or self._repeats:
            raise error
        self._garbage = error

    def _read(self, chunk: dict[str, Any]) -> Sequence[Piece]:
        choices = chunk.get("choices")
        choice = _first_choice(choices)
        error = _error_in(chunk, choice)
        if error is not None:
            if self.proven:
                return ()
            raise self._reported(error)
        usage = chunk.get("usage")
        if isinstance(usage, dict) and usage:
            self._usage = _usage(usage, "prompt_tokens", "completion_tokens")
        if choice is None:
            if not isinstance(choices, list) and not usage:
                self._skip(chunk)
            return ()
        return self._read_choice(choice)

    def _read_choice(self, choice: dict[str, Any]) -> Sequence[Piece]:
        reason = _reason_of(choice.get("finish_reason"))
        if reason is not None and _FAILED_REASON.search(reason):
            if not self.proven:
                raise self._failed(reason, choice)
            reason = None
        elif choice.get("error") and not self.proven:
            raise self._reported(choice["error"])
        self._promised = self._promised or "finish_reason" in choice
        at_the_end = reason is not None
        parts = [part for part in (choice.get("delta"), choice.get("message")) if isinstance(part, dict)]
        # Reasoning first, the calls last: the order in which a model writes them.
        pieces = [
            *self._thoughts_in(choice, at_the_end=at_the_end),
            *self._text_in(choice, at_the_end=at_the_end),
            *_links(parts),
            *self._calls.read(choice.get("delta"), whole=False),
            *self._calls.read(choice.get("message"), whole=True),
        ]
        text = any(isinstance(piece, Delta | Refusal) for piece in pieces)
        calls = any(part.get("tool_calls") or part.get("function_call") for part in parts)
        thought = any(part.get(name) for part in parts for name in _THOUGHTS)
        self._has_text = self._has_text or text
        self._calls_tools = self._calls_tools or calls
        self._thought = self._thought or thought
        more = text or calls or thought
        if more:
            if self._garbage is not None:
                raise self._garbage
            self.alive = True
            self._repeats = self._repeats or self._reason is not None
            self._reason, self.proven = None, False
        elif any(_is_unknown(part) for part in parts):
            self._skip(choice)
        if reason is not None:
            self._reason = reason
            self._together = self._together or more
            begun = self._has_text or self._calls_tools or self._thought
            self.proven = begun and not (self._repeats or self._together)
        return pieces

    def _text_in(self, choice: dict[str, Any], *, at_the_end: bool) -> Sequence[Piece]:
        delta, message = choice.get("delta"), choice.get("message")
        text, refusal = "", ""
        if isinstance(delta, dict):
            text, refusal = _text(delta.get("content")), _text(delta.get("refusal"))
        text = text or ("" if refusal else _text(choice.get("text")))  # as the older Completions API has it
        if text or refusal:
            self._chars += len(text) + len(refusal)
        elif isinstance(message, dict):
            text, refusal = _text(message.get("content")), _text(message.get("refusal"))
            new = self._text_of_message(text or refusal, at_the_end)
            text, refusal = (new, "") if text else ("", new)
        return [*([Delta(text)] if text else ()), *([Refusal(refusal)] if refusal else ())]

    def _thoughts_in(self, choice: dict[str, Any], *, at_the_end: bool) -> Sequence[Piece]:
        text, whole = _thought(choice.get("delta")), _thought(choice.get("message"))
        if not text and whole and not (self._thought and not self._thoughts):
            text, self._thoughts = _new_in(whole, self._thoughts, at_the_end)
        return [Reasoning(text)] if text else []

    def _text_of_message(self, content: str, at_the_end: bool) -> str:
        if self._chars:
            return content[self._chars :]
        new, self._messages = _new_in(content, self._messages, at_the_end)
        return new

    def _failed(self, reason: str | None, choice: dict[str, Any]) -> UpstreamError:
        said = self._readable(error_message(choice.get("error")), 300)
        return UpstreamError(
            f"{self._name} ended its answer without finishing it",
            detail=f"its finish reason was {reason!r}" + (f": {said}" if said else ""),
        )


class _Calls:
    """The tool calls of a chat so far. Servers name a call by its number, by its id, or by neither."""

    def __init__(self) -> None:
        self._ids: list[str] = []  # in the order of their begin
        self._by_number: dict[object, str] = {}
        self._begun_in_pieces = False

    def read(self, part: object, *, whole: bool) -> list[Piece]:
        """The calls in a delta, or in a `whole` message, where all that came in deltas is repeated."""
        if not isinstance(part, dict):
            return []
        entries = part.get("tool_calls")
        calls = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        older = part.get("function_call")
        if not calls and isinstance(older, dict):
            calls = [{"index": 0, "function": older}]
        if whole and self._begun_in_pieces:
            return []
        self._begun_in_pieces = self._begun_in_pieces or (bool(calls) and not whole)
        return [piece for number, call in enumerate(calls) for piece in self._read_call(call, number, whole)]

    def _read_call(self, call: dict[str, Any], number: int, whole: bool) -> list[Piece]:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = _text(function.get("name")), _arguments(function.get("arguments"))
        given = _clean(_text(call.get("id")))
        index = call.get("index")
        index = index if isinstance(index, int) else (number if whole else given or None)
        id = self._by_number.get(index) if index is not None else (self._ids[-1] if self._ids else None)
        if id is not None and whole:
            return []  # a message that repeats all
        # Some servers count each call as number 0: then a new id is a new call.
        if id is not None and not (given and given != id and name):
            return [ToolCall(id, arguments=arguments)] if arguments else []
        id = given if given and given not in self._ids else f"{given or 'call'}_{len(self._ids)}"
        self._ids.append(id)
        self._by_number[index] = id
        return [ToolCall(id, _clean(name) or "unnamed", arguments, done=whole)]


class _TextDelta(msgspec.Struct, gc=False):
    type: Literal["response.output_text.delta"]
    delta: str


_text_delta = msgspec.json.Decoder(_TextDelta).decode

# Pieces of something that is no text of the answer: thoughts, calls of tools, sound.
_NO_TEXT = re.compile(r"reasoning|arguments|_call|\.mcp|audio|image|annotation")

# What a response that is complete may say of its state.
_COMPLETED = ("completed", "complete", "done", "in_progress", "")

_INCOMPLETE_REASONS = {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}

# What the text of an item's part is called, by its type.
_PART_TEXT = {"output_text": "text", "text": "text", "refusal": "refusal"}


class ResponsesParser(AnswerParser):
    """Responses: ends with `response.completed`, `.incomplete`, `.failed` or `error`; `[DONE]` alone proves nothing."""

    def __init__(self, name: str, readable: Callable[[str, int], str]) -> None:
        super().__init__(name, readable)
        self._delta_came = False  # since the last part that was done
        self._items: list[Any] = []  # that were done, until there is text
        self._from_parts = False  # all text came in parts that were done
        self._reasons_in: str | None = None  # the kind of events that the reasoning comes in
        self._thought_came = False  # since the last part of the reasoning that was done
        self._calls: dict[str, _Call] = {}  # by the ids of their items
        # What carries a part of the answer, by type.
        self._readers: Mapping[str, Callable[[dict[str, Any]], Sequence[Piece]]] = {
            "response.output_text.delta": lambda value: self._note_delta(Delta(_text(value.get("delta")))),
            "response.output_text.done": lambda value: self._part_done(Delta(_text(value.get("text")))),
            "response.output_text.annotation.added": lambda value: _links([{"annotations": [value.get("annotation")]}]),
            "response.content_part.done": lambda value: self._content_done(value.get("part")),
            "response.refusal.delta": lambda value: self._note_delta(Refusal(_text(value.get("delta")))),
            "response.refusal.done": lambda value: self._part_done(Refusal(_text(value.get("refusal")))),
            "response.function_call_arguments.delta": lambda value: self._call_piece(value, done=False),
            "response.function_call_arguments.done": lambda value: self._call_piece(value, done=True),
            "response.output_item.added": lambda value: self._begin_item(value.get("item")),
            "response.output_item.done": lambda value: self._note_item(value.get("item")),
        }

    def feed(self, event: Event) -> Sequence[Piece]:
        if not self._half and not self.over:
            try:
                text = _text_delta(event.data).delta
            except (msgspec.DecodeError, RecursionError):
                return self._feed_any(event)
            if text:
                self._has_text = self._delta_came = True
                return (Delta(text),)
        return self._feed_any(event)

    def finish(self, *, clean: bool, broken: bool = False) -> Finish:
        if self._reason is None:
            marker = "an end marker alone came" if self.over else "none came"
            raise self._cut(f"a response ends with response.completed, .incomplete or .failed: {marker}")
        return Finish(self._reason, self._usage)

    def _feed_any(self, event: Event) -> Sequence[Piece]:
        self.unusual = True
        if self.over:
            return ()
        if event.data.strip() == _DONE:
            self.over = True
            return ()
        value = self._decoded(event)
        return () if value is None else self._joined(self._read(value, event.type))

    def _read(self, value: dict[str, Any], named: str) -> Sequence[Piece]:
        kind = value.get("type")
        if not isinstance(kind, str) or not kind:
            kind = named
        read = self._readers.get(kind)
        if read is not None:
            return read(value)
        match kind:
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                response = value.get("response")
                return self._close(kind, response if isinstance(response, dict) else {})
            case "error" | "response.error":
                raise self._reported(value.get("error") or value)
            case _ if value.get("object") == "response":
                return self._close(f"response.{value.get('status')}", value)
            case "message":
                error = _error_in(value, None)
                if error is not None:
                    raise self._reported(error)
                self._skip(value)
            case _ if kind.startswith("response.reasoning"):
                return self._note_thought(kind, value)
            case _ if kind.endswith(".delta"):
                self._note_other(kind, value)
        return ()

    def _note_text(self, piece: Delta | Refusal) -> Sequence[Piece]:
        if not piece.text:
            return ()
        self.alive = self._has_text = True
        return (piece,)

    def _note_delta(self, piece: Delta | Refusal) -> Sequence[Piece]:
        if piece.text:
            self._delta_came, self._from_parts = True, False
        return self._note_text(piece)

    def _part_done(self, piece: Delta | Refusal) -> Sequence[Piece]:
        """A part's whole text: new only where it did not come in deltas."""
        came, self._delta_came = self._delta_came, False
        if came or not piece.text:
            return ()
        self._from_parts = False
        return self._note_text(piece)

    def _content_done(self, part: object) -> Sequence[Piece]:
        if self._has_text and not self._from_parts:
            return ()
        self._from_parts = True
        found, _ = _texts_of_items([{"type": "message", "content": [part]}])
        return [piece for text in found for piece in self._note_text(text)]

    def _note_other(self, kind: str, value: dict[str, Any]) -> None:
        self.alive = True
        if not _NO_TEXT.search(kind):
            self._skip(value)

    def _note_thought(self, kind: str, value: dict[str, Any]) -> Sequence[Piece]:
        """Reasoning comes as text, as its summary, or as both: what comes first counts."""
        family, _, what = kind.rpartition(".")
        family = family.removesuffix("_part").removesuffix("_text")
        self.alive = True
        if what == "added" and self._reasons_in == family and _count(value.get("summary_index")):
            return (Reasoning("\n\n"),)
        text = _text(value.get("delta") if what == "delta" else value.get("text"))
        if what not in ("delta", "done") or not text or self._reasons_in not in (None, family):
            return ()
        came, self._thought_came = self._thought_came, what == "delta"
        self._reasons_in = family
        return () if came and what == "done" else (Reasoning(text),)

    def _begin_item(self, item: object) -> Sequence[Piece]:
        if _member(item, "type") != "function_call":
            return ()
        self.alive = True
        return self._call_of(item).begin()

    def _call_piece(self, value: dict[str, Any], *, done: bool) -> Sequence[Piece]:
        self.alive = True
        call = self._call_of({"id": value.get("item_id"), "name": value.get("name")})
        return call.end(_arguments(value.get("arguments"))) if done else call.piece(_text(value.get("delta")))

    def _call_of(self, item: Any) -> _Call:
        """The call of this item, a new one where it is not known. Where items have no ids, it is the last call."""
        key = _text(item.get("id")) or _text(item.get("call_id"))
        if not key and self._calls and "type" not in item:
            key = next(reversed(self._calls))
        call = self._calls.get(key)
        if call is None:
            number = len(self._calls)
            id = _clean(_text(item.get("call_id"))) or _clean(key) or f"call_{number}"
            id = f"{id}_{number}" if any(id == other.id for other in self._calls.values()) else id
            call = self._calls[key or id] = _Call(id, _clean(_text(item.get("name"))) or "unnamed")
        return call

    def _note_item(self, item: object) -> Sequence[Piece]:
        self.alive = True
        if not self._has_text and len(self._items) < _MAX_ITEMS:
            self._items.append(item)
        if _member(item, "type") != "function_call":
            return ()
        return self._call_of(item).end(_arguments(_member(item, "arguments")))

    def _close(self, kind: str, response: dict[str, Any]) -> Sequence[Piece]:
        status = response.get("status")
        if kind == "response.completed" and isinstance(status, str) and status not in _COMPLETED:
            kind = f"response.{status}"
        if kind == "response.failed" or response.get("error"):
            raise self._reported(response.get("error") or "it did not say what")
        if kind not in ("response.completed", "response.incomplete"):
            raise UpstreamError(f"{self._name} ended its answer without finishing it", detail=kind)
        items = response.get("output") or self._items
        found, unknown = ([], False) if self._has_text else _texts_of_items(items)
        pieces: list[Piece] = [*self._thoughts_of(items), *found]
        self._has_text = self._has_text or bool(found)
        self.alive = self.alive or bool(found)
        if unknown and not self._has_text:
            self._skip(items)
        for item in items if isinstance(items, list) else ():
            if _member(item, "type") == "function_call":
                pieces += self._call_of(item).end(_arguments(_member(item, "arguments")))
        self._reason = self._reason_of(kind, response, items)
        if self._unread and not self._has_text and self._reason == "stop":
            raise self._unreadable()
        usage = response.get("usage")
        if isinstance(usage, dict) and usage:
            self._usage = _usage(usage, "input_tokens", "output_tokens")
        self.over = self.proven = True
        return pieces

    def _thoughts_of(self, items: object) -> list[Piece]:
        """The reasoning in a response's output, where none came before."""
        if self._reasons_in is not None or self._has_text:
            return []
        found = [item for item in items if _member(item, "type") == "reasoning"] if isinstance(items, list) else []
        texts = [_thought({"reasoning_details": item.get("content") or item.get("summary")}) for item in found]
        return [Reasoning(text) for text in texts if text]

    def _reason_of(self, kind: str, response: dict[str, Any], items: object) -> str:
        if kind == "response.completed":
            kinds = [str(_member(item, "type")) for item in items] if isinstance(items, list) else []
            # A function is called by the client; other tools (`web_search_call`) by the server itself.
            calls = self._calls or (not self._has_text and any(kind.endswith("_call") for kind in kinds))
            return "tool_calls" if calls else "stop"
        why = _member(response.get("incomplete_details"), "reason")
        return _INCOMPLETE_REASONS.get(why, why) if isinstance(why, str) and why else "incomplete"


@dataclass(slots=True)
class _Call:
    """A function call of a response."""

    id: str
    name: str
    begun: bool = False
    came: bool = False  # any of its arguments
    ended: bool = False

    def begin(self) -> list[Piece]:
        if self.begun:
            return []
        self.begun = True
        return [ToolCall(self.id, self.name)]

    def piece(self, arguments: str) -> list[Piece]:
        if self.ended or not arguments:
            return self.begin()
        self.came = True
        return [*self.begin(), ToolCall(self.id, arguments=arguments)]

    def end(self, arguments: str) -> list[Piece]:
        """`arguments`: all of them, new only where none came before."""
        if self.ended:
            return []
        rest = [] if self.came else self.piece(arguments)
        self.ended = True
        return [*self.begin(), *rest, ToolCall(self.id, done=True)]


def _new_in(whole: str, before: str, at_the_end: bool) -> tuple[str, str]:
    """What is new in the text of a message after those before it, and the text so far: some servers repeat all the text
    in each message, or in the last, others send pieces in them."""
    if whole.startswith(before) and (len(whole) > len(before) or at_the_end):
        return whole[len(before) :], whole
    return whole, before + whole


def _text_of(piece: Piece) -> tuple[str, object]:
    """The piece's text, and what it continues."""
    match piece:
        case Delta(text) | Reasoning(text) | Refusal(text):
            return text, type(piece)
        case ToolCall():
            return piece.arguments, piece.id
    return "", None


def _with_text(piece: Piece, text: str) -> Piece:
    match piece:
        case ToolCall():
            return replace(piece, arguments=text)
        case SourceUrl():
            return piece
    return type(piece)(text)


def _piece_of(of: object, text: str) -> Piece:
    return ToolCall(of, arguments=text) if isinstance(of, str) else _FLOWS[of](text)


_FLOWS: Mapping[object, type[Delta | Reasoning | Refusal]] = {Delta: Delta, Reasoning: Reasoning, Refusal: Refusal}


def _clean(text: str) -> str:
    """The text without halves of surrogate pairs."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _arguments(value: object) -> str:
    """A tool call's arguments as JSON: some servers send the object itself."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else _text(value)


def _thought(part: object) -> str:
    """The reasoning in a delta, a message or an item."""
    if not isinstance(part, dict):
        return ""
    for name in _THOUGHTS:
        value = part.get(name)
        text = "".join(map(_thought_of_entry, value)) if isinstance(value, list) else _text(value)
        if text:
            return text
    content = part.get("content")
    return "".join(map(_thought_of_entry, content)) if isinstance(content, list) and _is_thinking(content) else ""


def _is_thinking(content: list[Any]) -> bool:
    return any(_member(entry, "type") == "thinking" for entry in content)


def _thought_of_entry(entry: object) -> str:
    """An entry of a list of reasoning, or of a content that has entries of the type `thinking` among its texts."""
    if not isinstance(entry, dict):
        return ""
    kind = str(entry.get("type", ""))
    if kind in ("text", "output_text", "refusal"):
        return ""
    return _text(entry.get("thinking")) or _text(entry.get("text")) or _text(entry.get("summary"))


def _links(parts: Sequence[dict[str, Any]]) -> list[Piece]:
    """The pages that annotations cite."""
    links = list[Piece]()
    for part in parts:
        annotations = part.get("annotations")
        for annotation in annotations if isinstance(annotations, list) else ():
            cited = annotation.get("url_citation") or annotation if isinstance(annotation, dict) else {}
            url = _member(cited, "url")
            if isinstance(url, str) and url:
                links.append(SourceUrl(_clean(url), _clean(_text(_member(cited, "title"))) or None))
    return links


def _loads(text: str) -> Any:
    """The JSON value as Python reads it: NaN and lone surrogates are taken. None where there is none (or null)."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: object) -> str:
    """What stands where text belongs: a text, parts of one, or a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "".join(_text_of_part(part) for part in value)
    return _text(value.get("value")) if isinstance(value, dict) else ""


def _text_of_part(part: object) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    return _text(part.get("text")) if part.get("type", "text") in _PART_TEXT else ""


def _first_choice(choices: object) -> dict[str, Any] | None:
    """The first of the answers: others come only where they were asked for, which they never are."""
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (choice.get("index") in (None, 0) or not isinstance(choice["index"], int)):
            return choice
    return None


def _is_unknown(part: dict[str, Any]) -> bool:
    return any(value and name not in _KNOWN_DELTA and name not in _THOUGHTS for name, value in part.items())


def _reason_of(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip()
    return _REASONS.get(word.lower(), word)


def _error_in(chunk: dict[str, Any], choice: object) -> object:
    """The error that the chunk reports, None where it reports none."""
    error = chunk.get("error")
    if error:
        return chunk if error is True else error
    if chunk.get("object") == "error" or chunk.get("type") == "error":
        return chunk
    if choice is not None or chunk.get("choices"):
        return None
    errors = chunk.get("errors")
    if chunk.get("detail") or errors:
        return errors or chunk
    said = chunk.get("message")
    if not isinstance(said, str) or not said:
        return None
    return chunk if _has_bad_code(chunk) or chunk.keys() <= _ERROR_MEMBERS else None


def _has_bad_code(chunk: dict[str, Any]) -> bool:
    codes = [chunk.get(name) for name in ("code", "statusCode", "status_code")]
    good = (None, "", 0, 200, "0", "200", "ok", "success")
    bad = chunk.get("success") is False or any(code not in good for code in codes)
    status = chunk.get("status")
    return bad or (isinstance(status, int) and status >= 400)


def _codes_of(error: object, depth: int = 3) -> list[str]:
    """The codes, types and statuses in an error, in lower case."""
    if not isinstance(error, dict) or depth == 0:
        return []
    names = ("code", "type", "status", "statusCode", "status_code")
    own = [str(error[name]).lower() for name in names if isinstance(error.get(name), str | int)]
    return own + _codes_of(error.get("error"), depth - 1)


def _texts_of_items(items: object) -> tuple[list[Delta | Refusal], bool]:
    """The text in a response's output, and whether a message has parts that cannot be read."""
    pieces, unknown = list[Delta | Refusal](), False
    for item in items if isinstance(items, list) else ():
        if _member(item, "type") != "message":
            continue
        content = _member(item, "content")
        for part in content if isinstance(content, list) else ():
            kind = _member(part, "type")
            text = _text(_member(part, _PART_TEXT.get(kind, "text")))
            if text:
                pieces.append(Refusal(text) if kind == "refusal" else Delta(text))
            unknown = unknown or not (text or kind in _PART_TEXT)
    return pieces, unknown


def _usage(counts: dict[str, Any], input_key: str, output_key: str) -> Usage:
    return Usage(_count(counts.get(input_key)), _count(counts.get(output_key)))


def _count(value: object) -> int:
    # Some servers count in floats, some send null until the end, some NaN.
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0
