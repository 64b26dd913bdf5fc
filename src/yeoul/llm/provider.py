"""What a provider of LLM answers is: one Protocol, for OpenAI, every OpenAI-compatible server, and the demo."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .items import Item

__all__ = ["Message", "Prompt", "Provider", "Schema"]


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

    `chat`: the messages as OpenAI's Chat Completions API has them, where they are more than text (images, tool calls);
    `options`: further members of a request to that API, such as `tools`. Providers with `takes_chat = True` use both.
    """

    messages: Sequence[Message]
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    schema: Schema | None = None
    chat: Sequence[Mapping[str, Any]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


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

    def stream(self, prompt: Prompt) -> AsyncGenerator[Item, None]:
        """An async generator: pieces of the answer, then exactly one Finish, then its end.

        Ending without a Finish means that the answer was cut off. Closing the generator (or cancelling the task that
        runs it) closes the request to the model at once. Raises UpstreamError, whose `str()` is fit for users.
        """
        ...

    async def close(self) -> None:
        """Closes pooled connections."""
        ...
