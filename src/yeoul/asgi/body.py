"""What a request's JSON body is checked with."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import problem

__all__ = ["BodyLimit", "JsonBody"]

# No body of ours has a tenth of it.
_MOST_FIELDS = 100


class JsonBody(BaseModel):
    """Its fields, and no others: one that is misspelled must not be without effect. Too many others are refused at
    once, for each of them costs an error, and a megabyte holds a hundred thousand: seconds in which nobody else is
    served."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            raise ValueError(f"it has {len(value)} fields, of which at most {len(cls.model_fields)} are known")
        return value


# The rest of the body is not read: the connection cannot be used again.
_CLOSE = {"Connection": "close"}


class BodyLimit:
    """Middleware: a request body over `max_bytes` is answered with 413, whether it announces its length or not, and one
    that is not complete `timeout` seconds after its head with 408, where the application waits for it.

    What does not announce its length, or comes too slowly, is ended by an HTTPException in the application that reads
    it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout: float = 30.0) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._detail = f"the request body is larger than {max_bytes} bytes: send less, or several requests"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await problem(413, self._detail, headers=_CLOSE)(scope, receive, send)
            return
        await self._limited(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self._timeout

        async def counted() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # until the client leaves
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                wrong = f"the request body was not complete after {self._timeout:g} s: send it faster, or in parts"
                raise HTTPException(408, wrong, _CLOSE) from error
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # Of this type because FastAPI, which reads bodies, lets no other one through.
                raise HTTPException(413, self._detail, _CLOSE)
            return message

        await self._app(scope, counted, send)
