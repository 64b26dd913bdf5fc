"""A stream of your own in a few lines: a route, a topic, and a source that publishes to it while it has readers."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar
from weakref import WeakSet

import fastapi.routing
from fastapi import APIRouter, FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.responses import Response
from starlette.routing import BaseRoute, Mount

from ..auth.identity import topic_part
from ..errors import InvalidTopic, YeoulError
from ..hub import Hub
from ..hub.producer import Producer, UnsendableValue
from ..hub.topic import check_topic
from ..sse import Event, json_data
from .authentication import IDENTITY, require_subscribe
from .errors import Problem, problem_of
from .event_stream import EventStream
from .routing import stream_route
from .stream_request import StreamRequest

__all__ = ["live_stream"]

_Source = TypeVar("_Source", bound=Callable[..., AsyncIterator[Any]])

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def live_stream(
    app: FastAPI | APIRouter, hub: Hub, path: str, *, newest: int = 1, linger: float = 5.0, **options: Any
) -> Callable[[_Source], _Source]:
    """`@live_stream(app, hub, "/prices/{symbol}/stream")` above an async generator: GET on that path follows what it
    yields.

    The generator's parameters are those of the path. For each set of values it runs once for all readers, from the
    first of them until `linger` seconds after the last. It yields an `Event`, a string, or any value that FastAPI can
    return as JSON (a Pydantic model, a dataclass, a `datetime` …). A generator that raises is logged and started again;
    one that yields what cannot be sent (NaN, a value without a JSON form) is logged, and its readers are sent
    `stream.bye` with the reason `failed`.

    The events are those of a topic whose name is the path of the request, with the prefixes of routers and mounts: here
    `prices/<symbol>/stream`. A reader that comes back gets what it missed, a new one begins with the `newest` events
    kept. `options` are those of FastAPI's routes, `dependencies` among them: this is where your application says who
    may read. Beside Yeoul's server (`create_app`) the caller must be allowed to follow the topic.

    Raises TypeError for a function that is not an async generator, ValueError for parameters that are not those of the
    path, and for a path that cannot be the name of a topic. When the application starts, ValueError for two sources
    with the same path.
    """

    def add(source: _Source) -> _Source:
        live = _LiveStream(app, hub, path, source, newest=newest, linger=linger)
        stream_route(app, path, any_id=True, **options)(live.endpoint())
        hub.before_serving(_check_application)
        return source

    return add


class _LiveStream:
    """A source, and the producers that run it: one for each topic with readers. `template`: the path as far as it is
    known when the route is added; a prefix may come in front of it."""

    def __init__(
        self,
        app: FastAPI | APIRouter,
        hub: Hub,
        path: str,
        source: Callable[..., AsyncIterator[Any]],
        *,
        newest: int,
        linger: float,
    ) -> None:
        self.hub = hub
        self.source = source
        self.name = getattr(source, "__qualname__", repr(source))
        self.template: str = getattr(app, "prefix", "") + path
        self._newest = newest
        self._linger = linger
        self._producers: dict[str, Producer] = {}
        _check_source(source, self.name)
        self._signature = inspect.signature(source, eval_str=True)
        self._check_template(path, final=isinstance(app, FastAPI))

    def check_path(self, path: str) -> None:
        """Raises ValueError where the source has a parameter that is not in this path, the whole one: FastAPI would
        take it from the query, and readers with different values would share one topic."""
        names = _names(path)
        for name in self._signature.parameters:
            if name not in names:
                raise ValueError(
                    f"the parameters of a live stream are those of its path: {self.name} has {name!r}, which is not in "
                    f"{path!r}"
                )

    def endpoint(self) -> Callable[..., Any]:
        """For FastAPI: a function with the source's parameters."""

        async def follow(request: Request, **values: object) -> Response:
            return await self._follow(request, values)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in self._signature.parameters.values()]
        first = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        follow.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
        follow.__name__ = getattr(self.source, "__name__", "stream")
        follow.__doc__ = self.source.__doc__
        setattr(follow, _LIVE, self)
        return follow

    async def _follow(self, request: Request, values: Mapping[str, object]) -> Response:
        _check_application(request.app)
        topic = self._topic(request, values)
        if IDENTITY in request.scope:
            require_subscribe(request, [topic])
        opened = None
        if topic not in self._producers and request.method != "HEAD":
            try:
                opened = StreamRequest.of(request, any_id=True)
                opened.reserve(self.hub)  # before there is a producer: anyone could make many
                self._produce(topic, values)
            except (Problem, YeoulError) as error:
                return problem_of(error)
        return EventStream(self.hub, topic, request, newest=self._newest, opened=opened)

    def _produce(self, topic: str, values: Mapping[str, object]) -> None:
        def forget() -> None:
            self._producers.pop(topic).close()

        def events() -> AsyncIterator[Event]:
            return _events(self.source(**values), self.name)

        try:
            self._producers[topic] = Producer(self.hub, topic, events, linger=self._linger, on_idle=forget)
        except InvalidTopic:
            raise
        except ValueError as error:
            # Of another application that shares the hub: a failure of this server, not of the request.
            raise RuntimeError(f"topic {topic!r} has another source than {self.name}: give one another path") from error

    def _topic(self, request: Request, values: Mapping[str, object]) -> str:
        """The path of the request, with the values as FastAPI has read them: two ways to write a value are one topic.
        What the template does not have in front is the prefix of a router, or of a mount."""
        path, found = _path_of(request), request.path_params
        own = self.template.strip("/").split("/")
        # Parameters of the type `path` have several segments.
        segments = len(own) + sum(str(found[name]).count("/") for name in _names(self.template))
        filled = [
            _PARAMETER.sub(lambda match: topic_part(_text(values.get(match[1], found[match[1]]))), part) for part in own
        ]
        return "/".join([*map(topic_part, path[1:].split("/")[:-segments]), *filled])

    def _check_template(self, path: str, *, final: bool) -> None:
        """`final`: whether nothing but a mount can come in front of the template."""
        in_path, names, parameters = _names(path), _names(self.template), list(self._signature.parameters)
        missing = [name for name in in_path if name not in parameters]
        extra = [name for name in parameters if name not in names] if final else []
        if missing or extra or len(set(names)) != len(names):
            raise ValueError(
                f"the parameters of a live stream are those of its path: {path!r} has {in_path}, {self.name} has "
                f"{parameters}"
            )
        if self.template.endswith("/"):
            raise ValueError(f"the path of a live stream does not end with '/': use {path.rstrip('/')!r}")
        check_topic(_PARAMETER.sub("x", self.template).strip("/"))


# Where an endpoint has its `_LiveStream`.
_LIVE = "__yeoul_live_stream__"

_checked: WeakSet[Any] = WeakSet()


def _check_application(app: object) -> None:
    """Raises ValueError if two sources of one hub have the same path, and where `check_path` does. Called before the
    application serves; with the first request where nothing has called it then (a mounted application)."""
    if app in _checked or not hasattr(app, "routes"):
        return
    sources: dict[tuple[int, str], _LiveStream] = {}
    for path, live in _live_streams(app.routes, ""):
        live.check_path(path)
        other = sources.setdefault((id(live.hub), _PARAMETER.sub("{}", path)), live)
        if other.source is not live.source:
            raise ValueError(f"{path!r} has two sources, {other.name} and {live.name}: give one of them another path")
    _checked.add(app)


def _live_streams(routes: Sequence[BaseRoute], prefix: str) -> Iterator[tuple[str, _LiveStream]]:
    """With their whole paths."""
    for route in _effective(routes):
        inner = getattr(route, "original_route", route)
        path = prefix + (getattr(route, "path", None) or "")
        if isinstance(inner, Mount):
            yield from _live_streams(inner.routes, path)
            continue
        live = getattr(getattr(route, "endpoint", None), _LIVE, None)
        if isinstance(live, _LiveStream):
            yield path, live


def _effective(routes: Sequence[BaseRoute]) -> Iterable[Any]:
    """The routes with the prefixes of their routers. Newer versions of FastAPI do not copy the routes of a router that
    is included: they have a function that returns the effective routes."""
    contexts = getattr(fastapi.routing, "iter_route_contexts", None)
    return routes if contexts is None else contexts(routes)


def _check_source(source: object, name: str) -> None:
    function = inspect.unwrap(source) if callable(source) else source
    if inspect.isasyncgenfunction(function):
        return
    if inspect.isgeneratorfunction(function):
        wrong = "is a generator that is not async: write `async def`"
    elif inspect.iscoroutinefunction(function):
        wrong = "is a coroutine function: yield the values instead of returning them"
    elif callable(source):
        return  # it may return an async iterator; otherwise its stream ends as failed
    else:
        wrong = "cannot be called"
    raise TypeError(f"a live stream needs an async generator, and {name} {wrong}")


def _path_of(request: Request) -> str:
    """Without the root path of the server, as `--root-path` sets it; mounts belong to the path."""
    path: str = request.scope["path"]
    root: str = request.scope.get("root_path", "")
    server_root: str = request.scope.get("app_root_path", root)
    if root and path.startswith(f"{root}/"):
        return path.removeprefix(server_root)
    return root.removeprefix(server_root) + path  # Starlette before 0.33 takes the path of a mount away


def _names(path: str) -> list[str]:
    return [match[1] for match in _PARAMETER.finditer(path)]


def _text(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


async def _events(values: AsyncIterator[Any], name: str) -> AsyncIterator[Event]:
    if not hasattr(values, "__aiter__"):
        raise UnsendableValue(f"{name} returned {type(values).__name__}, which is not an async iterator")
    try:
        async for value in values:
            yield value if isinstance(value, Event) else _event(value, name)
    finally:
        if hasattr(values, "aclose"):
            await values.aclose()


def _event(value: object, name: str) -> Event:
    try:
        return Event(value if isinstance(value, str) else _json(value))
    except Exception as error:
        raise UnsendableValue(f"{name} yielded a value of type {type(value).__name__} that cannot be sent") from error


def _json(value: object) -> str:
    try:
        return json_data(value)
    except TypeError:  # not a plain value
        return json_data(jsonable_encoder(value))
