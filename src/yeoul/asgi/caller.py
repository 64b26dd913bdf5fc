"""Who asks: as much as is known without authentication."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import HTTPConnection

__all__ = ["caller_of"]

# Set by proxies: where one is seen on a loopback connection, the client is somebody that the server cannot tell apart.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def caller_of(request: HTTPConnection) -> str | None:
    """`local` for a client on this machine, None for everybody else: an address is no identity, many share one."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return None
    try:
        return "local" if ip_address(request.client.host).is_loopback else None
    except ValueError:
        return None
