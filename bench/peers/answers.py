"""LLM tokens as they are usually passed on: the `openai` SDK's stream through FastAPI's StreamingResponse."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

app = FastAPI()
client = AsyncOpenAI(base_url=os.environ["BENCH_UPSTREAM"], api_key="bench")


class Question(BaseModel):
    prompt: str


@app.post("/answers")
async def answer(question: Question) -> StreamingResponse:
    async def tokens() -> AsyncIterator[str]:
        stream = await client.chat.completions.create(
            model="bench", messages=[{"role": "user", "content": question.prompt}], stream=True
        )
        async for chunk in stream:
            content = chunk.choices[0].delta.content
            if content:
                yield f"data: {json.dumps({'content': content})}\n\n"
        yield 'data: {"done": true}\n\n'

    return StreamingResponse(tokens(), media_type="text/event-stream")
