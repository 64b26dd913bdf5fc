"""What a request may say: one parameter of a route, its type and its bounds. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from .template import NAME, json_text

__all__ = ["ABSENT", "Kind", "Parameter", "Where"]

Kind = Literal["string", "integer", "number", "boolean", "strings", "json"]
Where = Literal["any", "query", "body"]

ABSENT: Final = object()

# In the query these are the protocol's own.
_TAKEN = frozenset({"lastEventId"})

# JSON deeper than this is no parameter, but an attempt to exhaust somebody's parser.
_MAX_DEPTH = 32

# 2^53 - 1: what every JSON reader holds exactly.
_LARGEST = 2**53 - 1

_WANTED: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "strings": 'a JSON array of texts, such as ["a", "b"]',
    "json": "JSON",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`where` it stands: in the query, in the JSON body, or in either (the body wins). `required`: True, or the message
    for a request without it; `wrong`: the message for one that is not of its `type`. An empty text in the query and
    null in the body are absent. `max_length`: characters of its text, or of its JSON."""

    name: str
    type: Kind = "string"
    where: Where = "any"
    required: bool | str = False
    default: object = None
    max_length: int = 8_000
    wrong: str | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """(field, what would be right) of each that is not."""
        if not NAME.fullmatch(self.name):
            yield "", f"{self.name!r} is no name: use up to 64 letters, digits and _, beginning with no digit"
        if self.name in _TAKEN:
            yield "", f"{self.name} is the name of the position in every stream: use another"
        if self.type not in get_args(Kind):
            yield "type", f"no type {self.type!r}: use one of {', '.join(get_args(Kind))}"
            return
        if self.where not in get_args(Where):
            yield "where", f"no place {self.where!r}: use one of {', '.join(get_args(Where))}"
        if self.max_length < 1:
            yield "max_length", "max_length is at least 1 character"
        if self.default is not None:
            if self.required:
                yield "default", "a parameter that is required never has its default: leave out one of the two"
            elif not _READ[self.type](self.default):
                yield "default", f"{self.default!r} is not {_WANTED[self.type]}"

    def read(self, texts: Sequence[str], value: object = ABSENT) -> object:
        """Its value from what the query (`texts`) and the body (`value`) have under its name; ABSENT where there is
        none. Raises ValueError with the message for whoever asked."""
        if self.where != "query" and value is not ABSENT and value is not None:
            return self._checked(value)
        texts = [] if self.where == "body" else [text for text in texts if text]
        if len(texts) > 1:
            raise ValueError(f"{self.name} is given {len(texts)} times: give it once")
        if texts:
            return self._parsed(texts[0])
        if self.required:
            message = self.required if isinstance(self.required, str) else f"{self.name} is missing: {self._wanted}"
            raise ValueError(message)
        return ABSENT if self.default is None else self.default

    @property
    def _wanted(self) -> str:
        return f"give {_WANTED[self.type]}"

    def _parsed(self, text: str) -> object:
        self._check_length(len(text))
        if self.type == "string":
            return self._checked(text)
        try:
            # Not NaN, not Infinity: JSON has neither, and whoever reads it next may refuse it.
            return self._checked(json.loads(text, parse_constant=_refuse))
        except (ValueError, RecursionError) as error:
            if isinstance(error, _Wrong):
                raise
            raise self._mistake() from error

    def _checked(self, value: object) -> object:
        if _too_deep(value) or not _READ[self.type](value):
            raise self._mistake()
        text = value if isinstance(value, str) else json_text(value)
        self._check_length(len(text))
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self._mistake(f"{self.name} has half of a surrogate pair: UTF-8 cannot carry it") from error
        return value

    def _check_length(self, length: int) -> None:
        if length > self.max_length:
            raise _Wrong(f"{self.name} is longer than {self.max_length} characters")

    def _mistake(self, text: str | None = None) -> _Wrong:
        return _Wrong(self.wrong or text or f"{self.name} is not what it should be: {self._wanted}")


class _Wrong(ValueError):
    pass


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) <= _LARGEST


def _is_number(value: object) -> bool:
    return _is_integer(value) or (type(value) is float and math.isfinite(value))


_READ: Mapping[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "strings": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "json": lambda value: True,
}


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not level:
            return False
    return True
