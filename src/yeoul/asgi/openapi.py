"""The parts of the OpenAPI document that all routes share.

The gate (`gate.py`) may refuse any request, and streams and publishing work the same way in each route: both are
written into the document once, here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

__all__ = ["ANY_ID", "CREATED", "FOR_ALL", "POSITION", "PROBLEM", "describe", "problems"]

PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["title", "status", "detail", "error"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong, and what would be right"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
        "request_id": {"type": "string", "description": "the id of the request, also in the server's log"},
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {
                "message": {"type": "string", "description": "the same as `detail`"},
                "type": {"type": "string"},
                "param": {"type": "string", "description": "the first field that is wrong"},
                "code": {"type": "null"},
            },
            "description": "the problem in the form that OpenAI's SDKs show",
        },
    },
}

_WHEN: dict[int, str] = {
    400: "Malformed request: the body is not JSON, the `Host` header is missing, or the position is of another server.",
    401: "Missing or invalid credentials.",
    403: "Not permitted for this user, or sent by a page of another site.",
    404: "Not found, or not readable by this caller.",
    408: "The request body did not arrive in time.",
    409: "Conflict with the current state: `detail` says which.",
    413: "The body, or the event, is too large.",
    415: "Unsupported content type, charset or content encoding.",
    421: "This server does not have the name in the `Host` header.",
    422: "A field or parameter is invalid: `errors` names it.",
    429: "A rate or a limit was exceeded: wait for `Retry-After` seconds.",
    431: "The address and the headers are too large.",
    502: "The upstream server failed.",
    503: "Temporarily unavailable: wait for `Retry-After` seconds.",
    504: "The upstream server did not respond in time.",
}

_WAIT = {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}

_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    403: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    409: {"Retry-After": _WAIT},
    429: {"Retry-After": {"required": True, **_WAIT}},
    503: {"Retry-After": _WAIT},
}


# Of a 201: the address of the new resource.
CREATED: dict[str, Any] = {
    "headers": {
        "Location": {"required": True, "description": "the address of the new resource", "schema": {"type": "string"}}
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: each of these statuses with a problem document (RFC 9457). Those that any route may
    send are added by `describe`."""
    return {
        status: {
            "description": _WHEN.get(status, HTTPStatus(status).phrase),
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
            "content": {"application/problem+json": {"schema": PROBLEM}},
        }
        for status in statuses
    }


# `openapi_extra=` of routes that need no credential.
FOR_ALL: dict[str, Any] = {"security": [{}]}

# A member of `openapi_extra`, which the document does not have: the stream takes any id (`routing.stream_route`).
ANY_ID = "x-any-id"

# A Last-Event-ID (stream/cursor.py) as a regular expression of JSON Schema; the empty one means none.
POSITION = r"^((?:[A-Za-z0-9_-]{1,64}\.)?[0-9a-z]{1,32}-(?:0|[1-9][0-9]{0,17})(?:\.end)?)?$"

_METHODS = frozenset({"get", "post", "put", "patch", "delete"})
_STREAM = "text/event-stream"
_PROBLEM = "application/problem+json"
# FastAPI's description of a response that has none.
_DEFAULT = "Successful Response"

_BY_ANY = (400, 401, 403, 421, 429, 431, 503)
_BY_BODY = (408, 413, 415, 422)

_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The last `id:` received: the stream goes on after it. `EventSource` sends it by itself.",
    "schema": {"type": "string", "pattern": POSITION},
}
_LAST_EVENT_ID_IN_QUERY = {
    "name": "lastEventId",
    "in": "query",
    "description": "The same, for clients that cannot set headers on their first request.",
    "schema": {"type": "string", "pattern": POSITION},
}


def describe(app: FastAPI, *, cookie: str, anonymous: bool, query_tokens: bool) -> None:
    """Completes the application's document whenever it is generated: the responses of the gate, the ways to
    authenticate, and the position of streams.

    `cookie`: the name of the cookie that may hold a token. `anonymous`: whether routes without `openapi_extra=FOR_ALL`
    need no credential either. `query_tokens`: whether `?token=` is accepted.
    """
    make = app.openapi
    completed: dict[str, Any] | None = None
    schemes = _schemes(cookie, query_tokens)

    def openapi() -> dict[str, Any]:
        nonlocal completed
        document = make()
        if document is not completed:  # it is generated again after a route was added
            _complete(document, schemes, anonymous)
            completed = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _schemes(cookie: str, query_tokens: bool) -> dict[str, Any]:
    schemes: dict[str, Any] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token, as `Authorization: Bearer <token>`.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "The token in a cookie, for pages of this server: POST /auth/session sets it.",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "For `EventSource`, which cannot set headers: for one use. POST /auth/tickets issues it.",
        },
    }
    if query_tokens:
        schemes["token"] = {
            "type": "apiKey",
            "in": "query",
            "name": "token",
            "description": "The token in the address.",
        }
    return schemes


def _complete(document: dict[str, Any], schemes: Mapping[str, Any], anonymous: bool) -> None:
    answers: dict[str, Any] = {}
    for item in document["paths"].values():
        for method in _METHODS & item.keys():
            operation = item[method]
            _complete_operation(method, operation)
            _share_problems(operation["responses"], answers)
            ways: list[dict[str, list[str]]] = [{name: []} for name in schemes if method == "get" or name != "ticket"]
            operation["security"] = [*operation.get("security", [{}] if anonymous else []), *ways]
    components = document.setdefault("components", {})
    components["securitySchemes"] = dict(schemes)
    components["responses"] = dict(sorted(answers.items()))
    models = components.setdefault("schemas", {})
    # The models of FastAPI's own 422, which this server never sends.
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    components["schemas"] = dict(sorted({**models, "Problem": PROBLEM}.items()))


def _complete_operation(method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if _is_stream(responses):
        positions = [_LAST_EVENT_ID, _LAST_EVENT_ID_IN_QUERY] if method == "get" else [_LAST_EVENT_ID]
        if operation.pop(ANY_ID, False):
            positions = [{**position, "schema": {"type": "string"}} for position in positions]
        operation["parameters"] = [*operation.get("parameters", []), *positions]
    for status in _statuses(method, operation):
        said = responses.get(str(status))
        if said is None or _PROBLEM not in said.get("content", {}):
            responses[str(status)] = problems(status)[status]
    for status, response in responses.items():
        if response.get("description") == _DEFAULT:
            response["description"] = HTTPStatus(int(status)).phrase
    operation["responses"] = dict(sorted(responses.items()))


def _statuses(method: str, operation: Mapping[str, Any]) -> Iterator[int]:
    yield from _BY_ANY
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "requestBody" in operation:
        yield from _BY_BODY
    elif method != "get":
        yield 413
    if "422" in operation["responses"]:
        yield 422
    if _is_stream(operation["responses"]):
        yield 429
    if "Idempotency-Key" in names:
        yield from (409, 422, 429)


def _is_stream(responses: Mapping[str, Any]) -> bool:
    return any(_STREAM in response.get("content", {}) for response in responses.values())


def _share_problems(responses: dict[str, Any], answers: dict[str, Any]) -> None:
    """Describes the problem document of each status once, and refers to it."""
    for status, response in responses.items():
        if _PROBLEM not in response.get("content", {}) or not status.isdigit():
            continue
        if response == problems(int(status))[int(status)]:
            name = HTTPStatus(int(status)).phrase.replace(" ", "")
            schema = {"$ref": "#/components/schemas/Problem"}
            answers[name] = {**response, "content": {_PROBLEM: {"schema": schema}}}
            responses[status] = {"$ref": f"#/components/responses/{name}"}
