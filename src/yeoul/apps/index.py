"""The first page: ask, and watch the answer survive."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

__all__ = ["index"]

# Everything is in the page itself; nothing else may run in it or be loaded by it.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


def index() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    page = files(__package__).joinpath("index.html").read_bytes()

    @router.get("/")
    async def show() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})

    return router
