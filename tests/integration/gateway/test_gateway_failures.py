"""An upstream that fails in every way, and what readers are told of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.event_source import EventSource
from support.reader import ask, open_stream
from support.relayed import (
    DONE,
    WORDS,
    Says,
    cut,
    dead,
    eof,
    hang,
    reading,
    reset,
    route,
    told,
)
from support.serving import serving
from support.settings import make_settings
from support.upstream import Exchange, Refusal, Upstream, echo_key
from yeoul.app import create_app

TEXT = [*(json.dumps({"content": word.replace("\\n", "\n")}, ensure_ascii=False) for word in WORDS), '{"done": true}']


# --- failing before it began


async def nothing(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 204 No Content\r\n\r\n")


HTML = b"<html><head><title>Boom</title></head><body>" + b"<p>long</p>" * 1_000
# What fails, the status, what readers are told, and what only the log has.
REFUSALS = [
    (echo_key, 401, "refused this server's credentials (401 Unauthorized)", "Incorrect API key provided: [redacted]"),
    (Refusal(429, b'{"detail": "slower"}', Retry_After="7"), 429, "is receiving too many requests", "slower"),
    (Refusal(500, HTML, "text/html"), 500, "failed (500 Internal Server Error)", "Boom"),
    (Refusal(407, b"{}"), 502, "asks for credentials (407 Proxy Authentication Required)", ""),
    (Refusal(599, b"{}"), 502, "failed (599)", ""),
    (Refusal(302, b"", Location="http://10.1.2.3/secret"), 502, "answered 302 Found instead of a stream", "10.1.2.3"),
    (nothing, 502, "answered 204 No Content instead of a stream", ""),
    (Refusal(200, b'{"message": "hi"}'), 502, "not an event stream", "answered 200 with application/json: hi"),
    (Refusal(200, HTML, "text/html"), 502, "not an event stream", "text/html: Boom"),
    (dead, 502, "closed the connection before it answered", "127.0.0.1"),
]


@pytest.mark.parametrize(("script", "status", "said", "logged"), REFUSALS)
async def test_a_failure_before_the_stream_has_its_status(
    port: int,
    upstream: Upstream,
    script: Any,
    status: int,
    said: str,
    logged: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.scripts = [script]
    answer = await ask(port, "/relay?q=a")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert "the upstream " in answer.json()["detail"]
    assert said in answer.json()["detail"]
    assert "SECRET" not in answer.text + caplog.text
    # What the upstream itself says, and where it is, is for the log alone.
    assert logged in caplog.text
    assert not logged or logged not in answer.text
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(("script", "status", "said", "logged"), REFUSALS[1:])
async def test_a_failure_before_the_stream_is_one_event_where_the_route_says_so(
    port: int, upstream: Upstream, script: Any, status: int, said: str, logged: str
) -> None:
    upstream.scripts = [script]
    source = EventSource(port, "/told?q=a")
    (event,) = await source.read_all()
    assert said in json.loads(event.data)["error"]
    assert not logged or logged not in event.data
    assert source.statuses == [200, 204]
    assert len(upstream.requests) == 1


async def test_a_dead_upstream_is_told_without_its_address(port: int) -> None:
    async with Upstream(Says()) as gone:
        pass
    routes = [route(gone, "/status"), route(gone, "/event", errors="event", messages={"unreachable": "쉬는 중"})]
    async with serving(create_app(make_settings(routes=routes))) as own:
        answer = await ask(own, "/status?q=a")
        assert (answer.status, answer.json()["detail"]) == (502, "the upstream cannot be reached")
        assert told(await reading(own, "/event?q=a")) == "쉬는 중"


@pytest.mark.settings(relay={"target": {"first_byte_s": 0.05}}, told={"target": {"first_byte_s": 0.05}})
async def test_an_upstream_that_does_not_answer_is_504(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(begin=asyncio.Event())]
    answer = await ask(port, "/relay?q=a")
    assert (answer.status, answer.json()["detail"]) == (
        504,
        "the upstream did not answer within 0.05 s (first-byte time-out)",
    )
    assert "first-byte time-out" in told(await reading(port, "/told?q=a"))


@pytest.mark.settings(relay={"wait_s": 0.02})
async def test_a_stream_that_is_long_in_coming_is_committed_and_then_fails_by_an_event(
    port: int, upstream: Upstream
) -> None:
    begin = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await begin.wait()
        await Refusal(503, b'{"detail": "no"}')(exchange)

    upstream.scripts = [late]
    async with await open_stream(port, "/relay?q=a") as stream:
        assert stream.status == 200
        begin.set()
        await stream.rest()
        assert "failed (503 Service Unavailable)" in told(stream)


@pytest.mark.settings(relay={"target": {"attempts": 3}})
async def test_a_route_may_ask_again_where_nothing_has_begun(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Refusal(503, b"{}", Retry_After="0"), Says()]
    assert len((await reading(port, "/relay?q=a")).data) == len(TEXT)
    assert len(upstream.requests) == 2


@pytest.mark.settings(relays_max_running=1)
async def test_more_streams_than_may_be_are_refused_as_the_route_tells_failures(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(Says().pieces[:1], hang)]
    async with await open_stream(port, "/relay?q=a") as stream:
        await stream.take(1)
        answer = await ask(port, "/relay?q=b")
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert "at the moment" in told(await reading(port, "/told?q=b"))


@pytest.mark.parametrize("bound", [{"relays_max_running": 2}, {"relays_max_per_upstream": 1}, {"max_running": 1}])
async def test_one_slow_upstream_leaves_room_for_the_others(bound: dict[str, int]) -> None:
    silent = Says(Says().pieces[:1], hang)
    async with Upstream(silent) as slow, Upstream(Says()) as quick:
        target = {"max_running": bound.pop("max_running", None)}
        routes = [route(slow, "/slow", target=target), route(slow, "/same", target=target), route(quick, "/quick")]
        app = create_app(make_settings(routes=routes, **bound))
        async with serving(app) as own, await open_stream(own, "/slow?q=a") as stream:
            await stream.take(1)
            answer = await ask(own, "/same?q=b")
            assert (answer.status, answer.headers["retry-after"]) == (429, "5")
            assert "1 answers of the same upstream are running" in answer.json()["detail"]
            assert len((await reading(own, "/quick?q=c")).data) == len(TEXT)
        assert len(slow.requests) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"),
    [
        ("GET", "/relay?q=a&q=b", b"", ["q"]),
        ("GET", "/relay?q=" + "x" * 8_001, b"", ["q"]),
        ("POST", "/relay", b'{"q": 3}', ["q"]),
        ("POST", "/relay", b"[]", ["body"]),
        ("POST", "/relay", b"{", ["body"]),
        ("POST", "/relay", b"[" * 100_000, ["body"]),
    ],
)
async def test_wrong_values_are_refused_by_name_and_nothing_is_asked(
    port: int, upstream: Upstream, method: str, path: str, body: bytes, fields: list[str]
) -> None:
    answer = await ask(port, path, method=method, body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 422
    assert [entry["field"] for entry in answer.json()["errors"]] == fields
    assert upstream.requests == []


async def test_a_body_that_is_no_json_is_refused(port: int) -> None:
    answer = await ask(port, "/relay", method="POST", body=b"q=a", headers={"Content-Type": "text/plain"})
    assert "send application/json" in answer.json()["detail"]


# --- failing after it began


@pytest.mark.parametrize(
    ("ending", "said"), [(reset, "broke off"), (cut, "broke off"), (eof, "ended its stream before its end marker")]
)
async def test_a_stream_that_is_cut_ends_with_a_failure(port: int, upstream: Upstream, ending: Any, said: str) -> None:
    upstream.scripts = [Says(Says().pieces[:3], ending)]
    source = EventSource(port, "/told?q=a")
    await source.read_all()
    assert len(source.events) == 4
    assert said in json.loads(source.events[-1].data)["error"]
    assert source.statuses == [200, 204]


async def test_without_a_declared_marker_any_end_is_the_end(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(Says().pieces[:3])]
    assert len((await reading(port, "/relay?q=a")).data) == 3


@pytest.mark.settings(told={"target": {"idle_s": 0.05}})
async def test_a_stream_that_falls_silent_ends_with_a_failure(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(Says().pieces[:3], hang)]
    assert "fell silent for 0.05 s" in told(await reading(port, "/told?q=a"))


@pytest.mark.settings(told={"max_s": 0.1})
async def test_a_stream_that_takes_too_long_ends_with_a_failure(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(Says().pieces[:3], hang)]
    assert "longer than 0.1 s" in told(await reading(port, "/told?q=a"))


@pytest.mark.settings(told={"max_total_bytes": 50})
async def test_a_stream_that_is_too_long_ends_with_a_failure(port: int, upstream: Upstream) -> None:
    stream = await reading(port, "/told?q=a")
    assert "more than 50 bytes" in told(stream)
    assert len(stream.data) == 3


@pytest.mark.settings(told={"max_event_bytes": 1_000})
@pytest.mark.parametrize("event", [b"data: " + b"x" * 1_001 + b"\n\n", b"data: " + b"\xff" * 999 + b"\n\n"])
async def test_an_event_that_is_too_large_ends_with_a_failure(port: int, upstream: Upstream, event: bytes) -> None:
    upstream.scripts = [Says([Says().pieces[0] + event + DONE])]
    stream = await reading(port, "/told?q=a")
    assert "1000 bytes" in told(stream)
    assert len(stream.data) == 2


async def test_garbage_is_no_event(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says([b"<html>\n\n", b"\x00\xff\n\n", b"data: [1\n\n", DONE])]
    assert (await reading(port, "/told?q=a")).data == ["[1", '{"done": true}']


@pytest.mark.parametrize("last", [b'{"done": true}', b'{"error": "no"}'])
async def test_the_end_marker_ends_it_though_the_upstream_stays(port: int, upstream: Upstream, last: bytes) -> None:
    upstream.scripts = [Says([b'data: {"done": false}\n\n', b"data: %s\n\n" % last, b"data: after\n\n"], hang)]
    stream = await reading(port, "/told?q=a")
    assert stream.data == ['{"done": false}', last.decode()]
    async with asyncio.timeout(20):
        await upstream.requests[0].closed.wait()


# --- the last event


@pytest.mark.parametrize("ending", [hang, reset])
async def test_the_last_event_of_a_relay_says_that_it_is_the_last(port: int, upstream: Upstream, ending: Any) -> None:
    upstream.scripts = [Says(ending=ending) if ending is hang else Says(Says().pieces[:3], ending)]
    source = EventSource(port, "/told?q=a")
    await source.read_all()
    assert (source.events[-1].id or "").endswith(".end")
    assert not any((event.id or "").endswith(".end") for event in source.events[:-1])
    # Another server, which knows nothing of it.
    async with serving(create_app(make_settings(routes=[route(upstream, "/told")]))) as other:
        source.port = other
        await source.read_all()
    assert source.statuses == [200, 204, 204]
    assert len(upstream.requests) == 1


async def test_a_client_of_a_relay_may_ask_for_a_named_last_event(port: int, upstream: Upstream) -> None:
    for path, script, state in [
        ("/told?q=a&end_event=true", Says(), "done"),
        ("/told?q=b&end_event=true", Says(Says().pieces[:3]), "failed"),
        ("/relay?q=a&end_event=true", Says(Says().pieces[:3]), "done"),
    ]:
        upstream.scripts = [script]
        stream = await reading(port, path)
        assert (stream.events[-1].type, json.loads(stream.data[-1])) == ("stream.end", {"state": state})
        assert [(event.id or "").endswith(".end") for event in stream.events].count(True) == 1
        # Another server, which knows nothing of it.
        routes = [route(upstream, "/relay"), route(upstream, "/told")]
        async with serving(create_app(make_settings(routes=routes))) as other:
            again = await open_stream(other, path, last_event_id=stream.last_event_id)
            assert again.status == 204
            again.cut()
    assert len(upstream.requests) == 3


# --- what upstreams get wrong, and is read all the same


@pytest.mark.parametrize("last", [b'data: {"done": true}', b'data: {"done": true}\n', b'data:  {"done": true}  \n\n'])
async def test_the_last_event_counts_without_its_blank_line(port: int, upstream: Upstream, last: bytes) -> None:
    upstream.scripts = [Says([*Says().pieces[:3], last])]
    source = EventSource(port, "/told?q=a")
    await source.read_all()
    assert len(source.events) == 4
    assert json.loads(source.events[-1].data) == {"done": True}
    assert source.statuses == [200, 204]


@pytest.mark.parametrize("ending", [reset, cut])
async def test_half_of_a_last_event_is_no_end(port: int, upstream: Upstream, ending: Any) -> None:
    upstream.scripts = [Says([*Says().pieces[:3], b'data: {"done": true}'], ending)]
    assert "broke off" in told(await reading(port, "/told?q=a"))
    upstream.scripts = [Says([*Says().pieces[:3], b'data: {"done": tru'])]
    assert told(await reading(port, "/told?q=a"))


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream"])
async def test_an_event_stream_is_recognised_whatever_its_content_type(
    port: int, upstream: Upstream, kind: str
) -> None:
    async def mislabelled(exchange: Exchange) -> None:
        await exchange.head(200, kind)
        for piece in Says().pieces:
            await exchange.chunk(piece)
        await exchange.end()

    upstream.scripts = [mislabelled]
    assert (await reading(port, "/told?q=a")).data == TEXT


async def test_a_pooled_connection_that_has_been_closed_is_replaced(port: int, upstream: Upstream) -> None:
    async def last_on_its_connection(exchange: Exchange) -> None:
        await Says()(exchange)
        exchange.cut(rst=False)

    upstream.scripts = [last_on_its_connection]
    for _ in range(5):
        assert (await reading(port, "/told?q=a")).data == TEXT
    assert len(upstream.requests) == 5


@pytest.mark.settings(told={"target": {"idle_s": 0.2, "comments_count": False}})
async def test_comments_may_count_for_nothing(port: int, upstream: Upstream) -> None:
    async def pings(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(Says().pieces[0])
        while not exchange.request.closed.is_set():
            await exchange.chunk(b": ping\n\n")
            await asyncio.sleep(0.02)

    upstream.scripts = [pings]
    assert "0.2 s" in told(await reading(port, "/told?q=a"))
