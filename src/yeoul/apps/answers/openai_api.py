"""OpenAI's API in front of the server's providers: the models, and chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from ...asgi.errors import Problem
from ...asgi.generate import AnswerService, NewAnswer, end_or_departure, problem_of_outcome
from ...asgi.openapi import problems
from ...asgi.routing import STARTED, JsonRoute
from ...llm.chat_completion import chat_completion
from ...llm.dialects import OpenAI, OpenAIWithUsage
from ...llm.outcome import State
from ...llm.provider import Message, Prompt, Provider
from ...llm.providers import Providers

__all__ = ["openai_api"]

# Members that a request may not have: they change what it costs, or where it is kept, which is the operator's choice.
_REFUSED = ("service_tier", "store", "web_search_options", "audio", "modalities")

# Members that change what the answer is. A provider that would not use them must not answer as if it had.
_MEANINGFUL = (
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "stop",
    "logprobs",
    "prediction",
)

_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_OTHER_ROLES = ("tool", "function")

_MAX_TOKENS = 1_000_000


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class ChatCompletionIn(BaseModel):
    """The request of OpenAI's API. What is not listed is handed on to model servers with that API, except what changes
    the price or the storage."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, max_length=300)
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    max_tokens: int | None = Field(None, ge=1, le=_MAX_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=_MAX_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2)

    def prompt(self, provider: Provider, model: str) -> Prompt:
        """Raises Problem (422) for what this provider does not take."""
        given = {name: value for name, value in (self.model_extra or {}).items() if value is not None}
        for name in _REFUSED:
            if name in given:
                raise _wrong(name, "this server does not let requests choose it: leave it out")
        messages = [message for at, each in enumerate(self.messages) for message in _texts_of(at, each)]
        chat = self.messages if any(map(_is_more_than_text, self.messages)) else None
        if chat is None and not messages:
            raise _wrong("messages", "send at least one message that has text")
        if not getattr(provider, "takes_chat", False):
            without: Any = ("none", {"type": "text"}, [], False)
            named = [name for name in _MEANINGFUL if given.get(name, False) not in without]
            if chat is not None or named:
                raise _wrong(
                    named[0] if named else "messages",
                    f"the provider {provider.name!r} takes messages of text alone: leave it out, or use another model",
                )
        most = self.max_completion_tokens or self.max_tokens
        return Prompt(messages, model, most, self.temperature, chat=chat, options=given)


class ModelOut(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


def openai_api(answers: AnswerService) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI API"], route_class=JsonRoute)
    providers = answers.providers

    @router.get("/models", summary="The models that requests may choose")
    async def models() -> ModelList:
        return ModelList(data=list(_models(providers)))

    @router.get("/models/{id:path}", responses=problems(404), summary="One of them")
    async def model(id: Annotated[str, Path(min_length=1, max_length=300)]) -> ModelOut:
        provider, _ = _choose(providers, id)
        return ModelOut(id=id, owned_by=provider.name)

    @router.post(
        "/chat/completions",
        response_class=JSONResponse,
        responses={**STARTED, **problems(404, 502, 503, 504)},
        summary="A chat completion, whole or as a stream",
    )
    async def completions(request: Request, asked: ChatCompletionIn) -> Response:
        provider, chosen = _choose(providers, asked.model)

        def new() -> NewAnswer:
            return answers.ask(asked.prompt(provider, chosen), provider.name)

        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return await answers.stream(request, new, dialect=OpenAIWithUsage if usage else OpenAI)
        # It has no reader of the hub: only this request knows whether its client still waits.
        generation, _ = await answers.start(request, new)
        outcome = await end_or_departure(request, generation)
        if outcome.state is not State.DONE:
            raise problem_of_outcome(outcome)
        completion = chat_completion(generation.info, generation.answer, outcome)
        return JSONResponse(completion, headers={"Cache-Control": "no-store"})

    return router


def _models(providers: Providers) -> Iterator[ModelOut]:
    """The default provider's first. A name that two providers have is the first one's; the other's has its provider in
    front."""
    seen = set[str]()
    for provider in _in_order(providers):
        for name in provider.models:
            if name != "*":
                id = f"{provider.name}/{name}" if name in seen else name
                seen.add(id)
                yield ModelOut(id=id, owned_by=provider.name)


def _choose(providers: Providers, model: str) -> tuple[Provider, str]:
    """The provider of a model, and what it calls it. Raises Problem (404)."""
    for provider in _in_order(providers):
        if model in provider.models and model != "*":
            return provider, model
    name, _, rest = model.partition("/")
    if name in providers.names and rest and (rest in providers.get(name).models or "*" in providers.get(name).models):
        return providers.get(name), rest
    for provider in _in_order(providers):
        if "*" in provider.models:
            return provider, model
    right = "use one that GET /v1/models lists"
    raise Problem(404, f"the model {model[:80]!r} is not offered here: {right}", fields=[("model", right)])


def _in_order(providers: Providers) -> list[Provider]:
    others = [name for name in providers.names if name != providers.default]
    return [providers.get(name) for name in (providers.default, *others)]


def _texts_of(at: int, message: dict[str, Any]) -> list[Message]:
    """The message's text, where it has one. Raises Problem (422) for a message of no form that the API has."""
    role, content = message.get("role"), message.get("content")
    if role not in (*_ROLES, *_OTHER_ROLES):
        raise _wrong(f"messages.{at}.role", f"use one of {', '.join((*_ROLES, *_OTHER_ROLES))}")
    if content is not None and not isinstance(content, str | list):
        raise _wrong(f"messages.{at}.content", "send a text, or a list of parts")
    if role in _OTHER_ROLES:
        return []
    text = content if isinstance(content, str) else "".join(map(_text_of, content or ()))
    return [Message(_ROLES[role], text)] if text else []


def _is_more_than_text(message: dict[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    other = any(message.get(name) for name in ("tool_calls", "function_call", "refusal", "audio", "name"))
    return other or message.get("role") not in _ROLES or any(not _is_text(part) for part in parts)


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _text_of(part: object) -> str:
    return str(part["text"]) if isinstance(part, dict) and _is_text(part) else ""


def _wrong(field: str, right: str) -> Problem:
    return Problem(422, f"invalid `{field}`: {right}", fields=[(field, right)])
