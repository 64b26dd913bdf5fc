"""Back-pressure reaches the upstream where all readers are slow, and only there."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from support.polling import eventually, metrics
from support.reader import RawStream, open_stream, read_head
from support.relayed import route
from support.serving import serving
from support.settings import make_settings
from support.upstream import Exchange, Upstream
from yeoul.app import create_app

COUNT = 1_500
PIECE = b"x" * 16_000
JOURNAL = 256 * 1024


class Flood:
    """As fast as the socket takes it: 24 MB, more than the buffers of all sockets on the way."""

    def __init__(self) -> None:
        self.sent = 0
        self.done = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head()
        for number in range(COUNT):
            await exchange.chunk(b"data: %d %s\n\n" % (number, PIECE))
            self.sent = number + 1
        await exchange.end()
        self.done.set()


async def held(port: int) -> bool:
    return (await metrics(port))["yeoul_relays_held_total"] > 0


async def stalled(port: int, **options: Any) -> RawStream:
    stream = await open_stream(port, "/relay?q=a", **options)
    stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
    return stream


async def narrow(port: int) -> RawStream:
    """A reader that has little room for what it has not read: what is on its way when it leaves is little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4_096)
    writer.write(f"GET /relay?q=a HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return await read_head(reader, writer)


def numbers(stream: RawStream) -> list[int]:
    return [int(data.partition(" ")[0]) for data in stream.data]


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])
async def test_a_fast_upstream_waits_for_a_reader_that_stalls_and_nothing_is_lost(direct: bool) -> None:
    flood = Flood()
    async with Upstream(flood) as upstream:
        app = create_app(make_settings(routes=[route(upstream)], relay_journal_bytes=JOURNAL))
        async with serving(app, direct=direct) as port:
            stream = await stalled(port)
            await eventually(lambda: held(port))
            assert app.state.hub.broker._journals.bytes <= JOURNAL
            assert not flood.done.is_set()
            stream.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await stream.rest()
            await stream.close()
            assert numbers(stream) == list(range(COUNT))
            assert {event.type for event in stream.events} == {"message"}
            assert flood.sent == COUNT


async def test_one_reader_that_keeps_up_does_not_wait_for_one_that_stalls() -> None:
    flood = Flood()
    async with Upstream(flood) as upstream:
        app = create_app(make_settings(routes=[route(upstream)], relay_journal_bytes=JOURNAL))
        async with serving(app) as port:
            slow = await stalled(port)
            await eventually(lambda: held(port))
            work, epoch = slow.headers["location"].removeprefix("/relays/"), app.state.hub.epoch
            # From the beginning, of which the first part is gone: that is told, not passed over.
            quick = await open_stream(port, "/relay?q=a", last_event_id=f"{work}.{epoch}-1")
            await quick.rest()
            await quick.close()
            gap, *events = quick.events
            assert gap.type == "stream.gap"
            first = int(events[0].data.partition(" ")[0])
            assert [int(event.data.partition(" ")[0]) for event in events] == list(range(first, COUNT))
            slow.cut()


async def test_a_reader_that_stalls_and_leaves_and_comes_back_has_lost_nothing() -> None:
    flood = Flood()
    async with Upstream(flood) as upstream:
        app = create_app(make_settings(routes=[route(upstream)], relay_journal_bytes=4 * JOURNAL))
        async with serving(app) as port:
            stream = await narrow(port)
            await stream.take(3)
            await eventually(lambda: held(port))
            stream.cut()
            assert not flood.done.is_set()  # nobody reads, somebody may come back: it waits
            again = await open_stream(port, "/relay?q=a", last_event_id=stream.last_event_id)
            await again.rest()
            await again.close()
            assert [*numbers(stream), *numbers(again)] == list(range(COUNT))
    assert len(upstream.requests) == 1


async def test_without_readers_a_stream_that_goes_on_is_not_held_back() -> None:
    flood = Flood()
    async with Upstream(flood) as upstream:
        routes = [route(upstream, on_disconnect="continue")]
        app = create_app(make_settings(routes=routes, relay_journal_bytes=JOURNAL))
        async with serving(app) as port:
            stream = await stalled(port)
            await eventually(lambda: held(port))
            stream.cut()
            async with asyncio.timeout(20):
                await flood.done.wait()
            assert app.state.hub.broker._journals.bytes <= JOURNAL
