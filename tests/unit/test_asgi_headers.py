"""Header fields, indexed, and the structures of their values."""

from __future__ import annotations

import pytest

from yeoul.asgi.headers import RawHeaders, accepts, headers_of, list_members, media_type


def test_the_first_of_several_fields_counts_and_all_can_be_had() -> None:
    headers = RawHeaders([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])
    assert (headers.get(b"a"), headers.text(b"b"), headers.get(b"c")) == (b"1", "2", None)
    assert headers.all(b"a") == [b"1", b"3"]
    assert (headers.all(b"b"), headers.all(b"c")) == ([b"2"], [])
    assert headers.repeated
    assert b"a" in headers
    assert not RawHeaders([(b"a", b"1")]).repeated
    assert headers.has_any(frozenset({b"x", b"b"}))
    assert not headers.has_any(frozenset({b"x"}))


def test_they_are_indexed_once() -> None:
    scope = {"headers": [(b"a", b"1")]}
    assert headers_of(scope) is headers_of(scope)


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("text/html, text/event-stream;q=0.5", True),
        ("text/event-stream ; Q=1.000", True),
        ("text/event-stream;charset=utf-8", True),
        ('application/json;x="a,text/event-stream"', False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0.000", False),
        ("text/event-stream;q=2", False),
        ("text/event-stream;q=x", False),
        ("text/event-streams", False),
        ("x-text/event-stream", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        ("," * 50, False),
    ],
)
def test_a_media_type_is_accepted_where_it_is_named_with_a_weight(accept: str, accepted: bool) -> None:
    assert accepts(accept, "text/event-stream") is accepted


@pytest.mark.parametrize(
    ("value", "kind", "parameters"),
    [
        ("text/plain", "text/plain", {}),
        (" Text/Plain ; Charset=UTF-8", "text/plain", {"charset": "UTF-8"}),
        ('text/plain; charset="utf-8"; a="x\\"y;z"', "text/plain", {"charset": "utf-8", "a": 'x"y;z'}),
        ("text/plain;", "text/plain", {}),
        ("text/plain; charset", "text/plain", {}),
        ("", "", {}),
        ("text/plain; a=" + "x" * 1_000, "text/plain", {"a": "x" * 1_000}),
    ],
)
def test_a_content_type_is_read_as_it_is_structured(value: str, kind: str, parameters: dict[str, str]) -> None:
    assert media_type(value) == (kind, parameters)


def test_a_comma_in_quotes_separates_nothing() -> None:
    assert list(list_members('a, "b,c" ;d=1,, e')) == ["a", '"b,c" ;d=1', "e"]


def test_a_value_of_many_quotes_is_read_in_time() -> None:
    assert list(list_members('"' * 60_001 + ",a"))[-1] == "a"
