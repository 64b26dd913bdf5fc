"""Bounds on what a request may bring."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problem import problem

__all__ = ["BodyLimit"]

# The rest of the body is not read: the connection cannot be used again.
_CLOSE = {"Connection": "close"}


class BodyLimit:
    """Middleware: a request body over `max_bytes` is answered with 413, whether it announces its length or not.

    One that does not is ended by an HTTPException in the application that reads it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
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

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                # Of this type because FastAPI, which reads bodies, lets no other one through.
                raise HTTPException(413, self._detail, _CLOSE)
            return message

        await self._app(scope, counted, send)
