"""Pages of other sites may link here, and no more."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .problem import problem

__all__ = ["FOREIGN", "NoCrossSite", "from_another_site"]

FOREIGN = "this request comes from a page of another site: send it from this server's own"


class NoCrossSite:
    """Middleware: what a page of another site sends is refused with 403, before it can publish, or start work that is
    paid for. Browsers say where a request comes from (Fetch Metadata, `Sec-Fetch-Site`), and no page can change it.
    Following a link is allowed (not a frame, nor a form that posts), and so is whatever is no browser. Routes that
    start work refuse links, too: `asgi/attach.py`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_foreign(scope):
            await problem(403, FOREIGN)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def from_another_site(headers: Mapping[str, str]) -> bool:
    return headers.get("sec-fetch-site") == "cross-site"


def _is_foreign(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    if not from_another_site(headers):
        return False
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (is_link and scope["method"] in ("GET", "HEAD"))
