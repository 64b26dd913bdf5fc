"""Who asks, and whether that one may: for routes. `identify.py` has found out before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple
from urllib.parse import unquote, unquote_plus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..addresses import is_loopback
from ..auth.authenticator import Authenticator
from ..auth.identity import ADMIN, ANONYMOUS, Identity
from ..auth.tickets import Admission, Pass, Tickets
from ..errors import InvalidToken, YeoulError
from ..hub.limits import Principal
from .errors import Problem, problem_of
from .origins import OWN_PAGE

__all__ = [
    "IDENTITY",
    "MAX_COOKIE_BYTES",
    "PASS_COOKIE",
    "Credential",
    "HideSecrets",
    "Identify",
    "bearer_of",
    "caller_of",
    "challenge",
    "cookie_text",
    "credential_of",
    "pass_cookie",
    "passes_of",
    "principal_of",
    "require_admin",
    "require_anybody",
    "require_own_page",
    "require_publish",
    "require_subscribe",
    "require_unbound",
    "require_user",
    "way_of",
]

# Where `Identify` leaves what it has found in the ASGI scope.
IDENTITY = "yeoul.identity"

_WAYS_IN = "send `Authorization: Bearer <token>`, the cookie, or for EventSource a ticket from POST /auth/tickets"


def caller_of(request: HTTPConnection) -> Identity:
    identity: Identity = request.scope.get(IDENTITY, ANONYMOUS)
    return identity


def principal_of(request: HTTPConnection) -> Principal:
    """Whom a stream that answers this request is for."""
    identity = caller_of(request)
    if identity.way == "own":
        return Principal(expires=identity.expires)  # the stream that it is read for is the user's, and counts as that
    address = request.client.host if request.client else None
    return Principal(identity.user, identity.name, address, identity.expires)


def require_user(request: HTTPConnection) -> Identity:
    """The caller, whose name is known. Raises Problem (401)."""
    identity = caller_of(request)
    if identity.user is None:
        raise challenge(f"{identity.refused}: {_WAYS_IN}" if identity.refused else f"who are you? {_WAYS_IN}")
    return identity


def require_anybody(request: HTTPConnection) -> None:
    """Somebody who is known, or runs this server: for what nobody else may do in any case, before its body is read.
    Asks nothing where no `Identify` stands in front. Raises Problem (401)."""
    identity = caller_of(request)
    if IDENTITY in request.scope and not identity.is_admin:
        require_user(request)


def require_unbound(request: HTTPConnection) -> None:
    """For what is no topic: a ticket that was asked for some topics leads to those alone. Raises Problem (403)."""
    if caller_of(request).topics is not None:
        raise Problem(403, "the ticket is for following topics alone: ask for one that names none")


def require_admin(request: HTTPConnection) -> Identity:
    """Raises Problem (401, 403)."""
    identity = caller_of(request)
    if not identity.is_admin:
        identity = require_user(request)
        missing = f"this needs the role {ADMIN!r}, and the token's `roles` do not have it"
        raise _forbidden(identity.refused or missing)
    return identity


def require_own_page(request: HTTPConnection) -> None:
    """For what changes something, or costs money: a browser sends its cookies whoever makes it ask, so that they count
    with evidence alone that a page of ours does, or one that is allowed. Raises Problem (403)."""
    if caller_of(request).way in ("cookie", "pass") and not request.scope.get(OWN_PAGE):
        raise Problem(
            403,
            "a cookie came, but no `Origin`, `Sec-Fetch-Site` or `Referer` that tells which page it came from: "
            "send the token as `Authorization: Bearer <token>`",
        )


def require_subscribe(request: HTTPConnection, topics: Iterable[str]) -> Identity:
    """The caller, who may follow all these topics. Raises Problem (401, 403) that names the first that it may not."""
    identity = caller_of(request)
    for topic in topics:
        if identity.may_subscribe(topic):
            continue
        require_user(request)
        if identity.topics is not None and topic not in identity.topics:
            raise _forbidden(f"the ticket is not for topic {topic!r}: ask for one that names it")
        raise _forbidden(f"the token does not let you follow {topic!r}: its claim `yeoul.subscribe` has to name it")
    return identity


def require_publish(request: HTTPConnection, topic: str) -> Identity:
    """The caller, who may publish to this topic. Raises Problem (401, 403)."""
    identity = caller_of(request)
    if not identity.may_publish(topic):
        require_user(request)
        raise _forbidden(f"the token does not let you send to {topic!r}: its claim `yeoul.publish` has to name it")
    return identity


def challenge(detail: str, *, invalid: bool = False) -> Problem:
    """401 as RFC 6750, 3 has it: bare where no credential was sent, `invalid_token` where a bad one was."""
    error = ', error="invalid_token"' if invalid else ""
    return Problem(401, detail, headers={"WWW-Authenticate": f'Bearer realm="yeoul"{error}'})


def _forbidden(detail: str) -> Problem:
    return Problem(403, detail, headers={"WWW-Authenticate": 'Bearer realm="yeoul", error="insufficient_scope"'})


# Query parameters that hold secrets, and what each holds. `access_token` is the name of RFC 6750, 2.3.
_SECRETS: dict[str, Literal["token", "ticket"]] = {"token": "token", "access_token": "token", "ticket": "ticket"}

_SCHEMES: dict[str, Literal["bearer", "own ticket"]] = {"bearer": "bearer", "ticket": "own ticket"}

# Where `HideSecrets` leaves what it has taken out, for `credential_of` alone.
_TAKEN = "yeoul.secrets"


class Credential(NamedTuple):
    """`bearer` and `own ticket` come in the Authorization header, `token` and `ticket` in the query."""

    kind: Literal["bearer", "own ticket", "token", "ticket"]
    text: str


class HideSecrets:
    """Middleware, the outermost: takes the secrets out of the request's query string, in place, so that nothing that is
    written of the request later (an access log, a trace, an error) can have them. All else stays as it was sent, byte
    for byte: what was encoded in one way or another may mean something to whoever reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["query_string"], scope[_TAKEN] = _without_secrets(scope["query_string"])
            path, mark, query = (scope.get("raw_path") or b"").partition(b"?")
            if mark:  # ASGI says that it has no query, and not all servers do
                scope["raw_path"] = path + mark + _without_secrets(query)[0]
        await self._app(scope, receive, send)


def way_of(scope: Scope) -> str:
    """By which way a request says who it is, before that is looked at: to be counted, so it raises nothing."""
    if scope.get(_TAKEN):
        return "ticket" if scope[_TAKEN][0].kind == "ticket" else "query"
    if any(name == b"authorization" for name, _ in scope["headers"]):
        return "bearer"
    return "cookie" if any(name == b"cookie" for name, _ in scope["headers"]) else "none"


def credential_of(request: HTTPConnection) -> Credential | None:
    """The one that was sent explicitly (a cookie is not: browsers send it by themselves). Raises Problem (400) for more
    than one, as RFC 6750, 2 has it: they could name different users."""
    found: list[Credential] = [*request.scope.pop(_TAKEN, []), *_in_headers(request)]
    if len(found) > 1:
        raise Problem(
            400,
            "the request has more than one credential: send one, as `Authorization: Bearer <token>`, or `?ticket=`",
            headers={"WWW-Authenticate": 'Bearer realm="yeoul", error="invalid_request"'},
        )
    return found[0] if found else None


def bearer_of(request: HTTPConnection) -> str:
    """The token of a caller who came by `bearer`: the very text that was checked, whatever other Authorization headers
    stand before it."""
    return next(text for kind, text in _in_headers(request) if kind == "bearer")


def _in_headers(request: HTTPConnection) -> list[Credential]:
    found = []
    for value in request.headers.getlist("authorization"):
        scheme, _, text = value.strip().partition(" ")
        kind = _SCHEMES.get(scheme.lower())
        if kind is not None:
            found.append(Credential(kind, text.strip()))
    return found


def _without_secrets(query: bytes) -> tuple[bytes, list[Credential]]:
    if not query:
        return query, []
    kept, taken = [], []
    for piece in query.split(b"&"):
        name, _, value = piece.decode("latin-1").partition("=")
        kind = _SECRETS.get(unquote_plus(name).strip().lower())
        if kind is None:
            kept.append(piece)
        else:
            taken.append(Credential(kind, unquote(value)))  # no space is in a token, but a Base64 `+` may be
    return b"&".join(kept), taken


PASS_COOKIE = "yeoul_pass"

# What browsers keep of one, its name and attributes included (RFC 6265, 6.1).
MAX_COOKIE_BYTES = 4_096

# Users that one browser may be at the same time, in several tabs: their passes share the cookie.
_MAX_PASSES = 4

_SEPARATOR = "."

# What they are made of. Some are sent back in a Set-Cookie header: a cookie that a neighbouring name has planted
# must not write attributes there, such as a Domain that would hand the new pass over to it.
_PASS = re.compile(r"[A-Za-z0-9_-]{1,100}")


def cookie_text(name: str, value: str, *, seconds: float, same_site: str, secure: bool) -> str:
    """A Set-Cookie header's value (RFC 6265, 4.1). `seconds`: for how long the browser keeps it; 0 makes it forget."""
    text = f"{name}={value}; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite={same_site}"
    return f"{text}; Secure" if secure else text


def passes_of(request: HTTPConnection) -> Sequence[str]:
    """The passes that the browser shows: what `Tickets.admit` takes."""
    value = request.cookies.get(PASS_COOKIE)
    texts = value.split(_SEPARATOR)[:_MAX_PASSES] if value else ()
    return [text for text in texts if _PASS.fullmatch(text)]


def pass_cookie(request: HTTPConnection, new: Pass, *, other_seconds: float) -> str:
    """The Set-Cookie header's value that gives a pass to the browser, beside those that it has. `other_seconds`: for
    how long those may be good."""
    others = [text for text in passes_of(request) if text != new.text]
    # A page of another site is served here only where it is allowed, and its browser would keep a strict cookie to
    # itself. Such a cookie has to be Secure.
    elsewhere = bool(request.scope.get(OWN_PAGE)) and request.headers.get("sec-fetch-site") == "cross-site"
    return cookie_text(
        PASS_COOKIE,
        _SEPARATOR.join([new.text, *others][:_MAX_PASSES]),
        seconds=max(new.seconds, other_seconds) if others else new.seconds,
        same_site="None" if elsewhere else "Strict",
        secure=elsewhere or request.scope["scheme"] == "https",
    )


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
