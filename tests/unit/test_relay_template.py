"""Values in JSON and URL templates: data, never structure."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from yeoul.errors import InvalidParameters
from yeoul.relay.template import fill_json, fill_url, json_slots, json_text, url_mistakes, url_slots

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("template", "values", "filled"),
    [
        ({"a": "$a"}, {"a": ["양파", "감자"]}, {"a": ["양파", "감자"]}),
        ({"a": "$a", "b": "$b"}, {"a": 1}, {"a": 1}),
        ({"a": {"b": ["$x", "y", "$z"]}}, {"z": True}, {"a": {"b": ["y", True]}}),
        ({"a": "$a"}, {"a": "$b", "b": "no"}, {"a": "$b"}),
        ({"a": "$$a"}, {"a": "no"}, {"a": "$a"}),
        ({"a": "costs 3 $"}, {}, {"a": "costs 3 $"}),
        ({"$a": "$a"}, {"a": 1}, {"$a": 1}),
        ({"a": None, "b": 1.5, "c": False}, {}, {"a": None, "b": 1.5, "c": False}),
        ("$a", {"a": {"whole": "body"}}, {"whole": "body"}),
        ("$a", {}, None),
    ],
)
def test_a_json_template_takes_values_with_their_types(
    template: object, values: dict[str, object], filled: object
) -> None:
    assert fill_json(template, values) == filled


@given(TEXTS)
def test_no_text_gets_out_of_its_place_in_json(text: str) -> None:
    filled = json_text(fill_json({"q": "$q", "admin": False}, {"q": text}))
    assert json.loads(filled) == {"q": text, "admin": False}


def test_the_names_in_a_json_template_are_known() -> None:
    assert list(json_slots({"a": ["$x", {"b": "$y"}], "c": "$$z", "d": 3})) == ["x", "y"]


@pytest.mark.parametrize("text", ["$", "$a b", "$1", "${a}", "$a?"])
def test_a_text_that_looks_like_a_name_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write '\$name', or '\$\$"):
        list(json_slots({"a": text}))


@pytest.mark.parametrize(
    ("template", "values", "url"),
    [
        ("http://h/a/{x}/b", {"x": "양 파"}, "http://h/a/%EC%96%91%20%ED%8C%8C/b"),
        ("http://h/{x}-{y}", {"x": "a/b", "y": 3}, "http://h/a%2Fb-3"),
        ("/own/{x}", {"x": "?q=#f"}, "/own/%3Fq%3D%23f"),
        ("http://h/{x}", {"x": "%2e%2e"}, "http://h/%252e%252e"),
        ("http://h/{x}", {"x": "//evil.example"}, "http://h/%2F%2Fevil.example"),
        ("http://h/s?q={x}&fixed=1", {"x": "a&admin=1"}, "http://h/s?q=a%26admin%3D1&fixed=1"),
        ("http://h/s?q={x}&l={y}", {"y": True}, "http://h/s?l=true"),
        ("http://h/s?q={x}", {}, "http://h/s"),
        ("http://h/s?q={x}", {"x": ["a", 1]}, "http://h/s?q=%5B%22a%22%2C%201%5D"),
        ("http://h", {}, "http://h"),
    ],
)
def test_a_url_template_takes_values_percent_encoded(template: str, values: dict[str, object], url: str) -> None:
    assert fill_url(template, values) == url


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_is_no_step_in_the_path(value: str) -> None:
    with pytest.raises(InvalidParameters, match="cannot be empty"):
        fill_url("http://h/a/{x}/b", {"x": value})


def test_two_values_are_no_step_together() -> None:
    with pytest.raises(InvalidParameters):
        fill_url("http://h/{x}{y}/b", {"x": ".", "y": "."})


@given(TEXTS, TEXTS)
def test_no_text_leaves_its_part_of_the_url(in_path: str, in_query: str) -> None:
    try:
        filled = fill_url("http://host:81/a/{x}/b?q={y}&z=1", {"x": in_path, "y": in_query})
    except InvalidParameters:
        assert in_path in ("", ".", "..")
        return
    for parts in (urlsplit(filled), urlsplit(str(URL(filled)))):  # as the client sends it, too
        assert (parts.scheme, parts.netloc, parts.fragment) == ("http", "host:81", "")
        assert [unquote(part) for part in parts.path.split("/")] == ["", "a", in_path, "b"]
    assert URL(filled).query == {"q": in_query, "z": "1"}


@pytest.mark.parametrize(
    ("template", "mistake"),
    [
        ("http://{host}/a", "must not choose the host"),
        ("http://h:{port}/a", "not a URL"),
        ("http://user:pass@h/a", "use auth"),
        ("ftp://h/a", "give http://host/path"),
        ("//h/a", "give http://host/path"),
        ("h/a", "give http://host/path"),
        ("http://", "give http://host/path"),
        ("http://h:0/", "give http://host/path"),
        ("http://h:99999/", "not a URL"),
        ("http://h/a#b", "fragment"),
        ("http://h/a b", "percent-encode"),
        ("http://h/양파", "percent-encode"),
        ("http://h/{a", "no {name}"),
        ("http://h/{a b}", "percent-encode"),
        ("http://h/{a-b}", "no {name}"),
        ("http://h/?a=x{b}", "whole value"),
        ("http://h/?{a}=b", "whole value"),
    ],
)
def test_a_url_that_cannot_be_is_explained(template: str, mistake: str) -> None:
    assert any(mistake in text for text in url_mistakes(template))


@pytest.mark.parametrize("template", ["http://h/a/{x}?q={y}", "https://h", "/api/{x}", "http://[::1]:80/%7B"])
def test_a_url_that_can_be_has_no_mistake(template: str) -> None:
    assert list(url_mistakes(template)) == []


def test_the_names_in_a_url_template_are_known() -> None:
    assert list(url_slots("http://h/{a}/{b}?c={a}")) == ["a", "b", "a"]
