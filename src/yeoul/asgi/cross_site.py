"""Pages of other sites may link here, and no more."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from .problem import problem

__all__ = ["NoCrossSite"]


class NoCrossSite:
    """Middleware: what a page of another site sends is refused with 403, before it can publish, or start work that is
    paid for. Browsers say where a request comes from (Fetch Metadata, `Sec-Fetch-Site`), and no page can change it;
    following a link is allowed, and so is whatever is no browser."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_foreign(scope):
            refused = problem(403, "this request comes from a page of another site: send it from this server's own")
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_foreign(scope: Scope) -> bool:
    said = {name: value for name, value in scope["headers"] if name.startswith(b"sec-fetch-")}
    if said.get(b"sec-fetch-site") != b"cross-site":
        return False
    return not (scope["method"] in ("GET", "HEAD") and said.get(b"sec-fetch-mode") == b"navigate")
