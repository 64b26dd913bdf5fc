"""The lessons: a countdown, an imitated model, a real model, and the same answer without a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints

from ...asgi.generate import AnswerService, NewAnswer, end_or_departure, problem_of_outcome
from ...asgi.openapi import problems
from ...asgi.routing import STARTED, stream_route
from ...llm.dialect import WireEvent
from ...llm.dialects import Plain
from ...llm.items import Delta, Finish
from ...llm.outcome import Outcome, State
from ...llm.provider import Message, Prompt

__all__ = ["lessons"]

_FAKE_ANSWER = "안녕하세요! 저는 AI 어시스턴트입니다."
_LIFT_OFF = "발사!"
_INSTRUCTIONS = "Answer in at most two sentences, in the language of the question."
_GREETING = "안녕하세요, 자기소개 해주세요."

# Seconds between two events.
_COUNTDOWN_PACE = 1.0
_FAKE_PACE = 0.05

Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), Query(max_length=8_000, description="the question")
]
Choice = Annotated[str | None, Query(max_length=100)]


class ChatAnswer(BaseModel):
    message: str
    finish_reason: str | None = Field(None, description="why the answer is not whole: `length`, `content_filter`")


class _FakeModel(Plain):
    """Begins with its first token: this stream costs nothing to start again."""

    def start(self) -> WireEvent | None:
        return None


class _Countdown(_FakeModel):
    """Ends with the last word instead of an end marker."""

    def end(self, outcome: Outcome) -> WireEvent | None:
        return ("message", _LIFT_OFF) if outcome.state is State.DONE else None


def lessons(answers: AnswerService) -> APIRouter:
    router = APIRouter(prefix="/sse", tags=["lessons"])

    def ask(message: str, provider: str | None, model: str | None) -> NewAnswer:
        prompt = Prompt([Message("system", _INSTRUCTIONS), Message("user", message)], model)
        return answers.ask(prompt, provider)

    @stream_route(router, "/countdown", summary="5, 4, 3, 2, 1, one a second, then lift-off")
    async def countdown(request: Request) -> Response:
        return await answers.stream(
            request, lambda: NewAnswer(_count_down(), "lesson", "countdown"), dialect=_Countdown
        )

    @stream_route(router, "/fake-llm", summary="A fixed answer, one character every 50 ms; needs no key")
    async def fake_llm(request: Request) -> Response:
        return await answers.stream(request, lambda: NewAnswer(_characters(), "lesson", "fake-llm"), dialect=_FakeModel)

    @stream_route(
        router,
        "/chat",
        summary="A model's answer, token by token; the model is asked once, however often the connection is cut",
        responses=STARTED,
    )
    async def chat(
        request: Request, message: Text = _GREETING, provider: Choice = None, model: Choice = None
    ) -> Response:
        return await answers.stream(request, lambda: ask(message, provider, model), dialect=Plain)

    @router.get(
        "/chat-normal",
        summary="The same answer, all at once",
        response_model_exclude_none=True,
        responses=problems(429, 502, 503, 504),
    )
    async def chat_normal(
        request: Request, message: Text = _GREETING, provider: Choice = None, model: Choice = None
    ) -> ChatAnswer:
        # It never has a reader of the hub: only this request knows whether its client still waits.
        generation, _ = await answers.start(request, lambda: ask(message, provider, model))
        outcome = await end_or_departure(request, generation)
        if outcome.state is not State.DONE:
            raise problem_of_outcome(outcome)
        return ChatAnswer(message=generation.text, finish_reason=None if outcome.whole else outcome.reason)

    return router


async def _count_down() -> AsyncIterator[Delta | Finish]:
    for number in range(5, 0, -1):
        yield Delta(str(number))
        await asyncio.sleep(_COUNTDOWN_PACE)
    yield Finish()


async def _characters() -> AsyncIterator[Delta | Finish]:
    for character in _FAKE_ANSWER:
        yield Delta(character)
        await asyncio.sleep(_FAKE_PACE)
    yield Finish()
