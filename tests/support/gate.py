"""A gate in front of any ASGI application, and scopes as servers make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from yeoul.asgi.authentication import Authentication
from yeoul.asgi.body import BodyLimit
from yeoul.asgi.gate import Application, Gate
from yeoul.asgi.hosts import Hosts
from yeoul.asgi.origins import Origins
from yeoul.asgi.routing import HotRoutes
from yeoul.auth.authenticator import Authenticator
from yeoul.auth.tickets import Tickets
from yeoul.observe import Tally


class _Inner(Application):
    """Passes on to the application of a test."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self.started = True
        self._inner = app

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._inner(scope, receive, send)


def gated(
    app: ASGIApp,
    *,
    origins: Origins | None = None,
    bodies: BodyLimit | None = None,
    authentication: Authentication | None = None,
) -> Gate:
    """A gate that accepts whatever it is not given a rule for."""
    unbounded = Authentication(
        Authenticator(demo=True), Tickets(), revoked=lambda user, issued: False, cookie="yeoul_token"
    )
    return Gate(
        _Inner(app),
        hosts=Hosts(),
        origins=origins or Origins(),
        bodies=bodies or BodyLimit(1_000_000),
        authentication=authentication or unbounded,
        hot=HotRoutes(),
        requests=Tally("method", "route", "status"),
        identifications=Tally("way", "outcome"),
    )


def http_scope(
    method: str = "GET",
    path: str = "/",
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    query: bytes = b"",
    scheme: str = "http",
) -> dict[str, Any]:
    """That of a request to http://localhost:8000; a Host is added where `headers` have none."""
    fields = list(headers)
    if not any(name == b"host" for name, _ in fields):
        fields.append((b"host", b"localhost:8000"))
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": fields,
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8000),
    }
