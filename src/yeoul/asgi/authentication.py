"""Who sends a request, and what that user may do.

`Authentication` turns a credential into an identity before a route is looked for; the functions `require_*` are for
routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol
from urllib.parse import unquote, unquote_plus

from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import Scope

from ..addresses import is_loopback
from ..auth.identity import ADMIN, ANONYMOUS, Identity, Way
from ..auth.tickets import Admitted, Pass, Tickets
from ..errors import InvalidToken, YeoulError
from ..hub.limits import Principal
from .errors import Problem
from .headers import RawHeaders, headers_of
from .origins import TRUSTED_PAGE
from .paths import external_path

if TYPE_CHECKING:
    # Brings the packages for JWT with it, which the library works without.
    from ..auth.authenticator import Authenticator

__all__ = [
    "IDENTITY",
    "MAX_COOKIE_BYTES",
    "PASS_COOKIE",
    "Authentication",
    "Credential",
    "bearer_of",
    "caller_of",
    "challenge",
    "cookie_text",
    "credential_of",
    "header_kind",
    "hidden_kind",
    "hide_secrets",
    "pass_cookie",
    "passes_of",
    "principal_of",
    "require_admin",
    "require_known",
    "require_publish",
    "require_subscribe",
    "require_trusted_page",
    "require_unrestricted",
    "require_user",
]

# Where `Authentication` leaves the identity in the ASGI scope.
IDENTITY = "yeoul.identity"

_HOW = "send `Authorization: Bearer <token>`, the session cookie, or for EventSource a ticket from POST /auth/tickets"


# --- for routes


def caller_of(request: HTTPConnection) -> Identity:
    """The identity of the request; anonymous where no `Authentication` has looked at it."""
    identity: Identity = request.scope.get(IDENTITY, ANONYMOUS)
    return identity


def principal_of(request: HTTPConnection) -> Principal:
    """The reader of a stream that answers this request, as the hub counts it."""
    identity = caller_of(request)
    if identity.way == "own":
        return Principal(expires=identity.expires)  # the stream that it is read for is the user's, and counts as that
    client = request.scope.get("client")
    return Principal(identity.user, identity.name, client[0] if client else None, identity.expires)


def require_user(request: HTTPConnection) -> Identity:
    """The caller, who is a known user. Raises Problem (401)."""
    identity = caller_of(request)
    if identity.user is None:
        raise challenge(f"{identity.refused or 'authentication required'}: {_HOW}")
    return identity


def require_known(request: HTTPConnection) -> None:
    """A known user, or the operator: for requests that no other caller may make, before the body is read. Accepts all
    where no `Authentication` has looked at the request. Raises Problem (401)."""
    identity = caller_of(request)
    if IDENTITY in request.scope and not identity.is_admin:
        require_user(request)


def require_unrestricted(request: HTTPConnection) -> None:
    """Not by a ticket that is restricted to topics: for what is not a topic. Raises Problem (403)."""
    if caller_of(request).topics is not None:
        raise Problem(403, "the ticket is restricted to topics: request one without topics")


def require_admin(request: HTTPConnection) -> Identity:
    """The caller, who is an administrator. Raises Problem (401, 403)."""
    identity = caller_of(request)
    if not identity.is_admin:
        identity = require_user(request)
        missing = f"this requires the role {ADMIN!r}, which the token's claim `roles` does not have"
        raise _forbidden(identity.refused or missing)
    return identity


def require_trusted_page(request: HTTPConnection) -> None:
    """For requests that change something, or cost money: a browser sends its cookies whichever page makes it send the
    request, so they count only with evidence that the page is of this server, or of an allowed origin. Raises Problem
    (403)."""
    _check_page(request.scope, caller_of(request))


def _check_page(scope: Scope, identity: Identity) -> None:
    if identity.way in ("cookie", "pass") and not scope.get(TRUSTED_PAGE):
        raise Problem(
            403,
            "the request has a cookie, but no `Origin`, `Sec-Fetch-Site` or `Referer` that says which page sent it: "
            "send the token as `Authorization: Bearer <token>`",
        )


def require_subscribe(request: HTTPConnection, topics: Iterable[str], *, hint: str = "") -> Identity:
    """The caller, who may follow all these topics. Raises Problem (401, 403) that names the first topic that the caller
    may not follow. `hint`: what to do instead."""
    identity = caller_of(request)
    for topic in topics:
        if identity.may_subscribe(topic):
            continue
        require_user(request)
        if identity.topics is not None and topic not in identity.topics:
            raise _forbidden(f"the ticket is not for topic {topic!r}: request one that names it")
        wrong = f"the token does not allow following {topic!r}: its claim `yeoul.subscribe` must include it"
        raise _forbidden(f"{wrong}; or {hint}" if hint else wrong)
    return identity


def require_publish(request: HTTPConnection, topic: str, *, hint: str = "") -> Identity:
    """The caller, who may publish to this topic. Raises Problem (401, 403). `hint`: what to do instead."""
    identity = caller_of(request)
    if not identity.may_publish(topic):
        require_user(request)
        wrong = f"the token does not allow publishing to {topic!r}: its claim `yeoul.publish` must include it"
        raise _forbidden(f"{wrong}; or {hint}" if hint else wrong)
    return identity


def challenge(detail: str, *, invalid: bool = False) -> Problem:
    """401 as in RFC 6750, 3: without an error code where no credential was sent, `invalid_token` where a bad one
    was."""
    error = ', error="invalid_token"' if invalid else ""
    return Problem(401, detail, headers={"WWW-Authenticate": f'Bearer realm="yeoul"{error}'})


def _forbidden(detail: str) -> Problem:
    return Problem(403, detail, headers={"WWW-Authenticate": 'Bearer realm="yeoul", error="insufficient_scope"'})


# --- credentials

# Query parameters that hold secrets, and what each holds. `access_token` is the name of RFC 6750, 2.3.
_SECRETS: dict[str, Literal["token", "ticket"]] = {"token": "token", "access_token": "token", "ticket": "ticket"}

_SCHEMES: dict[str, Literal["bearer", "own ticket"]] = {"bearer": "bearer", "ticket": "own ticket"}

# Where `hide_secrets` leaves what it has removed, for `credential_of` alone.
_HIDDEN = "yeoul.secrets"


class Credential(NamedTuple):
    """`bearer` and `own ticket` come in the Authorization header, `token` and `ticket` in the query."""

    kind: Literal["bearer", "own ticket", "token", "ticket"]
    text: str


def hide_secrets(scope: Scope) -> None:
    """Removes the secrets from the request's query string, in place, so that nothing which writes the request down
    later (an access log, a trace, an error) has them. Everything else stays as it was sent, byte for byte: a percent
    encoding may mean something to the code that reads it."""
    query: bytes = scope["query_string"]
    if query:
        scope["query_string"], scope[_HIDDEN] = _without_secrets(query)
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is not None and b"?" in raw_path:  # ASGI says that it has no query, but some servers leave it there
        path, _, query = raw_path.partition(b"?")
        scope["raw_path"] = path + b"?" + _without_secrets(query)[0]


def hidden_kind(scope: Scope) -> str | None:
    """How a request says in its query who sends it, for counting; to be called before `credential_of`."""
    hidden = scope.get(_HIDDEN)
    return None if not hidden else "ticket" if hidden[0].kind == "ticket" else "query"


def header_kind(headers: RawHeaders) -> str:
    """The same for its header fields."""
    if b"authorization" in headers:
        return "bearer"
    return "cookie" if b"cookie" in headers else "none"


def credential_of(scope: Scope, headers: RawHeaders) -> Credential | None:
    """The credential that was sent explicitly (a cookie is not: browsers send it by themselves). Raises Problem (400)
    for more than one, as in RFC 6750, 2: they could name different users."""
    found: list[Credential] = scope.pop(_HIDDEN) if _HIDDEN in scope else []
    if b"authorization" in headers:
        found = [*found, *_in_headers(headers)]
    if len(found) > 1:
        raise Problem(
            400,
            "the request has more than one credential: send one, as `Authorization: Bearer <token>`, or `?ticket=`",
            headers={"WWW-Authenticate": 'Bearer realm="yeoul", error="invalid_request"'},
        )
    return found[0] if found else None


def bearer_of(request: HTTPConnection) -> str:
    """The token of a caller who was authenticated by `bearer`: the very text that was checked, whatever other
    Authorization headers the request has."""
    return next(text for kind, text in _in_headers(headers_of(request.scope)) if kind == "bearer")


def _in_headers(headers: RawHeaders) -> list[Credential]:
    found = []
    for value in headers.all(b"authorization"):
        scheme, _, text = value.decode("latin-1").strip().partition(" ")
        kind = _SCHEMES.get(scheme.lower())
        if kind is not None:
            found.append(Credential(kind, text.strip()))
    return found


def _without_secrets(query: bytes) -> tuple[bytes, list[Credential]]:
    kept, hidden = [], []
    for piece in query.split(b"&"):
        name, _, value = piece.decode("latin-1").partition("=")
        kind = _SECRETS.get(unquote_plus(name).strip().lower())
        if kind is None:
            kept.append(piece)
        else:
            hidden.append(Credential(kind, unquote(value)))  # no space is in a token, but a Base64 `+` may be
    return (b"&".join(kept), hidden) if hidden else (query, hidden)


# --- cookies

PASS_COOKIE = "yeoul_pass"

# What browsers keep of one, its name and attributes included (RFC 6265, 6.1).
MAX_COOKIE_BYTES = 4_096

# Users that one browser may be at the same time, in several tabs: their passes share the cookie.
_MAX_PASSES = 4

_SEPARATOR = "."

# The characters of a pass. Some are sent back in a Set-Cookie header: a cookie that a neighbouring name has planted
# must not write attributes there, such as a Domain that would hand the new pass over to it.
_PASS = re.compile(r"[A-Za-z0-9_-]{1,100}")


def cookie_text(request: HTTPConnection, name: str, value: str, *, seconds: float, same_site: str, secure: bool) -> str:
    """A Set-Cookie header's value (RFC 6265, 4.1), for the paths of this application alone. `seconds`: for how long the
    browser keeps it; 0 deletes it."""
    # Browsers refuse a name with this prefix for another path than that of the whole host (RFC 6265bis, 4.1.3).
    path = "/" if name.lower().startswith("__host-") else external_path(request, "") or "/"
    text = f"{name}={value}; Path={path}; Max-Age={int(seconds)}; HttpOnly; SameSite={same_site}"
    return f"{text}; Secure" if secure else text


def passes_of(request: HTTPConnection) -> Sequence[str]:
    """The passes that the browser sends: what `Tickets.admit` takes."""
    value = _cookies(headers_of(request.scope)).get(PASS_COOKIE)
    texts = value.split(_SEPARATOR)[:_MAX_PASSES] if value else ()
    return [text for text in texts if _PASS.fullmatch(text)]


def pass_cookie(request: HTTPConnection, new: Pass, *, other_seconds: float) -> str:
    """The Set-Cookie header's value that gives a pass to the browser, beside those that it has. `other_seconds`: for
    how long those may be valid."""
    others = [text for text in passes_of(request) if text != new.text]
    # A page of another site is served here only where its origin is allowed, and its browser would not send a strict
    # cookie for it. A cookie with `SameSite=None` has to be Secure.
    site = headers_of(request.scope).get(b"sec-fetch-site")
    elsewhere = bool(request.scope.get(TRUSTED_PAGE)) and site == b"cross-site"
    return cookie_text(
        request,
        PASS_COOKIE,
        _SEPARATOR.join([new.text, *others][:_MAX_PASSES]),
        seconds=max(new.seconds, other_seconds) if others else new.seconds,
        same_site="None" if elsewhere else "Strict",
        secure=elsewhere or request.scope["scheme"] == "https",
    )


def _cookies(headers: RawHeaders) -> dict[str, str]:
    # Several fields are one list of cookies (RFC 9113, 8.2.3).
    values = headers.all(b"cookie")
    return cookie_parser(b"; ".join(values).decode("latin-1")) if values else {}


# --- from a credential to an identity

# Set by proxies: with one of these on a loopback connection the client can be any machine.
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})

_CREDENTIALS = frozenset({b"authorization", b"cookie"})

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_DEMO_IS_LOCAL = (
    "this server has no key to authenticate users with, so it serves only requests that come to a loopback address of "
    "its own machine: to serve others, set YEOUL_JWT_SECRET, YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL"
)
_NO_TOKEN_IN_QUERY = (
    "a token is not accepted in an address, which ends up in logs and histories: send `Authorization: Bearer <token>`, "
    "or exchange it at POST /auth/tickets for a ticket, which is valid for one use"
)
_GET_ONLY = "a ticket is accepted for GET only: send `Authorization: Bearer <token>`"


class Failures(Protocol):
    """`rates.Rates`, which is defined after this module."""

    def check_failures(self, scope: Scope) -> None: ...

    def count_failure(self, scope: Scope) -> None: ...


class Authentication:
    """Takes the Authorization header, a ticket or a token in the query, or the cookie, in this order. A cookie that is
    not accepted counts as no credential, because browsers send it unasked; a route that needs a user says why.

    `revoked`: whether the credentials of this user that were issued at that time (Unix seconds or None) were revoked
    since. `failures`: bounds how often an address may send tokens that are wrong; tokens that were verified lately are
    accepted all the same.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        tickets: Tickets,
        *,
        revoked: Callable[[str, float | None], bool],
        cookie: str,
        query_tokens: bool = False,
        failures: Failures | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._tickets = tickets
        self._revoked = revoked
        self._cookie = cookie
        self._query_tokens = query_tokens or authenticator.demo
        self._failures = failures
        self._anonymous = Admitted(authenticator.anonymous)
        self._operator = Admitted(authenticator.operator)

    async def admit(self, scope: Scope, headers: RawHeaders) -> Admitted:
        """Sets `scope[IDENTITY]`. To be called after `hide_secrets` and `Origins.check`. Raises Problem (400, 401,
        403), and KeysUnavailable where a token cannot be checked at the moment."""
        try:
            admission = await self._admit(scope, headers)
        except InvalidToken as error:
            raise challenge(str(error), invalid=True) from error
        scope[IDENTITY] = admission.identity
        if scope["method"] not in _SAFE:
            _check_page(scope, admission.identity)
        return admission

    def admit_without_credential(self, scope: Scope, headers: RawHeaders) -> Admitted | None:
        """`admit` for most requests, without a step that could wait; None for one that has a credential or a cookie, or
        that came to a server in demo mode from elsewhere."""
        demo = self._authenticator.demo
        if headers.has_any(_CREDENTIALS) or _HIDDEN in scope or (demo and not _came_to_loopback(scope)):
            return None
        admitted = self._operator if demo and _is_local(scope, headers) else self._anonymous
        scope[IDENTITY] = admitted.identity
        return admitted

    def set_cookie(self, scope: Scope, new: Pass) -> bytes:
        """The Set-Cookie header's value for a pass that came of a ticket."""
        return pass_cookie(HTTPConnection(scope), new, other_seconds=self._tickets.pass_seconds).encode("latin-1")

    def is_revoked(self, identity: Identity) -> bool:
        """Whether its credentials have been revoked since they were accepted."""
        return identity.user is not None and self._revoked(identity.user, identity.issued)

    async def _admit(self, scope: Scope, headers: RawHeaders) -> Admitted:
        credential = credential_of(scope, headers)
        if self._authenticator.demo and not _came_to_loopback(scope):
            if credential is not None:
                raise InvalidToken(_DEMO_IS_LOCAL)
            return Admitted(replace(self._authenticator.anonymous, refused=_DEMO_IS_LOCAL))
        if credential is None:
            return await self._implicit(scope, headers)
        return self._bounded(await self._explicit(credential, scope), scope, headers)

    async def _explicit(self, credential: Credential, scope: Scope) -> Admitted:
        kind, text = credential
        method = scope["method"]
        if kind == "bearer":
            return Admitted(await self._verified(text, "bearer", scope))
        if kind == "token":
            if not self._query_tokens:
                raise InvalidToken(_NO_TOKEN_IN_QUERY)
            return Admitted(await self._verified(text, "query", scope))
        if method in ("HEAD", "OPTIONS"):
            # They ask about a response, and the ticket is needed afterwards for the response itself.
            return Admitted(replace(self._authenticator.anonymous, refused=_GET_ONLY))
        if kind == "own ticket":
            return Admitted(await self._tickets.redeem(text, method))
        if method != "GET":
            raise InvalidToken(_GET_ONLY)
        return await self._tickets.admit(text, passes_of(HTTPConnection(scope)))

    async def _verified(self, text: str, way: Way, scope: Scope) -> Identity:
        remembered = self._authenticator.remembered(text, way)
        if remembered is not None:
            return remembered
        if self._failures is None:
            return await self._authenticator.token(text, way)
        self._failures.check_failures(scope)
        try:
            return await self._authenticator.token(text, way)
        except InvalidToken:
            self._failures.count_failure(scope)
            raise

    async def _implicit(self, scope: Scope, headers: RawHeaders) -> Admitted:
        unknown = self._operator if self._authenticator.demo and _is_local(scope, headers) else self._anonymous
        text = _cookies(headers).get(self._cookie) if b"cookie" in headers else None
        if not text:
            return unknown
        try:
            return self._bounded(Admitted(await self._verified(text, "cookie", scope)), scope, headers)
        except (Problem, YeoulError) as error:
            refused = f"the cookie {self._cookie!r} is not accepted ({error})"
            return Admitted(replace(unknown.identity, refused=refused))

    def _bounded(self, admission: Admitted, scope: Scope, headers: RawHeaders) -> Admitted:
        """A demo token proves nothing: only on this machine it makes an administrator."""
        identity = admission.identity
        if not self._authenticator.demo or not identity.is_admin or _is_local(scope, headers):
            return admission
        refused = "in demo mode there are no administrators behind a proxy"
        return Admitted(replace(identity, roles=identity.roles - {ADMIN}, refused=refused), admission.new_pass)


def _came_to_loopback(scope: Scope) -> bool:
    """Whether only this machine can have sent the request. (Behind a Unix socket is a proxy.)"""
    server = scope.get("server")
    return server is not None and is_loopback(server[0])


def _is_local(scope: Scope, headers: RawHeaders) -> bool:
    client = scope.get("client")
    return client is not None and is_loopback(client[0]) and not headers.has_any(_FORWARDED)
