"""What a provider of LLM answers is: one Protocol, for OpenAI, for every OpenAI-compatible server, for the demo."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Delta", "Finish", "Item", "Message", "Note", "Prompt", "Provider", "Schema", "Usage"]

# What dialects call their own events: a note of that name would be taken for one.
_TAKEN = frozenset({"complete", "error", "failure", "message", "token"})
_NOTE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as in OpenAI's chat API."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What an answer in JSON looks like. `shape` is JSON Schema, of the part that OpenAI's strict mode knows: every
    property required, no additional ones."""

    name: str
    shape: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a provider is asked.

    `model` None is the provider's default; `max_tokens` and `temperature` None are the model's. `schema`: a JSON schema
    that the answer is to fit, for providers that can promise it; others are only asked by the messages.
    """

    messages: Sequence[Message]
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    schema: Schema | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the provider counts (and bills) them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The provider's terminal marker: without one an answer is incomplete, whatever its text looks like.

    `reason` in OpenAI's words: `stop`, `length`, `content_filter`, `tool_calls`. `result`: what the text means to
    whoever asked, where that is more than text (a JSON value).
    """

    reason: str = "stop"
    usage: Usage | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something beside the answer's text that readers are shown as an event of their own: a stage, the sources.

    Providers have none; apps put them into what they make of a provider's stream. `type` is the event's name, in lower
    case, `data` what its JSON says. Raises ValueError for a name that is another event's.
    """

    type: str
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _NOTE.fullmatch(self.type) or self.type in _TAKEN:
            raise ValueError(f"a note's type is a name in lower case that no dialect has, not {self.type!r}")


# What a generation is made of.
Item = Delta | Finish | Note


class Provider(Protocol):
    """Answers prompts token by token.

    `name` is what a request's `provider` field says, `model` the model used where the prompt names none.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Finish, None]:
        """An async generator: deltas, then exactly one Finish, then its end.

        Ending without a Finish means that the answer was cut off. Closing the generator (or cancelling the task that
        runs it) closes the request to the model at once. Raises UpstreamError; its text is fit for users.
        """
        ...

    async def close(self) -> None:
        """Lets go of pooled connections."""
        ...
