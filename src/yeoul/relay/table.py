"""The route table as it is written in `yeoul.toml`, and what is wrong with it, mistake by mistake."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ..errors import InvalidRoute
from .parameter import Parameter
from .route import Auth, EndMarker, ErrorEvent, Route, Target
from .toml_lines import Place, line_of, toml_lines

__all__ = ["Mistake", "RouteSpec", "check_table", "check_toml"]


@dataclass(frozen=True, slots=True)
class Mistake:
    """Where in the table, and what would be right. `line`: of the file, where there is one."""

    place: Place
    text: str
    line: int | None = None

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).lstrip(".")
        return f"{where}: {self.text}" if where else self.text


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ParameterSpec(_Spec):
    type: str = "string"
    where: str = "any"
    required: bool | str = False
    default: Any = None
    max_length: int = 8_000
    wrong: str | None = None


class AuthSpec(_Spec):
    variable: str
    header: str = "Authorization"
    prefix: str = "Bearer "


class EndSpec(_Spec):
    data: str | None = None
    type: str | None = None
    field: str | None = None


def _json(value: object) -> object:
    """TOML has no null: a template may be JSON text instead."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


Template = Annotated[Any, BeforeValidator(_json)]


class ErrorEventSpec(_Spec):
    type: str = "message"
    data: Template = Field(default_factory=lambda: ErrorEvent().data)


class TargetSpec(_Spec):
    url: str
    method: str = "POST"
    name: str = "the upstream"
    headers: dict[str, str] = Field(default_factory=dict)
    body: Template = None
    auth: AuthSpec | None = None
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    attempts: int = 1
    response_headers: list[str] = Field(default_factory=list)
    end: list[EndSpec] = Field(default_factory=list)

    def target(self) -> Target:
        given = {name: getattr(self, name) for name in self.model_fields_set - {"auth", "response_headers", "end"}}
        return Target(
            **given,
            auth=None if self.auth is None else Auth(**self.auth.model_dump()),
            response_headers=tuple(self.response_headers),
            end=tuple(EndMarker(**marker.model_dump()) for marker in self.end),
        )


def _typed(value: object) -> object:
    """`lang = "string"` is `lang = {type = "string"}`."""
    if isinstance(value, Mapping):
        return {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in value.items()}
    return value


class RouteSpec(_Spec):
    """One `[[routes]]`. What each field means: `Route`, and docs/gateway.md."""

    path: str
    upstream: TargetSpec
    methods: list[str] = Field(default_factory=lambda: ["GET"])
    parameters: Annotated[dict[str, ParameterSpec], BeforeValidator(_typed)] = Field(default_factory=dict)
    errors: str = "status"
    error_event: ErrorEventSpec = Field(default_factory=ErrorEventSpec)
    messages: dict[str, str] = Field(default_factory=dict)
    wait_s: float = 10.0
    on_disconnect: str | float | None = None
    max_event_bytes: int = 262_144
    max_total_bytes: int = 67_108_864
    max_s: float = 900.0

    def route(self) -> Route:
        """Raises InvalidRoute."""
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in self.model_fields_set - {"upstream", "methods", "parameters", "error_event"}
        }
        return Route(
            **given,
            target=self.upstream.target(),
            methods=tuple(self.methods),
            parameters=tuple(Parameter(name=name, **spec.model_dump()) for name, spec in self.parameters.items()),
            error_event=ErrorEvent(**self.error_event.model_dump()),
        )


def check_table(table: object) -> tuple[list[Route], list[Mistake]]:
    """The routes of a table that can be, and every mistake of the others."""
    if not isinstance(table, Sequence) or isinstance(table, str) or not all(isinstance(e, Mapping) for e in table):
        return [], [Mistake(("routes",), "a list of tables: begin each route with [[routes]]")]
    routes: list[Route] = []
    mistakes: list[Mistake] = []
    owners: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(table):
        route, told = _read(entry)
        mistakes += [Mistake(("routes", index, *place), text) for place, text in told]
        if route is None:
            continue
        for method in route.methods:
            owner = owners.setdefault((method, route.path), index)
            if owner != index:
                text = f"{method} {route.path} is answered by routes[{owner}] already"
                mistakes.append(Mistake(("routes", index, "path"), text))
        routes.append(route)
    return routes, mistakes


def _read(entry: Mapping[str, object]) -> tuple[Route | None, list[tuple[Place, str]]]:
    """The route, or what is wrong with it: with its form, and with what is left without those fields."""
    told: list[tuple[Place, str]] = []
    try:
        return RouteSpec.model_validate(entry).route(), []
    except InvalidRoute as error:
        return None, list(error.mistakes)
    except ValidationError as error:
        told = _told(error.errors(include_url=False))
    try:
        RouteSpec.model_validate(_without(entry, [place for place, _ in told])).route()
    except InvalidRoute as error:
        told += error.mistakes
    except ValidationError:
        pass  # something else was needed: it has been told
    return None, told


def _without(value: object, places: Sequence[Place]) -> object:
    """The value without what stands at these places."""
    gone = {place[0] for place in places if len(place) == 1}

    def rest(key: str | int, item: object) -> object:
        return _without(item, [place[1:] for place in places if place[:1] == (key,)])

    if isinstance(value, Mapping):
        return {key: rest(key, item) for key, item in value.items() if key not in gone}
    if isinstance(value, list):
        return [rest(index, item) for index, item in enumerate(value) if index not in gone]
    return value


def check_toml(text: str) -> tuple[list[Route], list[Mistake]]:
    """As `check_table`, for the text of a `yeoul.toml`; mistakes have their lines, and stand in that order."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = getattr(error, "lineno", None)
        return [], [Mistake((), f"not TOML: {error}", line or _line_in(str(error)))]
    routes, mistakes = check_table(document.get("routes", []))
    lines = toml_lines(text)
    found = [Mistake(mistake.place, mistake.text, line_of(mistake.place, lines)) for mistake in mistakes]
    return routes, sorted(found, key=lambda mistake: mistake.line or 0)


def _line_in(message: str) -> int:
    _, _, rest = message.partition("at line ")
    digits = rest.partition(",")[0]
    return int(digits) if digits.isdigit() else 1


def _told(errors: Iterable[ErrorDetails]) -> list[tuple[Place, str]]:
    """pydantic's findings in our words."""
    found: dict[Place, list[ErrorDetails]] = {}
    for error in errors:
        # A value that fits none of several types has an error for each, with the type at the end of its place.
        place = tuple(part for part in error["loc"] if part not in ("bool", "str", "float", "int"))
        found.setdefault(place, []).append(error)
    return [(place, _words(errors, place)) for place, errors in found.items()]


def _words(errors: Sequence[ErrorDetails], place: Place) -> str:
    error = errors[0]
    match error["type"]:
        case "missing":
            return f"{place[-1]} is missing"
        case "extra_forbidden":
            fields = _fields(place[:-1])
            close = get_close_matches(str(place[-1]), fields, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}"
            return f"no field {str(place[-1])!r}: {hint}"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "model_type" | "dict_type" | "dataclass_type":
            return "this should be a table"
    wanted = " or ".join(error["msg"].removeprefix("Input should be ") for error in errors)
    return f"this should be {wanted}"


_MODELS: Mapping[tuple[str, ...], type[_Spec]] = {
    (): RouteSpec,
    ("parameters", "*"): ParameterSpec,
    ("error_event",): ErrorEventSpec,
    ("upstream",): TargetSpec,
    ("upstream", "auth"): AuthSpec,
    ("upstream", "end", "*"): EndSpec,
}


def _fields(place: Place) -> list[str]:
    for pattern, model in _MODELS.items():
        if len(pattern) == len(place) and all(a in ("*", b) for a, b in zip(pattern, place, strict=True)):
            return list(model.model_fields)
    return []
