"""Clients that send slowly, or without end: they are cut off in time, and keep nobody out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from support.machine import budget
from support.reader import ask, publish, read_head
from support.serving import serving
from support.settings import make_settings
from yeoul.app import create_app
from yeoul.server.protocol import MAX_HEAD_BYTES

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
SLOW = 0.3  # seconds that a head may take here
DRIP = SLOW / 6


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def drip(self, data: bytes, every: float = DRIP) -> int:
        """Byte by byte until it is cut off; after how many. (Bytes, because on a busy machine the seconds are longer at
        both ends.)"""
        for sent, byte in enumerate(data):
            if self.reader.at_eof() or self.reader._buffer:  # type: ignore[attr-defined]
                return sent
            with suppress(ConnectionError):
                self.send(bytes((byte,)))
            await asyncio.sleep(every)  # what makes it slow
        return len(data)

    async def status(self) -> int:
        stream = await read_head(self.reader, self.writer)
        await stream.rest()
        return stream.status

    async def rest(self) -> bytes:
        """What comes until it is closed, or reset because something was sent to it after that."""
        async with asyncio.timeout(budget(5)):
            try:
                return await self.reader.read()
            except ConnectionError:
                return bytes(self.reader._buffer)  # type: ignore[attr-defined]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(create_app(make_settings()), header_timeout=SLOW) as number:
        yield number


def is_problem(answer: bytes, status: int) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return (
        head.startswith(b"HTTP/1.1 %d " % status)
        and b"connection: close" in head
        and b"application/problem+json" in head
        and json.loads(body)["status"] == status
    )


async def test_two_hundred_slow_heads_are_cut_off_in_time_and_block_no_one(port: int) -> None:
    async def slow() -> tuple[int, bytes]:
        async with connected(port) as connection:
            # Twice before it is cut off: clients and server share a processor, which is not to be kept busy.
            sent = await connection.drip(GET, SLOW / 2)
            return sent, await connection.rest()

    crowd = [asyncio.create_task(slow()) for _ in range(200)]
    answered = 0
    while not all(task.done() for task in crowd):
        assert (await ask(port, "/livez")).status == 200
        answered += 1
        await asyncio.sleep(0.01)  # or these questions alone would keep the processor busy
    assert answered > 3
    for sent, answer in await asyncio.gather(*crowd):
        assert is_problem(answer, 408), answer
        assert sent < len(GET) / 2, "on an idle machine it is three bytes"


async def test_a_connection_without_a_byte_is_closed_without_a_response(port: int) -> None:
    """Browsers connect in advance, and would take a 408 for the answer to what they ask next."""
    async with connected(port) as connection:
        assert await connection.rest() == b""


async def test_the_next_head_on_a_connection_has_its_time_too(port: int) -> None:
    async with connected(port) as connection:
        connection.send(GET)
        assert await connection.status() == 200
        await asyncio.sleep(SLOW * 1.5)  # idle: that is for uvicorn's own time-out
        connection.send(GET)
        assert await connection.status() == 200
        await connection.drip(GET)
        assert is_problem(await connection.rest(), 408)


@pytest.mark.parametrize("before", [b"", GET])
async def test_empty_lines_are_no_request(port: int, before: bytes) -> None:
    async with connected(port) as connection:
        if before:
            connection.send(before)
            assert await connection.status() == 200
        await connection.drip(b"\r\n" * 50)
        assert is_problem(await connection.rest(), 408)


async def test_requests_that_come_together_are_answered_in_turn(port: int) -> None:
    async with connected(port) as connection:
        post = POST + b"Content-Length: 1\r\n\r\nx"
        connection.send(GET + post + GET + GET[:10])
        assert [await connection.status() for _ in range(3)] == [200, 202, 200]
        connection.send(GET[10:])
        assert await connection.status() == 200


async def test_half_a_next_request_does_not_end_a_stream(port: int) -> None:
    async with connected(port) as connection:
        connection.send(b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET[:20])
        stream = await read_head(connection.reader, connection.writer)
        assert stream.status == 200
        await asyncio.sleep(SLOW * 2)  # it is late by now
        await publish(port, "a", "still here")
        await stream.until(lambda events: "still here" in [event.data for event in events])


async def test_half_a_next_request_is_late_after_the_answer_before_it(port: int) -> None:
    async with connected(port) as connection:
        connection.send(GET + GET[:20])
        assert await connection.status() == 200
        assert is_problem(await connection.rest(), 408)


@pytest.mark.parametrize("direct", [True, False])
async def test_a_slow_body_is_cut_off_in_time(direct: bool) -> None:
    app = create_app(make_settings(body_timeout_s=SLOW))
    async with serving(app, direct=direct) as port, connected(port) as connection:
        connection.send(POST + b"Content-Length: 1000\r\n\r\n")
        assert await connection.drip(b"x" * 1_000) < 100
        assert is_problem(await connection.rest(), 408)
        assert (await ask(port, "/topics/a", method="POST", json_body={"data": 1})).status == 202


async def test_a_body_that_the_route_does_not_read_is_not_waited_for(port: int) -> None:
    async with connected(port) as connection:
        connection.send(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        stream = await read_head(connection.reader, connection.writer)
        await stream.rest()
        assert stream.status == 404
        assert await connection.drip(b"x" * 1_000) < 100
        assert await connection.rest() == b""


def fields(size: int) -> bytes:
    return b"".join(b"x-%05d: %s\r\n" % (number, b"y" * 88) for number in range(size // 100))


HEADS = {
    "one field": b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n",
    "many fields": fields(MAX_HEAD_BYTES + 5_000),
    "a name": b"y" * MAX_HEAD_BYTES + b": x\r\n",
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("piece", [10_000, 1_000_000])
async def test_a_head_that_is_too_large_is_refused_however_it_comes(port: int, kind: str, piece: int) -> None:
    head = GET[:-2] + HEADS[kind] + b"\r\n"
    async with connected(port) as connection:
        for start in range(0, len(head), piece):
            connection.send(head[start : start + piece])
            await connection.writer.drain()
        assert is_problem(await connection.rest(), 431)


async def test_a_target_that_is_too_long_is_refused(port: int) -> None:
    async with connected(port) as connection:
        connection.send(GET.replace(b"/livez", b"/livez?" + b"y" * MAX_HEAD_BYTES))
        assert is_problem(await connection.rest(), 431)


async def test_a_large_head_below_the_bound_is_accepted(port: int) -> None:
    async with connected(port) as connection:
        connection.send(GET[:-2] + fields(MAX_HEAD_BYTES - 2_000) + b"\r\n")
        assert await connection.status() == 200
        connection.send(POST + b"Content-Length: 500000\r\n\r\n" + b"x" * 500_000 + GET)
        assert await connection.status() == 413, "too large for an event"
        assert await connection.status() == 200


@pytest.mark.parametrize(
    "start",
    [GET[:-2] + b"X: ", POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ", b"\r\n", b"GET /"],
    ids=["head", "trailer", "empty lines", "target"],
)
async def test_what_has_no_end_is_cut_off(port: int, start: bytes) -> None:
    """Without a bound uvicorn takes all of it into memory."""
    sent = 0
    async with connected(port) as connection:
        connection.send(start)
        more = b"\r\n" * 5_000 if start == b"\r\n" else b"y" * 10_000
        with suppress(ConnectionError):
            while not connection.reader.at_eof() and not connection.writer.is_closing() and sent < 20_000_000:
                connection.send(more)
                await connection.writer.drain()
                sent += len(more)
        await connection.rest()
    assert sent < 20_000_000
    assert (await ask(port, "/livez")).status == 200


async def test_trailers_are_no_headers(port: int) -> None:
    trailers = b"Authorization: Bearer nonsense\r\nX-More: y\r\n"
    async with connected(port) as connection:
        connection.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + trailers + b"\r\n" + GET)
        assert [await connection.status() for _ in range(2)] == [202, 200]


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_not_http_is_answered_with_400(port: int, garbage: bytes) -> None:
    async with connected(port) as connection:
        connection.send(garbage)
        assert is_problem(await connection.rest(), 400)
