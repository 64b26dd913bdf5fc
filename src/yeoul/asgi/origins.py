"""Whose pages may use this server: its own, and those that are named. All others may link here, and no more."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import FAILED, problem

__all__ = ["DEMO_ORIGINS", "OWN_PAGE", "Origins", "check_origin", "led_here"]

# Where the development servers of front ends listen.
DEMO_ORIGINS = tuple(f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173))

# In the ASGI scope: True where there is evidence that a page of ours, or one that is named, has sent the request; None
# where there is no evidence either way. A cookie counts only with it: browsers send cookies for every page.
OWN_PAGE = "yeoul.own_page"

_METHODS = ("GET", "POST", "PATCH", "DELETE", "HEAD")
_SENT = ("authorization", "content-type", "last-event-id", "idempotency-key", "cache-control")
_SHOWN = ("location", "retry-after", "www-authenticate", "idempotency-replayed")

# Seconds for which a browser remembers what it may send; Chromium's own bound. Each request is checked all the same.
_PREFLIGHT_S = 7_200

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")

_LINK_ONLY = "send it from a page of this server, or name that page's origin in YEOUL_CORS_ORIGINS"
_SHOWN_CHARS = 200
_VARY = {"Vary": "Origin"}  # a cache must not give one page the answer that was for another


class Origins:
    """Middleware: refuses with 403 what a page of somebody else sends, before it can publish or start work that is paid
    for, and lets the pages of `allowed` origins read the answers (CORS, with credentials).

    Browsers say where a request comes from, and no page can change it: `Origin`, on whatever is read from elsewhere
    and on each POST; else Fetch Metadata (`Sec-Fetch-Site`). What has neither is no browser. Following a link is
    allowed (not a frame, nor a form that posts); routes that start work refuse links, too: `led_here`.

    Stands outside of whatever may refuse a request, so that an allowed page can read why, and answers with 500 itself
    where the application fails: Starlette's handler for that stands outside of all middlewares.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        """Raises ValueError for what is no origin."""
        self._app = app
        self._allowed = frozenset(map(check_origin, allowed))
        self._cors = CORSMiddleware(
            self._answer_failures,
            allow_origins=self._allowed,
            allow_methods=_METHODS,
            allow_headers=_SENT,
            allow_credentials=True,
            # The origin was named by whoever runs this server: that is the consent that browsers ask for.
            allow_private_network=True,
            expose_headers=_SHOWN,
            max_age=_PREFLIGHT_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await problem(403, refusal, headers=_VARY)(scope, receive, send)
            return
        await self._cors(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        """Why not; else None, and what is known is noted in the scope."""
        scope[OWN_PAGE] = None
        origins = headers.getlist("origin")
        site = headers.get("sec-fetch-site")
        if origins:
            if len(origins) > 1 or not (_is_own(origins[0], scope, headers) or origins[0] in self._allowed):
                return f"the origin {', '.join(origins)[:_SHOWN_CHARS]!r} may not use this server: {_LINK_ONLY}"
            scope[OWN_PAGE] = True
        elif site is None:
            scope[OWN_PAGE] = _is_own(_origin_of(headers.get("referer", "")), scope, headers) or None
        elif not _is_foreign(site):
            scope[OWN_PAGE] = True
        elif not _is_link(scope, headers):
            return f"this request comes from a page of another origin: {_LINK_ONLY}"
        return None

    async def _answer_failures(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:
            if not started:
                await problem(500, FAILED)(scope, receive, send)
            raise  # the server logs it


def led_here(request: HTTPConnection) -> bool:
    """Whether a page of somebody else has led the browser here, by a link: such a request may open a page, and must
    not start what is paid for. Without `Origins` in front, pages of the same site are trusted."""
    if request.scope.get(OWN_PAGE):
        return False
    site = request.headers.get("sec-fetch-site")
    return site == "cross-site" or (OWN_PAGE in request.scope and site is not None and _is_foreign(site))


def check_origin(text: str) -> str:
    """The origin, as browsers write it (RFC 6454, 6.2). Raises ValueError, which says what would be right."""
    if text == "*":
        raise ValueError("'*' would let every page act for whoever is logged in: name each origin")
    if text == "null":
        raise ValueError("'null' is the origin of every sandboxed frame and every file: serve the page over HTTP")
    example = "write scheme, host and port alone, as in 'https://app.example.com' or 'http://localhost:5173'"
    scheme, found, authority = text.partition("://")
    if not found or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme.lower()):
        raise ValueError(f"{text!r} has no scheme: {example}")
    if text != text.lower():
        raise ValueError(f"{text!r} is not as browsers write it: use {text.lower()!r}")
    host, colon, port = authority.partition("]:") if authority.startswith("[") else authority.partition(":")
    host += "]" if colon == "]:" else ""
    if not _HOST.fullmatch(host) or (colon and not re.fullmatch(r"[1-9][0-9]{0,4}", port)):
        raise ValueError(f"{text!r} is no origin: {example} (no path, no slash at its end, other scripts as xn--…)")
    if f":{port}" == _DEFAULT_PORTS.get(scheme):
        raise ValueError(f"{text!r} is not as browsers write it: leave out the port {port}, which is the scheme's own")
    return text


def _is_own(origin: str, scope: Scope, headers: Headers) -> bool:
    """Whether it is the origin that the request was sent to, as its Host header tells.

    A proxy that ends TLS may not have said that it did (the scheme is `http` then), so that a page with `https` is
    taken for our own; but where it is known to be `https`, a page that came without TLS is not: whoever is on the
    network can write one.
    """
    scheme, _, authority = origin.partition("://")
    if scheme not in _DEFAULT_PORTS or (scheme == "http" and scope["scheme"] == "https"):
        return False
    # Some proxies name the port even where the browser leaves it out.
    host = headers.get("host", "").lower().removesuffix(_DEFAULT_PORTS[scheme])
    return authority == host != ""


def _is_foreign(site: str) -> bool:
    # A page of the same site may be somebody else's: other ports of a machine, other names of a domain.
    return site not in ("same-origin", "none")


def _is_link(scope: Scope, headers: Headers) -> bool:
    to_a_page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return to_a_page and scope["method"] in ("GET", "HEAD")


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"
