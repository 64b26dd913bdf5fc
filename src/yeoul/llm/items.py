"""What an answer is made of, item by item, as a provider or an application yields it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Delta",
    "File",
    "Finish",
    "Item",
    "Note",
    "Piece",
    "Reasoning",
    "Refusal",
    "SourceDocument",
    "SourceUrl",
    "Step",
    "ToolCall",
    "ToolResult",
    "Usage",
]

# Names of the dialects' own events: a note of such a name would be taken for one.
_TAKEN = frozenset({"complete", "error", "failure", "finish", "message", "token"})
_NOTE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counts (and bills) them. As an item of its own: those of one step, added to the
    answer's where its `Finish` has none."""

    input_tokens: int
    output_tokens: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The next piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The next piece of the text by which the model refuses to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The next piece of a tool call: `arguments` is the next piece of the call's arguments, a JSON text.

    The first item with an `id` begins the call and must have the `name`. `done`: no more pieces follow. Without it a
    call ends with its step, its result or the answer.
    """

    id: str
    name: str | None = None
    arguments: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call returned: `output` is any JSON value. `error` says instead why the tool failed. `id` is the
    call's."""

    id: str
    output: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """A page that the answer refers to. `id` None: numbered within the answer."""

    url: str
    title: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document that the answer refers to. `id` None: numbered within the answer."""

    title: str
    media_type: str = "text/plain"
    filename: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file in the answer. `url` may be a `data:` URL."""

    url: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Step:
    """A new step begins: the next call of the model, after the results of tools. The first one begins by itself."""


@dataclass(frozen=True, slots=True)
class Note:
    """An application's own data beside the text: a stage, the passages found.

    `type` is the event's name, in lower case; `data` is sent as JSON. A note with the `id` of an earlier one of its
    type replaces it. `transient`: shown to the readers of the moment, but not a part of the answer.

    Providers send none; apps add them to a provider's stream. Raises ValueError for a name that another event has.
    """

    type: str
    data: Mapping[str, Any]
    id: str | None = None
    transient: bool = False

    def __post_init__(self) -> None:
        if not _NOTE.fullmatch(self.type) or self.type in _TAKEN:
            raise ValueError(f"invalid type of a note {self.type!r}: use a name in lower case that no dialect uses")


@dataclass(frozen=True, slots=True)
class Finish:
    """The provider's terminal marker: without one an answer is incomplete, whatever its text looks like.

    `reason` in OpenAI's words: `stop` (the answer is whole), `length` (it was cut at a bound on tokens),
    `content_filter`, `tool_calls`. `result`: the text's meaning for the app that asked, where that is more than text (a
    JSON value).
    """

    reason: str = "stop"
    usage: Usage | None = None
    result: Any = None


# What models write piece by piece, and the pages that they cite.
Piece = Delta | Reasoning | Refusal | ToolCall | SourceUrl

# What a generation is made of.
Item = Piece | ToolResult | SourceDocument | File | Step | Note | Usage | Finish
