"""A chat for `useChat` and other clients of Vercel's AI SDK, in front of the server's providers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from ...asgi.ai_sdk import AiSdkChat, ChatTurn
from ...asgi.errors import Problem
from ...asgi.generate import AnswerService, NewAnswer
from ...asgi.openapi import problems
from ...asgi.routing import STARTED, JsonRoute, stream_route
from ...llm.provider import Prompt

__all__ = ["ai_sdk_app"]

_PATH = "/api/chat"

# Characters of all messages together: more than the longest context window takes.
_MAX_PROMPT = 1_000_000

# The SDK puts the id into the path as it is.
ChatId = Annotated[str, Path(min_length=1, max_length=200)]


class ChatBody(BaseModel):
    """What the AI SDK sends. A page may add `provider` and `model`, and fields of its own."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1, max_length=200, description="the chat's")
    messages: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=10_000)
    message: dict[str, Any] | None = Field(None, description="the last message, instead of `messages`")
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: str | None = Field(None, min_length=1, max_length=200)
    provider: str | None = Field(None, max_length=100)
    model: str | None = Field(None, min_length=1, max_length=200)


class Stopped(BaseModel):
    success: bool


def ai_sdk_app(answers: AnswerService, chats: AiSdkChat) -> APIRouter:
    router = APIRouter(tags=["chat for useChat"], route_class=JsonRoute)

    @router.post(
        _PATH,
        response_class=Response,
        responses={**STARTED},
        summary="Send a message; the answer is a UI message stream",
    )
    async def send(request: Request, asked: ChatBody) -> Response:
        def new(turn: ChatTurn) -> NewAnswer:
            messages = turn.prompt
            if not any(message.role == "user" for message in messages):
                raise Problem(422, "no message of the user has text", fields=[("messages", "send a message with text")])
            if sum(len(message.content) for message in messages) > _MAX_PROMPT:
                raise Problem(422, f"the messages have more than {_MAX_PROMPT} characters together")
            return answers.ask(Prompt(messages, asked.model), asked.provider)

        return await chats.answer(request, new)

    @stream_route(
        router,
        _PATH + "/{id:path}/stream",
        responses={204: {"description": "Nothing is running in this chat."}},
        summary="The running answer of a chat, from its beginning",
    )
    async def resume(request: Request, id: ChatId) -> Response:
        return await chats.resume(request, id)

    @router.post(
        _PATH + "/{id:path}/stop", response_model=Stopped, responses=problems(404), summary="Stop the running answer"
    )
    async def stop(request: Request, id: ChatId) -> Response:
        return await chats.stop(request, id)

    return router
