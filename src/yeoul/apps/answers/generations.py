"""Answers as resources: created once, read from any position, by several readers, as often as needed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, model_validator

from ...asgi.authentication import caller_of, require_user
from ...asgi.body import JsonBody
from ...asgi.errors import Problem
from ...asgi.event_stream import complete
from ...asgi.generate import AnswerService, NewAnswer, generation_stream
from ...asgi.headers import accepts
from ...asgi.idempotency import REPLAYED
from ...asgi.openapi import CREATED, problems
from ...asgi.routing import STARTED, JsonRoute, hot, stream_route
from ...asgi.stream_request import read_to_its_end
from ...hub.job import CANCEL, CONTINUE, DisconnectPolicy
from ...llm.dialects import DIALECTS
from ...llm.generation import Generation
from ...llm.provider import Message, Prompt

__all__ = ["generations_app"]

_PATH = "/generations"

# Characters of all messages together: more than the longest context window takes.
_MAX_PROMPT = 1_000_000


class MessageIn(JsonBody):
    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class CancelAfter(JsonBody):
    cancel_after_s: float = Field(ge=0, le=86_400, description="seconds without a reader")


class NewGeneration(JsonBody):
    """The question: `messages`, or a `prompt` as the only message of the user."""

    messages: list[MessageIn] | None = Field(None, min_length=1, max_length=1_000)
    prompt: str | None = Field(None, min_length=1)
    provider: str | None = Field(None, max_length=100)
    model: str | None = Field(None, min_length=1, max_length=200)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    on_disconnect: Literal["continue", "cancel"] | CancelAfter = "continue"

    @model_validator(mode="after")
    def _one_form(self) -> NewGeneration:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either `messages` or `prompt`")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("`prompt` is blank: write a question")
        if sum(len(message.content) for message in self.conversation()) > _MAX_PROMPT:
            raise ValueError(f"the messages have more than {_MAX_PROMPT} characters together")
        return self

    def conversation(self) -> list[Message]:
        if self.messages is not None:
            return [Message(message.role, message.content) for message in self.messages]
        return [Message("user", self.prompt or "")]

    def policy(self) -> DisconnectPolicy:
        match self.on_disconnect:
            case "continue":
                return CONTINUE
            case "cancel":
                return CANCEL
            case CancelAfter(cancel_after_s=seconds):
                return DisconnectPolicy(seconds)


class UsageOut(BaseModel):
    input_tokens: int
    output_tokens: int


class GenerationOut(BaseModel):
    """Times are Unix seconds. `state`: running, done, failed, cancelled, interrupted, incomplete."""

    id: str
    state: str
    provider: str
    model: str
    text: str = Field(description="what there is to read: the texts among the parts, and a refusal")
    parts: list[dict[str, Any]] = Field(
        description="each with its `index`, its `kind` (`text`, `reasoning`, `refusal`, `tool_call`, `tool_result`, "
        "`source_url`, `source_document`, `file`, `note`) and what this kind has"
    )
    result: Any = Field(description="the answer's JSON value, where it was asked for as JSON and is done")
    tokens: int = Field(description="pieces that the provider has sent so far")
    finish_reason: str | None = Field(
        description="`stop`: the answer is whole; `length`, `content_filter` …: it is not"
    )
    error: str | None
    kind: str | None = Field(description="the class of failure")
    retryable: bool = Field(description="whether the same request may succeed later")
    usage: UsageOut | None
    created: float
    first_token_at: float | None
    ended_at: float | None
    readers: int

    @classmethod
    def of(cls, generation: Generation) -> GenerationOut:
        outcome = generation.outcome
        usage = outcome.usage
        return cls(
            id=generation.id,
            state=outcome.state,
            provider=generation.provider,
            model=generation.model,
            text=generation.text,
            parts=[part.state for part in generation.answer.parts],
            result=generation.result,
            tokens=generation.tokens,
            finish_reason=outcome.reason,
            error=outcome.error,
            kind=outcome.kind,
            retryable=outcome.retryable,
            usage=None
            if usage is None
            else UsageOut(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens),
            created=generation.created,
            first_token_at=generation.first_token_at,
            ended_at=generation.ended_at,
            readers=len(generation.readers),
        )


class GenerationList(BaseModel):
    generations: list[GenerationOut]


Id = Annotated[str, Path(max_length=64)]
DialectName = Annotated[
    Literal["plain", "json", "envelope", "openai", "ai-sdk", "ai-sdk-6", "ai-sdk-5"],
    Query(description="how the stream looks"),
]


def generations_app(answers: AnswerService) -> APIRouter:
    generations = answers.generations
    router = APIRouter(tags=["generations"], route_class=JsonRoute)

    def found(id: str, request: Request) -> Generation:
        generation = answers.find(id, request)
        if generation is None:
            raise Problem(404, "unknown answer: it never existed, or it is no longer kept")
        return generation

    @router.post(
        _PATH,
        status_code=201,
        response_model=GenerationOut,
        responses={
            **STARTED,
            200: {**STARTED[200], "description": "With `Accept: text/event-stream`: the stream."},
            201: CREATED,
        },
        summary="Ask a model",
    )
    async def create(request: Request, asked: NewGeneration, dialect: DialectName = "json") -> Response:
        def new() -> NewAnswer:
            prompt = Prompt(asked.conversation(), asked.model, asked.max_tokens, asked.temperature)
            return answers.ask(prompt, asked.provider)

        policy = asked.policy()
        if accepts(request.headers.get("accept", ""), "text/event-stream"):
            return await answers.stream(request, new, dialect=DIALECTS[dialect], on_disconnect=policy)
        generation, is_new = await answers.start(request, new, on_disconnect=policy)
        headers = {"Location": answers.location_of(request, generation), "Cache-Control": "no-store"}
        if not is_new:
            headers[REPLAYED] = "true"
        return JSONResponse(GenerationOut.of(generation).model_dump(), 201, headers)

    @router.get(_PATH, summary="The caller's running answers; for admins, those of all users")
    async def listed(request: Request) -> GenerationList:
        caller = caller_of(request)
        if not caller.is_admin:
            require_user(request)
        running = [one for one in generations.running() if caller.is_admin or one.owner == caller.owner]
        return GenerationList(generations=[GenerationOut.of(generation) for generation in running])

    @router.get(_PATH + "/{id}", responses=problems(404), summary="An answer so far")
    async def show(request: Request, id: Id, response: Response) -> GenerationOut:
        response.headers["Cache-Control"] = "no-store"
        return GenerationOut.of(found(id, request))

    @router.delete(_PATH + "/{id}", responses=problems(404), summary="Stop it; the text so far is kept")
    async def stop(request: Request, id: Id) -> GenerationOut:
        generation = found(id, request)
        generation.cancel()
        await generation.wait()
        return GenerationOut.of(generation)

    @stream_route(router, _PATH + "/{id}/stream", responses=problems(404), summary="Its stream, from any position")
    @hot
    async def stream(
        request: Request,
        id: Id,
        dialect: DialectName = "json",
        begin: Annotated[Literal["start", "snapshot"], Query(alias="from")] = "start",
    ) -> Response:
        if answers.find(id, request) is None and read_to_its_end(request, id):
            return complete(request)  # also after a restart
        generation, form = found(id, request), DIALECTS[dialect]
        headers = {"location": answers.location_of(request, generation)}
        snapshot = begin == "snapshot"
        return generation_stream(generations.hub, request, generation, form, snapshot=snapshot, headers=headers)

    return router
