"""Errors over HTTP: `application/problem+json` (RFC 9457) that says what is wrong and what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from starlette.responses import JSONResponse

from ..errors import (
    DatabaseUnavailable,
    EventTooLarge,
    HubClosed,
    InvalidCursor,
    InvalidTopic,
    KeysUnavailable,
    TooManyConnections,
    TooManyRevocations,
    TooManyTickets,
    TooManyTopics,
    TooMuchWork,
    TopicClosed,
    UnknownCollection,
    UnknownProvider,
    YeoulError,
)

__all__ = ["FAILED", "Problem", "problem", "problem_of"]

# Where something fails that nobody foresaw. What the exception says may be a secret: it goes to the log.
FAILED = "this server has failed: what happened is in its log"

_STATUS: dict[type[Exception], int] = {
    InvalidCursor: 400,
    InvalidTopic: 422,
    UnknownCollection: 404,
    UnknownProvider: 422,
    EventTooLarge: 413,
    TopicClosed: 409,
    TooManyConnections: 429,
    TooMuchWork: 429,
    TooManyRevocations: 503,
    TooManyTickets: 503,
    TooManyTopics: 503,
    HubClosed: 503,
    KeysUnavailable: 503,
    DatabaseUnavailable: 503,
}

# Seconds to wait before the same request can succeed: another worker answers soon, a generation takes a while, and a
# revocation is over after days.
_RETRY_AFTER: dict[type[Exception], int] = {
    DatabaseUnavailable: 5,
    HubClosed: 1,
    KeysUnavailable: 10,
    TooManyConnections: 10,
    TooManyRevocations: 3_600,
    TooManyTickets: 10,
    TooManyTopics: 60,
    TooMuchWork: 5,
}

# The request's field that is to blame, where the error itself says which.
_FIELD: dict[type[Exception], str] = {
    InvalidCursor: "Last-Event-ID",
    InvalidTopic: "topic",
    UnknownCollection: "collection",
    UnknownProvider: "provider",
}


class _Document(JSONResponse):
    media_type = "application/problem+json"

    def render(self, content: object) -> bytes:
        # What is quoted from a request may hold half of a surrogate pair, which JSON can name and UTF-8 cannot carry.
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class Problem(Exception):
    """Raised in a route, answered as a problem document. `fields`: (name, what would be right) of each wrong one."""

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
) -> JSONResponse:
    """The response: `title` is the status's standard phrase, `detail` ours, `errors` one entry per wrong field."""
    content: dict[str, object] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if fields:
        content["errors"] = [{"field": name, "detail": text} for name, text in fields]
    return _Document(content, status, {"Cache-Control": "no-store", **(headers or {})})


def problem_of(error: Exception) -> JSONResponse:
    """The response for an error of ours."""
    if isinstance(error, Problem):
        return problem(error.status, error.detail, fields=error.fields, headers=error.headers)
    status = _STATUS.get(type(error), 500 if isinstance(error, YeoulError) else 422)
    wait = _RETRY_AFTER.get(type(error))
    field = _FIELD.get(type(error))
    fields = [(field, str(error))] if field else []
    return problem(status, str(error), fields=fields, headers=None if wait is None else {"Retry-After": str(wait)})
