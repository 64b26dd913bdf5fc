"""A chat endpoint around any async iterator of text.

    uvicorn examples.chat:app                                    # any ASGI server will do
    uvicorn --http yeoul.server.protocol:Protocol examples.chat:app  # the same, faster
    curl -N 'http://127.0.0.1:8000/chat?question=hello'

Cut the connection while the answer is being written and ask again with the last `id:` that came, as `EventSource` does
by itself: the answer goes on at the next token. `answer` runs once.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response

from yeoul import Hub, generate

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)


async def answer(question: str) -> AsyncIterator[str]:
    """Stands for your model. A stream of the OpenAI SDK will do, too, for other SDKs with `text=`, which picks the text
    out of a chunk:

    generate(hub, request, lambda: client.chat.completions.create(model=…, messages=…, stream=True))
    generate(hub, request, lambda: other.stream(question), text=lambda chunk: chunk.delta)
    """
    for word in f"You asked: {question} That is a good question, and this is a slow answer.".split(" "):
        yield word + " "
        await asyncio.sleep(0.1)


@app.get("/chat")
async def chat(question: str, request: Request) -> Response:
    return await generate(hub, request, lambda: answer(question))
