"""Bodies that are read straight from their connection: when, and that it makes no difference but in speed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from support.upstream import Exchange, Script, Upstream
from yeoul.client import EventStream, new_session, open_stream
from yeoul.client.body import BodyReader, StreamProtocol
from yeoul.stream import RetryPolicy

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: a\n\n\r\n"
END = b"0\r\n\r\n"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with new_session() as session:
        yield session


def sent(*pieces: bytes, pause: float = 0.01) -> Script:
    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.write(piece)
            await asyncio.sleep(pause)  # the pace of the upstream: each piece is a segment of its own

    return script


def opened(session: aiohttp.ClientSession, upstream: Upstream) -> Any:
    return open_stream(session, "POST", f"{upstream.base_url}/x", body=b"{}", retry=RetryPolicy(attempts=1))


async def read(events: EventStream) -> list[str]:
    return [event.data async for batch in events for event in batch]


def test_aiohttp_makes_its_protocols_as_this_relies_on() -> None:
    async def factory() -> Any:
        async with new_session() as session:
            assert session.connector is not None
            return session.connector._factory()

    assert isinstance(asyncio.run(factory()), StreamProtocol)


BODIES: dict[str, tuple[tuple[bytes, ...], bool]] = {
    "head, then body": ((HEAD, EVENT, EVENT, END), True),
    "all at once": ((HEAD + EVENT + EVENT + END,), True),
    "head with a part of the body": ((HEAD + EVENT[:4], EVENT[4:] + EVENT, END), True),
    "head in pieces": ((HEAD[:20], HEAD[20:-3], HEAD[-3:-1], HEAD[-1:] + EVENT + EVENT[:1], EVENT[1:] + END), True),
    "interim responses": ((b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", HEAD + EVENT + EVENT, END), True),
    "interim response at once": ((b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + EVENT + EVENT + END,), True),
    "a length": (
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 18\r\n\r\n",
            b"data: a\n\ndata: a\n\n",
        ),
        False,
    ),
    "compressed": (
        (
            HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"),
            b"%x\r\n%b\r\n" % (len(gzip.compress(b"data: a\n\n" * 2)), gzip.compress(b"data: a\n\n" * 2)),
            END,
        ),
        False,
    ),
    "lines that end without CR": ((HEAD.replace(b"\r\n", b"\n"), EVENT + EVENT, END), False),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_the_same_with_either_parser(session: aiohttp.ClientSession, name: str) -> None:
    pieces, taken = BODIES[name]
    async with Upstream(sent(*pieces)) as upstream:
        for _ in range(2):
            async with opened(session, upstream) as events:
                assert isinstance(events._content, BodyReader) is taken
                assert await read(events) == ["a", "a"]
        assert upstream.connections == (1 if "CR" not in name else upstream.connections), "it is used again"


async def test_a_response_that_is_not_a_stream_of_ours_is_left_to_aiohttp(session: aiohttp.ClientSession) -> None:
    async with Upstream(sent(HEAD + EVENT + EVENT[:5], EVENT[5:] + END)) as upstream:
        async with session.post(f"{upstream.base_url}/x") as response:
            assert await response.text() == "data: a\n\ndata: a\n\n"
        async with session.post(f"{upstream.base_url}/x") as response:
            await asyncio.sleep(0.05)  # longer than a body is held back
            assert await response.content.readany()


async def test_a_reader_that_does_not_read_stops_the_connection_and_loses_nothing(
    session: aiohttp.ClientSession,
) -> None:
    block = b"data: " + b"x" * 8_000 + b"\n\n"
    chunk = b"%x\r\n%b\r\n" % (len(block), block)
    written = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal written
        await exchange.write(HEAD)
        for _ in range(2_000):
            await exchange.write(chunk)
            written += 1
        await exchange.write(END)

    async with Upstream(flood) as upstream, opened(session, upstream) as events:
        reader = events._content
        assert isinstance(reader, BodyReader)
        seen = -1
        while seen != written:  # until the upstream is held up
            seen = written
            await asyncio.sleep(0.2)
        assert written < 2_000
        assert reader._size < 512 * 1024
        assert len(await read(events)) == 2_000


async def test_a_connection_that_is_lost_in_mid_body_gives_what_had_come(session: aiohttp.ClientSession) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.write(HEAD + EVENT)
        exchange.cut(rst=False)

    async with Upstream(cut) as upstream, opened(session, upstream) as events:
        await asyncio.sleep(0.1)  # the loss is known before the first read
        assert [event.data for event in await anext(events)] == ["a"]
        with pytest.raises(Exception, match="broke off"):
            await anext(events)


@pytest.mark.parametrize("together", [True, False], ids=["with the head", "while it is waited for"])
async def test_an_invalid_chunk_takes_nothing_back_that_had_come(
    session: aiohttp.ClientSession, together: bool
) -> None:
    go_on = asyncio.Event()

    async def invalid(exchange: Exchange) -> None:
        if together:
            await exchange.write(HEAD + EVENT + b"QQ\r\n")
        else:
            await exchange.write(HEAD)
            await go_on.wait()
            await exchange.write(EVENT + b"QQ\r\n")

    async with Upstream(invalid) as upstream, opened(session, upstream) as events:
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        go_on.set()
        assert [event.data for event in await first] == ["a"]
        with pytest.raises(Exception, match="broke off"):
            await anext(events)
