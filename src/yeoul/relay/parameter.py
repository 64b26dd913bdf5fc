"""One parameter of a route: where its value stands in a request, its type and its bounds. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from .template import json_text

__all__ = ["ABSENT", "Kind", "Parameter", "RouteModel", "Where", "mistakes"]

Kind = Literal["string", "integer", "number", "boolean", "strings", "json"]
Where = Literal["any", "query", "body"]

ABSENT: Final = object()

# JSON that is nested deeper than this is an attempt to exhaust a parser.
_MAX_DEPTH = 32

# 2^53 - 1: the largest integer that every JSON reader represents exactly.
_LARGEST = 2**53 - 1

_EXPECTED: Mapping[str, str] = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "strings": 'a JSON array of strings, such as ["a", "b"]',
    "json": "JSON",
}


class RouteModel(BaseModel):
    """What all parts of the route table have in common. Errors do not show values: one may be a credential."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


# Where in a model, and what would be right.
_Found = tuple[tuple[str | int, ...], str]


def mistakes(found: Sequence[_Found]) -> PydanticCustomError:
    """The error of a validator that checks several fields: `ctx["mistakes"]` has the place of each mistake."""
    text = "; ".join(f"{'.'.join(map(str, place))}: {said}" if place else said for place, said in found)
    return PydanticCustomError("mistakes", "{text}", {"text": text, "mistakes": list(found)})


def _bool_or_message(value: object) -> object:
    if not isinstance(value, bool | str):
        raise ValueError("write true, false, or the message for a request without it")
    return value


class Parameter(RouteModel):
    """- `where`: in the query, in the JSON body, or in either of them (the body wins).
    - `required`: True, or the message for a request without a value.
    - `default`: the value where the request has none.
    - `max_length`: in characters, of the text or of the JSON.
    - `wrong`: the message for a value of another type.

    An empty text in the query and null in the body are absent.
    """

    type: Kind = "string"
    where: Where = "any"
    required: Annotated[bool | str, PlainValidator(_bool_or_message)] = False
    default: Any = None
    max_length: int = Field(8_000, ge=1)
    wrong: str | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> Parameter:
        if self.default is not None:
            if self.required:
                raise mistakes([(("default",), "a required parameter never has its default: leave out one of the two")])
            if not _CHECKS[self.type](self.default):
                raise mistakes([(("default",), f"{self.default!r} is not {_EXPECTED[self.type]}")])
        return self

    def read(self, name: str, texts: Sequence[str], value: object = ABSENT) -> object:
        """Its value from what the query (`texts`) and the body (`value`) have under its name; ABSENT where there is
        none. Raises ValueError with the message for the client."""
        if self.where != "query" and value is not ABSENT and value is not None:
            return self._checked(name, value)
        texts = [] if self.where == "body" else [text for text in texts if text]
        if len(texts) > 1:
            raise ValueError(f"{name} is given {len(texts)} times: give it once")
        if texts:
            return self._parsed(name, texts[0])
        if self.required:
            raise ValueError(self.required if isinstance(self.required, str) else f"{name} is missing: {self._hint}")
        return ABSENT if self.default is None else self.default

    @property
    def _hint(self) -> str:
        return f"give {_EXPECTED[self.type]}"

    def _parsed(self, name: str, text: str) -> object:
        self._check_length(name, len(text))
        if self.type == "string":
            return self._checked(name, text)
        try:
            # NaN and Infinity are not JSON: the upstream may refuse them.
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise self._invalid(name) from error
        return self._checked(name, value)

    def _checked(self, name: str, value: object) -> object:
        if _too_deep(value) or not _CHECKS[self.type](value):
            raise self._invalid(name)
        text = value if isinstance(value, str) else json_text(value)
        self._check_length(name, len(text))
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                self.wrong or f"{name} has one half of a surrogate pair, which UTF-8 cannot represent"
            ) from error
        return value

    def _check_length(self, name: str, length: int) -> None:
        if length > self.max_length:
            raise ValueError(f"{name} is longer than {self.max_length} characters")

    def _invalid(self, name: str) -> ValueError:
        return ValueError(self.wrong or f"{name} is invalid: {self._hint}")


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _is_integer(value: object) -> bool:
    return type(value) is int and abs(value) <= _LARGEST


def _is_number(value: object) -> bool:
    return _is_integer(value) or (type(value) is float and math.isfinite(value))


_CHECKS: Mapping[str, Callable[[object], bool]] = {
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
