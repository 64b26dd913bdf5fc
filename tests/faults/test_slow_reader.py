"""A reader that stops reading costs a bounded amount of memory, delays nobody, and is given the rest or a gap."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import psutil
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from faults.conftest import Server
from support.follower import Follower
from support.polling import metrics
from support.reader import RawStream, ask, open_stream
from support.serving import serving, yeoul_serve
from yeoul import EventStream, Hub
from yeoul.server import outlet
from yeoul.sse import Decoder, Event
from yeoul.stream import Cursor

EVENTS = 100_000
PER_POST = 500
# What the journal may hold, and what one slow reader may cost on top of that and of a server at work, in bytes.
JOURNAL = 1_048_576
BOUND = 12 * 1024 * 1024


class Stuck:
    """A client that has asked for a stream, and reads nothing until it is told to."""

    def __init__(self, port: int, path: str) -> None:
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._sock.setblocking(False)
        self._port = port
        self._path = path
        self._decoder = Decoder()
        self._buffer = b""
        self.events: list[Event] = []

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._sock, ("127.0.0.1", self._port))
        # HTTP/1.1 with its chunks: their framing is skipped below.
        await loop.sock_sendall(self._sock, f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += await loop.sock_recv(self._sock, 1)
        self._buffer = b""

    async def read(self) -> None:
        self._buffer += await asyncio.get_running_loop().sock_recv(self._sock, 1 << 20)
        while True:
            size, found, rest = self._buffer.partition(b"\r\n")
            if not found or len(rest) < int(size, 16) + 2:
                return
            self.events += self._decoder.feed(rest[: int(size, 16)])
            self._buffer = rest[int(size, 16) + 2 :]

    async def until(self, data: str) -> None:
        while not self.events or self.events[-1].data != data:
            await self.read()

    def close(self) -> None:
        self._sock.close()


@asynccontextmanager
async def stuck(port: int, path: str) -> AsyncIterator[Stuck]:
    client = Stuck(port, path)
    try:
        await client.ask()
        yield client
    finally:
        client.close()


def offset_of(event: Event) -> int:
    return Cursor.parse(event.id or "").offset


def check(events: list[Event], first: int) -> int:
    """Each event once and in order; where some are missing, a gap says so. The number of gaps."""
    gaps = 0
    for before, event in pairwise(events):
        if event.type == "stream.gap":
            told = json.loads(event.data)
            assert offset_of(before) == Cursor.parse(told["requested"]).offset
            gaps += 1
        elif event.type == "message":
            assert offset_of(event) == offset_of(before) + 1, "told by a gap, else the next"
    assert offset_of(events[0]) == first
    return gaps


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_server_in_a_process_of_its_own_stays_small() -> None:
    """The direct outlet, as it is run."""
    with yeoul_serve() as served:
        process = psutil.Process(served.process.pid)
        async with await open_stream(served.port, "/topics/a") as fast:
            # A first part, so that what a server at work holds anyway is there.
            await _post(served.port, 0, 10_000, fast)
            before = process.memory_info().rss
            async with stuck(served.port, "/topics/a") as slow:
                highest = await _post(served.port, 10_000, EVENTS, fast, process)
                assert (await metrics(served.port))["yeoul_lagging_readers"] == 1
                await slow.until(f"{EVENTS - 1} ")
                gaps = check(slow.events, 10_000)
                published = await ask(
                    served.port, "/topics/a", method="POST", headers={"Content-Type": "text/plain"}, body=b"live"
                )
                assert published.status == 202
                await slow.until("live")
    growth = highest - before
    assert growth < JOURNAL + BOUND, f"{growth:,} bytes"
    assert gaps == 1


async def _post(port: int, start: int, stop: int, fast: RawStream, process: psutil.Process | None = None) -> int:
    """Publishes the events, the fast reader keeping up; the most memory that the server had."""
    highest = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for first in range(start, stop, PER_POST):
        body = b"".join(b'{"data": "%d "}\n' % number for number in range(first, first + PER_POST))
        head = (
            "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202 ")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        await fast.until(lambda events, last=f"{first + PER_POST - 1} ": events and events[-1].data == last)
        assert len(fast.events) <= PER_POST + 1
        assert [event.data for event in fast.events[-PER_POST:]] == [
            f"{number} " for number in range(first, first + PER_POST)
        ]
        fast.events.clear()
        fast.raw.clear()
        if process is not None:
            highest = max(highest, process.memory_info().rss)
    writer.close()
    return highest


@pytest.mark.settings(retention_events=5_000, retention_bytes=1 << 26)
async def test_a_reader_that_goes_on_in_time_gets_everything(server: Server) -> None:
    async with stuck(server.port, "/topics/a") as slow:
        for number in range(4_900):
            await server.hub.publish("a", Event(f"{number} " + "x" * 1_500))
        async with asyncio.timeout(20):
            while server.hub.stats.lagging != 1:
                await asyncio.sleep(0)  # its kernel takes some of it
        await server.hub.publish("a", Event("last"))
        await slow.until("last")
        assert check(slow.events, 0) == 0
        assert len(slow.events) == 4_902
        await server.hub.publish("a", Event("live"))
        await slow.until("live")


async def test_a_reader_that_goes_on_too_late_gets_a_gap_and_what_is_kept(server: Server) -> None:
    async with stuck(server.port, "/topics/a") as slow:
        fast = Follower(server.port, "/topics/a")
        following = asyncio.create_task(fast.run())
        await fast.until(bool)
        for number in range(20_000):
            await server.hub.publish("a", Event(f"{number} " + "x" * 300))
        await fast.until(lambda events: len(events) == 20_001)
        assert server.hub.stats.lagging == 1
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert [event.data.split()[0] for event in fast.events[1:]] == [str(number) for number in range(20_000)]
        await server.hub.publish("a", Event("last"))
        await slow.until("last")
        assert check(slow.events, 0) == 1
        await server.hub.publish("a", Event("live"))
        await slow.until("live")


async def test_what_a_stuck_reader_holds_in_the_server_is_bounded(server: Server) -> None:
    """Bytes in the transport, and in the direct outlet's case in the kernel too."""
    async with stuck(server.port, "/topics/a"):
        for number in range(20_000):
            await server.hub.publish("a", Event(f"{number} " + "x" * 300))
        assert server.hub.stats.lagging == 1
        [reader] = server.hub._readers
        assert not reader.live
        held = reader.offset * 300
        assert held < (1 if server.direct else 6) * 1024 * 1024, f"{held:,} bytes were written"


@pytest.mark.settings(send_timeout_s=0.5)
async def test_a_reader_that_takes_nothing_for_too_long_is_let_go(server: Server) -> None:
    async with stuck(server.port, "/topics/a"):
        lagged = 0
        for number in range(20_000):
            await server.hub.publish("a", Event(f"{number} " + "x" * 300))
            lagged = max(lagged, server.hub.stats.lagging)
            if not server.hub.stats.readers:
                break  # this machine is slow
        assert lagged == 1
        async with asyncio.timeout(20):
            while server.hub.stats.readers:
                await asyncio.sleep(0.01)  # it is let go by a timer of the server's
        assert server.hub.stats.closed == {"send timeout": 1}
        assert server.hub.stats.lagging == 0


@pytest.mark.parametrize("kernel", [0.3, None], ids=["the kernel first", "the hub first"])
async def test_a_reader_that_takes_nothing_is_counted_alike_whatever_cuts_it(
    kernel: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same limit, and which of them notices first is chance: here one of them is made the first."""
    options = outlet.socket_options
    monkeypatch.setattr(outlet, "socket_options", lambda seconds: options(kernel or 60))
    hub = Hub(send_timeout=60 if kernel else 0.3)
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/")
    async def follow(request: Request) -> Response:
        return EventStream(hub, "a", request)

    async with serving(app, direct=True) as port, stuck(port, "/"):
        async with asyncio.timeout(20):
            while hub.stats.readers:
                await hub.publish("a", Event("x" * 300))
                await asyncio.sleep(0)
        assert hub.stats.closed == {"send timeout": 1}
