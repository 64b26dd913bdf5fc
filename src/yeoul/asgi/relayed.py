"""Answering requests with relayed streams: the upstream is asked once, and its stream resumed by the same request."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
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
from .authentication import caller_of
from .body import body_type, read_json
from .errors import Problem, problem
from .event_stream import EventStream
from .headers import headers_of
from .paths import external_path
from .resume import finite_stream, resume_or_start
from .stream_request import StreamRequest, wants_end_event

__all__ = ["OwnTicket", "RelayService", "own_address"]

# Issues a ticket for one request of this server to itself, on behalf of a user.
OwnTicket = Callable[[Identity], Awaitable[str]]

# Yeoul servers that a request may pass. More than that is a loop.
_MAX_HOPS = 8
_PSEUDONYM = re.compile(r"\byeoul-[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True)
class RelayService:
    """Relays the streams of routes. `on_disconnect`: for routes that have no policy of their own. `own_ticket`: what
    this server accepts from itself, for routes that lead to it; so that a user has no more rights through the gateway,
    and what is started belongs to the user."""

    relays: Relays
    on_disconnect: DisconnectPolicy = CONTINUE
    own_ticket: OwnTicket | None = None

    async def stream(self, request: Request, route: Route, credential: str | None) -> Response:
        """The stream of a new relay, or of the one that this request has started before. `credential`: the
        upstream's."""
        if self._is_loop(request):
            return _failure_response(route, LOOP)
        return await resume_or_start(_RelayRoute(self, request, route, credential), request)

    def _is_loop(self, request: Request) -> bool:
        hops = _PSEUDONYM.findall(request.headers.get("via", ""))
        return self.relays.pseudonym in hops or len(hops) >= _MAX_HOPS


@dataclass(slots=True)
class _RelayRoute:
    """`resume.JobRoute` of relays."""

    service: RelayService
    request: Request
    route: Route
    credential: str | None

    @property
    def jobs(self) -> Relays:
        return self.service.relays

    async def start(self, request_key: str | None) -> Relay:
        request, route, relays = self.request, self.route, self.service.relays
        values = route.read(request.query_params.multi_items(), await _json_body(request))
        caller = caller_of(request)
        own, ticket = "", None
        if route.upstream.is_own:
            own = own_address(request.scope)
            ticket = await self.service.own_ticket(caller) if self.service.own_ticket is not None else None
        via = [*_PSEUDONYM.findall(request.headers.get("via", "")), relays.pseudonym]
        return await relays.start(
            route,
            route.build(values, own=own, ticket=ticket, credential=self.credential, via=via),
            credential=self.credential or ticket,
            owner=caller.owner,
            policy=_policy(route, self.service.on_disconnect),
            request_key=request_key,
        )

    def early_response(self, job: Relay) -> Coroutine[None, None, Response | None] | None:
        return self._refusal(job) if self.route.errors == "status" else None

    async def _refusal(self, job: Relay) -> Response | None:
        failure = await job.head(self.route.wait_s)
        return None if failure is None else _failure_response(self.route, failure)

    def stream(self, job: Relay, opened: StreamRequest) -> Response:
        return EventStream(
            job.hub,
            job.topic,
            self.request,
            after=job.origin,
            encoding=job.encoding(end_event=wants_end_event(self.request)),
            hello=False,
            until_final=True,
            headers={**job.headers, "location": external_path(self.request, f"/relays/{job.id}")},
            opened=opened,
        )

    def failed(self, error: YeoulError) -> Response:
        fields = error.fields if isinstance(error, InvalidParameters) else ()
        return _failure_response(self.route, failure_of(error, self.route.upstream.name), fields)

    def lost(self, job: str) -> Response:
        return finite_stream([GONE.event(self.route)], job)


def own_address(scope: Scope) -> str:
    """Where this connection came in: this server itself, whatever the Host header says. Plain HTTP: TLS ends in front
    of it. Raises UpstreamRefused on a Unix socket."""
    host, port = scope.get("server") or (None, None)
    if not host or not port:
        raise UpstreamRefused("this server does not listen on TCP: give the route a URL with a host")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _json_body(request: Request) -> dict[str, object] | None:
    """The JSON object in the body, None without a body. Raises InvalidParameters."""
    if request.method != "POST":
        return None
    body = await request.body()
    if not body:
        return None
    try:
        kind = body_type(headers_of(request.scope))
        value = read_json(body) if kind == "application/json" else None
    except Problem as error:
        raise InvalidParameters([("body", error.detail)]) from error
    if kind != "application/json":
        raise InvalidParameters([("body", f"content type {kind or 'missing'!r}: send application/json")])
    if not isinstance(value, dict):
        raise InvalidParameters([("body", "the body is not a JSON object: send the parameters as its fields")])
    return value


def _policy(route: Route, default: DisconnectPolicy) -> DisconnectPolicy:
    match route.on_disconnect:
        case None:
            return default
        case "continue":
            return CONTINUE
        case "cancel":
            return CANCEL
        case seconds:
            return DisconnectPolicy(float(seconds))


def _failure_response(route: Route, failure: Failure, fields: Sequence[tuple[str, str]] = ()) -> Response:
    """In the form that the route has for failures."""
    if route.errors == "event":
        return finite_stream([failure.event(route)])
    wait = failure.retry_after
    headers = None if wait is None else {"Retry-After": str(ceil(wait))}
    return problem(failure.status, failure.text(route), fields=fields, headers=headers)
