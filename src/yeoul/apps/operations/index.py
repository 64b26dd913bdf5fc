"""The pages: ask, and watch the answer survive; and the API, read from its own description."""

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
    _add_page(router, "/", "index.html")
    # Not FastAPI's own, which loads its script from somebody else's server: it shows nothing without the Internet, and
    # that script could do here whatever the reader may do.
    _add_page(router, "/docs", "reference.html")
    return router


def _add_page(router: APIRouter, path: str, name: str) -> None:
    page = files(__package__).joinpath(name).read_bytes()

    @router.get(path)
    async def show() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})
