"""A chat for `useChat` of Vercel's AI SDK: its answers survive a lost connection and a page that is loaded again.

uvicorn examples.ai_sdk:app
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response

from yeoul import AiSdkChat, ChatTurn, Hub

hub = Hub()
history: dict[str, list[Any]] = {}


async def answer(turn: ChatTurn) -> AsyncIterator[str]:  # or an AsyncOpenAI stream, as it is
    for word in f"You said: {turn.prompt[-1].content}. This is a slow answer.".split():
        await asyncio.sleep(0.2)
        yield word + " "


async def store(turn: ChatTurn, message: dict[str, Any]) -> None:
    history[turn.id] = [*turn.messages, message]


chats = AiSdkChat(hub, on_finish=store)
app = FastAPI(lifespan=hub.lifespan)


@app.post("/api/chat")
async def send(request: Request) -> Response:
    return await chats.send(request, answer)


@app.get("/api/chat/{id}/stream")
async def resume(request: Request, id: str) -> Response:
    return await chats.resume(request, id)


@app.post("/api/chat/{id}/stop")
async def stop(request: Request, id: str) -> Response:
    return await chats.stop(request, id)


@app.get("/api/chat/{id}")
async def messages(id: str) -> list[Any]:
    return history.get(id, [])
