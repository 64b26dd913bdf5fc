"""The gate: every request passes it before any middleware and any route.

It reads the head once and decides in this order: secrets leave the address; is the Host a name of this server; may the
page that sent the request use it; is the body too large; who sends it. Each decision is a function of the head in a
module of its own (`authentication`, `hosts`, `origins`, `body`) that raises `Problem`. What is left goes to a hot route
(`routing.HotRoutes`) or to FastAPI.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..auth.identity import Identity
from ..auth.tickets import Admitted
from ..eager import in_task
from ..errors import InvalidToken, YeoulError
from ..observe import Tally
from .authentication import IDENTITY, Authentication, challenge, header_kind, hidden_kind, hide_secrets
from .body import BodyLimit, BodyRequest
from .errors import FAILED, Problem, problem, problem_of, request_id_of, with_clear_start
from .extensions import RESPOND, Respond, offered
from .headers import RawHeaders, headers_of
from .hosts import Hosts
from .origins import Origins
from .passthrough import PassesBodies
from .responses import JsonBytes
from .routing import HotRoutes

__all__ = ["Application", "Gate"]

_Pairs = Sequence[tuple[bytes, bytes]]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITHOUT_BODY = frozenset({"GET", "HEAD"})
_NOT_STARTED = (
    "this application was not started: its lifespan has to run; where it is mounted in another application, run it in "
    "that one's lifespan (docs/operations.md)"
)
_REVOKED = "the token has been revoked: sign in again"


class Application(FastAPI):
    """A FastAPI application behind a gate. Middlewares that are added to it stand between the gate and its routes; hot
    routes are then called by way of them."""

    gate: Gate | None = None
    started = False  # whether its lifespan is running

    # To a server that knows this attribute (server/uvicorn.py): a request may be run up to its first wait before there
    # is a task for it. The gate and hot routes need none; everything else is reached by `pass_on`, which waits.
    eager = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.gate is not None:
            await self.gate(scope, receive, send)
        elif scope["type"] == "lifespan":
            await with_clear_start(super().__call__)(scope, receive, send)
        else:
            await self.pass_on(scope, receive, send)

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the middlewares and routes, in a task."""
        await in_task()
        await super().__call__(scope, receive, send)


class Gate:
    """Counts answers in `requests` (method, route, status), and identities in `identifications` (way, outcome: "known",
    "refused", "nobody").

    The route is its template (`/topics/{topic:rest}`), never the address: a client that can choose a label's value can
    make as many time series as there is memory. A request without a route counts as "none", an unusual method as
    "other".
    """

    def __init__(
        self,
        app: Application,
        *,
        hosts: Hosts,
        origins: Origins,
        bodies: BodyLimit,
        authentication: Authentication,
        hot: HotRoutes,
        requests: Tally,
        identifications: Tally,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._bodies = bodies
        self.hot = hot
        self._requests = requests
        self._identifications = identifications
        self.origins = origins
        self.authentication = authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] or b"?" in (scope.get("raw_path") or b""):
            hide_secrets(scope)
        headers = headers_of(scope)
        exchange = _Exchange(self, scope, headers, send)
        try:
            await self._answer(scope, headers, receive, exchange)
        except Exception as error:
            if exchange.revoked:
                await problem_of(challenge(_REVOKED, invalid=True))(scope, receive, exchange.send_again)
                return
            if not exchange.started:
                await problem(500, FAILED)(scope, receive, exchange.send)
            error.add_note(f"request {request_id_of(scope)}")  # for the log, which the server writes
            raise

    async def _answer(self, scope: Scope, headers: RawHeaders, receive: Receive, exchange: _Exchange) -> None:
        try:
            self._hosts.check(scope, headers)
            self.origins.check(scope, headers)
            exchange.from_allowed_origin = True
            if not self._app.started:
                raise Problem(503, _NOT_STARTED)
            method = scope["method"]
            if method == "OPTIONS" and self.origins.is_preflight(headers):
                await self.origins.preflight(headers)(scope, receive, exchange.send)
                return
            has_body = method not in _WITHOUT_BODY
            if has_body:
                self._bodies.check(headers)
            exchange.admission = self.authentication.admit_without_credential(scope, headers)
            if exchange.admission is None:
                exchange.admission = await self.authentication.admit(scope, headers)
        except (Problem, YeoulError) as error:
            await problem_of(error)(scope, receive, exchange.send)
            return
        if has_body:
            receive = self._bodies.limited(scope, receive)
        path = _route_path(scope) if scope.get("root_path") else scope["path"]
        found = None if self._app.user_middleware else self.hot.find(method, path)
        if found is None:
            await self._app.pass_on(scope, receive, exchange.send)
            return
        route, scope["path_params"] = found
        scope["app"], scope["route"] = self._app, route
        request = BodyRequest(scope, receive, exchange.send)
        try:
            response = await route.respond(request)
        except Exception as error:
            response = await self._response_to(request, error)
        if type(response) is not JsonBytes or not exchange.respond(response):
            await response(scope, receive, exchange.send)

    async def _response_to(self, request: Request, error: Exception) -> Response:
        """By the exception handlers of the application, as Starlette looks for them. Raises the error where there is
        none."""
        handlers: dict[Any, Any] = self._app.exception_handlers
        status = handlers.get(error.status_code) if isinstance(error, HTTPException) else None
        handler = status or next((handlers[kind] for kind in type(error).__mro__[:-3] if kind in handlers), None)
        if handler is None:
            raise error
        response: Response = await handler(request, error)
        return response

    def count(self, scope: Scope, kind: str, status: int) -> None:
        method = scope["method"]
        route = scope.get("route")
        path = "none" if route is None else getattr(route, "path", "none")
        self._requests.add(method if method in _METHODS else "other", path, str(status))
        identity: Identity | None = scope.get(IDENTITY)
        if identity is not None and (identity.user is not None or identity.is_admin):
            self._identifications.add(identity.way, "known")
        elif status == 401 or (identity is not None and identity.refused):
            self._identifications.add(kind, "refused")
        else:
            self._identifications.add(kind, "nobody")


class _Exchange(PassesBodies):
    """One request and its response. `send` completes the head of the response; `started`: it is on its way."""

    __slots__ = (
        "_gate",
        "_headers",
        "_kind",
        "_scope",
        "admission",
        "from_allowed_origin",
        "passed_to",
        "revoked",
        "started",
    )

    def __init__(self, gate: Gate, scope: Scope, headers: RawHeaders, send: Send) -> None:
        self._gate = gate
        self._scope = scope
        self._headers = headers
        self.passed_to = send
        self._kind = hidden_kind(scope)  # now: nothing keeps the credential longer than it must
        self.admission: Admitted | None = None
        self.from_allowed_origin = False
        self.revoked = False
        self.started = False

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = self._complete(message["status"], message.get("headers", ()))
            message = {**message, "headers": headers}
        return self.passed_to(message)

    def respond(self, response: JsonBytes) -> bool:
        """Sends it in one step; False where the server does not offer that."""
        respond: Respond | None = offered(self._scope, RESPOND, self.passed_to)
        if respond is None:
            return False
        status = response.status_code
        return respond(status, partial(self._complete, status, response.given_headers()), response.body)

    async def send_again(self, message: Message) -> None:
        """For the response that replaces one that was not started after all."""
        self.admission = None
        await self.send(message)

    def _complete(self, status: int, headers: _Pairs) -> _Pairs:
        admission = self.admission
        if admission is not None and admission.identity.user is not None:
            # No stream for a user who was revoked while it began. (The hub knows those that have begun, and ends them.)
            if self._gate.authentication.is_revoked(admission.identity) and _is_stream(headers):
                self.revoked = True
                raise InvalidToken(_REVOKED)
            if admission.new_pass is not None:
                cookie = self._gate.authentication.set_cookie(self._scope, admission.new_pass)
                headers = [*headers, (b"set-cookie", cookie)]
        if self.from_allowed_origin:
            headers = self._gate.origins.allow(self._headers, headers)
        self._gate.count(self._scope, self._kind or header_kind(self._headers), status)
        self.started = True
        return headers


def _route_path(scope: Scope) -> str:
    """The path without the prefix under which the application is mounted, as Starlette's router has it."""
    path: str = scope["path"]
    root: str = scope["root_path"]
    return path.removeprefix(root) if path[len(root) : len(root) + 1] in ("", "/") else path


def _is_stream(headers: _Pairs) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
