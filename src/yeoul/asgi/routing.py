"""Kinds of routes: streams, publishing, JSON bodies, numbers in paths, and hot routes.

In a path `{name:rest}` matches everything that follows: Starlette's `path` stops at line breaks, which the id of a user
may contain.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, isasyncgenfunction, iscoroutinefunction, isfunction, isgeneratorfunction, signature
from itertools import zip_longest
from typing import Annotated, Any, TypeVar, get_args, get_origin

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.routing import Match, compile_path
from starlette.types import Scope

from .authentication import require_known
from .body import BodyRequest
from .idempotency import has_key, once
from .openapi import ANY_ID
from .rates import count_publish

__all__ = [
    "STARTED",
    "STREAM",
    "Digits",
    "HotRoute",
    "HotRoutes",
    "JsonRoute",
    "Number",
    "NumberedRoute",
    "PublishRoute",
    "hot",
    "stream_route",
]

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Awaitable[Response]])

# An event, as OpenAPI 3.2 describes streams (and FastAPI in 3.1).
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {"type": "string"},
        "event": {"type": "string"},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
_EVENTS: dict[str, Any] = {
    "description": "A stream of events.",
    "content": {"text/event-stream": {"itemSchema": _EVENT}},
}
_PLACE = {"Location": {"description": "the address of what was started", "schema": {"type": "string"}}}

# `responses=` of routes that stream, and of those that start the work whose stream they are.
STREAM: dict[int | str, dict[str, Any]] = {
    200: _EVENTS,
    204: {"description": "Nothing follows the position in Last-Event-ID: do not reconnect."},
}
STARTED: dict[int | str, dict[str, Any]] = {**STREAM, 200: {**_EVENTS, "headers": _PLACE}}


def stream_route(
    router: APIRouter | FastAPI, path: str, *, any_id: bool = False, **options: Any
) -> Callable[[_Endpoint], _Endpoint]:
    """`@stream_route(router, path)` adds a GET route that is documented as a stream, and HEAD for its headers.
    `any_id`: an id of another server is answered with a gap, as by endless streams, and not with 400."""

    def add(endpoint: _Endpoint) -> _Endpoint:
        responses = {**STREAM, **options.pop("responses", {})}
        if any_id:
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), ANY_ID: True}
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_class=Response,
            responses=responses,
            response_model=None,
            **options,
        )
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False, response_model=None)
        return endpoint

    return add


class _Rest(Convertor[str]):
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())


class JsonRoute(APIRoute):
    """A route class: JSON bodies are read strictly (`body.BodyRequest`)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            return await self.respond(BodyRequest(request.scope, request.receive), handle)

        return answer

    async def respond(
        self, request: BodyRequest, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Response:
        """`handle`: what FastAPI does."""
        return await handle(request)


class NumberedRoute(JsonRoute):
    """For paths such as `/recipes/{id}`, where `id` is a `Number`: `/recipes/search` belongs to the route with that
    path, wherever it is registered, and is refused here only where there is none."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE or _is_number(child["path_params"].get("id", "0")):
            return match, child
        # The router takes the first partial match, where no other route matches in full.
        return (Match.PARTIAL, child) if match is Match.FULL else (Match.NONE, {})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _digits(text: str) -> str:
    if not _is_number(text):
        raise ValueError(f"write a whole number in digits, not {text[:50]!r}")
    return text


# For whole numbers in addresses: `int` alone accepts "+1", "1_000" and "1.0" too, several addresses of one resource.
Digits = BeforeValidator(_digits)

# An id in SQLite.
Number = Annotated[int, Digits, Path(ge=1, le=2**63 - 1)]


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Generated by the client: a request that is repeated with the same key is executed once.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


class PublishRoute(JsonRoute):
    """A route class: `APIRouter(route_class=PublishRoute)`. A POST needs a known caller, counts as a publish of that
    caller (`rates.py`), and respects an `Idempotency-Key` (`idempotency.py`). Other methods are not changed."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            extra = options.get("openapi_extra") or {}
            parameters = extra.get("parameters", [])
            if _KEY not in parameters:  # a router that is included may make its routes anew
                options["openapi_extra"] = {**extra, "parameters": [*parameters, _KEY]}
        super().__init__(path, endpoint, **options)

    async def respond(
        self, request: BodyRequest, handle: Callable[[Request], Coroutine[Any, Any, Response]]
    ) -> Response:
        if request.method != "POST":
            return await handle(request)
        return await _publish(request, lambda: handle(request))


def _publish(request: Request, answer: Callable[[], Awaitable[Response]]) -> Awaitable[Response]:
    require_known(request)
    count_publish(request)
    return once(request, answer) if has_key(request) else answer()


# --- routes that are found and called before FastAPI's router

_HOT = "__yeoul_hot__"


def hot(endpoint: _Endpoint) -> _Endpoint:
    """Marks an endpoint that many requests ask for: `HotRoutes` calls it without FastAPI's router and its dependency
    solving. It returns a Response; its parameters are the request, and values of the path and the query."""
    setattr(endpoint, _HOT, True)
    return endpoint


class HotRoutes:
    """The hot routes of routers, in the order in which FastAPI would try them. They stay routes of FastAPI too: of its
    document, and for applications without a gate. Both ways give the same answers
    (tests/contract/test_hot_routes.py)."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str], HotRoute] = {}
        self._by_start: dict[tuple[str, str], list[HotRoute]] = {}
        self._others: list[str] = []  # templates of the other routes so far

    def add(self, router: APIRouter, dependencies: Sequence[Depends] = ()) -> None:
        """`dependencies`: those with which the router is included."""
        for route in router.routes:
            if not isinstance(route, APIRoute):
                continue
            if not hasattr(route.endpoint, _HOT):
                self._others.append(route.path)
            elif not any(_overlap(route.path, other) for other in self._others):  # else FastAPI finds the other one
                self._add(HotRoute(route, [*dependencies, *router.dependencies, *route.dependencies]))

    def _add(self, made: HotRoute) -> None:
        start = _start(made.path)
        for method in made.route.methods or ():
            if "{" not in made.path:
                self._by_path.setdefault((method, made.path), made)
            else:
                self._by_start.setdefault((method, start), []).append(made)

    def find(self, method: str, path: str) -> tuple[HotRoute, dict[str, str]] | None:
        """The route, and its path parameters."""
        route = self._by_path.get((method, path))
        if route is not None:
            return route, {}
        for route in self._by_start.get((method, _start(path)), ()):
            parameters = route.match(path)
            if parameters is not None:
                return route, parameters
        return None


def _start(path: str) -> str:
    """The first segment."""
    end = path.find("/", 1)
    return path[:end] if end > 0 else path


def _overlap(one: str, other: str) -> bool:
    """Whether there may be a path that both templates match."""
    for left, right in zip_longest(one.split("/"), other.split("/")):
        if any(part is not None and _REST.search(part) for part in (left, right)):
            return True
        if left is None or right is None:
            return False
        if left != right and "{" not in left and "{" not in right:
            return False
    return True


# Parameters that match several segments.
_REST = re.compile(r"\{\w+:(rest|path)\}")


class HotRoute:
    """`path`: the template, as FastAPI has it."""

    __slots__ = (
        "_checks",
        "_defaults",
        "_endpoint",
        "_parameters",
        "_plain",
        "_publishes",
        "_request",
        "_rest",
        "path",
        "regex",
        "route",
    )

    def __init__(self, route: APIRoute, dependencies: Sequence[Depends]) -> None:
        """Raises TypeError for an endpoint or a dependency that only FastAPI can call."""
        self.route = route
        self.path = route.path
        self.regex, _, _ = compile_path(route.path)
        rest = re.fullmatch(r"([^{}]*)\{(\w+):rest\}", route.path)
        self._rest = None if rest is None else (rest[1], rest[2])  # what stands before it, its name
        self._endpoint = route.endpoint
        self._checks = [_check_of(dependency) for dependency in dependencies]
        self._publishes = isinstance(route, PublishRoute) and "POST" in (route.methods or ())
        self._request = ""
        self._parameters: list[_Parameter] = []
        for parameter in signature(route.endpoint, eval_str=True).parameters.values():
            if parameter.annotation is Request:
                self._request = parameter.name
            else:
                self._parameters.append(_Parameter.of(parameter, f"{{{parameter.name}" in route.path))
        if not self._request:
            raise TypeError(f"hot endpoints take the request: {route.endpoint!r}")
        # Without a query: the values of its parameters, and whether they and those of the path need no validation.
        self._defaults = {one.name: one.default for one in self._parameters if not one.in_path}
        self._plain = Parameter.empty not in self._defaults.values() and all(
            one.text for one in self._parameters if one.in_path
        )

    def match(self, path: str) -> dict[str, str] | None:
        """The path parameters; None for another path."""
        if self._rest is not None:
            before, name = self._rest
            return {name: path[len(before) :]} if path.startswith(before) else None
        found = self.regex.match(path)
        return None if found is None else found.groupdict()

    def respond(self, request: Request) -> Awaitable[Response]:
        """What FastAPI would answer. Raises what the endpoint raises, and RequestValidationError, some at once."""
        if self._publishes:
            return _publish(request, lambda: self._respond(request))
        return self._respond(request)

    def _respond(self, request: Request) -> Awaitable[Response]:
        for check in self._checks:
            check(request)
        scope = request.scope
        if self._plain and not scope["query_string"]:
            values = {**self._defaults, **scope["path_params"]}
        else:
            values = self._validated(request)
        values[self._request] = request
        response: Awaitable[Response] = self._endpoint(**values)
        return response

    def _validated(self, request: Request) -> dict[str, Any]:
        query = request.query_params if request.scope["query_string"] else _NO_QUERY
        values: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        for parameter in self._parameters:
            parameter.read(request.path_params, query, values, errors)
        if errors:
            raise RequestValidationError(errors)
        return values


_NO_QUERY = QueryParams()


@dataclass(frozen=True, slots=True)
class _Parameter:
    """`text`: any text is valid. `many`: a list of all values."""

    name: str
    alias: str
    in_path: bool
    text: bool
    many: bool
    default: Any
    adapter: TypeAdapter[Any]

    @classmethod
    def of(cls, parameter: Parameter, in_path: bool) -> _Parameter:
        annotated = parameter.annotation
        plain: Any = annotated
        metadata: list[Any] = []
        if get_origin(annotated) is Annotated:
            plain, *metadata = get_args(annotated)
        options = [item for item in metadata if isinstance(item, FieldInfo)]
        if any(isinstance(item, Depends) for item in metadata) or isinstance(parameter.default, FieldInfo | Depends):
            raise TypeError(f"hot endpoints take values of the path and the query, not {parameter}")
        bounded = any(option.metadata for option in options) or len(metadata) > len(options)
        return cls(
            parameter.name,
            next((option.alias for option in options if option.alias), parameter.name),
            in_path,
            plain is str and not bounded,
            any(get_origin(kind) is list for kind in (plain, *get_args(plain))),
            parameter.default,
            TypeAdapter(annotated),
        )

    def read(
        self, path: Mapping[str, str], query: QueryParams, values: dict[str, Any], errors: list[dict[str, Any]]
    ) -> None:
        value: Any
        if self.in_path:
            value = path[self.name]
        else:
            value = query.getlist(self.alias) if self.many else query.get(self.alias)
            if value is None or value == []:
                if self.default is Parameter.empty:
                    missing = {"type": "missing", "loc": ("query", self.alias), "msg": "Field required", "input": None}
                    errors.append(missing)
                else:
                    values[self.name] = self.default
                return
        if self.text:
            values[self.name] = value
            return
        try:
            values[self.name] = self.adapter.validate_python(value)
        except ValidationError as error:
            place = ("path" if self.in_path else "query", self.alias)
            errors += [{**entry, "loc": (*place, *entry["loc"])} for entry in error.errors(include_url=False)]


def _check_of(dependency: Depends) -> Callable[[Request], object]:
    """Raises TypeError for one that is more than a function of the request."""
    check: Any = dependency.dependency
    is_plain = isfunction(check) and not (iscoroutinefunction(check) or isgeneratorfunction(check))
    if not is_plain or isasyncgenfunction(check):
        raise TypeError(f"hot routes have plain functions of the request as dependencies, not {check!r}")
    (parameter,) = signature(check, eval_str=True).parameters.values()
    if parameter.annotation not in (Request, HTTPConnection):
        raise TypeError(f"hot routes have plain functions of the request as dependencies, not {check!r}")
    plain: Callable[[Request], object] = check
    return plain
