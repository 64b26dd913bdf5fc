"""Routes that publish: how often one may, and once for each key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from .caller import require_anybody
from .idempotency import once
from .rates import count_publish

__all__ = ["PublishRoute"]

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
