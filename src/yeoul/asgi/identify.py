"""Finds out whom a request comes from, once, before anything else looks at it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ..auth.authenticator import Authenticator
from ..auth.identity import Identity
from ..errors import InvalidToken
from .caller import IDENTITY, challenge, is_loopback
from .problem import problem_of

__all__ = ["Identify"]

# Set by proxies: where one is seen on a loopback connection, the client is somebody that the server cannot tell apart.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

# Query parameters that hold secrets. They are taken out of the request's scope, so that nothing that is written of it
# later (an access log, a trace, an error) can have them.
_SECRETS = ("token", "ticket")


class Identify:
    """Middleware: leaves an `Identity` in the scope, for `caller.py`, or answers 401 where a credential is sent that is
    not taken."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, *, query_tokens: bool = False) -> None:
        self._app = app
        self._authenticator = authenticator
        self._query_tokens = query_tokens or authenticator.demo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        secrets = _take_secrets(scope)
        try:
            scope[IDENTITY] = await self._identify(HTTPConnection(scope), secrets)
        except InvalidToken as error:
            await problem_of(challenge(str(error), invalid=True))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _identify(self, request: HTTPConnection, secrets: dict[str, str]) -> Identity:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._authenticator.token(credential.strip(), "bearer")
        if "token" in secrets and self._query_tokens:
            return await self._authenticator.token(secrets["token"], "query")
        if self._authenticator.demo and _is_local(request):
            return self._authenticator.operator
        return self._authenticator.anonymous


def _take_secrets(scope: Scope) -> dict[str, str]:
    query = scope["query_string"]
    if not any(name.encode() in query for name in _SECRETS):
        return {}
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    taken = {name: value for name, value in pairs if name in _SECRETS}
    if taken:
        kept = [(name, value) for name, value in pairs if name not in _SECRETS]
        scope["query_string"] = urlencode(kept).encode()
    return taken


def _is_local(request: HTTPConnection) -> bool:
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    return is_loopback(request.client.host)
