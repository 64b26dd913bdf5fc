"""What was asked for and how it was answered, counted by route."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..observe import Tally

__all__ = ["Measure"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measure:
    """Middleware: counts answers in a tally of method, route and status.

    The route is its template (`/topics/{topic:path}`), never the address that was asked for: whoever can choose a
    label's value can make as many time series as there is memory. What has no route is "none", a method of somebody's
    own "other".
    """

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self._app = app
        self._tally = tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"])
            await send(message)

        await self._app(scope, receive, counted)

    def _count(self, scope: Scope, status: int) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._tally.add(method, getattr(scope.get("route"), "path", "none"), str(status))
