"""Routes that stream answer GET and HEAD alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.responses import Response

__all__ = ["stream_route"]

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Awaitable[Response]])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "A stream of events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "Nothing follows the position that Last-Event-ID names: do not come back."},
}


def stream_route(router: APIRouter, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
    """`@stream_route(router, path)`: GET as documented in OpenAPI, HEAD beside it (headers only)."""

    def add(endpoint: _Endpoint) -> _Endpoint:
        responses = {**_STREAM, **options.pop("responses", {})}
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
