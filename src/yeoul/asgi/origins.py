"""Which pages may use this server: its own, and those of allowed origins. All others may link to it, and no more."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

from .errors import Problem
from .headers import RawHeaders, accepts, headers_of, list_members

__all__ = [
    "DEMO_ORIGINS",
    "TRUSTED_PAGE",
    "Origins",
    "check_origin",
    "is_cross_site",
    "is_cross_site_navigation",
    "require_deliberate",
]

# Where the development servers of front ends listen.
DEMO_ORIGINS = tuple(f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173))

# In the ASGI scope: True where there is evidence that a page of this server, or of an allowed origin, sent the request;
# None where there is no evidence either way. A cookie counts only with it: browsers send cookies for every page.
TRUSTED_PAGE = "yeoul.trusted_page"

_METHODS = ("GET", "POST", "PATCH", "DELETE", "HEAD")

# Without these a page of an allowed origin cannot read the header.
_EXPOSED = b"location, content-location, retry-after, www-authenticate, idempotency-replayed, x-request-id"

# Seconds for which a browser remembers a preflight; Chromium's own bound. Each request is checked all the same.
_PREFLIGHT_S = 7_200
_PREFLIGHT_VARIES = (
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
)

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")

_LINK_ONLY = "send it from a page of this server, or add that page's origin to YEOUL_CORS_ORIGINS"
_SHOWN_CHARS = 200

_Pairs = Sequence[tuple[bytes, bytes]]
_MAX_KNOWN = 100

# A cache must not answer one page with what was for another.
_VARY = (b"vary", b"Origin")


class Origins:
    """Refuses with 403 what a page of another origin sends, before it can publish or start work that is paid for, and
    lets the pages of `allowed` origins read the responses (CORS, with credentials).

    Browsers say where a request comes from, and no page can change it: by `Origin`, on everything that is read from
    another origin and on each POST; else by Fetch Metadata (`Sec-Fetch-Site`). A request with neither is not from a
    browser. Following a link is allowed (not a frame, nor a form that posts); routes that start work refuse links too:
    see `require_deliberate`.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        """Raises ValueError for an invalid origin."""
        # Headers that are given as a tuple, which are always the same, and what `allow` makes of them.
        self._known: dict[_Pairs, tuple[tuple[bytes, bytes], ...]] = {}
        self._allowed = {
            check_origin(origin).encode(): [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-allow-credentials", b"true"),
            ]
            for origin in allowed
        }

    def check(self, scope: Scope, headers: RawHeaders) -> None:
        """Sets `scope[TRUSTED_PAGE]`. Raises Problem (403)."""
        trusted = None
        site = headers.text(b"sec-fetch-site")
        if b"origin" in headers:
            origins = headers.all(b"origin")
            if len(origins) > 1 or not (
                origins[0] in self._allowed or _is_own(origins[0].decode("latin-1"), scope, headers)
            ):
                shown = b", ".join(origins).decode("latin-1")[:_SHOWN_CHARS]
                raise _refusal(f"the origin {shown!r} may not use this server: {_LINK_ONLY}")
            trusted = True
        elif site is None:
            referer = headers.text(b"referer")
            if referer is not None:
                trusted = _is_own(_origin_of(referer), scope, headers) or None
        elif not _is_foreign(site):
            trusted = True
        elif not _is_link(scope, headers):
            raise _refusal(f"this request comes from a page of another origin: {_LINK_ONLY}")
        scope[TRUSTED_PAGE] = trusted

    def is_preflight(self, headers: RawHeaders) -> bool:
        """Whether a request with the method OPTIONS is one."""
        return b"origin" in headers and b"access-control-request-method" in headers

    def preflight(self, headers: RawHeaders) -> Response:
        """What a page of an allowed origin may send: any method, and any headers that it asks for (tracing and request
        libraries add their own). Raises Problem (400) for a value that is not a token."""
        method = headers.text(b"access-control-request-method") or ""
        asked = headers.text(b"access-control-request-headers") or ""
        names = list(list_members(asked))
        for name in (method, *names):
            if not _TOKEN.fullmatch(name):
                raise Problem(400, f"preflight: {name[:_SHOWN_CHARS]!r} is not a valid method or header name")
        response = Response(status_code=200)
        raw = response.raw_headers
        raw.append((b"access-control-allow-methods", ", ".join(dict.fromkeys((*_METHODS, method))).encode()))
        if names:
            raw.append((b"access-control-allow-headers", ", ".join(names).encode()))
        if b"access-control-request-private-network" in headers:
            # The operator of this server has named the origin: that is the consent which browsers ask for.
            raw.append((b"access-control-allow-private-network", b"true"))
        raw.append((b"access-control-max-age", b"%d" % _PREFLIGHT_S))
        raw.append((b"vary", _PREFLIGHT_VARIES))
        return response

    def allow(self, headers: RawHeaders, response: _Pairs) -> _Pairs:
        """The headers of a response, with those that let the page that sent the request read it."""
        origin = headers.get(b"origin")
        if origin is not None:
            return [*_with_vary(response), *self._exposed(self._allowed.get(origin, ()))]
        if type(response) is not tuple:
            return _with_vary(response)
        known = self._known.get(response)
        if known is None:
            known = tuple(_with_vary(response))
            if len(self._known) < _MAX_KNOWN:
                self._known[response] = known
        return known

    def _exposed(self, allowed: Collection[tuple[bytes, bytes]]) -> Collection[tuple[bytes, bytes]]:
        return [*allowed, (b"access-control-expose-headers", _EXPOSED)] if allowed else ()


def is_cross_site(request: HTTPConnection) -> bool:
    """Whether a page of another origin made the browser send the request. Where no `Origins` has checked it, pages of
    the same site are trusted; where one has, it was a link."""
    scope = request.scope
    if scope.get(TRUSTED_PAGE):
        return False
    site = headers_of(scope).text(b"sec-fetch-site")
    return site == "cross-site" or (TRUSTED_PAGE in scope and site is not None and _is_foreign(site))


def is_cross_site_navigation(request: HTTPConnection) -> bool:
    """Whether the browser came to this address from a page of another origin, by a link or a redirect: such a request
    may open a page, and must have no side effect."""
    return headers_of(request.scope).get(b"sec-fetch-mode") == b"navigate" and is_cross_site(request)


# Headers by which browsers and proxies mark a request that no user has made yet: Sec-Purpose is the standard's (Fetch,
# 2.2.7), the others are of older browsers.
_PURPOSES = frozenset({b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"})
_SPECULATIVE = re.compile(rb"\b(prefetch|prerender|preview)\b", re.IGNORECASE)


def is_speculative(request: HTTPConnection) -> bool:
    """Whether it is a prefetch or prerender, which no user has asked for yet."""
    headers = headers_of(request.scope)
    return headers.has_any(_PURPOSES) and any(_SPECULATIVE.search(headers.get(name) or b"") for name in _PURPOSES)


# Programs that fetch the links in a message, to show what is behind them.
_PREVIEWERS = re.compile(
    rb"bot\b|crawl|spider|preview|scrap|slurp|embedly|iframely|vkshare|facebookexternalhit|meta-external|whatsapp"
    rb"|mastodon|misskey|pagerenderer|yeti/|daumoa",
    re.IGNORECASE,
)


def require_deliberate(request: HTTPConnection) -> None:
    """For GETs that start work which costs money: a program of the user asks for the stream. Raises Problem (403) for a
    link from another site, a prefetch or prerender, a navigation (the address bar prerenders while its user types), and
    a program that previews links."""
    headers = headers_of(request.scope)
    why = None
    if is_cross_site(request):
        why = "a link from a page of another origin starts no work: send the request from a page of this server"
    elif request.scope["method"] != "GET":
        return
    elif is_speculative(request):
        why = "a prefetch starts no work: send the request when its answer is wanted"
    elif headers.get(b"sec-fetch-mode") == b"navigate" or _wants_page(headers):
        why = "opening this address as a page starts no work: read it with EventSource or fetch"
    elif _PREVIEWERS.search(headers.get(b"user-agent") or b""):
        why = "programs that preview links start no work"
    if why is not None:
        raise Problem(403, why)


def _wants_page(headers: RawHeaders) -> bool:
    accept = headers.text(b"accept") or ""
    return accepts(accept, "text/html") and not accepts(accept, "text/event-stream")


def check_origin(text: str) -> str:
    """The origin, as browsers write it (RFC 6454, 6.2). Raises ValueError, which says what would be right."""
    if text == "*":
        raise ValueError("'*' would let every page act for the user who is signed in: name each origin")
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
        raise ValueError(
            f"{text!r} is not a valid origin: {example} (no path, no slash at the end, other scripts as xn--…)"
        )
    if f":{port}" == _DEFAULT_PORTS.get(scheme):
        raise ValueError(f"{text!r} is not as browsers write it: leave out {port}, which is the scheme's default port")
    return text


def _with_vary(response: _Pairs) -> list[tuple[bytes, bytes]]:
    for name, _ in response:
        if name == b"vary":
            varies = [value for name, value in response if name == b"vary"]
            if not any(b"origin" in value.lower() for value in varies):
                varies.append(b"Origin")
            return [*(pair for pair in response if pair[0] != b"vary"), (b"vary", b", ".join(varies))]
    return [*response, _VARY]


def _refusal(detail: str) -> Problem:
    return Problem(403, detail, headers={"Vary": "Origin"})


def _is_own(origin: str, scope: Scope, headers: RawHeaders) -> bool:
    """Whether it is the origin that the request was sent to, as its Host header says.

    A proxy that ends TLS may not have said so (the scheme is `http` then), so a page with `https` is taken for one of
    this server; but where the scheme is known to be `https`, a page that came without TLS is not: anyone on the network
    can write one.
    """
    scheme, _, authority = origin.partition("://")
    if scheme not in _DEFAULT_PORTS or (scheme == "http" and scope["scheme"] == "https"):
        return False
    # Some proxies name the port even where the browser leaves it out.
    host = (headers.text(b"host") or "").lower().removesuffix(_DEFAULT_PORTS[scheme])
    return authority == host != ""


def _is_foreign(site: str) -> bool:
    # A page of the same site may be another party's: other ports of a machine, other names of a domain.
    return site not in ("same-origin", "none")


def _is_link(scope: Scope, headers: RawHeaders) -> bool:
    to_a_page = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    return to_a_page and scope["method"] in ("GET", "HEAD")


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"
