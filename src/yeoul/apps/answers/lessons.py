"""The lessons: a countdown, a make-believe LLM, a real one, and the same answer without a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, StringConstraints

from ...asgi.authentication import caller_of
from ...asgi.errors import Problem
from ...asgi.generate import end_or_departure, start_or_attach
from ...asgi.openapi import problems
from ...asgi.resume import check_may_start
from ...asgi.routing import STARTED, stream_route
from ...hub.job import CONTINUE, DisconnectPolicy
from ...llm.dialects import Outcome, Parts, Plain, State
from ...llm.generation import Generation
from ...llm.generations import Generations
from ...llm.provider import Delta, Finish, Message, Prompt
from ...llm.providers import Providers

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
    message: str


class _FakeLLM(Plain):
    """Begins with its first token: this stream costs nothing to start anew."""

    def start(self) -> Parts | None:
        return None


class _Countdown(_FakeLLM):
    """Ends with its last token, without an end marker."""

    def end(self, outcome: Outcome) -> Parts | None:
        return None


def lessons(generations: Generations, providers: Providers, policy: DisconnectPolicy) -> APIRouter:
    """`policy`: what becomes of an answer whose reader does not come back."""
    router = APIRouter(prefix="/sse", tags=["lessons"])

    @stream_route(router, "/countdown", summary="5, 4, 3, 2, 1, one a second, then lift-off")
    async def countdown(request: Request) -> Response:
        async def start(request_key: str | None) -> Generation:
            return await _start_lesson(generations, request, _count_down(), "countdown", policy)

        return await start_or_attach(generations, request, start, dialect=_Countdown)

    @stream_route(router, "/fake-llm", summary="A fixed answer, one character every 50 ms; needs no key")
    async def fake_llm(request: Request) -> Response:
        async def start(request_key: str | None) -> Generation:
            return await _start_lesson(generations, request, _characters(), "fake-llm", policy)

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
            return await ask(request, message, provider, model, policy, request_key=request_key)

        return await start_or_attach(generations, request, start, dialect=Plain, location="/generations")

    @router.get("/chat-normal", summary="The same answer, all at once", responses=problems(429, 502))
    async def chat_normal(
        request: Request, message: Question = _GREETING, provider: Choice = None, model: Choice = None
    ) -> ChatAnswer:
        check_may_start(request)
        # It never has a reader in the hub's sense: whether somebody waits for it is known here alone.
        generation = await ask(request, message, provider, model, CONTINUE)
        outcome = await end_or_departure(request, generation)
        if outcome.state is not State.DONE:
            raise Problem(502, outcome.error or outcome.state)
        return ChatAnswer(message=generation.text)

    async def ask(
        request: Request,
        message: str,
        provider: str | None,
        model: str | None,
        on_disconnect: DisconnectPolicy,
        *,
        request_key: str | None = None,
    ) -> Generation:
        chosen = providers.get(provider)
        prompt = Prompt([Message("system", _INSTRUCTIONS), Message("user", message)], model=model)
        return await generations.start(
            chosen.stream(prompt),
            provider=chosen.name,
            model=model or chosen.model,
            owner=caller_of(request).owner,
            policy=on_disconnect,
            request_key=request_key,
        )

    return router


async def _start_lesson(
    generations: Generations,
    request: Request,
    source: AsyncIterator[Delta | Finish],
    name: str,
    policy: DisconnectPolicy,
) -> Generation:
    owner = caller_of(request).owner
    return await generations.start(source, provider="lesson", model=name, owner=owner, policy=policy)


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
