"""Who asks, and whether that one may: for routes. `identify.py` has found out before."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import HTTPConnection

from ..auth.identity import ADMIN, ANONYMOUS, Identity
from ..hub.principal import Principal
from .origins import OWN_PAGE
from .problem import Problem

__all__ = [
    "IDENTITY",
    "caller_of",
    "challenge",
    "principal_of",
    "require_admin",
    "require_anybody",
    "require_own_page",
    "require_publish",
    "require_subscribe",
    "require_unbound",
    "require_user",
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
