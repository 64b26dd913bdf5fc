"""The names under which this server may be asked for."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.types import Scope

from ..addresses import is_loopback, parse_address
from .errors import Problem
from .headers import RawHeaders

__all__ = ["Hosts", "check_host"]

# RFC 9110, 7.2, as far as browsers write it: a name or an address, and a port. (Names with `_` occur in containers.)
_HOST = re.compile(r"(?P<name>[a-z0-9]([a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?")
_SHOWN_CHARS = 200

# Pairs of a Host and the server's address that were accepted lately.
_MAX_ACCEPTED = 1_000


class Hosts:
    """Checks the `Host` header against DNS rebinding.

    A page of another site can have its own name resolve to this machine, and then has the origin of this server for the
    browser; but the request still carries that name. Where the connection came in on a loopback address, which only
    this machine's browsers and proxies reach, the names of this machine are accepted, and those in `allowed`; elsewhere
    any name, unless some are `allowed`. Addresses cannot be rebound: the server's own are accepted everywhere (health
    checks). `0.0.0.0` is not accepted on loopback: pages can reach this machine by it, and no user types it.

    `X-Forwarded-Host` is ignored: any client can send it. A target in absolute form (`GET http://name/ HTTP/1.1`),
    which browsers send to proxies alone, replaces the header under `yeoul serve` (server/protocol.py)."""

    def __init__(self, allowed: Collection[str] = ()) -> None:
        """Raises ValueError for an invalid name."""
        self._allowed = frozenset(map(check_host, allowed))
        self._accepted: set[tuple[bytes | None, str]] = set()

    def check(self, scope: Scope, headers: RawHeaders) -> None:
        """Raises Problem: 400 for no Host header, several, or an invalid one (RFC 9112, 3.2), 421 for another name.
        HTTP/1.0 has no Host header; without one it is accepted except on loopback."""
        server: str = (scope.get("server") or ("", None))[0]
        if not headers.repeated and (headers.get(b"host"), server) in self._accepted:
            return
        hosts = headers.all(b"host")
        if not hosts and scope["http_version"] == "1.0" and not is_loopback(server):
            return
        if len(hosts) != 1:
            raise Problem(400, f"the request has {len(hosts)} Host headers: send one")
        host = hosts[0].decode("latin-1")
        found = _HOST.fullmatch(host.lower())
        if found is None:
            raise Problem(
                400, f"{host[:_SHOWN_CHARS]!r} is not a valid Host: send a name or an address, and the port if any"
            )
        name = found["name"].removesuffix(".")
        if not self._is_accepted(name, server):
            raise Problem(421, f"this server is not {name!r}: if it should be, add it to YEOUL_ALLOWED_HOSTS")
        if len(self._accepted) >= _MAX_ACCEPTED:
            self._accepted.clear()
        self._accepted.add((hosts[0], server))

    def _is_accepted(self, name: str, server: str) -> bool:
        if name in self._allowed or is_loopback(name) or name.endswith(".localhost"):
            return True
        if not self._allowed and not is_loopback(server):
            return True
        address = parse_address(name)
        return address is not None and address == parse_address(server)


def check_host(text: str) -> str:
    """The name in lower case. Raises ValueError, which says what would be right."""
    name = text.lower().removesuffix(".")
    found = _HOST.fullmatch(name)
    if found is None or found["name"] != name:
        raise ValueError(
            f"{text!r} is not a valid host name: write it as 'app.example.com', without scheme, port, path or `*`"
        )
    return name
