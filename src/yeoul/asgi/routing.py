"""Routes that stream answer GET and HEAD alike; routes by number leave words to others.

In paths `{name:rest}` is all that follows: Starlette's `path` stops at line breaks, which a user's id may have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Match
from starlette.types import Scope

from .authentication import require_anybody
from .idempotency import once
from .rates import count_publish

__all__ = ["STARTED", "STREAM", "Digits", "Number", "NumberedRoute", "PublishRoute", "stream_route"]

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


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Drawn by the client: the same request with the same key is done once, and answered alike.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


class PublishRoute(APIRoute):
    """`APIRouter(route_class=PublishRoute)` is all there is to do: nobody unknown may POST, each POST counts as a
    publish of its caller (`rates.py`), and an `Idempotency-Key` is respected (`idempotency.py`). Other methods are left
    alone."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            extra = options.get("openapi_extra") or {}
            parameters = extra.get("parameters", [])
            if _KEY not in parameters:  # a router that is included makes its routes anew
                options["openapi_extra"] = {**extra, "parameters": [*parameters, _KEY]}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return handle

        async def publish(request: Request) -> Response:
            require_anybody(request)
            count_publish(request)
            return await once(request, lambda: handle(request))

        return publish
