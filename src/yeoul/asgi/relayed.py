"""Answering with a relayed stream: ask the upstream once, attach to its stream ever after."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from math import ceil

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from ..auth.identity import Identity
from ..errors import InvalidParameters, UpstreamRefused, YeoulError
from ..hub.job import CANCEL, CONTINUE, DisconnectPolicy
from ..relay.failure import GONE, LOOP, Failure, failure_of
from ..relay.relay import Relay
from ..relay.relays import Relays
from ..relay.route import Route
from ..sse import Event
from .authentication import caller_of
from .errors import problem
from .event_stream import EventStream
from .resume import attach_or_start, finite_stream

__all__ = ["OwnTicket", "own_address", "relayed"]

# Makes a ticket for one request of this server to itself, on behalf of somebody.
OwnTicket = Callable[[Identity], Awaitable[str]]

# Servers of ours that a request may come through. More is a circle of other shape.
_MAX_HOPS = 8
_PSEUDONYM = re.compile(r"\byeoul-[0-9a-f]{12}\b")


async def relayed(
    relays: Relays,
    request: Request,
    route: Route,
    *,
    credential: str | None,
    own_ticket: OwnTicket | None = None,
    policy: DisconnectPolicy,
) -> Response:
    """The stream of the relay that the request's Last-Event-ID names, or of a new one. `policy`: where the route has
    none of its own. `own_ticket`: what this server takes from itself, for routes that lead to it; so that what the
    caller may not do is not done by way of the gateway, and what comes of it is the caller's."""

    async def start(request_key: str | None) -> Relay:
        values = route.read(request.query_params.multi_items(), await _body(request))
        caller = caller_of(request)
        own, ticket = "", None
        if route.upstream.is_own:
            own = own_address(request.scope)
            ticket = await own_ticket(caller) if own_ticket is not None else None
        via = [*_PSEUDONYM.findall(request.headers.get("via", "")), relays.pseudonym]
        outgoing = route.build(values, own=own, ticket=ticket, credential=credential, via=via)
        return await relays.start(
            route,
            outgoing,
            credential=credential or ticket,
            owner=caller.owner,
            policy=_policy(route, policy),
            request_key=request_key,
        )

    def stream(relay: Relay) -> Response:
        return EventStream(
            relays.hub,
            relay.topic,
            request,
            after=relay.origin,
            encoding=relay.encoding,
            hello=False,
            until_final=True,
            headers={**relay.headers, "location": f"/relays/{relay.id}"},
        )

    def lost() -> list[Event]:
        return [GONE.event(route)]

    def failed(error: YeoulError) -> Response:
        fields = error.fields if isinstance(error, InvalidParameters) else ()
        return _answer(route, failure_of(error, route.upstream.name), fields)

    async def ready(relay: Relay) -> Response | None:
        failure = await relay.head(route.wait_s)
        return None if failure is None else _answer(route, failure)

    if _goes_in_circles(request, relays.pseudonym):
        return _answer(route, LOOP)
    return await attach_or_start(
        relays,
        request,
        start,
        stream=stream,
        lost=lost,
        failed=failed,
        ready=ready if route.errors == "status" else None,
    )


def own_address(scope: Scope) -> str:
    """Where this connection came in: this server itself, whatever the Host header says. Plain HTTP: what stands in
    front of it ends TLS there. Raises UpstreamRefused on a Unix socket."""
    host, port = scope.get("server") or (None, None)
    if not host or not port:
        raise UpstreamRefused("this server does not listen on TCP: give the route a URL with a host")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _body(request: Request) -> dict[str, object] | None:
    """The JSON object that the request brings, None where it brings none."""
    if request.method != "POST":
        return None
    body = await request.body()
    if not body:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidParameters([("body", f"content type {kind or 'missing'!r}: send application/json")])
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidParameters([("body", "the body is not JSON")]) from error
    if not isinstance(value, dict):
        raise InvalidParameters([("body", "the body is not a JSON object: send the parameters as its fields")])
    return value


def _policy(route: Route, otherwise: DisconnectPolicy) -> DisconnectPolicy:
    match route.on_disconnect:
        case None:
            return otherwise
        case "continue":
            return CONTINUE
        case "cancel":
            return CANCEL
        case seconds:
            return DisconnectPolicy(float(seconds))


def _goes_in_circles(request: Request, pseudonym: str) -> bool:
    hops = _PSEUDONYM.findall(request.headers.get("via", ""))
    return pseudonym in hops or len(hops) >= _MAX_HOPS


def _answer(route: Route, failure: Failure, fields: Sequence[tuple[str, str]] = ()) -> Response:
    """As the route tells failures."""
    if route.errors == "event":
        return finite_stream([failure.event(route)])
    wait = failure.retry_after
    headers = None if wait is None else {"Retry-After": str(ceil(wait))}
    return problem(failure.status, failure.text(route), fields=fields, headers=headers)
