"""The current user, and credentials for clients that cannot set a header: tickets and the session cookie."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ...asgi.authentication import (
    MAX_COOKIE_BYTES,
    PASS_COOKIE,
    bearer_of,
    caller_of,
    challenge,
    cookie_text,
    passes_of,
    require_subscribe,
    require_user,
)
from ...asgi.body import JsonBody
from ...asgi.errors import Problem
from ...asgi.openapi import FOR_ALL, problems
from ...asgi.responses import NO_STORE
from ...asgi.routing import JsonRoute
from ...auth.authenticator import Authenticator
from ...auth.identity import Identity, topic_part
from ...auth.tickets import Tickets
from ...hub import Hub
from ...hub.topic import check_topic

__all__ = ["auth_app"]

# Seconds for which a browser keeps a token that never expires.
_KEEP_S = 86_400.0

# A stream may follow fewer: this bounds the errors of one body.
TopicNames = Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=1_000)]


class NewTicket(JsonBody):
    topics: TopicNames | None = Field(None, description="the only topics of the ticket; by default all you may follow")


class IssuedTicket(BaseModel):
    ticket: str
    expires_in: float = Field(description="seconds in which the ticket must be used")
    topics: list[str] | None


class Session(BaseModel):
    """`expires`: Unix seconds, null for never."""

    user: str
    expires: float | None


class Me(BaseModel):
    """`way`: how the credentials were sent; `expires`: Unix seconds, null for never; `refused`: why the cookie was not
    accepted."""

    user: str | None
    name: str | None
    email: str | None
    roles: list[str]
    subscribe: list[str]
    publish: list[str]
    topics: list[str] = Field(description="topics of this user")
    expires: float | None
    way: str
    demo: bool
    refused: str | None


def auth_app(hub: Hub, authenticator: Authenticator, tickets: Tickets, *, cookie: str) -> APIRouter:
    """`cookie`: the name of the session cookie."""
    router = APIRouter(tags=["auth"], route_class=JsonRoute)

    @router.post("/auth/tickets", status_code=201, response_model=IssuedTicket, summary="Issue a ticket for one stream")
    async def issue_ticket(request: Request, identity: KnownByToken, new: NewTicket | None = None) -> Response:
        """For clients that cannot set a header: `?ticket=…` opens one stream. In the same browser `EventSource` may
        reconnect with it."""
        names = new.topics if new is not None else None
        if names is not None:
            names = list(dict.fromkeys(names))
            _check_topics(names, hub.max_topics_per_reader)
            require_subscribe(request, names)
        text = await tickets.issue(identity, names)
        issued = IssuedTicket(ticket=text, expires_in=tickets.ticket_seconds, topics=names)
        return JSONResponse(issued.model_dump(), 201, NO_STORE)

    @router.post(
        "/auth/session",
        response_model=Session,
        responses=problems(422),
        summary="Store the token in a cookie",
    )
    async def begin_session(request: Request, identity: KnownByToken) -> Response:
        """Stores the token of the `Authorization: Bearer` header in a cookie that scripts cannot read."""
        if identity.way != "bearer":
            raise challenge("send the token to store as `Authorization: Bearer <token>`")
        token = bearer_of(request)
        left = _KEEP_S if identity.expires is None else identity.expires - time.time()
        text = cookie_text(request, cookie, token, seconds=left, same_site="Lax", secure=_over_tls(request))
        if len(text) > MAX_COOKIE_BYTES:
            limit = MAX_COOKIE_BYTES - len(text) + len(token)
            raise Problem(422, f"the token is too large for a cookie: it may have at most {limit} bytes")
        response = JSONResponse({"user": identity.user, "expires": identity.expires}, 200, NO_STORE)
        response.headers.append("set-cookie", text)
        return response

    @router.delete("/auth/session", status_code=204, openapi_extra=FOR_ALL, summary="Delete the session cookie")
    async def end_session(request: Request) -> Response:
        """Deletes the cookie, and the pass that lets `EventSource` reconnect. The token stays valid."""
        await tickets.end_passes(passes_of(request))
        response = Response(status_code=204, headers=NO_STORE)
        for name in (cookie, PASS_COOKIE):
            # Secure, too: browsers accept nothing else for a name that begins with `__Host-` or `__Secure-`.
            deleted = cookie_text(request, name, "", seconds=0, same_site="Lax", secure=_over_tls(request))
            response.headers.append("set-cookie", deleted)
        return response

    @router.get("/auth/me", response_model=Me, openapi_extra=FOR_ALL, summary="Show the current user")
    async def who_am_i(request: Request) -> Response:
        identity = caller_of(request)
        return JSONResponse(_me(identity, demo=authenticator.demo).model_dump(), headers=NO_STORE)

    return router


def _over_tls(request: Request) -> bool:
    return bool(request.scope["scheme"] == "https")


def _with_token(request: Request) -> Identity:
    """The current user, authenticated by a token. Raises Problem (401, 403)."""
    identity = caller_of(request)
    if identity.user is None and identity.is_admin:
        raise challenge(
            "the operator of a server in demo mode has no user: send a demo token, which is Base64 of "
            "`id:name:email:role,role`, as `Authorization: Bearer <token>`"
        )
    require_user(request)
    if identity.way in ("ticket", "pass"):
        raise Problem(403, "a ticket is accepted for streams only: send `Authorization: Bearer <token>`")
    return identity


# A dependency, so that it is checked before the body is.
KnownByToken = Annotated[Identity, Depends(_with_token)]


def _check_topics(names: list[str], limit: int) -> None:
    if len(names) > limit:
        wrong = f"a ticket, like a stream, has at most {limit} topics, not {len(names)}"
        raise Problem(422, wrong, fields=[("topics", wrong)])
    for name in names:
        check_topic(name)


def _me(identity: Identity, *, demo: bool) -> Me:
    return Me(
        user=identity.user,
        name=identity.name,
        email=identity.email,
        roles=sorted(identity.roles),
        subscribe=[pattern.text for pattern in identity.grants.subscribe],
        publish=[pattern.text for pattern in identity.grants.publish],
        topics=[] if identity.user is None else [f"notifications/{topic_part(identity.user)}"],
        expires=identity.expires,
        way=identity.way,
        demo=demo,
        refused=identity.refused,
    )
