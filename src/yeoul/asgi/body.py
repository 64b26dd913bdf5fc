"""Bodies of requests: how large they may be, how long they may take, and what JSON they may hold."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from ..eager import in_task, rest_of
from .errors import Problem
from .headers import RawHeaders

__all__ = ["BodyLimit", "JsonBody"]

# No body of ours has a tenth of it.
_MOST_FIELDS = 100

# The rest of the body is not read: the connection cannot be used again.
_CLOSE = {"Connection": "close"}


class JsonBody(BaseModel):
    """Its fields, and no others: a misspelled one must not be ignored. Too many others are refused at once, because
    each of them costs an error, and a megabyte holds a hundred thousand: seconds in which no other client is served."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            raise ValueError(f"the body has {len(value)} fields, of which at most {len(cls.model_fields)} are known")
        return value


class BodyLimit:
    """Request bodies have at most `max_bytes`, and are complete `timeout` seconds after the head, where the application
    waits for them."""

    def __init__(self, max_bytes: int, timeout: float = 30.0) -> None:
        self.max_bytes = max_bytes
        self._timeout = timeout
        self._too_large = f"the request body is larger than {max_bytes} bytes: send less, or several requests"

    def check(self, headers: RawHeaders) -> None:
        """Raises Problem (413) for a body whose announced length is over the bound."""
        announced = headers.get(b"content-length")
        if announced is not None and announced.isdigit() and (len(announced) > 18 or int(announced) > self.max_bytes):
            raise Problem(413, self._too_large, headers=_CLOSE)

    def limited(self, receive: Receive) -> Receive:
        """ASGI's `receive`, which raises HTTPException where a body grows over the bound (413) or comes too slowly
        (408). Of this type because FastAPI, which reads bodies, lets no other one through."""
        received = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self._timeout

        async def counted() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()  # until the client disconnects
            message = await self._in_time(receive, deadline)
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(413, self._too_large, _CLOSE)
            return message

        return counted

    async def _in_time(self, receive: Receive, deadline: float) -> Message:
        message: Any = receive()
        if isinstance(message, CoroutineType):
            # Nearly always the body is there already: no timer is needed then, and no task for it.
            try:
                waits_for = message.send(None)
            except StopIteration as done:
                return cast(Message, done.value)
            message = rest_of(message, waits_for)
            await in_task()
        try:
            async with asyncio.timeout_at(deadline):
                return cast(Message, await message)
        except TimeoutError as error:
            wrong = f"the request body was not complete after {self._timeout:g} s: send it faster, or in parts"
            raise HTTPException(408, wrong, _CLOSE) from error
