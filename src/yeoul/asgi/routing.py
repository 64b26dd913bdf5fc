"""Routes that stream answer GET and HEAD alike; routes by number leave words to others.

In paths `{name:rest}` is all that follows: Starlette's `path` stops at line breaks, which a user's id may have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Path
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Match
from starlette.types import Scope

__all__ = ["STARTED", "STREAM", "Digits", "Number", "NumberedRoute", "stream_route"]

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Awaitable[Response]])

# Of each event, as OpenAPI 3.2 tells of streams, and FastAPI in 3.1.
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {"type": "string"},
        "event": {"type": "string"},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
_EVENTS: dict[str, Any] = {
    "description": "A stream of events.",
    "content": {"text/event-stream": {"itemSchema": _EVENT}},
}
_PLACE = {"Location": {"description": "where what was started is found", "schema": {"type": "string"}}}

# `responses=` of routes that stream, and of those whose stream is of work that they start.
STREAM: dict[int | str, dict[str, Any]] = {
    200: _EVENTS,
    204: {"description": "Nothing follows the position that Last-Event-ID names: do not come back."},
}
STARTED: dict[int | str, dict[str, Any]] = {**STREAM, 200: {**_EVENTS, "headers": _PLACE}}


def stream_route(router: APIRouter | FastAPI, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
    """`@stream_route(router, path)`: GET as documented in OpenAPI, HEAD beside it (headers only)."""

    def add(endpoint: _Endpoint) -> _Endpoint:
        responses = {**STREAM, **options.pop("responses", {})}
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_class=Response,
            responses=responses,
            response_model=None,
            **options,
        )
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False, response_model=None)
        return endpoint

    return add


class _Rest(Convertor[str]):
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())


class NumberedRoute(APIRoute):
    """For paths as `/recipes/{id}`, where `id` is a `Number`: one that is no number belongs to a route with that very
    path (`/recipes/search`), wherever it is registered, and is refused here only where there is none."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE or _is_number(child["path_params"].get("id", "0")):
            return match, child
        # The router takes the first partial match, where no other route matches in full.
        return (Match.PARTIAL, child) if match is Match.FULL else (Match.NONE, {})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _digits(text: str) -> str:
    if not _is_number(text):
        raise ValueError(f"write a whole number in digits, not {text[:50]!r}")
    return text


# Of whole numbers in addresses: `int` alone takes "+1", "1_000" and "1.0" too, several addresses for one thing.
Digits = BeforeValidator(_digits)

# An id as SQLite has them.
Number = Annotated[int, Digits, Path(ge=1, le=2**63 - 1)]
