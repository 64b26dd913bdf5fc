"""What a provider of LLM answers is: one Protocol, for OpenAI, every OpenAI-compatible server, and the demo."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["Delta", "Finish", "Item", "Message", "Note", "Prompt", "Provider", "Schema", "Usage"]

# Names of the dialects' own events: a note of such a name would be taken for one.
_TAKEN = frozenset({"complete", "error", "failure", "finish", "message", "token"})
_NOTE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as in OpenAI's chat API."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What an answer in JSON looks like. `shape` is a JSON Schema of the subset that OpenAI's strict mode knows: every
    property is required, and no others are allowed."""

    name: str
    shape: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a provider is asked.

    `model` None is the provider's default; `max_tokens` (of the answer) and `temperature` None are the model's.
    `schema`: what a JSON answer is to look like. Not every provider can promise it: the messages must ask for it too.
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

    `reason` in OpenAI's words: `stop` (the answer is whole), `length` (it was cut at a bound on tokens),
    `content_filter`, `tool_calls`. `result`: the text's meaning for the app that asked, where that is more than text (a
    JSON value).
    """

    reason: str = "stop"
    usage: Usage | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something beside the answer's text that readers are shown as a separate event: a stage, the sources.

    Providers send none; apps add them to a provider's stream. `type` is the event's name, in lower case, `data` is sent
    as JSON. Raises ValueError for a name that another event has.
    """

    type: str
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not _NOTE.fullmatch(self.type) or self.type in _TAKEN:
            raise ValueError(f"invalid type of a note {self.type!r}: use a name in lower case that no dialect uses")


# What a generation is made of.
Item = Delta | Finish | Note


class Provider(Protocol):
    """Answers prompts token by token.

    `name` is what a request's `provider` field says, `model` the model used where the prompt names none. `models`: the
    names of models that requests may choose, `model` among them; `*` stands for any.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def models(self) -> Sequence[str]: ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Finish, None]:
        """An async generator: deltas, then exactly one Finish, then its end.

        Ending without a Finish means that the answer was cut off. Closing the generator (or cancelling the task that
        runs it) closes the request to the model at once. Raises UpstreamError, whose `str()` is fit for users.
        """
        ...

    async def close(self) -> None:
        """Closes pooled connections."""
        ...
