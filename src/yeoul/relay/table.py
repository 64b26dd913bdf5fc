"""The route table of `yeoul.toml`: reading it, and what is wrong with it, mistake by mistake."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .parameter import Parameter, RouteModel
from .route import Auth, EndMarker, ErrorEvent, Route, Upstream
from .toml_lines import Place, line_of, toml_lines

__all__ = ["Mistake", "check_table", "check_toml"]


@dataclass(frozen=True, slots=True)
class Mistake:
    """Where in the table, and what would be right. `line`: in the file, where there is one."""

    place: Place
    text: str
    line: int | None = None

    def __str__(self) -> str:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).lstrip(".")
        return f"{where}: {self.text}" if where else self.text


def check_table(table: object) -> tuple[list[Route], list[Mistake]]:
    """The valid routes of a table, and every mistake of the others."""
    if not isinstance(table, Sequence) or isinstance(table, str) or not all(isinstance(e, Mapping) for e in table):
        return [], [Mistake(("routes",), "this should be a list of tables: begin each route with [[routes]]")]
    routes: list[Route] = []
    mistakes: list[Mistake] = []
    owners: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(table):
        route, found = _read(entry)
        mistakes += [Mistake(("routes", index, *place), text) for place, text in found]
        if route is None:
            continue
        for method in route.methods:
            owner = owners.setdefault((method, route.path), index)
            if owner != index:
                text = f"{method} {route.path} is already the path of routes[{owner}]"
                mistakes.append(Mistake(("routes", index, "path"), text))
        routes.append(route)
    return routes, mistakes


def check_toml(text: str) -> tuple[list[Route], list[Mistake]]:
    """As `check_table`, for the text of a `yeoul.toml`; mistakes have their lines and are sorted by them."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = getattr(error, "lineno", None)
        return [], [Mistake((), f"not TOML: {error}", line or _line_in(str(error)))]
    routes, mistakes = check_table(document.get("routes", []))
    lines = toml_lines(text)
    found = [Mistake(mistake.place, mistake.text, line_of(mistake.place, lines)) for mistake in mistakes]
    return routes, sorted(found, key=lambda mistake: mistake.line or 0)


def _read(entry: Mapping[str, object]) -> tuple[Route | None, list[tuple[Place, str]]]:
    """The route, or its mistakes.

    Fields are checked together only where each of them is valid. So that all mistakes are found at once, those that are
    not valid are replaced, and the rest is checked again.
    """
    found: list[tuple[Place, str]] = []
    while True:
        try:
            route = Route.model_validate(_replaced(entry, {place for place, _ in found}))
        except ValidationError as error:
            new = [(place, text) for place, text in _mistakes(error) if not _is_known(place, found)]
            found += new
            if new and any(detail["loc"] for detail in error.errors(include_url=False, include_input=False)):
                continue
            return None, found
        return (None, found) if found else (route, [])


def _is_known(place: Place, found: Iterable[tuple[Place, str]]) -> bool:
    """Whether a mistake is at this place already, or around it, or inside."""
    return any(place[: len(other)] == other[: len(place)] for other, _ in found)


# For fields that cannot be left out.
_REPLACEMENTS: Mapping[str, object] = {"path": "/path", "url": "http://upstream", "variable": "VARIABLE"}


def _replaced(value: Any, places: Iterable[Place], at: Place = ()) -> Any:
    """The value without what is at these places."""
    if not any(place[: len(at)] == at for place in places):
        return value
    if isinstance(value, Mapping):
        inner = {key: _replaced(item, places, (*at, key)) for key, item in value.items() if (*at, key) not in places}
        # A list that has lost all its items is left out as well: not every list may be empty.
        left = {key: item for key, item in inner.items() if item != [] or value[key] == []}
        if at == ("parameters",):
            return {key: left.get(key, {}) for key in value}  # templates may name them
        missing = {name: what for name, what in _REPLACEMENTS.items() if (*at, name) in places}
        return {**left, **missing}
    if isinstance(value, list):
        return [_replaced(item, places, (*at, n)) for n, item in enumerate(value) if (*at, n) not in places]
    return value


def _line_in(message: str) -> int:
    _, _, rest = message.partition("at line ")
    digits = rest.partition(",")[0]
    return int(digits) if digits.isdigit() else 1


def _mistakes(error: ValidationError) -> Iterable[tuple[Place, str]]:
    """pydantic's errors in the words of this server."""
    for entry in error.errors(include_url=False, include_input=False):
        place: Place = entry["loc"]
        if entry["type"] == "mistakes":
            yield from (((*place, *inner), text) for inner, text in entry["ctx"]["mistakes"])
        else:
            yield place, _text(entry, place)


def _text(error: ErrorDetails, place: Place) -> str:
    match error["type"]:
        case "missing":
            return f"{place[-1]} is missing"
        case "extra_forbidden":
            fields = _fields(place[:-1])
            close = get_close_matches(str(place[-1]), fields, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}"
            return f"unknown field {str(place[-1])!r}: {hint}"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "model_type" | "dict_type":
            return "this should be a table"
        case "tuple_type":
            return "this should be a list"
        case "literal_error":
            return f"not a valid value: use {error['ctx']['expected']}"
    return f"this should be {error['msg'].removeprefix('Input should be ')}"


_MODELS: Mapping[tuple[str, ...], type[RouteModel]] = {
    (): Route,
    ("parameters", "*"): Parameter,
    ("error_event",): ErrorEvent,
    ("upstream",): Upstream,
    ("upstream", "auth"): Auth,
    ("upstream", "end", "*"): EndMarker,
}


def _fields(place: Place) -> list[str]:
    for pattern, model in _MODELS.items():
        if len(pattern) == len(place) and all(a in ("*", b) for a, b in zip(pattern, place, strict=True)):
            return list(model.model_fields)
    return []
