"""A start that fails says why in one line."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import YeoulError

__all__ = ["ClearStart"]


class ClearStart:
    """Middleware: an error of ours at the start reaches whoever starts the server as its text, not as a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: Message | None = None

        async def hold(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        except BaseException as error:
            if failed is not None:
                ours = isinstance(error, YeoulError)
                await send({**failed, "message": f"cannot start: {error}"} if ours else failed)
            raise
