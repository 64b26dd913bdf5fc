"""What OpenAPI says of the answers that are problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

__all__ = ["CREATED", "PROBLEM", "problems"]

PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["title", "status", "detail"],
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
