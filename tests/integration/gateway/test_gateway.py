"""A GET becomes the upstream's request, and its stream survives its readers."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from support.event_source import EventSource
from support.polling import eventually, metrics
from support.reader import ask, open_stream
from support.relayed import (
    KEY,
    WORDS,
    Says,
    hang,
    nobody_reads,
    reading,
    reset,
    route,
    told,
)
from support.serving import serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from support.upstream import Upstream
from yeoul.app import create_app
from yeoul.relay.failure import Failure
from yeoul.relay.relay import Relay

TEXT = [*(json.dumps({"content": word.replace("\\n", "\n")}, ensure_ascii=False) for word in WORDS), '{"done": true}']


# --- a GET becomes the upstream's request


async def test_a_get_becomes_a_post_and_its_events_come_as_they_are(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says([b"event: token\nid: 7\nretry: 1\ndata: a\ndata:  b\n\n", b": hm\n\n", b"data\n\n"])]
    stream = await reading(port, "/relay?q=양파&x=y")
    (request,) = upstream.requests
    assert (request.method, request.path, request.json) == ("POST", "/stream", {"q": "양파"})
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [(event.type, event.data) for event in stream.events] == [("token", "a\n b"), ("message", "")]
    works = {(event.id or "").partition(".")[0] for event in stream.events}
    assert works == {stream.headers["location"].removeprefix("/relays/")}


async def test_a_post_brings_its_values_in_json(port: int, upstream: Upstream) -> None:
    body = b'{"q": "\xec\x96\x91"}'
    stream = await reading(port, "/relay", method="POST", body=body, headers={"Content-Type": "application/json"})
    assert stream.data == TEXT
    assert upstream.requests[0].json == {"q": "양"}


async def test_what_a_client_says_of_itself_is_not_handed_on(port: int, upstream: Upstream) -> None:
    mine = {
        "Cookie": "a=MINE",
        **bearer(demo_token("mine")),
        "X-Forwarded-For": "MINE",
        "TE": "MINE",
        "X-Own": "MINE",
    }
    await reading(port, "/relay?q=MY", headers=mine)
    sent = str(upstream.requests[0].headers)
    assert "MINE" not in sent
    assert demo_token("mine") not in sent


async def test_a_value_stays_in_its_part_of_the_path(port: int, upstream: Upstream) -> None:
    async with Upstream(Says()) as other:
        target = {"url": f"http://127.0.0.1:{other.port}/v1/{{q}}/s?l={{q}}", "body": None}
        app = create_app(
            make_settings(routes=[route(other, "/r", target=target, parameters={"q": {"required": True}})])
        )
        async with serving(app) as own:
            await reading(own, "/r?q=admin%3Fa=b%23%25")
            path, _, query = other.requests[0].path.partition("?")
            assert [unquote(part) for part in path.split("/")] == ["", "v1", "admin?a=b#%", "s"]
            assert parse_qs(query) == {"l": ["admin?a=b#%"]}
            for value in ("..", "..%2F..%2Fadm", "%252e%252e", "a%252Fb", "a%25252Fb", "..%5Cadm", "a%255Cb"):
                answer = await ask(own, f"/r?q={value}")
                assert (answer.status, answer.json()["errors"][0]["field"]) == (422, "q"), value
            assert len(other.requests) == 1


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
async def test_any_form_of_the_format_is_read(port: int, upstream: Upstream, line_end: bytes) -> None:
    whole = b"\xef\xbb\xbf" + b"".join(Says().pieces).replace(b"\n", line_end)
    upstream.scripts = [Says([whole[at : at + 1] for at in range(len(whole))])]  # also in the midst of characters
    assert (await reading(port, "/relay?q=a")).data == [
        json.dumps(json.loads(data), ensure_ascii=False) for data in TEXT
    ]


async def test_types_that_are_the_servers_own_are_renamed(port: int, upstream: Upstream) -> None:
    events = (b"stream.bye", b"relay.end", b"a\0b", b"error", b"x")
    upstream.scripts = [Says([b"event: %s\ndata: 1\n\n" % kind for kind in events])]
    stream = await reading(port, "/relay?q=a")
    assert [event.type for event in stream.events] == [
        *("upstream.stream.bye", "upstream.relay.end", "a\ufffdb", "error", "x")
    ]


async def test_head_starts_nothing(port: int, upstream: Upstream) -> None:
    assert (await ask(port, "/relay?q=a", method="HEAD")).status == 200
    assert upstream.requests == []


@pytest.mark.parametrize("topic", ["relays/a", "generations/a"])
async def test_topics_of_relays_have_no_second_door(port: int, topic: str) -> None:
    assert (await ask(port, f"/topics/{topic}")).status == 422
    assert (await ask(port, f"/topics/{topic}", method="POST", json_body={"data": "x"})).status == 422


# --- it survives its readers


@pytest.mark.parametrize("seed", range(6))
async def test_cut_anywhere_again_and_again_the_upstream_is_asked_once(
    port: int, upstream: Upstream, seed: int
) -> None:
    draw = Random(seed)
    source = EventSource(port, "/relay?q=a")
    # The first connection has had the event that names the stream; later ones may bring nothing at all.
    await source.read_all([draw.randrange(140, 200), *(draw.randrange(0, 200) for _ in range(12))])
    assert [event.data for event in source.events] == [event.decode()[6:-2] for event in Says().pieces]
    assert source.statuses[-1] == 204
    assert len(upstream.requests) == 1


async def test_cut_before_the_upstream_has_answered_it_finds_its_relay_again(
    port: int, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, attached = asyncio.Event(), asyncio.Event()
    missed, head = Relay.reader_lost, Relay.head

    def notice(relay: Relay) -> None:
        missed(relay)
        noticed.set()

    async def attach(relay: Relay, seconds: float) -> Failure | None:
        if noticed.is_set():
            attached.set()
        return await head(relay, seconds)

    monkeypatch.setattr(Relay, "reader_lost", notice)
    monkeypatch.setattr(Relay, "head", attach)
    begin = asyncio.Event()
    upstream.scripts = [Says(begin=begin)]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    # The headers by which `open_stream` is recognised as the same reader: it sends no others that count.
    writer.write(f"GET /relay?q=a HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    await upstream.request()
    writer.transport.abort()
    await noticed.wait()
    again = asyncio.create_task(reading(port, "/relay?q=a"))
    await attached.wait()
    begin.set()
    assert (await again).data == [event.decode()[6:-2] for event in Says().pieces]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "other", [{"path": "/told?q=b"}, {"headers": {"Cookie": "b"}}, {"headers": {"Authorization": "b"}}]
)
async def test_two_users_never_share(port: int, upstream: Upstream, other: dict[str, Any]) -> None:
    upstream.scripts = [Says(Says().pieces[:2], hang)]
    first = await open_stream(port, "/told?q=a")
    await first.take(2)
    first.cut()
    await nobody_reads(port)
    async with await open_stream(port, **{"path": "/told?q=a", **other}) as second:
        await second.take(2)
        assert second.headers["location"] != first.headers["location"]
    assert len(upstream.requests) == 2


async def test_a_stream_that_is_gone_is_told_once_then_204(port: int, upstream: Upstream) -> None:
    for path in ("/relay?q=a", "/told?q=a"):
        source = EventSource(port, path, last_event_id="gone.abc-7")
        (event,) = await source.read_all()
        assert "no longer kept" in json.loads(event.data)["error"]
        assert source.statuses == [200, 204]
    assert upstream.requests == []


@pytest.mark.settings(told={"on_disconnect": "cancel"})
async def test_the_upstream_is_let_go_with_its_last_reader(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(Says().pieces[:2], hang)]
    one, two = await open_stream(port, "/told?q=a"), None
    await one.take(2)
    two = await open_stream(port, "/told?q=a", last_event_id=one.last_event_id)
    one.cut()
    assert not upstream.requests[0].closed.is_set()
    two.cut()
    async with asyncio.timeout(20):
        await upstream.requests[0].closed.wait()


@pytest.mark.settings(told={"on_disconnect": "continue"})
async def test_a_stream_may_go_on_without_readers(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Says(hold=(2, go_on))]
    source = EventSource(port, "/told?q=a")
    await source.read_events(2)
    await nobody_reads(port)
    go_on.set()

    async def done() -> bool:
        return (await metrics(port)).get('yeoul_relays_ended_total{state="done"}') == 1

    await eventually(done)
    await source.read_all()
    assert len(source.events) == len(TEXT)


async def test_it_can_be_stopped(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Says(Says().pieces[:2], hang)]
    async with await open_stream(port, "/told?q=a") as stream:
        await stream.take(2)
        assert (await ask(port, stream.headers["location"], method="DELETE")).status == 204
        await stream.rest()
        assert "stopped" in told(stream)
    assert (await ask(port, "/relays/nobody", method="DELETE")).status == 404
    async with asyncio.timeout(20):
        await upstream.requests[0].closed.wait()


# --- what must not be seen


@pytest.mark.settings(relay={"target": {"response_headers": ["X-Request-Id", "X-Echo"]}})
async def test_of_the_upstreams_headers_only_the_named_ones_are_shown(port: int, upstream: Upstream) -> None:
    upstream.scripts = [
        Says(headers={"X_Request_Id": "r-1", "X_Echo": f"k {KEY}", "Set_Cookie": "a=b", "X_Other": "o"})
    ]
    stream = await reading(port, "/relay?q=a")
    assert stream.headers["x-request-id"] == "r-1"
    assert not {"x-echo", "set-cookie", "x-other"} & set(stream.headers)


async def test_a_credential_that_the_upstream_repeats_is_taken_out(
    port: int, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.scripts = [Says([b"event: for %b\ndata: you sent %b\n\n" % (KEY.encode(), KEY.encode())], reset)]
    stream = await reading(port, "/relay?q=a")
    assert stream.data[0] == "you sent [redacted]"
    assert stream.events[0].type == "for [redacted]"
    assert "SECRET" not in stream.raw.decode() + caplog.text


async def test_a_route_that_leads_back_to_this_server_is_noticed(port: int, caplog: pytest.LogCaptureFixture) -> None:
    own: list[int] = []
    async with serving(_Circle(own)) as number:
        own.append(number)
        answer = await ask(number, "/a?q=x")
        assert answer.status == 508
        assert "(508 Loop Detected)" in answer.json()["detail"]
    assert "leads to itself" in caplog.text


class _Circle:
    """Two routes that lead to each other, once the port is known."""

    def __init__(self, port: list[int]) -> None:
        self._port = port
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self._app = create_app(
                make_settings(
                    routes=[
                        route("", "/a", target={"url": "/b?q={q}", "method": "GET", "body": None}),
                        route("", "/b", target={"url": "/a?q={q}", "method": "GET", "body": None}),
                    ]
                )
            )
        await self._app(scope, receive, send)
