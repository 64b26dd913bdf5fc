"""Under which names this server may be asked for."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from ..addresses import is_loopback, parse_address
from .errors import problem

__all__ = ["Hosts", "check_host"]

# RFC 9110, 7.2, as far as browsers write it: a name or an address, and a port. (Names with `_` are met in containers.)
_HOST = re.compile(r"(?P<name>[a-z0-9]([a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?")
_SHOWN_CHARS = 200


class Hosts:
    """Middleware: the `Host` header against DNS rebinding.

    A page of somebody else can have its own name resolve to this machine, and is then of our own origin for the
    browser; but the request still carries that name. Where the connection came in on a loopback address, which only
    this machine's browsers and proxies reach, the names of this machine are taken, and those `allowed`; elsewhere any,
    unless some are `allowed`. Addresses cannot be rebound: the server's own are taken everywhere (health checks).

    No or several Host headers, or one that is none, is answered with 400 (RFC 9112, 3.2; HTTP/1.0 knows none), another
    name with 421. `X-Forwarded-Host` is not looked at: anybody can send it. A target in absolute form
    (`GET http://name/ HTTP/1.1`), which browsers send to proxies alone, counts under `yeoul serve`: direct.py.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        """Raises ValueError for what is no name."""
        self._app = app
        self._allowed = frozenset(map(check_host, allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (self._app if refusal is None else problem(*refusal))(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not hosts and scope["http_version"] == "1.0":
            return None
        if len(hosts) != 1:
            return 400, f"the request has {len(hosts)} Host headers: send one"
        found = _HOST.fullmatch(hosts[0].lower())
        if found is None:
            return 400, f"Host {hosts[0][:_SHOWN_CHARS]!r} is none: send a name or an address, and a port"
        name = found["name"].removesuffix(".")
        if self._is_ours(name, scope):
            return None
        return 421, f"this server is not {name!r}: if it should be, name it in YEOUL_ALLOWED_HOSTS"

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._allowed or is_loopback(name) or name.endswith(".localhost"):
            return True
        server = (scope.get("server") or ("", None))[0]
        if not self._allowed and not is_loopback(server):
            return True
        address = parse_address(name)
        # 0.0.0.0 is what a browser is given where the server listens on every address: this machine.
        return address is not None and (address.is_unspecified or address == parse_address(server))


def check_host(text: str) -> str:
    """The name in lower case. Raises ValueError, which says what would be right."""
    name = text.lower().removesuffix(".")
    found = _HOST.fullmatch(name)
    if found is None or found["name"] != name:
        raise ValueError(f"{text!r} is no name: write it as 'app.example.com', without scheme, port, path or `*`")
    return name
