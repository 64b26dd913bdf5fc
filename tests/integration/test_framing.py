"""How messages are framed on the wire: offers to switch protocols, half-closed connections, HTTP/1.0, transfer codings.

Under the server's own protocol: plain uvicorn has its own rules.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from support.reader import WAIT_S, ask, open_stream
from support.serving import serving
from support.settings import make_settings
from yeoul.app import create_app

HOST = b"Host: localhost\r\n"
TEXT = HOST + b"Content-Type: text/plain\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA\r\n"
LIVE = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving(create_app(make_settings(body_timeout_s=2))) as number:
        yield number


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Everything until the server ends the connection."""
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Client(reader, writer)
    writer.close()


async def kept(port: int, topic: str = "news") -> list[str]:
    """The data of all events that the topic keeps."""
    async with await open_stream(port, f"/topics/{topic}?newest=100") as stream:
        await stream.take(1)
        await ask(port, f"/topics/{topic}", method="POST", json_body={"data": "END"})
        await stream.until(lambda events: events[-1].data == "END")
        return [event.data for event in stream.events if event.type == "message" and event.data != "END"]


# --- offers to switch protocols


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("pieces", ["one", "head and body", "bytes"])
async def test_an_offer_to_switch_protocols_is_ignored_and_the_body_read(
    port: int, client: Client, framing: bytes, pieces: str
) -> None:
    request = b"POST /topics/news HTTP/1.1\r\n" + TEXT + OFFER + framing
    cut = request.index(b"\r\n\r\n") + 4
    parts = {
        "one": [request],
        "head and body": [request[:cut], request[cut:]],
        "bytes": [request[at : at + 1] for at in range(len(request))],
    }[pieces]
    for part in parts:
        client.send(part)
        await client.writer.drain()
        await asyncio.sleep(0)  # each goes out by itself
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert await kept(port) == ["hello"]


async def test_a_body_that_did_not_come_behind_an_offer_is_not_acknowledged(port: int, client: Client) -> None:
    client.send(b"POST /topics/news HTTP/1.1\r\n" + TEXT + OFFER + b"Content-Length: 5\r\n\r\nhel")
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert await kept(port) == []


async def test_an_offer_of_an_upgrade_without_a_body_is_answered(client: Client) -> None:
    client.send(b"GET /livez HTTP/1.1\r\n" + HOST + OFFER + b"\r\n")
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok\n")


# --- a client that shuts down its side


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_publish_of_a_client_that_sends_nothing_more_is_acknowledged(
    port: int, client: Client, at_once: bool
) -> None:
    request = b"POST /topics/news HTTP/1.1\r\n" + TEXT + b"Content-Length: 5\r\n\r\nhello"
    client.send(request if at_once else request[:-2])
    if not at_once:
        await client.writer.drain()
        client.send(request[-2:])
    client.writer.write_eof()
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["count"] == 1
    assert await kept(port) == ["hello"]


async def test_all_that_a_client_asked_before_it_shut_down_its_side_is_answered(port: int, client: Client) -> None:
    post = b"POST /topics/news HTTP/1.1\r\n" + TEXT + b"Content-Length: 1\r\n\r\n"
    client.send(LIVE + post + b"1" + LIVE + post + b"2" + post[:20])
    client.writer.write_eof()
    answer = await client.rest()
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"202", b"200", b"202"]
    assert await kept(port) == ["1", "2"]


async def test_half_a_request_before_the_end_is_neither_done_nor_acknowledged(port: int, client: Client) -> None:
    client.send(b"POST /topics/news HTTP/1.1\r\n" + TEXT + b"Content-Length: 5\r\n\r\nhel")
    client.writer.write_eof()
    assert await client.rest() == b""
    assert await kept(port) == []


async def test_a_stream_ends_when_its_client_shuts_down_its_side(client: Client) -> None:
    client.send(b"GET /topics/news HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    client.writer.write_eof()
    await client.rest()


# --- HTTP/1.0


async def test_a_stream_over_http_1_0_has_no_chunk_sizes(port: int, client: Client) -> None:
    client.send(b"GET /topics/news?newest=1 HTTP/1.0\r\n" + HOST + b"\r\n")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert b"\r\nconnection: close\r\n" in head
    assert await client.reader.readuntil(b"\n") == b": yeoul\n"
    await ask(port, "/topics/news", method="POST", json_body={"data": "hello"})
    async with asyncio.timeout(WAIT_S):
        told = await client.reader.readuntil(b"data: hello\n")
    assert all(line.partition(b":")[0] in (b"", b"retry", b"event", b"data", b"id") for line in told.split(b"\n"))


async def test_an_answer_over_http_1_0_ends_with_its_connection(client: Client) -> None:
    client.send(b"GET /sse/chat?message=hello&provider=demo HTTP/1.0\r\n" + HOST + b"\r\n")
    head = await client.head()
    body = await client.rest()
    assert b"transfer-encoding" not in head
    assert body.startswith(b": yeoul\n")
    assert body.rstrip().split(b"\n")[-1].startswith((b"data: [DONE]", b"id: "))
    assert b"\r" not in body


async def test_a_request_of_http_1_0_keeps_no_connection(client: Client) -> None:
    client.send(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n")
    answer = await client.rest()
    assert answer.endswith(b"\r\n\r\nok\n")
    assert b"\r\nconnection: close\r\n" in answer


# --- transfer codings


@pytest.mark.parametrize(
    ("line", "coding", "status"),
    [
        (b"HTTP/1.1", b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"HTTP/1.1", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"HTTP/1.1", b"Transfer-Encoding: chunked, chunked\r\n", 400),
        (b"HTTP/1.1", b"Transfer-Encoding: GZIP , Chunked\r\n", 501),
        (b"HTTP/1.1", b"Transfer-Encoding: identity, chunked\r\n", 501),
        (b"HTTP/1.1", b"Transfer-Encoding: gzip\r\n", 400),
        (b"HTTP/1.0", b"Transfer-Encoding: chunked\r\n", 400),
        (b"HTTP/1.0", b"Transfer-Encoding: gzip, chunked\r\n", 400),
    ],
)
async def test_a_coding_that_is_not_chunked_alone_is_refused_and_the_connection_ended(
    port: int, client: Client, line: bytes, coding: bytes, status: int
) -> None:
    client.send(b"POST /topics/news " + line + b"\r\n" + TEXT + coding + b"\r\n5\r\nhello\r\n0\r\n\r\n" + LIVE)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in answer
    assert b"application/problem+json" in answer
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
    assert await kept(port) == []


@pytest.mark.parametrize("name", [b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED "])
async def test_chunked_alone_is_taken(port: int, client: Client, name: bytes) -> None:
    client.send(b"POST /topics/news HTTP/1.1\r\n" + TEXT + name + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 202 ")
    assert await kept(port) == ["hello"]


# --- what cannot be read


async def test_what_is_wrong_behind_a_request_is_told_after_its_answer(port: int, client: Client) -> None:
    client.send(b"POST /topics/news HTTP/1.1\r\n" + TEXT + b"Content-Length: 1\r\n\r\n1" + b"nonsense\r\n\r\n")
    answer = await client.rest()
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"202", b"400"]


async def test_a_refusal_is_read_by_a_client_that_still_sends(client: Client) -> None:
    """Closing the socket at once would reset the connection, and the answer would be lost with it."""
    client.send(b"POST /topics/news HTTP/1.1\r\n" + TEXT + b"Content-Length: 100000000\r\n\r\n")
    client.send(b"x" * 300_000)
    await client.writer.drain()
    client.send(b"x" * 300_000)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 413 ")
