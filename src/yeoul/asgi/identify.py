"""Finds out whom a request comes from, once, before anything else looks at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.authenticator import Authenticator
from ..auth.identity import ADMIN, Identity
from ..auth.loopback import is_loopback
from ..auth.tickets import Admission, Tickets
from ..errors import InvalidToken, YeoulError
from .caller import IDENTITY, challenge, require_own_page
from .cookies import pass_cookie, passes_of
from .credentials import Credential, credential_of
from .problem import Problem, problem_of

__all__ = ["Identify"]

# Set by proxies: where one is seen on a loopback connection, the client is somebody that the server cannot tell apart.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

_SAFE = ("GET", "HEAD", "OPTIONS")

_DEMO_IS_LOCAL = (
    "this server has no key, so it asks nobody who he is, and trusts only what comes to a loopback address of its own "
    "machine: to be reached from elsewhere it needs YEOUL_JWT_SECRET, YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL"
)
_NO_TOKEN_IN_QUERY = (
    "a token is not taken from an address, which ends up in logs and histories: send `Authorization: Bearer <token>`, "
    "or exchange it at POST /auth/tickets for a ticket, which is good for one use"
)
_REVOKED = "the token has been revoked: log in again"
_GET_ALONE = "a ticket is taken for GET alone: send `Authorization: Bearer <token>`"


class Identify:
    """Middleware: leaves an `Identity` in the scope, for `caller.py`, or answers 401 where a credential is sent that is
    not taken. In this order: the Authorization header, a ticket or a token in the query, the cookie. A cookie that is
    not taken counts as nobody, because browsers send it unasked; whoever needs a user is told why.

    `revoked`: whether what this user was given at that time (Unix seconds or None) was taken back since. Stands inside
    of `HideSecrets` and `Origins`.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        tickets: Tickets,
        *,
        revoked: Callable[[str, float | None], bool],
        cookie: str,
        query_tokens: bool = False,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._tickets = tickets
        self._revoked = revoked
        self._cookie = cookie
        self._query_tokens = query_tokens or authenticator.demo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        try:
            admission = await self._admit(request)
            scope[IDENTITY] = admission.identity
            if scope["method"] not in _SAFE:
                require_own_page(request)
        except (Problem, YeoulError) as error:
            invalid = isinstance(error, InvalidToken)
            await problem_of(challenge(str(error), invalid=True) if invalid else error)(scope, receive, send)
            return
        if admission.identity.user is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(request, admission, receive, send)

    async def _answer(self, request: HTTPConnection, admission: Admission, receive: Receive, send: Send) -> None:
        """The application's answer, with the pass that came of it; no stream for whom was revoked while it began. (What
        has begun is known to the hub, and ended there.)"""
        user, issued, late = admission.identity.user, admission.identity.issued, False
        cookie = None
        if admission.new_pass is not None:
            cookie = pass_cookie(request, admission.new_pass, other_seconds=self._tickets.pass_seconds)

        async def checked(message: Message) -> None:
            nonlocal late
            if message["type"] == "http.response.start":
                late = user is not None and self._revoked(user, issued) and _is_stream(message)
                if late:
                    raise InvalidToken(_REVOKED)
                if cookie is not None:
                    MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        try:
            await self._app(request.scope, receive, checked)
        except Exception:
            if not late:
                raise
            await problem_of(challenge(_REVOKED, invalid=True))(request.scope, receive, send)

    async def _admit(self, request: HTTPConnection) -> Admission:
        credential = credential_of(request)
        if self._authenticator.demo and not _came_to_loopback(request.scope):
            if credential is not None:
                raise InvalidToken(_DEMO_IS_LOCAL)
            return Admission(replace(self._authenticator.anonymous, refused=_DEMO_IS_LOCAL))
        if credential is None:
            return Admission(await self._implicit(request))
        admission = await self._explicit(credential, request)
        return replace(admission, identity=self._bounded(admission.identity, request))

    async def _explicit(self, credential: Credential, request: HTTPConnection) -> Admission:
        kind, text = credential
        method = request.scope["method"]
        if kind == "bearer":
            return Admission(await self._authenticator.token(text, "bearer"))
        if kind == "token":
            if not self._query_tokens:
                raise InvalidToken(_NO_TOKEN_IN_QUERY)
            return Admission(await self._authenticator.token(text, "query"))
        if method in ("HEAD", "OPTIONS"):
            # They ask about an answer, and whoever wants it needs the ticket afterwards.
            return Admission(replace(self._authenticator.anonymous, refused=_GET_ALONE))
        if kind == "own ticket":
            return Admission(await self._tickets.redeem(text, method))
        if method != "GET":
            raise InvalidToken(_GET_ALONE)
        return await self._tickets.admit(text, passes_of(request))

    async def _implicit(self, request: HTTPConnection) -> Identity:
        demo = self._authenticator.demo
        nobody = self._authenticator.operator if demo and _is_local(request) else self._authenticator.anonymous
        text = request.cookies.get(self._cookie)
        if not text:
            return nobody
        try:
            return self._bounded(await self._authenticator.token(text, "cookie"), request)
        except YeoulError as error:
            return replace(nobody, refused=f"the cookie {self._cookie!r} is not taken ({error})")

    def _bounded(self, identity: Identity, request: HTTPConnection) -> Identity:
        """A demo token proves nothing: beyond this machine nobody becomes an admin by it."""
        if not self._authenticator.demo or not identity.is_admin or _is_local(request):
            return identity
        return replace(
            identity, roles=identity.roles - {ADMIN}, refused="in demo mode nobody is an admin through a proxy"
        )


def _came_to_loopback(scope: Scope) -> bool:
    """Whether the request came in where only this machine can send something. (Behind a Unix socket is a proxy.)"""
    server = scope.get("server")
    return server is not None and is_loopback(server[0])


def _is_local(request: HTTPConnection) -> bool:
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    return is_loopback(request.client.host)


def _is_stream(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
