"""What was asked for and how it was answered, counted by route; and how those who asked said who they are."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.identity import Identity
from ..observe import Tally
from .authentication import IDENTITY, way_of

__all__ = ["Measure"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measure:
    """Middleware: counts answers in a tally of method, route and status, and identities in one of way and outcome
    ("known", "refused", "nobody").

    The route is its template (`/topics/{topic:rest}`), never the address that was asked for: whoever can choose a
    label's value can make as many time series as there is memory. What has no route is "none", a method of somebody's
    own "other".
    """

    def __init__(self, app: ASGIApp, requests: Tally, identifications: Tally) -> None:
        self._app = app
        self._requests = requests
        self._identifications = identifications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        way = way_of(scope)  # now: nothing keeps what was sent longer than it must

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, way, message["status"])
            await send(message)

        await self._app(scope, receive, counted)

    def _count(self, scope: Scope, way: str, status: int) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.add(method, getattr(scope.get("route"), "path", "none"), str(status))
        identity: Identity | None = scope.get(IDENTITY)
        if identity is not None and (identity.known or identity.is_admin):
            self._identifications.add(identity.way, "known")
        elif status == 401 or (identity is not None and identity.refused):
            self._identifications.add(way, "refused")
        else:
            self._identifications.add(way, "nobody")
