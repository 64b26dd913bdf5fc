"""The values of parameters: what is accepted, and the messages for what is not."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from yeoul.relay.parameter import ABSENT, Parameter


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        ("string", "양파", "양파"),
        ("string", "null", "null"),
        ("integer", "-3", -3),
        ("number", "1.5", 1.5),
        ("number", "2", 2),
        ("boolean", "true", True),
        ("strings", '["양파", "감자"]', ["양파", "감자"]),
        ("strings", "[]", []),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
    ],
)
def test_a_text_of_the_query_is_read_by_its_type(type: Any, text: str, value: object) -> None:
    read = Parameter(type=type).read("p", [text])
    assert read == value
    assert read.__class__ is value.__class__
    assert Parameter(type=type).read("p", [], value) == value


@pytest.mark.parametrize(
    ("type", "text"),
    [
        ("integer", "1.5"),
        ("integer", "x"),
        ("integer", "true"),
        ("integer", "9007199254740993"),
        ("integer", "1" * 5_000),
        ("number", "NaN"),
        ("number", "Infinity"),
        ("number", "1e999"),
        ("boolean", "1"),
        ("boolean", "True"),
        ("strings", "양파,감자"),
        ("strings", '["양파", 3]'),
        ("strings", '{"a": "b"}'),
        ("strings", '["양파"'),
        ("json", "{"),
        ("json", '{"a": NaN}'),
        ("json", "[" * 33 + "]" * 33),
        ("json", "[" * 4_000),
        ("json", '"\\ud800"'),
    ],
)
def test_a_text_of_another_type_is_refused_with_what_would_be_right(type: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"^p (is invalid: give|has one half)"):
        Parameter(type=type).read("p", [text])
    with pytest.raises(ValueError, match=r"^in my words$"):
        Parameter(type=type, wrong="in my words").read("p", [text])


@pytest.mark.parametrize(("type", "value"), [("string", 3), ("integer", True), ("integer", "3"), ("strings", "a")])
def test_a_value_of_the_body_has_to_have_the_type(type: Any, value: object) -> None:
    with pytest.raises(ValueError, match=r"^p is invalid: give"):
        Parameter(type=type).read("p", [], value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for type in ("string", "integer", "number", "boolean", "strings", "json"):
        with suppress(ValueError):
            Parameter(type=type).read("p", [text])


@pytest.mark.parametrize(
    ("options", "texts", "body", "value"),
    [
        ({}, [], ABSENT, ABSENT),
        ({}, [""], ABSENT, ABSENT),
        ({}, [], None, ABSENT),
        ({"default": "d"}, [""], None, "d"),
        ({}, ["q"], "b", "b"),
        ({"where": "query"}, ["q"], "b", "q"),
        ({"where": "body"}, ["q"], ABSENT, ABSENT),
        ({"where": "body"}, ["q"], "b", "b"),
        ({}, ["", "q"], ABSENT, "q"),
    ],
)
def test_where_a_value_comes_from(options: dict[str, Any], texts: list[str], body: object, value: object) -> None:
    assert Parameter(**options).read("p", texts, body) == value


@pytest.mark.parametrize(
    ("options", "texts", "message"),
    [
        ({"required": True}, [], "p is missing: give a string"),
        ({"required": "p 파라미터가 필요합니다"}, [""], "p 파라미터가 필요합니다"),
        ({}, ["a", "b"], "p is given 2 times: give it once"),
        ({"max_length": 3}, ["abcd"], "p is longer than 3 characters"),
        ({"max_length": 3, "type": "json"}, ["    1"], "p is longer than 3 characters"),
    ],
)
def test_what_else_is_refused(options: dict[str, Any], texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Parameter(**options).read("p", texts)


def test_a_long_value_of_the_body_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 5 characters"):
        Parameter(type="strings", max_length=5).read("p", [], ["abc"])


@pytest.mark.parametrize(
    ("options", "place", "hint"),
    [
        ({"type": "int"}, ("type",), "'integer'"),
        ({"where": "header"}, ("where",), "'query'"),
        ({"max_length": 0}, ("max_length",), "greater than or equal to 1"),
        ({"default": 3}, (), "default: 3 is not a string"),
        ({"default": "d", "required": True}, (), "leave out one of the two"),
        ({"required": 3}, ("required",), "true, false, or the message"),
        ({"requird": True}, ("requird",), "not permitted"),
    ],
)
def test_an_invalid_parameter_is_explained_by_field(options: dict[str, Any], place: tuple[str, ...], hint: str) -> None:
    with pytest.raises(ValidationError) as info:
        Parameter(**options)
    (error,) = info.value.errors()
    assert error["loc"] == place
    assert hint in error["msg"]
