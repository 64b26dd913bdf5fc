"""Answers as resources: made once, read by anybody who knows the name, as often as it takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, model_validator

from ...asgi.authentication import caller_of, require_user
from ...asgi.body import JsonBody
from ...asgi.errors import Problem
from ...asgi.generate import generation_stream, start_or_attach
from ...asgi.openapi import CREATED, problems
from ...asgi.resume import check_may_start, find_work
from ...asgi.routing import STARTED, hot, stream_route
from ...hub.job import CANCEL, CONTINUE, DisconnectPolicy
from ...llm.dialects import DIALECTS
from ...llm.generation import Generation
from ...llm.provider import Message
from .answering import Answering

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
    """What to ask: `messages`, or a `prompt` of the user's alone."""

    messages: list[MessageIn] | None = Field(None, min_length=1, max_length=1_000)
    prompt: str | None = Field(None, min_length=1)
    provider: str | None = Field(None, max_length=100)
    model: str | None = Field(None, min_length=1, max_length=200)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    on_disconnect: Literal["continue", "cancel"] | CancelAfter = "continue"

    @model_validator(mode="after")
    def _one_question(self) -> NewGeneration:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("give either `messages` or `prompt`")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("`prompt` is empty: say what to answer")
        if sum(len(message.content) for message in self.asked()) > _MAX_PROMPT:
            raise ValueError(f"the messages have more than {_MAX_PROMPT} characters together")
        return self

    def asked(self) -> list[Message]:
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
    text: str
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
DialectName = Annotated[Literal["plain", "json", "envelope", "openai"], Query(description="how the stream looks")]


def generations_app(answering: Answering) -> APIRouter:
    generations = answering.generations
    router = APIRouter(tags=["generations"])

    def found(id: str, request: Request) -> Generation:
        generation = find_work(generations, id, request)
        if generation is None:
            raise Problem(404, "no such answer: it was never here, or it is no longer kept")
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
        summary="Ask a model, once",
    )
    async def create(request: Request, asked: NewGeneration, dialect: DialectName = "json") -> Response:
        form = DIALECTS[dialect]

        async def start(request_key: str | None) -> Generation:
            prompt = answering.prompt(
                asked.asked(), asked.model, max_tokens=asked.max_tokens, temperature=asked.temperature
            )
            return await answering.start(
                request,
                lambda chosen: chosen.stream(prompt),
                provider=asked.provider,
                model=asked.model,
                policy=asked.policy(),
            )

        if "text/event-stream" in request.headers.get("accept", ""):
            return await start_or_attach(generations, request, start, dialect=form, location=_PATH)
        check_may_start(request)
        generation = await start(None)
        body = GenerationOut.of(generation).model_dump()
        return JSONResponse(body, 201, {"Location": f"{_PATH}/{generation.id}", "Cache-Control": "no-store"})

    @router.get(_PATH, summary="The caller's running answers; everybody's for an admin")
    async def listed(request: Request) -> GenerationList:
        caller = caller_of(request)
        if not caller.is_admin:
            require_user(request)
        running = [one for one in generations.running() if caller.is_admin or one.owner == caller.owner]
        return GenerationList(generations=[GenerationOut.of(generation) for generation in running])

    @router.get(_PATH + "/{id}", responses=problems(404), summary="An answer, as far as it is written")
    async def show(request: Request, id: Id, response: Response) -> GenerationOut:
        response.headers["Cache-Control"] = "no-store"
        return GenerationOut.of(found(id, request))

    @router.delete(_PATH + "/{id}", responses=problems(404), summary="Stop it; what was said so far is kept")
    async def stop(request: Request, id: Id) -> GenerationOut:
        generation = found(id, request)
        generation.cancel()
        await generation.wait()
        return GenerationOut.of(generation)

    @stream_route(router, _PATH + "/{id}/stream", responses=problems(404), summary="Read it, from anywhere in it")
    @hot
    async def stream(
        request: Request,
        id: Id,
        dialect: DialectName = "json",
        begin: Annotated[Literal["start", "snapshot"], Query(alias="from")] = "start",
    ) -> Response:
        generation, form = found(id, request), DIALECTS[dialect]
        return generation_stream(generations.hub, request, generation, form, snapshot=begin == "snapshot")

    return router
