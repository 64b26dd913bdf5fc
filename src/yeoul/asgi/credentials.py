"""What a request sends to say who it is."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import unquote, unquote_plus

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from .problem import Problem

__all__ = ["Credential", "HideSecrets", "bearer_of", "credential_of", "way_of"]

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
