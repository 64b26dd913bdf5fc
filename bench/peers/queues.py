"""Fan-out as it is usually written: sse-starlette, and a queue for each client. Where the environment has
BENCH_JWT_SECRET each client has to say who it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sse_starlette import EventSourceResponse

secret = os.environ.get("BENCH_JWT_SECRET")


def user(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    try:
        claims = jwt.decode(credentials.credentials, secret, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "invalid token") from error
    return str(claims["sub"])


app = FastAPI(dependencies=[Depends(user)] if secret else [])
queues: set[asyncio.Queue[str]] = set()


@app.post("/publish", status_code=202)
async def publish(request: Request) -> Response:
    data = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(data)
    return Response("ok", 202)


@app.get("/follow")
async def follow() -> EventSourceResponse:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)

    async def events() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(events(), sep="\n")
