"""Errors over HTTP: `application/problem+json` (RFC 9457) that says what is wrong and what would be right."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    EventTooLarge,
    HubClosed,
    InvalidCursor,
    InvalidTopic,
    KeyReused,
    KeysUnavailable,
    TooManyConnections,
    TooManyRevocations,
    TooManyTickets,
    TooManyTopics,
    TooMuchWork,
    TopicClosed,
    UnknownCollection,
    UnknownModel,
    UnknownProvider,
    YeoulError,
)
from ..observe import draw_request_id
from .headers import media_type, text_of
from .paths import external_path

__all__ = [
    "FAILED",
    "Problem",
    "answer_errors_with_problems",
    "problem",
    "problem_of",
    "request_id_of",
    "retry_after",
    "with_clear_start",
]

# Where an unexpected exception was raised. Its text may hold a secret: it goes to the log alone.
FAILED = "internal error: the server's log has the details"

_STATUS: dict[type[Exception], int] = {
    InvalidCursor: 400,
    InvalidTopic: 422,
    KeyReused: 422,
    UnknownCollection: 404,
    UnknownModel: 422,
    UnknownProvider: 422,
    EventTooLarge: 413,
    TopicClosed: 409,
    TooManyConnections: 429,
    TooMuchWork: 429,
    TooManyRevocations: 503,
    TooManyTickets: 503,
    TooManyTopics: 503,
    BrokerUnavailable: 503,
    HubClosed: 503,
    KeysUnavailable: 503,
    DatabaseUnavailable: 503,
}

# Seconds to wait before the same request can succeed: another worker responds soon, a generation takes a while, and a
# revocation ends after days.
_RETRY_AFTER: dict[type[Exception], int] = {
    DatabaseUnavailable: 5,
    BrokerUnavailable: 2,
    HubClosed: 1,
    KeysUnavailable: 10,
    TooManyConnections: 10,
    TooManyRevocations: 3_600,
    TooManyTickets: 10,
    TooManyTopics: 60,
    TooMuchWork: 5,
}

# The field of the request that is wrong, where the type of the error says which.
_FIELD: dict[type[Exception], str] = {
    InvalidCursor: "Last-Event-ID",
    InvalidTopic: "topic",
    KeyReused: "Idempotency-Key",
    UnknownCollection: "collection",
    UnknownModel: "model",
    UnknownProvider: "provider",
}


# Of an id that a client or a proxy gave the request.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_KEY = "yeoul.request_id"


def request_id_of(scope: Scope) -> str:
    """The id of the request: the X-Request-ID that it came with, where that is one, else drawn at the first call. For
    the log, and for the person who reports a problem."""
    id: str | None = scope.get(_KEY)
    if id is None:
        sent = text_of(scope, b"x-request-id")
        id = scope[_KEY] = sent if _REQUEST_ID.fullmatch(sent) else draw_request_id()
    return id


class _Document(Response):
    media_type = "application/problem+json"

    def __init__(self, content: dict[str, object], status: int, headers: Mapping[str, str]) -> None:
        self._content = content
        super().__init__(self._text(content), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        id = request_id_of(scope)
        self.body = self._text({**self._content, "request_id": id})
        self.headers["content-length"] = str(len(self.body))
        self.headers["x-request-id"] = id
        await super().__call__(scope, receive, send)

    def _text(self, content: Mapping[str, object]) -> bytes:
        # What is quoted from a request may hold half of a surrogate pair, which JSON can name and UTF-8 cannot carry.
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Problem(Exception):
    """Raised in a route, answered as a problem document. `fields`: (name, what would be right) for each wrong one."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = fields
        self.headers = headers


def problem(
    status: int, detail: str, *, fields: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """The response: `title` is the standard phrase of the status, `detail` ours, `errors` has one entry per wrong
    field. `request_id` is added when it is sent.

    `error` says the same in OpenAI's form: of an error response, its SDKs show `error.message` and nothing else.
    """
    content: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    param = {"param": fields[0][0]} if fields else {}
    content["error"] = {"message": detail, "type": HTTPStatus(status).name.lower(), **param, "code": None}
    if fields:
        content["errors"] = [{"field": name, "detail": text} for name, text in fields]
    return _Document(content, status, {"Cache-Control": "no-store", **(headers or {})})


def retry_after(error: Exception) -> int | None:
    """Seconds after which the same request may succeed, None where it would fail again."""
    return _RETRY_AFTER.get(type(error))


def problem_of(error: Exception) -> Response:
    """The response for an error of ours."""
    if isinstance(error, Problem):
        return problem(error.status, error.detail, fields=error.fields, headers=error.headers)
    status = _STATUS.get(type(error), 500 if isinstance(error, YeoulError) else 422)
    wait = retry_after(error)
    field = _FIELD.get(type(error))
    fields = [(field, str(error))] if field else []
    return problem(status, str(error), fields=fields, headers=None if wait is None else {"Retry-After": str(wait)})


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

# Wrong fields that the answer names (a body of a megabyte can have half a million), and characters of each name: the
# answer must not be larger than the request.
_MOST_NAMED = 20
_MOST_CHARS = 100


def answer_errors_with_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    @app.exception_handler(YeoulError)
    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        return problem(500, FAILED)  # Starlette raises it again after this, and the server logs it

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # in the midst of its body: no client reads this, and nothing has failed here

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = ", ".join(_methods_here(request)) or (error.headers or {}).get("Allow", "")
            return problem(405, f"{request.method[:20]} is not allowed here: use {allowed}", headers={"Allow": allowed})
        if error.status_code == 404:
            return problem(
                404,
                f"no resource has this address: {external_path(request, '/docs')} lists all",
                headers=error.headers,
            )
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(request, error)


def _methods_here(request: Request) -> list[str]:
    """All methods of the address (RFC 9110, 15.5.6); the route that refused the request knows its own methods alone."""
    routes = request.app.router.routes
    scopes = [{**request.scope, "method": method} for method in _METHODS]
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _invalid(request: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    kind, _ = media_type(text_of(request.scope, b"content-type"))
    if kind != "application/json" and any(entry["loc"][:1] == ("body",) for entry in errors):
        return problem(415, f"content type {kind or 'missing'!r}: send application/json")
    if any(entry["type"] == "json_invalid" for entry in errors):
        return problem(400, "the body is not JSON: " + str(errors[0].get("ctx", {}).get("error", "")))
    fields = [(_name(entry), _said(entry)) for entry in errors[:_MOST_NAMED]]
    said = [f"{name}: {text}" for name, text in fields]
    if len(errors) > _MOST_NAMED:
        said.append(f"and {len(errors) - _MOST_NAMED} more")
    return problem(422, "; ".join(said), fields=fields)


def _name(entry: dict[str, Any]) -> str:
    return (".".join(map(str, entry["loc"][1:])) or str(entry["loc"][0]))[:_MOST_CHARS]


def _said(entry: dict[str, Any]) -> str:
    """What is wrong with a field, for the person who sent it."""
    if entry["type"] == "extra_forbidden":
        return "unknown field"
    return str(entry["msg"]).removeprefix("Value error, ")


def with_clear_start(app: ASGIApp) -> ASGIApp:
    """The application for the ASGI scope `lifespan`: an error of ours at the start reaches the server, and so the
    person who starts it, as its text and not as a traceback."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        failed: Message | None = None

        async def hold(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message
            else:
                await send(message)

        try:
            await app(scope, receive, hold)
        except BaseException as error:
            if failed is not None:
                ours = isinstance(error, YeoulError)
                await send({**failed, "message": f"cannot start: {error}"} if ours else failed)
            raise

    return run
