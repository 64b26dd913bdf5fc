"""What OpenAPI says of the answers that are problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

__all__ = ["problems"]

_PROBLEM: dict[str, Any] = {
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
    400: "The request is not what it says it is: no JSON, or a position that no server wrote.",
    401: "Nobody knows who asks, or the token is not taken.",
    403: "The token does not let its user do this, or a page of another site asks.",
    409: "The first request with this `Idempotency-Key` is under way.",
    413: "The body, or the event, is larger than may be.",
    415: "The body is of another content type.",
    422: "A field or parameter is not what it has to be: `errors` names it.",
    429: "Too often, or too many at once: wait for `Retry-After` seconds.",
    503: "Not now: wait for `Retry-After` seconds.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: each of these statuses with a problem document (RFC 9457)."""
    return {
        status: {
            "description": _WHEN.get(status, HTTPStatus(status).phrase),
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status in statuses
    }
