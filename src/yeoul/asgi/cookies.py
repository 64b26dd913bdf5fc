"""The cookies of this server. No script can read them (HttpOnly)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import HTTPConnection

from ..auth.tickets import Pass
from .origins import OWN_PAGE

__all__ = ["MAX_COOKIE_BYTES", "PASS_COOKIE", "cookie_text", "pass_cookie", "passes_of"]

PASS_COOKIE = "yeoul_pass"

# What browsers keep of one, its name and attributes included (RFC 6265, 6.1).
MAX_COOKIE_BYTES = 4_096

# Users that one browser may be at the same time, in several tabs: their passes share the cookie.
_MAX_PASSES = 4

_SEPARATOR = "."

# What they are made of. Some are sent back in a Set-Cookie header: a cookie that a neighbouring name has planted
# must not write attributes there, such as a Domain that would hand the new pass over to it.
_PASS = re.compile(r"[A-Za-z0-9_-]{1,100}")


def cookie_text(name: str, value: str, *, seconds: float, same_site: str, secure: bool) -> str:
    """A Set-Cookie header's value (RFC 6265, 4.1). `seconds`: for how long the browser keeps it; 0 makes it forget."""
    text = f"{name}={value}; Path=/; Max-Age={int(seconds)}; HttpOnly; SameSite={same_site}"
    return f"{text}; Secure" if secure else text


def passes_of(request: HTTPConnection) -> Sequence[str]:
    """The passes that the browser shows: what `Tickets.admit` takes."""
    value = request.cookies.get(PASS_COOKIE)
    texts = value.split(_SEPARATOR)[:_MAX_PASSES] if value else ()
    return [text for text in texts if _PASS.fullmatch(text)]


def pass_cookie(request: HTTPConnection, new: Pass, *, other_seconds: float) -> str:
    """The Set-Cookie header's value that gives a pass to the browser, beside those that it has. `other_seconds`: for
    how long those may be good."""
    others = [text for text in passes_of(request) if text != new.text]
    # A page of another site is served here only where it is allowed, and its browser would keep a strict cookie to
    # itself. Such a cookie has to be Secure.
    elsewhere = bool(request.scope.get(OWN_PAGE)) and request.headers.get("sec-fetch-site") == "cross-site"
    return cookie_text(
        PASS_COOKIE,
        _SEPARATOR.join([new.text, *others][:_MAX_PASSES]),
        seconds=max(new.seconds, other_seconds) if others else new.seconds,
        same_site="None" if elsewhere else "Strict",
        secure=elsewhere or request.scope["scheme"] == "https",
    )
