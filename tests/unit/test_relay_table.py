"""The route table in TOML: what it says, and what is wrong in which line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from yeoul.relay.route import Auth, EndMarker, ErrorEvent, Route, Upstream
from yeoul.relay.table import check_table, check_toml
from yeoul.relay.toml_lines import line_of, toml_lines

ROOT = Path(__file__).parents[2]

GOOD = """\
[[routes]]
path = "/translate"
methods = ["GET", "POST"]
on_disconnect = 30
messages = { 429 = "later" }
error_event = { type = "error", data = '{"message": "$message", "data": null}' }

[routes.parameters]
text = { required = "say what" }
lang = "string"
n = { type = "integer", default = 3 }

[routes.upstream]
url = "http://up.example/{lang}"
body = { text = "$text", n = "$n" }
auth = { variable = "UP_KEY" }
end = [{ data = "[DONE]" }, { field = "done" }]
"""


def test_a_table_becomes_routes() -> None:
    (route,), mistakes = check_toml(GOOD.replace('lang = "string"', 'lang = { default = "ko" }'))
    assert mistakes == []
    assert isinstance(route, Route)
    assert (route.path, route.methods, route.on_disconnect) == ("/translate", ("GET", "POST"), 30)
    assert [(name, p.type, p.required) for name, p in route.parameters.items()] == [
        ("text", "string", "say what"),
        ("lang", "string", False),
        ("n", "integer", False),
    ]
    assert route.error_event == ErrorEvent(type="error", data={"message": "$message", "data": None})
    assert route.upstream.auth == Auth(variable="UP_KEY")
    assert route.upstream.end == (EndMarker(data="[DONE]"), EndMarker(field="done"))
    assert route.build({"text": "a", "lang": "ko"}).url == "http://up.example/ko"


def test_defaults_are_those_of_a_route() -> None:
    (route,), _ = check_table([{"path": "/a", "upstream": {"url": "http://x"}}])
    assert route == Route(path="/a", upstream=Upstream(url="http://x"))


def messages(text: str) -> list[str]:
    return [f"{mistake.line}: {mistake}" for mistake in check_toml(text)[1]]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            'lang = "string"',
            'lang = "text"',
            "10: routes[0].parameters.lang.type: not a valid value: use 'string'",
        ),
        ('lang = "string"', "lang = 3", "10: routes[0].parameters.lang: this should be a table"),
        (
            'lang = "string"',
            'lang = "string"',
            "10: routes[0].parameters.lang: a segment of the path",
        ),
        ("methods", "metods", "3: routes[0].metods: unknown field 'metods': did you mean methods?"),
        ('["GET", "POST"]', '"GET"', "3: routes[0].methods: this should be a list"),
        ("on_disconnect = 30", "on_disconnect = true", "4: routes[0].on_disconnect: write 'continue', 'cancel'"),
        ("data = '{", "data = '{,", "6: routes[0].error_event.data: not JSON"),
        ('variable = "UP_KEY"', 'value = "sk-SECRET"', "16: routes[0].upstream.auth.variable: variable is missing"),
        ('variable = "UP_KEY"', 'variable = "sk-SECRET"', "16: routes[0].upstream.auth.variable: give the name of an"),
        (
            '{ field = "done" }',
            "{ }",
            "17: routes[0].upstream.end[1]: an end marker has exactly one",
        ),
        ('url = "http://up.example/{lang}"', "", "13: routes[0].upstream.url: url is missing"),
        (
            "$text",
            "$txt",
            "15: routes[0].upstream.body: $txt is not a parameter of this route: there are",
        ),
        ("[[routes]]", "[routes]", "1: routes: this should be a list of tables: begin each route with [[routes]]"),
        ('path = "/translate"', "path = ", "2: not TOML"),
    ],
)
def test_a_mistake_is_reported_with_its_line(old: str, new: str, mistake: str) -> None:
    found = messages(GOOD.replace(old, new))
    assert any(text.startswith(mistake) for text in found), found
    assert "SECRET" not in str(found)


def test_all_mistakes_of_all_routes_are_reported_in_the_order_of_the_file() -> None:
    table = GOOD.replace('"GET", "POST"', '"PUT"').replace("30", '"no"') + GOOD.replace("http:", "ftp:")
    lines = [int(text.partition(":")[0]) for text in messages(table)]
    assert lines == sorted(lines)
    assert {3, 4, 10, 17 + 14} <= set(lines)


def test_a_path_that_is_taken_is_reported() -> None:
    route = {"path": "/a", "upstream": {"url": "http://x"}}
    _, mistakes = check_table([route, {**route, "methods": ["POST"]}, {**route, "methods": ["POST", "GET"]}])
    assert [str(mistake) for mistake in mistakes] == [
        "routes[2].path: POST /a is already the path of routes[1]",
        "routes[2].path: GET /a is already the path of routes[0]",
    ]


def test_a_file_without_routes_is_right() -> None:
    assert check_toml("port = 1\n") == ([], [])


def test_the_example_of_the_documentation_is_right() -> None:
    page = (ROOT / "docs" / "gateway.md").read_text()
    tables = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert tables
    for table in tables:
        routes, mistakes = check_toml(table)
        assert mistakes == []
        assert routes


LINES = '''\
a = 1 # [[b]]
"b.c" = """
x = 1
"""
[d]
e.f = { g = [
  1,   # one
  [2, "]"],
], "h" = \'it"s\' }
[[i]]
j = \'\'\'a\'\'\'
[i.k]
l = "\\"x"
[[i]]
[[i.m]]
n = 2025-01-01T00:00:00Z
[[i.m]]
n = 3
'''


def test_every_value_is_found_in_its_line() -> None:
    tomllib.loads(LINES)
    lines = toml_lines(LINES)
    assert {place: lines[place] for place in lines if len(place) > 1 or place == ("a",)} == {
        ("a",): 1,
        ("d", "e"): 6,
        ("d", "e", "f"): 6,
        ("d", "e", "f", "g"): 6,
        ("d", "e", "f", "g", 0): 7,
        ("d", "e", "f", "g", 1): 8,
        ("d", "e", "f", "g", 1, 0): 8,
        ("d", "e", "f", "g", 1, 1): 8,
        ("d", "e", "f", "h"): 9,
        ("i", 0): 10,
        ("i", 0, "j"): 11,
        ("i", 0, "k"): 12,
        ("i", 0, "k", "l"): 13,
        ("i", 1): 14,
        ("i", 1, "m"): 17,
        ("i", 1, "m", 0): 15,
        ("i", 1, "m", 0, "n"): 16,
        ("i", 1, "m", 1): 17,
        ("i", 1, "m", 1, "n"): 18,
    }
    assert lines["b.c",] == 2


def test_what_is_missing_is_in_the_line_of_what_it_is_missing_in() -> None:
    lines = toml_lines(LINES)
    assert line_of(("i", 1, "m", 0, "x", 3), lines) == 15
    assert line_of(("z",), lines) == 1
