"""A route of the gateway: what a request may say, and the upstream's request that is made of it. Pure.

Where a route leads, with which headers and which credential, is said by its configuration alone. A request only
brings values for its parameters, and those reach the upstream as data: in the JSON body, in a percent-encoded part of
the path, or as a query value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import InvalidParameters, InvalidRoute
from ..sse import Event, json_data
from .parameter import ABSENT, Parameter
from .template import fill_json, fill_url, json_slots, json_text, url_mistakes, url_slots

__all__ = ["Auth", "EndMarker", "ErrorEvent", "Mistakes", "Outgoing", "Route", "Target"]

# (where in the route, what would be right)
Mistakes = Iterator[tuple[tuple[str | int, ...], str]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

# Headers of one connection (RFC 9110, 7.6.1), of the message's form, and those that the reader of the stream sets.
_OUR_OWN = frozenset(
    {
        *(
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "host",
            "via",
        ),
        *("content-length", "content-type", "accept", "accept-encoding", "last-event-id"),
    }
)
_NEVER_SHOWN = _OUR_OWN | {
    *("set-cookie", "set-cookie2", "www-authenticate", "proxy-authenticate", "proxy-authorization", "authorization"),
    *("authentication-info", "cache-control", "content-encoding", "location", "x-accel-buffering", "date", "server"),
    "retry-after",
}

# What `messages` may have own words for, beside statuses.
_FAILURES = ("unreachable", "timeout", "cut", "garbage", "busy", "gone", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """The credential is what the environment variable holds when the server starts."""

    variable: str
    header: str = "Authorization"
    prefix: str = "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class EndMarker:
    """The upstream's last event: its data is exactly `data`, its type is `type`, or its data is a JSON object with
    `field` (neither null nor false). One of the three."""

    data: str | None = None
    type: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """How a failure looks to the route's readers: `$message` and `$status` stand for what they say."""

    type: str = "message"
    data: object = field(default_factory=lambda: {"error": "$message"})

    def event(self, message: str, status: int) -> Event:
        data = fill_json(self.data, {"message": message, "status": status})
        return Event(data if isinstance(data, str) else json_data(data), self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The upstream. `url`: `http(s)://…`, or `/…` on this same server; `name`: what messages call it; `body`: a JSON
    template, None sends none. Times in seconds. `attempts`: for a connection refused or a status that passes (429,
    5xx). `end`: what its last event may look like; a stream that ends without one of them was cut. None: any end is
    the end.
    """

    url: str
    method: str = "POST"
    name: str = "the upstream"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    auth: Auth | None = None
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    attempts: int = 1
    response_headers: tuple[str, ...] = ()
    end: tuple[EndMarker, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether it is this same server."""
        return self.url.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request to an upstream."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Raises InvalidRoute, which tells all that is wrong with it.

    `errors`: "status": a failure before the stream began is answered with its status; "event": all are told by one
    `error_event` on a 200. `wait_s`: how long a stream with `errors="status"` may take to begin; over it the response
    is committed, and what fails then is told by an event. `on_disconnect`: "continue", "cancel", or seconds without a
    reader until the upstream is let go; None leaves it to the server's setting. `max_s`, `max_total_bytes` (of data)
    and `max_event_bytes` bound one stream.
    """

    path: str
    target: Target
    methods: tuple[str, ...] = ("GET",)
    parameters: tuple[Parameter, ...] = ()
    errors: Literal["status", "event"] = "status"
    error_event: ErrorEvent = field(default_factory=ErrorEvent)
    messages: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 10.0
    on_disconnect: Literal["continue", "cancel"] | float | None = None
    max_event_bytes: int = 262_144
    max_total_bytes: int = 67_108_864
    max_s: float = 900.0

    def __post_init__(self) -> None:
        mistakes = [*_of_route(self), *_of_parameters(self), *_of_target(self), *_of_errors(self)]
        if mistakes:
            raise InvalidRoute(self.path, mistakes)

    def read(self, query: Sequence[tuple[str, str]], body: Mapping[str, object] | None = None) -> dict[str, object]:
        """The request's values. Raises InvalidParameters, which tells all that are wrong."""
        values: dict[str, object] = {}
        wrong: list[tuple[str, str]] = []
        for parameter in self.parameters:
            texts = [text for name, text in query if name == parameter.name]
            try:
                value = parameter.read(texts, ABSENT if body is None else body.get(parameter.name, ABSENT))
            except ValueError as error:
                wrong.append((parameter.name, str(error)))
                continue
            if value is not ABSENT:
                values[parameter.name] = value
        if wrong:
            raise InvalidParameters(wrong)
        return values

    def build(
        self,
        values: Mapping[str, object],
        *,
        own: str = "",
        ticket: str | None = None,
        credential: str | None = None,
        via: Sequence[str] = (),
    ) -> Outgoing:
        """The upstream's request. `own`: where this server is reached, as in `http://127.0.0.1:8000`, `ticket`: what it
        knows there whom the request is for by; `via`: the servers that it has come through."""
        target = self.target
        url = fill_url(target.url, values)
        body = None if target.body is None else json_text(fill_json(target.body, values)).encode()
        headers = dict(target.headers)
        if via:
            headers["Via"] = ", ".join(f"1.1 {name}" for name in via)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if target.auth is not None and credential is not None:
            headers[target.auth.header] = target.auth.prefix + credential
        elif ticket is not None and target.is_own:
            headers["Authorization"] = f"Ticket {ticket}"
        return Outgoing(method=target.method, url=own + url if target.is_own else url, headers=headers, body=body)

    def message(self, kinds: Iterable[str], default: str) -> str:
        """The route's own words for the first of these kinds of failure that it has some for."""
        return next((self.messages[kind] for kind in kinds if kind in self.messages), default)


def _of_route(route: Route) -> Mistakes:
    if not _PATH.fullmatch(route.path):
        yield ("path",), f"{route.path!r} is no path: it begins with / and has no space, ?, #, %, {{}} or empty part"
    for index, method in enumerate(route.methods):
        if method not in ("GET", "POST"):
            yield ("methods", index), f"no method {method!r}: a route answers GET (EventSource), POST, or both"
    if not route.methods or len(set(route.methods)) < len(route.methods):
        yield ("methods",), 'name each method once: ["GET"], ["POST"] or ["GET", "POST"]'
    if isinstance(route.on_disconnect, str) and route.on_disconnect not in ("continue", "cancel"):
        yield ("on_disconnect",), f"{route.on_disconnect!r}: use 'continue', 'cancel' or seconds without a reader"
    elif isinstance(route.on_disconnect, int | float) and not 0 <= route.on_disconnect <= 86_400:
        yield ("on_disconnect",), "0 to 86400 seconds without a reader"
    for name in ("max_event_bytes", "max_total_bytes", "max_s"):
        if not getattr(route, name) > 0:
            yield (name,), f"{name} is more than 0"
    if not 0 <= route.wait_s <= 300:
        yield ("wait_s",), "0 to 300 seconds: the client's own patience ends sooner"


def _of_parameters(route: Route) -> Mistakes:
    names = [parameter.name for parameter in route.parameters]
    used = set(url_slots(route.target.url))
    for parameter in route.parameters:
        at = ("parameters", parameter.name)
        for where, text in parameter.mistakes():
            yield (*at, where) if where else at, text
        if names.count(parameter.name) > 1:
            yield at, f"{parameter.name} is there {names.count(parameter.name)} times"
        if parameter.where == "body" and parameter.required and "GET" in route.methods:
            yield (*at, "where"), "a GET has no body: use 'any' or 'query', or answer POST alone"
        if parameter.name in used and not parameter.required and parameter.default is None:
            path = route.target.url.partition("?")[0]
            if parameter.name in set(url_slots(path)):
                yield at, "a part of the path cannot be left out: make it required, or give it a default"


def _of_target(route: Route) -> Mistakes:
    target = route.target
    for text in url_mistakes(target.url):
        yield ("upstream", "url"), text
    if target.url.partition("?")[0] == route.path and target.method in route.methods:
        yield ("upstream", "url"), "this route leads to itself"
    if target.method not in ("GET", "POST", "PUT"):
        yield ("upstream", "method"), f"no method {target.method!r}: use POST, GET or PUT"
    if target.method == "GET" and target.body is not None:
        yield ("upstream", "body"), "a GET has no body: put the parameters into the url, or use POST"
    yield from _slots_of(route, ("upstream", "body"), target.body)
    known = {parameter.name for parameter in route.parameters}
    for name in dict.fromkeys(url_slots(target.url)):
        if name not in known:
            yield ("upstream", "url"), f"{{{name}}} is no parameter of this route: {_there_are(known)}"
    yield from _of_headers(target)
    for name in ("connect_s", "first_byte_s", "idle_s"):
        if not getattr(target, name) > 0:
            yield ("upstream", name), f"{name} is more than 0 seconds"
    if not 1 <= target.attempts <= 10:
        yield ("upstream", "attempts"), "1 (no second attempt) to 10"
    for index, marker in enumerate(target.end):
        if sum(part is not None for part in (marker.data, marker.type, marker.field)) != 1:
            yield ("upstream", "end", index), "an end marker has one of data, type and field"


def _of_headers(target: Target) -> Mistakes:
    for name, value in target.headers.items():
        at = ("upstream", "headers", name)
        if not _TOKEN.fullmatch(name) or not all(" " <= char <= "~" for char in value):
            yield at, "a header has a name of letters, digits and -, and a value of printable ASCII characters"
        elif name.lower() in ("authorization", "proxy-authorization", "cookie"):
            yield at, "a credential does not belong into this file: name an environment variable with auth"
        elif name.lower() in _OUR_OWN:
            yield at, f"{name} is set by the gateway itself: leave it out"
    if target.auth is not None:
        if not _VARIABLE.fullmatch(target.auth.variable):
            # Not repeated: somebody may have put the credential itself here.
            yield ("upstream", "auth", "variable"), "the name of an environment variable, such as AI_SERVICE_KEY"
        if not _TOKEN.fullmatch(target.auth.header) or target.auth.header.lower() in _OUR_OWN:
            yield ("upstream", "auth", "header"), "the name of a header, such as Authorization or X-API-Key"
        if not all(" " <= char <= "~" for char in target.auth.prefix):
            yield ("upstream", "auth", "prefix"), "printable ASCII characters, such as 'Bearer '"
    for index, name in enumerate(target.response_headers):
        if not _TOKEN.fullmatch(name) or name.lower() in _NEVER_SHOWN:
            yield ("upstream", "response_headers", index), f"{name} is not handed on: it may hold a secret, or is ours"


def _of_errors(route: Route) -> Mistakes:
    if route.errors not in ("status", "event"):
        yield ("errors",), f"{route.errors!r}: use 'status' (a real status) or 'event' (an event on a 200)"
    if route.errors == "event" and route.target.response_headers:
        yield ("upstream", "response_headers"), "with errors = 'event' ours are sent before the upstream's have come"
    yield from _slots_of(route, ("error_event", "data"), route.error_event.data, {"message", "status"})
    try:
        Event("", route.error_event.type)
        if route.error_event.type.startswith(("stream.", "relay.")):
            raise ValueError("types that begin with 'stream.' or 'relay.' are the server's own")
    except ValueError as error:
        yield ("error_event", "type"), str(error)
    for kind in route.messages:
        if kind not in _FAILURES and not re.fullmatch(r"[45][0-9]{2}", kind):
            yield ("messages", kind), f"no failure {kind!r}: use {', '.join(_FAILURES)} or a status from 400 to 599"


def _slots_of(route: Route, at: tuple[str, ...], template: object, known: set[str] | None = None) -> Mistakes:
    known = {parameter.name for parameter in route.parameters} if known is None else known
    try:
        for name in dict.fromkeys(json_slots(template)):
            if name not in known:
                yield at, f"${name} is no parameter of this route: {_there_are(known)}"
        json_text(template)
    except (ValueError, TypeError) as error:
        yield at, str(error)


def _there_are(known: set[str]) -> str:
    return f"there are {', '.join(sorted(known))}" if known else "it has none"
