"""A route: how the upstream's request is built, and how mistakes are reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from yeoul.errors import InvalidParameters
from yeoul.relay.route import Auth, EndMarker, ErrorEvent, Route, Upstream
from yeoul.relay.table import check_table
from yeoul.sse import Event

UPSTREAM: dict[str, Any] = {
    "url": "http://up/v1/{id}",
    "body": {"q": "$q", "n": "$n"},
    "headers": {"X-Client": "web"},
}
PARAMETERS: dict[str, Any] = {
    "id": {"required": True},
    "q": {"required": "say q"},
    "n": {"type": "integer", "default": 3},
}


def make_route(**values: Any) -> Route:
    return Route(**{"path": "/ask", "parameters": PARAMETERS, "upstream": UPSTREAM, **values})


ROUTE = make_route()


@pytest.mark.parametrize(
    ("query", "body", "url", "sent"),
    [
        ([("id", "7"), ("q", "양파")], None, "http://up/v1/7", {"q": "양파", "n": 3}),
        ([("id", "7"), ("q", "a"), ("n", "5"), ("x", "y")], None, "http://up/v1/7", {"q": "a", "n": 5}),
        ([("id", "a b")], {"q": "$n", "n": 1}, "http://up/v1/a%20b", {"q": "$n", "n": 1}),
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


def test_all_wrong_values_are_reported_at_once() -> None:
    with pytest.raises(InvalidParameters) as info:
        ROUTE.read([("n", "x")])
    assert [name for name, _ in info.value.fields] == ["id", "q", "n"]
    assert dict(info.value.fields)["q"] == "say q"


def test_the_credential_is_sent_and_not_shown() -> None:
    route = make_route(upstream={**UPSTREAM, "auth": Auth(variable="KEY")})
    outgoing = route.build(route.read([("id", "1"), ("q", "x")]), credential="sk-SECRET")
    assert outgoing.headers["Authorization"] == "Bearer sk-SECRET"
    assert "SECRET" not in repr(outgoing)
    own = make_route(upstream={**UPSTREAM, "auth": Auth(variable="KEY", header="X-Key", prefix="")})
    assert own.build({"id": 1}, credential="k").headers["X-Key"] == "k"


def test_a_route_to_this_server_is_given_its_address() -> None:
    route = make_route(upstream={**UPSTREAM, "url": "/v1/{id}"})
    assert route.build({"id": "1"}, own="http://[::1]:8000").url == "http://[::1]:8000/v1/1"


def test_the_servers_on_the_way_are_named() -> None:
    assert ROUTE.build({"id": 1}, via=["a", "b"]).headers["Via"] == "1.1 a, 1.1 b"


def test_without_a_body_template_nothing_is_sent() -> None:
    outgoing = make_route(upstream=Upstream(url="http://up/{id}", method="GET")).build({"id": "1"})
    assert (outgoing.method, outgoing.body) == ("GET", None)
    assert "Content-Type" not in outgoing.headers


@pytest.mark.parametrize(
    ("event", "type", "data"),
    [
        (ErrorEvent(), "message", '{"error": "a \\"b\\"", "retryable": true}'),
        (ErrorEvent(type="error", data={"status": "$status", "m": "$message", "d": None}), "error", None),
        (ErrorEvent(data="$message"), "message", 'a "b"'),
    ],
)
def test_a_failure_looks_as_the_route_says(event: ErrorEvent, type: str, data: str | None) -> None:
    shown = event.event('a "b"', 502, retryable=True)
    assert shown.type == type
    assert shown.data == (data or '{"status": 502, "m": "a \\"b\\"", "d": null}')


def test_a_route_has_its_own_messages_for_failures() -> None:
    route = make_route(messages={"429": "later", "cut": "oh"})
    assert route.message(["429"], "x") == "later"
    assert route.message(["500"], "x") == "x"


def upstream(**values: Any) -> dict[str, Any]:
    return {"upstream": {**UPSTREAM, **values}}


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"path": "ask"}, "path", "begins with /"),
    ({"path": "/a/{id}"}, "path", "not a valid path"),
    ({"path": "/a//b"}, "path", "empty segment"),
    ({"methods": ["DELETE"]}, "methods[0]", "'GET' or 'POST'"),
    ({"methods": []}, "methods", "once"),
    ({"methods": ["GET", "GET"]}, "methods", "once"),
    ({"errors": "maybe"}, "errors", "'status'"),
    ({"on_disconnect": "stop"}, "on_disconnect", "'continue'"),
    ({"on_disconnect": -1.0}, "on_disconnect", "0 to 86400"),
    ({"on_disconnect": True}, "on_disconnect", "0 to 86400"),
    ({"max_s": 0}, "max_s", "greater than 0"),
    ({"max_event_bytes": 0}, "max_event_bytes", "greater than 0"),
    ({"max_total_bytes": -1}, "max_total_bytes", "greater than 0"),
    ({"wait_s": 301}, "wait_s", "300"),
    ({"messages": {"oops": "x"}}, "messages.oops", "unreachable"),
    ({"messages": {"200": "x"}}, "messages.200", "400 to 599"),
    ({"error_event": {"type": "a\nb"}}, "error_event.type", "CR, LF"),
    ({"error_event": {"type": "stream.bye"}}, "error_event.type", "reserved"),
    ({"error_event": {"data": {"a": "$who"}}}, "error_event.data", "message, retryable, status"),
    ({"parameters": {**PARAMETERS, "a b": {}}}, "parameters.a b", "not a valid name"),
    ({"parameters": {**PARAMETERS, "lastEventId": {}}}, "parameters.lastEventId", "reserved for the protocol"),
    ({"parameters": {**PARAMETERS, "token": {}}}, "parameters.token", "where = 'body'"),
    ({"parameters": {**PARAMETERS, "id": {}}}, "parameters.id", "left out"),
    (
        {"parameters": {**PARAMETERS, "b": {"where": "body", "required": True}}},
        "parameters.b.where",
        "a GET has no body",
    ),
    (upstream(url="ftp://x/{id}"), "upstream.url", "http://"),
    (upstream(url="http://x/{who}"), "upstream.url", "{who} is not a parameter"),
    (upstream(url="/ask?id={id}") | {"methods": ["GET", "POST"]}, "upstream.url", "itself"),
    (upstream(method="PATCH"), "upstream.method", "'POST'"),
    (upstream(method="GET"), "upstream.body", "a GET has no body"),
    (upstream(body={"a": "$who"}), "upstream.body", "there are id, n, q"),
    (upstream(body={"a": float("nan")}), "upstream.body", "not JSON compliant"),
    (upstream(headers={"a b": "c"}), "upstream.headers.a b", "letters, digits"),
    (upstream(headers={"a": "b\r\nc: d"}), "upstream.headers.a", "printable"),
    (upstream(headers={"Authorization": "x"}), "upstream.headers.Authorization", "with auth"),
    (upstream(headers={"Cookie": "x"}), "upstream.headers.Cookie", "with auth"),
    (upstream(headers={"Host": "x"}), "upstream.headers.Host", "by the gateway itself"),
    (upstream(headers={"transfer-encoding": "x"}), "upstream.headers.transfer-encoding", "itself"),
    (upstream(auth={"variable": "sk-abc"}), "upstream.auth.variable", "environment variable"),
    (upstream(auth={"variable": "K", "header": "a b"}), "upstream.auth.header", "a header"),
    (upstream(auth={"variable": "K", "prefix": "a\n"}), "upstream.auth.prefix", "printable"),
    (upstream(response_headers=["Set-Cookie"]), "upstream.response_headers[0]", "secret"),
    (upstream(response_headers=["X-Id"]) | {"errors": "event"}, "upstream.response_headers", "before the upstream's"),
    (upstream(idle_s=0), "upstream.idle_s", "greater than 0"),
    (upstream(attempts=0), "upstream.attempts", "greater than or equal to 1"),
    (upstream(max_running=0), "upstream.max_running", "greater than or equal to 1"),
    (upstream(end=[{}]), "upstream.end[0]", "exactly one of"),
    (upstream(end=[{"data": "x", "field": "y"}]), "upstream.end[0]", "exactly one of"),
]


@pytest.mark.parametrize(("values", "place", "hint"), INVALID)
def test_an_invalid_route_is_explained_by_place(values: dict[str, Any], place: str, hint: str) -> None:
    entry = {"path": "/ask", "parameters": PARAMETERS, "upstream": UPSTREAM, **values}
    routes, mistakes = check_table([entry])
    assert routes == []
    (mistake,) = mistakes
    assert str(mistake).startswith(f"routes[0].{place}: ")
    assert hint in mistake.text


@pytest.mark.parametrize(("values", "place", "hint"), INVALID)
def test_an_invalid_route_cannot_be_built(values: dict[str, Any], place: str, hint: str) -> None:
    with pytest.raises(ValidationError) as info:
        make_route(**values)
    assert hint in str(info.value)


def test_an_error_does_not_repeat_what_may_be_a_key() -> None:
    values = upstream(auth={"variable": "sk-abc-SECRET"}, headers={"Authorization": "SECRET"})
    with pytest.raises(ValidationError) as info:
        make_route(**values)
    _, mistakes = check_table([{"path": "/ask", "parameters": PARAMETERS, **values}])
    assert "SECRET" not in f"{info.value} {info.value!r} {mistakes}"


@pytest.mark.parametrize(
    ("marker", "data", "type", "matches"),
    [
        ({"data": "[DONE]"}, "[DONE]", "message", True),
        ({"data": "[DONE]"}, " [DONE]  ", "message", True),
        ({"data": "[DONE]"}, "[DONE].", "message", False),
        ({"type": "end"}, "", "end", True),
        ({"type": "end"}, "end", "message", False),
        ({"field": "done"}, '{"done": true}', "message", True),
        ({"field": "done"}, ' {"done": 1}\n', "message", True),
        ({"field": "done"}, '{"done": false}', "message", False),
        ({"field": "done"}, '{"done": null}', "message", False),
        ({"field": "done"}, '["done"]', "message", False),
        ({"field": "done"}, '{"done": tru', "message", False),
    ],
)
def test_an_end_marker_matches_an_event(marker: dict[str, Any], data: str, type: str, matches: bool) -> None:
    assert EndMarker(**marker).matches(Event(data, type)) is matches


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://up/v1/{id}", "http://up"),
        ("https://up.example:8443/{id}?q={q}", "https://up.example:8443"),
        ("/own/{id}", ""),
    ],
)
def test_the_origin_of_an_upstream_is_its_scheme_host_and_port(url: str, origin: str) -> None:
    assert Upstream(url=url).origin == origin
