"""A route: the upstream's request, made of a request's values; and what cannot be a route."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from yeoul.errors import InvalidParameters, InvalidRoute
from yeoul.relay.parameter import Parameter
from yeoul.relay.route import Auth, EndMarker, ErrorEvent, Route, Target

TARGET = Target(url="http://up/v1/{id}", body={"q": "$q", "n": "$n"}, headers={"X-Client": "web"})
ROUTE = Route(
    path="/ask",
    parameters=(
        Parameter(name="id", required=True),
        Parameter(name="q", required="say q"),
        Parameter(name="n", type="integer", default=3),
    ),
    target=TARGET,
)


@pytest.mark.parametrize(
    ("query", "body", "url", "sent"),
    [
        ([("id", "7"), ("q", "양파")], None, "http://up/v1/7", {"q": "양파", "n": 3}),
        ([("id", "7"), ("q", "a"), ("n", "5"), ("x", "y")], None, "http://up/v1/7", {"q": "a", "n": 5}),
        ([("id", "a/b")], {"q": "$n", "n": 1}, "http://up/v1/a%2Fb", {"q": "$n", "n": 1}),
    ],
)
def test_a_request_becomes_the_upstreams(
    query: list[tuple[str, str]], body: dict[str, object] | None, url: str, sent: object
) -> None:
    outgoing = ROUTE.build(ROUTE.read(query, body))
    assert (outgoing.method, outgoing.url) == ("POST", url)
    assert json.loads(outgoing.body or b"") == sent
    assert outgoing.headers == {"X-Client": "web", "Content-Type": "application/json"}


def test_what_is_sent_is_utf_8() -> None:
    assert "양파".encode() in (ROUTE.build(ROUTE.read([("id", "1"), ("q", "양파")])).body or b"")


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(InvalidParameters) as info:
        ROUTE.read([("n", "x")])
    assert [name for name, _ in info.value.fields] == ["id", "q", "n"]
    assert dict(info.value.fields)["q"] == "say q"


def test_the_credential_is_sent_and_not_shown() -> None:
    route = replace(ROUTE, target=replace(TARGET, auth=Auth(variable="KEY")))
    outgoing = route.build(route.read([("id", "1"), ("q", "x")]), credential="sk-SECRET")
    assert outgoing.headers["Authorization"] == "Bearer sk-SECRET"
    assert "SECRET" not in repr(outgoing)
    own = replace(route, target=replace(TARGET, auth=Auth(variable="KEY", header="X-Key", prefix="")))
    assert own.build({"id": 1}, credential="k").headers["X-Key"] == "k"


def test_a_route_to_this_server_is_told_where_that_is() -> None:
    route = replace(ROUTE, target=replace(TARGET, url="/v1/{id}"))
    assert route.build({"id": "1"}, own="http://[::1]:8000").url == "http://[::1]:8000/v1/1"


def test_the_servers_on_the_way_are_named() -> None:
    assert ROUTE.build({"id": 1}, via=["a", "b"]).headers["Via"] == "1.1 a, 1.1 b"


def test_without_a_body_template_nothing_is_sent() -> None:
    outgoing = replace(ROUTE, target=Target(url="http://up/{id}", method="GET")).build({"id": "1"})
    assert (outgoing.method, outgoing.body) == ("GET", None)
    assert "Content-Type" not in outgoing.headers


@pytest.mark.parametrize(
    ("event", "type", "data"),
    [
        (ErrorEvent(), "message", '{"error": "a \\"b\\""}'),
        (ErrorEvent(type="error", data={"status": "$status", "m": "$message", "d": None}), "error", None),
        (ErrorEvent(data="$message"), "message", 'a "b"'),
    ],
)
def test_a_failure_looks_as_the_route_says(event: ErrorEvent, type: str, data: str | None) -> None:
    told = event.event('a "b"', 502)
    assert told.type == type
    assert told.data == (data or '{"status": 502, "m": "a \\"b\\"", "d": null}')


def test_a_route_has_its_own_words_for_failures() -> None:
    route = replace(ROUTE, messages={"429": "later", "cut": "oh"})
    assert route.message(["429"], "x") == "later"
    assert route.message(["500"], "x") == "x"


def target(**values: Any) -> dict[str, Any]:
    return {"target": replace(TARGET, **values)}


@pytest.mark.parametrize(
    ("values", "place", "hint"),
    [
        ({"path": "ask"}, ("path",), "begins with /"),
        ({"path": "/a/{id}"}, ("path",), "no path"),
        ({"path": "/a//b"}, ("path",), "empty part"),
        ({"methods": ("DELETE",)}, ("methods", 0), "GET (EventSource), POST"),
        ({"methods": ()}, ("methods",), "once"),
        ({"methods": ("GET", "GET")}, ("methods",), "once"),
        ({"errors": "maybe"}, ("errors",), "'status'"),
        ({"on_disconnect": "stop"}, ("on_disconnect",), "'continue'"),
        ({"on_disconnect": -1.0}, ("on_disconnect",), "0 to 86400"),
        ({"max_s": 0}, ("max_s",), "more than 0"),
        ({"max_event_bytes": 0}, ("max_event_bytes",), "more than 0"),
        ({"max_total_bytes": -1}, ("max_total_bytes",), "more than 0"),
        ({"wait_s": 301}, ("wait_s",), "300"),
        ({"messages": {"oops": "x"}}, ("messages", "oops"), "unreachable"),
        ({"messages": {"200": "x"}}, ("messages", "200"), "400 to 599"),
        ({"error_event": ErrorEvent(type="a\nb")}, ("error_event", "type"), "CR, LF"),
        ({"error_event": ErrorEvent(type="stream.bye")}, ("error_event", "type"), "server's own"),
        ({"error_event": ErrorEvent(data={"a": "$who"})}, ("error_event", "data"), "message, status"),
        ({"parameters": (*ROUTE.parameters, ROUTE.parameters[0])}, ("parameters", "id"), "2 times"),
        ({"parameters": (Parameter(name="id"), *ROUTE.parameters[1:])}, ("parameters", "id"), "left out"),
        (
            {"parameters": (*ROUTE.parameters, Parameter(name="b", where="body", required=True))},
            ("parameters", "b", "where"),
            "a GET has no body",
        ),
        (target(url="ftp://x/{id}"), ("upstream", "url"), "http://"),
        (target(url="http://x/{who}"), ("upstream", "url"), "{who} is no parameter"),
        (target(url="/ask?id={id}") | {"methods": ("GET", "POST")}, ("upstream", "url"), "itself"),
        (target(method="PATCH"), ("upstream", "method"), "POST"),
        (target(method="GET"), ("upstream", "body"), "a GET has no body"),
        (target(body={"a": "$who"}), ("upstream", "body"), "there are id, n, q"),
        (target(body={"a": float("nan")}), ("upstream", "body"), "not JSON compliant"),
        (target(headers={"a b": "c"}), ("upstream", "headers", "a b"), "letters, digits"),
        (target(headers={"a": "b\r\nc: d"}), ("upstream", "headers", "a"), "printable"),
        (target(headers={"Authorization": "x"}), ("upstream", "headers", "Authorization"), "with auth"),
        (target(headers={"Cookie": "x"}), ("upstream", "headers", "Cookie"), "with auth"),
        (target(headers={"Host": "x"}), ("upstream", "headers", "Host"), "by the gateway itself"),
        (target(headers={"transfer-encoding": "x"}), ("upstream", "headers", "transfer-encoding"), "itself"),
        (target(auth=Auth(variable="sk-abc")), ("upstream", "auth", "variable"), "environment variable"),
        (target(auth=Auth(variable="K", header="a b")), ("upstream", "auth", "header"), "a header"),
        (target(auth=Auth(variable="K", prefix="a\n")), ("upstream", "auth", "prefix"), "printable"),
        (target(response_headers=("Set-Cookie",)), ("upstream", "response_headers", 0), "secret"),
        (
            target(response_headers=("X-Id",)) | {"errors": "event"},
            ("upstream", "response_headers"),
            "before the upstream's",
        ),
        (target(idle_s=0), ("upstream", "idle_s"), "more than 0 seconds"),
        (target(attempts=0), ("upstream", "attempts"), "1 (no second attempt)"),
        (target(end=(EndMarker(),)), ("upstream", "end", 0), "one of"),
        (target(end=(EndMarker(data="x", field="y"),)), ("upstream", "end", 0), "one of"),
    ],
)
def test_a_route_that_cannot_be_is_explained(values: dict[str, Any], place: tuple[object, ...], hint: str) -> None:
    with pytest.raises(InvalidRoute) as info:
        replace(ROUTE, **values)
    assert {where for where, text in info.value.mistakes if hint in text} == {place}, info.value.mistakes
    assert "/" in str(info.value)


def test_a_mistake_does_not_repeat_what_may_be_a_key() -> None:
    with pytest.raises(InvalidRoute) as info:
        replace(ROUTE, target=replace(TARGET, auth=Auth(variable="sk-abc-SECRET")))
    assert "SECRET" not in str(info.value)
