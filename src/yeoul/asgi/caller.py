"""Who asks: as much as is known without authentication."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import HTTPConnection

__all__ = ["caller_of"]

# Set by proxies: where one is seen on a loopback connection, the client is somebody that the server cannot tell apart.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def caller_of(request: HTTPConnection) -> str | None:
    """`local` for a client on this machine, None for everybody else: an address is no identity, many share one.

    The name that it asked for must be this machine's, too: a page of somebody else, whose name was made to lead here
    (DNS rebinding), runs on this machine but is not its user.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return None
    asked_for = request.url.hostname or ""
    if _is_loopback(request.client.host) and (asked_for == "localhost" or _is_loopback(asked_for)):
        return "local"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
