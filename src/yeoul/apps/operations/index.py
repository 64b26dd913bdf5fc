"""The pages: ask a question and watch the answer survive a cut; and the reference of the API.

All their addresses are relative, so that they work below any path (`app.mount`, `--root-path`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

__all__ = ["content_security_policy", "index"]

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def index() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    _add_page(router, "/", "index.html")
    # Not FastAPI's own page, which loads its script from another server: it is empty without the Internet, and that
    # script could do whatever the user may do here.
    _add_page(router, "/docs", "reference.html")
    return router


def content_security_policy(page: str) -> str:
    """The policy (CSP Level 3) for a page that loads nothing: only its own scripts and styles run, by their hashes, and
    no text can become markup that the page did not write itself (Trusted Types)."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for tag, content in _INLINE.findall(page):
        hashes[tag].append(f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'")
    return (
        f"default-src 'none'; script-src {' '.join(hashes['script'])}; style-src {' '.join(hashes['style'])}; "
        "img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _add_page(router: APIRouter, path: str, name: str) -> None:
    page = files(__package__).joinpath(name).read_text("utf-8")
    headers = {"Content-Security-Policy": content_security_policy(page), "Cache-Control": "no-cache"}

    @router.get(path)
    async def show() -> Response:
        return HTMLResponse(page, headers=headers)
