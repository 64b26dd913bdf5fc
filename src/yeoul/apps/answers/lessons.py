"""The lessons: a countdown, a make-believe LLM, a real one, and the same answer without a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, StringConstraints

from ...asgi.authentication import caller_of
from ...asgi.generate import end_or_departure, problem_of_outcome, start_or_attach
from ...asgi.openapi import problems
from ...asgi.resume import check_may_start
from ...asgi.routing import STARTED, stream_route
from ...hub.job import CONTINUE, DisconnectPolicy
from ...llm.dialects import Outcome, Plain, State, WireEvent
from ...llm.generation import Generation
from ...llm.provider import Delta, Finish, Message
from .answering import Answering

__all__ = ["lessons"]

_FAKE_ANSWER = "안녕하세요! 저는 AI 어시스턴트입니다."
_LIFT_OFF = "발사!"
_INSTRUCTIONS = "Answer in at most two sentences, in the language of the question."
_GREETING = "안녕하세요, 자기소개 해주세요."

# Seconds between two events.
_COUNTDOWN_PACE = 1.0
_FAKE_PACE = 0.05

Question = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), Query(max_length=8_000, description="what to ask")
]
Choice = Annotated[str | None, Query(max_length=100)]


class ChatAnswer(BaseModel):
    """`finish_reason` stands there only where the answer is not whole: `length`, `content_filter` and the like."""

    message: str
    finish_reason: str | None = None


class _FakeLLM(Plain):
    """Begins with its first token: this stream costs nothing to start anew."""

    def start(self) -> WireEvent | None:
        return None


class _Countdown(_FakeLLM):
    """Ends with its last token, without an end marker."""

    def end(self, outcome: Outcome) -> WireEvent | None:
        return None


def lessons(answering: Answering) -> APIRouter:
    router = APIRouter(prefix="/sse", tags=["lessons"])
    generations = answering.generations

    @stream_route(router, "/countdown", summary="5, 4, 3, 2, 1, one a second, then lift-off")
    async def countdown(request: Request) -> Response:
        async def start(request_key: str | None) -> Generation:
            return await _start_lesson(answering, request, _count_down(), "countdown")

        return await start_or_attach(generations, request, start, dialect=_Countdown)

    @stream_route(router, "/fake-llm", summary="A fixed answer, one character every 50 ms; needs no key")
    async def fake_llm(request: Request) -> Response:
        async def start(request_key: str | None) -> Generation:
            return await _start_lesson(answering, request, _characters(), "fake-llm")

        return await start_or_attach(generations, request, start, dialect=_FakeLLM)

    @stream_route(
        router,
        "/chat",
        summary="A model's answer, token by token, asked for once however often you are cut",
        responses=STARTED,
    )
    async def chat(
        request: Request, message: Question = _GREETING, provider: Choice = None, model: Choice = None
    ) -> Response:
        async def start(request_key: str | None) -> Generation:
            return await ask(request, message, provider, model, request_key=request_key)

        return await start_or_attach(generations, request, start, dialect=Plain, location="/generations")

    @router.get(
        "/chat-normal",
        summary="The same answer, all at once",
        response_model_exclude_none=True,
        responses=problems(429, 502, 503, 504),
    )
    async def chat_normal(
        request: Request, message: Question = _GREETING, provider: Choice = None, model: Choice = None
    ) -> ChatAnswer:
        check_may_start(request)
        # It never has a reader in the hub's sense: only this request knows whether its client still waits.
        generation = await ask(request, message, provider, model, policy=CONTINUE)
        outcome = await end_or_departure(request, generation)
        if outcome.state is not State.DONE:
            raise problem_of_outcome(outcome)
        return ChatAnswer(message=generation.text, finish_reason=None if outcome.whole else outcome.reason)

    async def ask(
        request: Request,
        message: str,
        provider: str | None,
        model: str | None,
        *,
        policy: DisconnectPolicy | None = None,
        request_key: str | None = None,
    ) -> Generation:
        prompt = answering.prompt([Message("system", _INSTRUCTIONS), Message("user", message)], model)
        return await answering.start(
            request,
            lambda chosen: chosen.stream(prompt),
            provider=provider,
            model=model,
            policy=policy,
            request_key=request_key,
        )

    return router


async def _start_lesson(
    answering: Answering, request: Request, source: AsyncIterator[Delta | Finish], name: str
) -> Generation:
    owner = caller_of(request).owner
    return await answering.generations.start(
        source, provider="lesson", model=name, owner=owner, policy=answering.policy
    )


async def _count_down() -> AsyncIterator[Delta | Finish]:
    for number in range(5, 0, -1):
        yield Delta(str(number))
        await asyncio.sleep(_COUNTDOWN_PACE)
    yield Delta(_LIFT_OFF)
    yield Finish()


async def _characters() -> AsyncIterator[Delta | Finish]:
    for character in _FAKE_ANSWER:
        yield Delta(character)
        await asyncio.sleep(_FAKE_PACE)
    yield Finish()
