"""Paths of this application as its clients see them."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import HTTPConnection

__all__ = ["external_path"]

# What a path may have beside letters and digits (RFC 3986, 3.3); no `;`, which ends a value in a Set-Cookie header.
_PATH_CHARS = "/:@!$&'()*+,=~"


def external_path(request: HTTPConnection, path: str) -> str:
    """The path below the one under which the application is mounted, or which a proxy removes (`--root-path`). A
    mount's path may have parameters, and thereby any characters: they are percent-encoded."""
    return f"{quote(request.scope.get('root_path', ''), safe=_PATH_CHARS)}{path}"
