"""The response that streams, driven by hand as an ASGI server drives it: what it sends, and how it lets go."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.background import BackgroundTask
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import Message

from yeoul.asgi.event_stream import EventStream
from yeoul.asgi.extensions import DIRECT
from yeoul.asgi.stream_request import last_event_id
from yeoul.errors import InvalidCursor
from yeoul.hub import Hub
from yeoul.hub.limits import Principal
from yeoul.hub.reasons import KICKED, REVOKED
from yeoul.sse import Decoder, Event
from yeoul.stream import LastEventId


class Client:
    """One request and what comes of it. `stuck`: its socket takes nothing more."""

    def __init__(self, method: str = "GET", query: str = "", **headers: str) -> None:
        sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/",
            "headers": sent,
            "query_string": query.encode(),
        }
        self.request = Request(self.scope)
        self.head: Message = {}
        self.body = b""
        self.ended = False
        self.stuck = False
        self.waiting = asyncio.Event()  # its socket has been given something that it does not take
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._left = asyncio.Event()
        self._changed = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.stuck or not self.go_on.is_set():
            self.waiting.set()
            await (asyncio.get_running_loop().create_future() if self.stuck else self.go_on.wait())
        if message["type"] == "http.response.start":
            self.head = message
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)
        self._changed.set()

    def run(self, response: EventStream) -> asyncio.Task[None]:
        return asyncio.create_task(response(self.scope, self.receive, self.send))

    async def events(self, count: int) -> list[Event]:
        async with asyncio.timeout(20):
            while len(events := Decoder().feed(self.body)) < count:
                self._changed.clear()
                await self._changed.wait()
        return events


async def end(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(20):
        await task


async def test_head_and_first_bytes_go_at_once_and_events_follow(hub: Hub) -> None:
    client = Client()
    task = client.run(EventStream(hub, "t", client.request, headers={"x-a": "1"}))
    (hello,) = await client.events(1)
    headers = {name.decode(): value.decode() for name, value in client.head["headers"]}
    assert client.head["status"] == 200
    assert headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store, no-transform",
        "x-accel-buffering": "no",
        "x-a": "1",
    }
    assert client.body.startswith(b": yeoul\nretry: 2000\nevent: stream.hello\n")
    assert hello.type == "stream.hello"
    await hub.publish("t", Event("1"))
    assert (await client.events(2))[1].data == "1"
    client.leave()
    await end(task)
    assert hub.stats.readers == 0
    assert hub.stats.closed == {"client": 1}


async def test_the_end_of_the_topic_ends_the_response(hub: Hub) -> None:
    client = Client()
    task = client.run(EventStream(hub, "t", client.request, hello=False, until_final=True))
    await asyncio.sleep(0)
    await hub.publish("t", Event("last"), final=True)
    await end(task)
    assert client.ended
    assert hub.stats.closed == {"final": 1}


async def test_a_reader_that_has_had_the_end_is_told_not_to_come_back(hub: Hub) -> None:
    last = await hub.publish("t", Event("last"), final=True)
    client = Client(last_event_id=str(last))
    await end(client.run(EventStream(hub, "t", client.request, until_final=True)))
    assert client.head["status"] == 204
    assert hub.stats.closed == {"over": 1}


async def test_an_endless_stream_is_never_204(hub: Hub) -> None:
    last = await hub.publish("t", Event("last"), final=True)
    client = Client(last_event_id=str(last))
    task = client.run(EventStream(hub, "t", client.request))
    await client.events(1)
    assert client.head["status"] == 200
    client.leave()
    await end(task)


async def test_head_makes_no_subscription(hub: Hub) -> None:
    client = Client("HEAD")
    await end(client.run(EventStream(hub, "t", client.request)))
    assert (client.head["status"], client.body, client.ended) == (200, b"", True)
    assert hub.stats.opened == 0


@pytest.mark.parametrize(
    ("topics", "options", "status"),
    [
        (["a b"], {}, 422),
        ([], {}, 422),
        (["t"] * 1 + [f"t{number}" for number in range(50)], {}, 422),
        (["t"], {"until_final": True}, 400),
    ],
)
async def test_what_is_wrong_is_a_problem_before_the_first_byte(
    hub: Hub, topics: list[str], options: dict[str, Any], status: int
) -> None:
    client = Client(last_event_id="rubbish")
    await end(client.run(EventStream(hub, topics, client.request, **options)))
    assert client.head["status"] == status
    assert json.loads(client.body)["detail"]
    assert hub.stats.readers == 0


async def test_a_hub_that_shuts_down_accepts_no_new_readers(hub: Hub) -> None:
    await hub.close()
    client = Client()
    await end(client.run(EventStream(hub, "t", client.request)))
    assert client.head["status"] == 503
    assert (b"retry-after", b"1") in client.head["headers"]


async def test_opening_events_come_before_the_rest_and_not_to_one_who_comes_back(hub: Hub) -> None:
    first = await hub.publish("t", Event("1"))
    await hub.publish("t", Event("2"))
    for headers, data in [({}, ["opening", "2"]), ({"last_event_id": str(first)}, ["2"])]:
        client = Client(**headers)
        task = client.run(EventStream(hub, "t", client.request, after=first, hello=False, opening=[Event("opening")]))
        assert [event.data for event in await client.events(len(data))] == data
        client.leave()
        await end(task)


async def test_each_reader_is_greeted_after_the_hello_also_when_it_reconnects(hub: Hub) -> None:
    first = await hub.publish("t", Event("1"))
    greeting = [Event("Ann, Bob", "presence")]
    for headers, wanted in [
        ({}, ["stream.hello", "presence", "opening"]),
        ({"last_event_id": str(first)}, ["stream.hello", "presence"]),
    ]:
        client = Client(**headers)
        opening = [Event("text so far", "opening")]
        task = client.run(EventStream(hub, "t", client.request, greeting=greeting, opening=opening))
        events = await client.events(len(wanted))
        assert [event.type for event in events] == wanted
        assert {event.id for event in events} == {str(first)}, "whoever is cut here comes back to the same place"
        client.leave()
        await end(task)


async def test_a_greeting_is_asked_for_when_its_reader_is_counted(hub: Hub) -> None:
    client = Client()
    task = client.run(
        EventStream(hub, "t", client.request, hello=False, greeting=lambda: [Event(str(len(hub.readers())))])
    )
    assert [event.data for event in await client.events(1)] == ["1"]
    client.leave()
    await end(task)


async def test_a_greeting_that_fails_gives_its_reader_back(hub: Hub) -> None:
    def broken() -> list[Event]:
        raise RuntimeError("broken greeting")

    client = Client()
    with pytest.raises(RuntimeError, match="broken greeting"):
        await end(client.run(EventStream(hub, "t", client.request, greeting=broken)))
    assert (hub.stats.readers, hub.stats.closed) == (0, {"error": 1})


async def test_topics_may_begin_with_other_numbers_of_events_and_afresh(hub: Hub) -> None:
    await hub.publish("a", Event("a1"))
    await hub.publish("b", Event("b1"), Event("b2"))
    for headers in ({}, {"last_event_id": f"{hub.epoch}-0"}):
        client = Client(**headers)
        stream = EventStream(hub, ["a", "b"], client.request, newest={"a": 1, "b": 1}, always_new=["b"], hello=False)
        task = client.run(stream)
        assert [event.data for event in await client.events(2)] == ["a1", "b2"]
        client.leave()
        await end(task)


async def test_over_a_bound_the_answer_says_so_and_when_to_come_again() -> None:
    async with Hub(max_connections=1) as hub:
        client, other, again = Client(), Client(), Client()
        task = client.run(EventStream(hub, "t", client.request))
        await client.events(1)
        await end(other.run(EventStream(hub, "t", other.request)))
        assert other.head["status"] == 429
        assert (b"retry-after", b"10") in other.head["headers"]
        assert "1 streams on this server" in json.loads(other.body)["detail"]
        client.leave()
        await end(task)
        task = again.run(EventStream(hub, "t", again.request))
        await again.events(1)
        again.leave()
        await end(task)


async def test_a_token_that_has_expired_is_401(hub: Hub) -> None:
    client = Client()
    principal = Principal("ann", expires=time.time() - 1)
    await end(client.run(EventStream(hub, "t", client.request, principal=principal)))
    headers = dict(client.head["headers"])
    assert client.head["status"] == 401
    assert b'error="invalid_token"' in headers[b"www-authenticate"]


async def test_one_that_is_sent_away_while_its_socket_takes_nothing_is_ended_at_once(hub: Hub) -> None:
    client = Client()
    task = client.run(EventStream(hub, "t", client.request))
    await client.events(1)
    client.stuck = True
    await hub.publish("t", Event("1"))
    await client.waiting.wait()
    assert hub.disconnect(lambda reader: True, KICKED) == 1
    await end(task)
    assert not client.ended
    assert hub.stats.closed == {"kicked": 1}


async def test_one_that_is_sent_away_while_its_head_is_being_sent_is_told_why(hub: Hub) -> None:
    client = Client()
    client.go_on.clear()
    task = client.run(EventStream(hub, "t", client.request))
    await client.waiting.wait()
    hub.disconnect(lambda reader: True, REVOKED)
    client.go_on.set()
    await end(task)
    (*_, bye) = Decoder().feed(client.body)
    assert (bye.type, json.loads(bye.data)) == ("stream.bye", {"reason": "revoked", "reconnect": False})
    assert client.ended


async def test_a_socket_that_takes_nothing_is_let_go_after_the_deadline() -> None:
    async with Hub(send_timeout=0.02) as hub:
        client = Client()
        task = client.run(EventStream(hub, "t", client.request))
        await client.events(1)
        client.stuck = True
        await hub.publish("t", Event("1"))
        await end(task)
        assert hub.stats.closed == {"send timeout": 1}
        assert (hub.stats.readers, hub.stats.lagging) == (0, 0)


@pytest.mark.parametrize("at", ["head", "stream"])
async def test_a_response_that_is_cancelled_gives_its_reader_back(hub: Hub, at: str) -> None:
    client = Client()
    client.stuck = at == "head"
    task = client.run(EventStream(hub, "t", client.request))
    if at == "head":
        while not hub.stats.readers:
            await asyncio.sleep(0)
    else:
        await client.events(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await end(task)
    assert hub.stats.readers == 0


class DirectClient(Client):
    """A server that offers to write the stream itself, and does or does not."""

    def __init__(self, *, accepts: bool = True) -> None:
        super().__init__()
        self.accepts = accepts
        self.offers = 0
        self.taken: tuple[Any, list[str], bytes] | None = None
        self.scope["extensions"] = {DIRECT: self.detach}

    def detach(self, reader: Any, opening: Any, first: bytes) -> bool:
        self.offers += 1
        if self.accepts:
            self.taken = reader, [event.type for event in opening], first
        return self.accepts


async def test_a_server_that_offers_its_transport_is_handed_the_reader(hub: Hub) -> None:
    client = DirectClient()
    await end(client.run(EventStream(hub, "t", client.request)))
    assert client.taken is not None
    reader, opening, first = client.taken
    assert opening == []
    assert first.startswith(b": yeoul\nretry: 2000\n")
    (hello,) = Decoder().feed(first)
    assert (hello.type, hello.id) == ("stream.hello", str(reader.cursor))
    assert client.head["status"] == 200
    assert not reader.closed
    assert not client.ended
    reader.end()


async def test_a_server_that_declines_is_served_by_the_portable_outlet(hub: Hub) -> None:
    client = DirectClient(accepts=False)
    task = client.run(EventStream(hub, "t", client.request))
    await client.events(1)
    assert client.body.startswith(b": yeoul\nretry: 2000\n")
    client.leave()
    await end(task)


@pytest.mark.parametrize("what", ["background", "wrapper", "fastapi_inner_astack", "fastapi_astack", "other server"])
async def test_the_offer_is_not_taken_where_the_application_has_something_left_to_do(hub: Hub, what: str) -> None:
    client, done = DirectClient(), []
    response = EventStream(hub, "t", client.request)
    send: Any = client.send
    if what == "background":

        async def later() -> None:
            done.append(True)

        response.background = BackgroundTask(later)
    elif what == "wrapper":

        async def send(message: Message) -> None:
            await client.send(message)
    elif what in ("fastapi_inner_astack", "fastapi_astack"):
        stack = client.scope[what] = AsyncExitStack()  # a dependency with `yield`
        stack.callback(done.append, True)
    else:
        client.scope["extensions"] = {DIRECT: DirectClient().detach}
    task = asyncio.create_task(response(client.scope, client.receive, send))
    await client.events(1)
    assert client.offers == 0
    client.leave()
    await end(task)
    assert done == ([True] if what == "background" else [])


@pytest.mark.parametrize("middleware", [CORSMiddleware, ServerErrorMiddleware, ExceptionMiddleware])
async def test_middlewares_that_are_known_not_to_change_bodies_do_not_keep_the_offer_from_being_taken(
    hub: Hub, middleware: Any
) -> None:
    client = DirectClient()
    options = {"allow_origins": ["*"]} if middleware is CORSMiddleware else {}
    client.scope["headers"].append((b"origin", b"http://a"))
    app = middleware(EventStream(hub, "t", client.request), **options)
    await app(client.scope, client.receive, client.send)
    assert client.taken is not None, "their names have changed: asgi/passthrough.py"
    client.taken[0].end()


def test_a_header_is_sent_once_whatever_its_case(hub: Hub) -> None:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "yes", "X-Other": "1"}
    response = EventStream(hub, "t", Client().request, headers=headers)
    assert sorted(response.raw_headers) == [
        (b"cache-control", b"no-cache"),
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"yes"),
        (b"x-other", b"1"),
    ]


@pytest.mark.parametrize(
    ("query", "headers", "position"),
    [
        ("", {}, None),
        ("lastEventId=", {}, None),
        ("", {"last_event_id": ""}, None),
        ("lastEventId=ep-1", {}, "ep-1"),
        ("lastEventId=ep-1", {"last_event_id": "ep-2"}, "ep-2"),
        ("", {"last_event_id": "work.ep-2"}, "work.ep-2"),
    ],
)
def test_the_position_is_the_headers_else_the_querys(query: str, headers: dict[str, str], position: str | None) -> None:
    found = last_event_id(Client(query=query, **headers).request)
    assert found == (None if position is None else LastEventId.parse(position))


@pytest.mark.parametrize(
    ("query", "headers"),
    [("", {"last_event_id": "x"}), ("lastEventId=x", {}), ("lastEventId=x", {"last_event_id": "ep-1"})],
)
def test_an_invalid_position_is_refused_even_where_another_one_counts(query: str, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidCursor):
        last_event_id(Client(query=query, **headers).request)
