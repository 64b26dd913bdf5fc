"""What OpenAPI says of every route, beyond what each says of itself.

What stands in front of all routes may refuse a request (`identify.py`, `origins.py`, `hosts.py`, `limits.py`), and
streams and publishing are alike wherever they are: it is written into the document once, here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

__all__ = ["CREATED", "FOR_ALL", "POSITION", "PROBLEM", "describe", "problems"]

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
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {
                "message": {"type": "string", "description": "the same as `detail`"},
                "type": {"type": "string"},
                "code": {"type": "null"},
            },
            "description": "the problem in the form that OpenAI's SDKs show",
        },
    },
}

_WHEN: dict[int, str] = {
    400: "The request is not what it says it is: no JSON, no host, or a position that no server wrote.",
    401: "Nobody knows who asks, or the token is not taken.",
    403: "The token does not let its user do this, or a page of another site asks.",
    404: "There is no such thing, or it is not the caller's to know.",
    408: "The body did not come in time.",
    409: "Not as things are now: `detail` says what is in the way.",
    413: "The body, or the event, is larger than may be.",
    415: "The body is of another content type.",
    421: "This server is not the one that the `Host` header names.",
    422: "A field or parameter is not what it has to be: `errors` names it.",
    429: "Too often, or too many at once: wait for `Retry-After` seconds.",
    431: "The address and the headers are larger than may be.",
    502: "Whoever this server asks has failed.",
    503: "Not now: wait for `Retry-After` seconds.",
    504: "Whoever this server asks did not answer in time.",
}

_WAIT = {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}

_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    403: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    409: {"Retry-After": _WAIT},
    429: {"Retry-After": {"required": True, **_WAIT}},
    503: {"Retry-After": _WAIT},
}


# Of a 201 that says where the new thing is.
CREATED: dict[str, Any] = {
    "headers": {"Location": {"required": True, "description": "where it is found", "schema": {"type": "string"}}}
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: each of these statuses with a problem document (RFC 9457). Those that any route may
    answer are added by `asgi/openapi.py`."""
    return {
        status: {
            "description": _WHEN.get(status, HTTPStatus(status).phrase),
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
            "content": {"application/problem+json": {"schema": PROBLEM}},
        }
        for status in statuses
    }


# `openapi_extra=` of routes that answer whoever asks, with a credential or without.
FOR_ALL: dict[str, Any] = {"security": [{}]}

# A Last-Event-ID (stream/cursor.py) in the regular expressions of JSON Schema; an empty one is none.
POSITION = r"^((?:[A-Za-z0-9_-]{1,64}\.)?[0-9a-z]{1,32}-(?:0|[1-9][0-9]{0,17}))?$"

_METHODS = frozenset({"get", "post", "put", "patch", "delete"})
_STREAM = "text/event-stream"
_PROBLEM = "application/problem+json"
# What FastAPI says where a route says nothing.
_UNSAID = "Successful Response"

_BY_ANY = (400, 401, 403, 421, 431, 503)
_BY_BODY = (408, 413, 415, 422)

_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The last `id:` that came, to go on after it. `EventSource` sends it by itself.",
    "schema": {"type": "string", "pattern": POSITION},
}
_LAST_EVENT_ID_IN_QUERY = {
    "name": "lastEventId",
    "in": "query",
    "description": "The same, for clients that can set no header on their first request.",
    "schema": {"type": "string", "pattern": POSITION},
}


def describe(app: FastAPI, *, cookie: str, anonymous: bool, query_tokens: bool) -> None:
    """Completes the application's document whenever it is made: which answers what stands in front of the routes may
    give, who may ask, and from where a stream goes on.

    `cookie`: the name of the one that may hold a token. `anonymous`: whether routes answer without a credential, too,
    where they do not say so by `openapi_extra=FOR_ALL`. `query_tokens`: whether `?token=` is taken.
    """
    make = app.openapi
    completed: dict[str, Any] | None = None
    schemes = _schemes(cookie, query_tokens)

    def openapi() -> dict[str, Any]:
        nonlocal completed
        document = make()
        if document is not completed:  # it is made anew where a route was added since
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
            "description": "The token in a cookie: POST /auth/session sets it, for pages of this server.",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "For `EventSource`, which can set no header: good for one use. POST /auth/tickets makes it.",
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
    # What FastAPI says of its own 422, which nobody gets from here.
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    components["schemas"] = dict(sorted({**models, "Problem": PROBLEM}.items()))


def _complete_operation(method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if _is_stream(responses):
        positions = [_LAST_EVENT_ID, _LAST_EVENT_ID_IN_QUERY] if method == "get" else [_LAST_EVENT_ID]
        operation["parameters"] = [*operation.get("parameters", []), *positions]
    for status in _statuses(method, operation):
        said = responses.get(str(status))
        if said is None or _PROBLEM not in said.get("content", {}):
            responses[str(status)] = problems(status)[status]
    for status, response in responses.items():
        if response.get("description") == _UNSAID:
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
    """Each status's problem document is described once, and referred to."""
    for status, response in responses.items():
        if _PROBLEM not in response.get("content", {}) or not status.isdigit():
            continue
        if response == problems(int(status))[int(status)]:
            name = HTTPStatus(int(status)).phrase.replace(" ", "")
            schema = {"$ref": "#/components/schemas/Problem"}
            answers[name] = {**response, "content": {_PROBLEM: {"schema": schema}}}
            responses[status] = {"$ref": f"#/components/responses/{name}"}
