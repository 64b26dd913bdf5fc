"""A route of the gateway: which values a request may have, and how the upstream's request is built from them. Pure.

These models are the route table, in `yeoul.toml` and in Python. Where a route leads, with which headers and which
credential, is up to its configuration alone. A request only has values for the parameters, and they reach the upstream
as data: in the JSON body, in a percent-encoded segment of the path, or as a value in the query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, field_validator, model_validator
from yarl import URL

from ..errors import InvalidParameters
from ..sse import Event, json_data
from .parameter import ABSENT, Parameter, RouteModel, mistakes
from .template import NAME, fill_json, fill_url, json_slots, json_text, url_mistakes, url_slots

__all__ = ["Auth", "EndMarker", "ErrorEvent", "Outgoing", "Route", "Upstream"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

# Headers of one connection (RFC 9110, 7.6.1), of the message's form, and those that the reader of the stream sets.
_SET_BY_GATEWAY = frozenset(
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
_NEVER_RELAYED = _SET_BY_GATEWAY | {
    *("set-cookie", "set-cookie2", "www-authenticate", "proxy-authenticate", "proxy-authorization", "authorization"),
    *("authentication-info", "cache-control", "content-encoding", "location", "x-accel-buffering", "date", "server"),
    "retry-after",
}

# Failures that `messages` may name, beside statuses.
_FAILURES = ("unreachable", "timeout", "cut", "garbage", "busy", "gone", "stopped")

# Of the query, these never reach a route: they are part of the protocol, or credentials of this server.
_RESERVED_IN_QUERY = frozenset({"lastEventId", "end_event", "ticket", "token", "access_token"})


def _json_or_text(value: object) -> object:
    """TOML has no null: a template may be JSON text instead."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


Template = Annotated[Any, BeforeValidator(_json_or_text)]


def _is_printable(text: str) -> bool:
    return all(" " <= char <= "~" for char in text)


class Auth(RouteModel):
    """The credential is what the environment variable contains when the server starts."""

    variable: str
    header: str = "Authorization"
    prefix: str = "Bearer "

    @field_validator("variable")
    @classmethod
    def _is_variable(cls, text: str) -> str:
        if not _VARIABLE.fullmatch(text):
            raise ValueError("give the name of an environment variable, such as AI_SERVICE_KEY")
        return text

    @field_validator("header")
    @classmethod
    def _is_header(cls, text: str) -> str:
        if not _TOKEN.fullmatch(text) or text.lower() in _SET_BY_GATEWAY:
            raise ValueError("give the name of a header, such as Authorization or X-API-Key")
        return text

    @field_validator("prefix")
    @classmethod
    def _is_text(cls, text: str) -> str:
        if not _is_printable(text):
            raise ValueError("use printable ASCII characters, such as 'Bearer '")
        return text


class EndMarker(RouteModel):
    """The upstream's last event: its data is exactly `data` (except for spaces around it), its type is `type`, or its
    data is a JSON object with `field` (neither null nor false). Exactly one of the three is given."""

    data: str | None = None
    type: str | None = None
    field: str | None = None

    @model_validator(mode="after")
    def _one(self) -> EndMarker:
        if sum(part is not None for part in (self.data, self.type, self.field)) != 1:
            raise ValueError("an end marker has exactly one of data, type and field")
        return self

    def matches(self, event: Event) -> bool:
        if self.data is not None:
            return event.data == self.data or event.data.strip() == self.data.strip()
        if self.type is not None:
            return event.type == self.type
        name = self.field or ""
        if name not in event.data:  # almost all events: they need not be parsed
            return False
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, Mapping) and value.get(name) not in (None, False)


class ErrorEvent(RouteModel):
    """How readers of the route see a failure. `$message`, `$status` and `$retryable` (whether the same request may
    succeed later) are filled in."""

    type: str = "message"
    data: Template = Field(default_factory=lambda: {"error": "$message", "retryable": "$retryable"})

    @field_validator("type")
    @classmethod
    def _is_type(cls, text: str) -> str:
        Event("", text)
        if text.startswith(("stream.", "relay.")):
            raise ValueError("types that begin with 'stream.' or 'relay.' are reserved for the server")
        return text

    @field_validator("data")
    @classmethod
    def _is_template(cls, data: object) -> object:
        for text in _unknown_slots(data, ("message", "status", "retryable"), "an error event"):
            raise ValueError(text)
        return data

    def event(self, message: str, status: int, *, retryable: bool) -> Event:
        data = fill_json(self.data, {"message": message, "status": status, "retryable": retryable})
        return Event(data if isinstance(data, str) else json_data(data), self.type)


class Upstream(RouteModel):
    """The server that a route leads to.

    - `url`: `http(s)://…`, or `/…` on this same server. `{name}` is the value of a parameter.
    - `name`: what messages call it.
    - `body`: a JSON template; None sends no body.
    - `connect_s`, `first_byte_s`, `first_event_s`, `idle_s`: the time-outs of `yeoul.client.Timeouts`, in seconds.
    - `comments_count`: whether comments (pings) of the upstream end a wait as events do.
    - `attempts`: for a refused connection and for a status that may pass (429, 5xx).
    - `max_running`: streams of this route's that may run at the same time; None leaves it to the server's setting.
    - `response_headers`: of the upstream's, for readers.
    - `end`: what its last event may look like: a stream that ends without one of them was cut. Empty: a stream is
      complete where the response is, as HTTP defines it.
    """

    url: str
    method: Literal["POST", "GET", "PUT"] = "POST"
    name: str = "the upstream"
    headers: dict[str, str] = Field(default_factory=dict)
    body: Template = None
    auth: Auth | None = None
    connect_s: float = Field(5.0, gt=0, allow_inf_nan=False)
    first_byte_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    first_event_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    idle_s: float = Field(60.0, gt=0, allow_inf_nan=False)
    comments_count: bool = True
    attempts: int = Field(1, ge=1, le=10)
    max_running: int | None = Field(None, ge=1)
    response_headers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    end: Annotated[tuple[EndMarker, ...], Field(strict=False)] = ()

    @field_validator("url")
    @classmethod
    def _is_url(cls, text: str) -> str:
        found = list(url_mistakes(text))
        if found:
            raise ValueError("; ".join(found))
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Upstream:
        found = [*self._header_mistakes()]
        if self.method == "GET" and self.body is not None:
            found.append((("body",), "a GET has no body: put the parameters into the url, or use POST"))
        if found:
            raise mistakes(found)
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is this same server."""
        return self.url.startswith("/")

    @property
    def origin(self) -> str:
        """Scheme, host and port; "" for this same server."""
        return "" if self.is_own else str(URL(self.url.partition("{")[0]).origin())

    def _header_mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for name, value in self.headers.items():
            at = ("headers", name)
            if not _TOKEN.fullmatch(name) or not _is_printable(value):
                yield at, "a header has a name of letters, digits and -, and a value of printable ASCII characters"
            elif name.lower() in ("authorization", "proxy-authorization", "cookie"):
                yield at, "a credential does not belong in this file: name an environment variable with auth"
            elif name.lower() in _SET_BY_GATEWAY:
                yield at, f"{name} is set by the gateway itself: leave it out"
        for index, name in enumerate(self.response_headers):
            if not _TOKEN.fullmatch(name) or name.lower() in _NEVER_RELAYED:
                yield (
                    ("response_headers", index),
                    f"{name} is never relayed: it may contain a secret, or the gateway sets it",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request to an upstream."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


def _parameters(value: object) -> object:
    """`lang = "string"` is short for `lang = {type = "string"}`."""
    if isinstance(value, Mapping):
        return {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in value.items()}
    return value


def _disconnect_policy(value: object) -> object:
    if value is None or value in ("continue", "cancel"):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86_400:
        raise ValueError("write 'continue', 'cancel', or 0 to 86400 seconds without a reader")
    return float(value)


class Route(RouteModel):
    """- `errors`: "status" answers a failure before the stream has begun with its status; "event" reports all failures
      by one `error_event` on a 200.
    - `wait_s`: how long a stream with `errors = "status"` may take to begin. After that the response is begun, and a
      later failure is an event.
    - `messages`: the route's own messages, by failure or by status.
    - `on_disconnect`: "continue", "cancel", or after how many seconds without a reader the upstream is closed. None
      leaves it to the server's setting.
    - `max_s`, `max_total_bytes` (of data) and `max_event_bytes`: bounds of one stream.

    Raises pydantic.ValidationError, which lists all mistakes.
    """

    path: str
    upstream: Upstream
    methods: Annotated[tuple[Literal["GET", "POST"], ...], Field(strict=False)] = ("GET",)
    parameters: Annotated[dict[str, Parameter], BeforeValidator(_parameters)] = Field(default_factory=dict)
    errors: Literal["status", "event"] = "status"
    error_event: ErrorEvent = Field(default_factory=ErrorEvent)
    messages: dict[str, str] = Field(default_factory=dict)
    wait_s: float = Field(10.0, ge=0, le=300)
    on_disconnect: Annotated[Literal["continue", "cancel"] | float | None, PlainValidator(_disconnect_policy)] = None
    max_event_bytes: int = Field(262_144, gt=0)
    max_total_bytes: int = Field(67_108_864, gt=0)
    max_s: float = Field(900.0, gt=0, allow_inf_nan=False)

    @field_validator("path")
    @classmethod
    def _is_path(cls, text: str) -> str:
        if not _PATH.fullmatch(text):
            raise ValueError(
                f"{text!r} is not a valid path: it begins with / and has no space, ?, #, %, {{}} or empty segment"
            )
        return text

    @field_validator("methods")
    @classmethod
    def _are_methods(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError('name each method once: ["GET"], ["POST"] or ["GET", "POST"]')
        return names

    @model_validator(mode="after")
    def _fits_together(self) -> Route:
        found = [
            *self._parameter_mistakes(),
            *self._upstream_mistakes(),
            *self._message_mistakes(),
        ]
        if found:
            raise mistakes(found)
        return self

    def read(self, query: Sequence[tuple[str, str]], body: Mapping[str, object] | None = None) -> dict[str, object]:
        """The request's values. Raises InvalidParameters, which lists all that are wrong."""
        values: dict[str, object] = {}
        wrong: list[tuple[str, str]] = []
        for name, parameter in self.parameters.items():
            texts = [text for key, text in query if key == name]
            try:
                value = parameter.read(name, texts, ABSENT if body is None else body.get(name, ABSENT))
            except ValueError as error:
                wrong.append((name, str(error)))
                continue
            if value is not ABSENT:
                values[name] = value
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
        """The upstream's request. `own`: the address of this server, as in `http://127.0.0.1:8000`; `ticket`: a
        credential for it; `via`: the servers that the request has passed.

        Raises InvalidParameters for a value that cannot be a segment of a path.
        """
        upstream = self.upstream
        url = fill_url(upstream.url, values)
        body = None if upstream.body is None else json_text(fill_json(upstream.body, values)).encode()
        headers = dict(upstream.headers)
        if via:
            headers["Via"] = ", ".join(f"1.1 {name}" for name in via)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if upstream.auth is not None and credential is not None:
            headers[upstream.auth.header] = upstream.auth.prefix + credential
        elif ticket is not None and upstream.is_own:
            headers["Authorization"] = f"Ticket {ticket}"
        return Outgoing(method=upstream.method, url=own + url if upstream.is_own else url, headers=headers, body=body)

    def message(self, kinds: Iterable[str], default: str) -> str:
        """The route's own message for the first of these kinds of failure that has one."""
        return next((self.messages[kind] for kind in kinds if kind in self.messages), default)

    def _parameter_mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        in_path = set(url_slots(self.upstream.url.partition("?")[0]))
        for name, parameter in self.parameters.items():
            at = ("parameters", name)
            if not NAME.fullmatch(name):
                yield at, f"{name!r} is not a valid name: use up to 64 letters, digits and _, beginning with no digit"
            if name in _RESERVED_IN_QUERY and parameter.where != "body":
                yield at, f"{name} in a query is reserved for the protocol: choose another name, or where = 'body'"
            if parameter.where == "body" and parameter.required and "GET" in self.methods:
                yield (*at, "where"), "a GET has no body: use 'any' or 'query', or methods = ['POST']"
            if name in in_path and not parameter.required and parameter.default is None:
                yield at, "a segment of the path cannot be left out: make it required, or give it a default"

    def _upstream_mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        upstream = self.upstream
        if upstream.url.partition("?")[0] == self.path and upstream.method in self.methods:
            yield ("upstream", "url"), "this route leads to itself"
        for name in dict.fromkeys(url_slots(upstream.url)):
            if name not in self.parameters:
                yield ("upstream", "url"), f"{{{name}}} is not a parameter of this route: {_known(self.parameters)}"
        for text in _unknown_slots(upstream.body, self.parameters, "this route"):
            yield ("upstream", "body"), text
        if self.errors == "event" and upstream.response_headers:
            said = "with errors = 'event' the response begins before the upstream's headers have arrived"
            yield ("upstream", "response_headers"), said

    def _message_mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        for kind in self.messages:
            if kind not in _FAILURES and not re.fullmatch(r"[45][0-9]{2}", kind):
                said = f"unknown failure {kind!r}: use {', '.join(_FAILURES)} or a status from 400 to 599"
                yield ("messages", kind), said


def _unknown_slots(template: object, known: Iterable[str], owner: str) -> Iterator[str]:
    """What is wrong with the names in a template."""
    known = list(known)
    try:
        for name in dict.fromkeys(json_slots(template)):
            if name not in known:
                yield f"${name} is not a parameter of {owner}: {_known(known)}"
        json_text(template)
    except (ValueError, TypeError) as error:
        yield str(error)


def _known(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"there are {listed}" if listed else "it has none"
