"""Values in JSON and URL templates: data, never structure."""

from __future__ import annotations

import json
from urllib.parse import quote, unquote, urlsplit

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
def test_a_text_that_looks_like_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write '\$name', or '\$\$"):
        list(json_slots({"a": text}))


@pytest.mark.parametrize(
    ("template", "values", "url"),
    [
        ("http://h/a/{x}/b", {"x": "양 파"}, "http://h/a/%EC%96%91%20%ED%8C%8C/b"),
        ("http://h/{x}-{y}", {"x": "a b", "y": 3}, "http://h/a%20b-3"),
        ("http://h/a%2Fb{x}", {"x": "v1.2"}, "http://h/a%2Fbv1.2"),
        ("/own/{x}", {"x": "?q=#f"}, "/own/%3Fq%3D%23f"),
        ("http://h/{x}", {"x": "100%"}, "http://h/100%25"),
        ("http://h/{x}", {"x": "👩‍🍳"}, "http://h/%F0%9F%91%A9%E2%80%8D%F0%9F%8D%B3"),
        ("http://h/{x}", {"x": "...;a"}, "http://h/...%3Ba"),
        ("http://h/s?q={x}&fixed=1", {"x": "a&admin=1"}, "http://h/s?q=a%26admin%3D1&fixed=1"),
        ("http://h/s?q={x}&l={y}", {"y": True}, "http://h/s?l=true"),
        ("http://h/s?q={x}", {}, "http://h/s"),
        ("http://h/s?q={x}", {"x": ["a", 1]}, "http://h/s?q=%5B%22a%22%2C%201%5D"),
        ("http://h", {}, "http://h"),
    ],
)
def test_a_url_template_takes_values_percent_encoded(template: str, values: dict[str, object], url: str) -> None:
    assert fill_url(template, values) == url


STEPS = ["", ".", "..", "..;x", "．．", "a/b", "a\\b", "../../adm", "a／b", "a\0b", "a\nb", "\x85"]


@pytest.mark.parametrize("times", range(6))
@pytest.mark.parametrize("value", STEPS)
def test_a_value_that_a_server_could_take_for_a_step_in_the_path_is_refused(value: str, times: int) -> None:
    for _ in range(times):
        value = value.replace("%", "%25") if "%" in value else quote(value, safe="").replace(".", "%2e")
    with pytest.raises(InvalidParameters, match=r"cannot be empty, '\.' or '\.\.', or contain"):
        fill_url("http://h/a/{x}/b", {"x": value})


def test_an_overlong_form_of_a_dot_is_refused() -> None:
    with pytest.raises(InvalidParameters):
        fill_url("http://h/a/{x}", {"x": "%c0%ae%c0%ae%c0%af"})


@pytest.mark.parametrize(("x", "y"), [(".", "."), ("%2", "f"), ("%25", "5c"), ("%2", "e.")])
def test_two_values_that_are_a_step_only_together_are_refused(x: str, y: str) -> None:
    with pytest.raises(InvalidParameters):
        fill_url("http://h/{x}{y}/b", {"x": x, "y": y})


@given(TEXTS, TEXTS)
def test_no_text_leaves_its_part_of_the_url(in_path: str, in_query: str) -> None:
    try:
        filled = fill_url("http://host:81/a/{x}/b?q={y}&z=1", {"x": in_path, "y": in_query})
    except InvalidParameters:
        assert not in_path or set(in_path) & set("./\\%;") or not in_path.isprintable() or not in_path.isascii()
        return
    for parts in (urlsplit(filled), urlsplit(str(URL(filled)))):  # as the client sends it, too
        assert (parts.scheme, parts.netloc, parts.fragment) == ("http", "host:81", "")
        assert [unquote(part) for part in parts.path.split("/")] == ["", "a", in_path, "b"]
    assert URL(filled).query == {"q": in_query, "z": "1"}


@pytest.mark.parametrize(
    ("template", "mistake"),
    [
        ("http://{host}/a", "must not choose the host"),
        ("http://h:{port}/a", "not a valid URL"),
        ("http://user:pass@h/a", "use auth"),
        ("ftp://h/a", "give http://host/path"),
        ("//h/a", "give http://host/path"),
        ("h/a", "give http://host/path"),
        ("http://", "give http://host/path"),
        ("http://h:0/", "give http://host/path"),
        ("http://h:99999/", "not a valid URL"),
        ("http://h/a#b", "fragment"),
        ("http://h/a b", "percent-encode"),
        ("http://h/양파", "percent-encode"),
        ("http://h/{a", "not part of {name}"),
        ("http://h/{a b}", "percent-encode"),
        ("http://h/{a-b}", "not part of {name}"),
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
