"""A raw socket that reads a stream: what was sent, byte for byte, and the events in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from yeoul.sse import Decoder, Event

WAIT_S = 30.0


@dataclass
class Answer:
    """A whole HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class RawStream:
    """One open response. `events` holds all so far, `raw` the body's bytes without chunk framing."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    headers: dict[str, str]
    decoder: Decoder = field(default_factory=Decoder)
    events: list[Event] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    ended: bool = False  # cleanly, by the last chunk, the announced length or the end of the connection
    _left: int | None = None

    @property
    def last_event_id(self) -> str:
        return self.decoder.last_event_id

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events]

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises ConnectionError where it was cut."""
        async with asyncio.timeout(WAIT_S):
            piece = await self._piece()
        if not piece:
            self.ended = True
        self.raw += piece
        self.events += self.decoder.feed(piece)
        return piece

    async def until(self, done: Callable[[list[Event]], object]) -> list[Event]:
        """Reads until `done(events)`; fails where the stream ends before that, or has no event for `WAIT_S`: heartbeats
        alone do not go on for ever."""
        clock = asyncio.get_running_loop().time
        count, since = len(self.events), clock()
        while not done(self.events):
            if self.ended or not await self.read():
                raise AssertionError(f"the stream ended with {self.events[-3:]} after {len(self.events)} events")
            if len(self.events) > count:
                count, since = len(self.events), clock()
            elif clock() > since + WAIT_S:
                raise AssertionError(f"no event after {count}, the last of them {self.events[-3:]}")
        return self.events

    async def take(self, count: int) -> list[Event]:
        """Reads until there are this many events in all."""
        return (await self.until(lambda events: len(events) >= count))[:count]

    async def rest(self) -> list[Event]:
        """Reads to the end."""
        while await self.read():
            pass
        return self.events

    def cut(self) -> None:
        """As a network that drops: a reset, without a word."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> RawStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _piece(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            size = int((await self._line()).partition(b";")[0], 16)
            piece = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            return piece
        if self._left is None:
            return await self.reader.read(65_536)
        piece = await self.reader.read(min(65_536, self._left)) if self._left else b""
        self._left -= len(piece)
        return piece

    async def _line(self) -> bytes:
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("cut")
        return line[:-2]


async def open_stream(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    last_event_id: str = "",
    host: str = "127.0.0.1",
) -> RawStream:
    """Sends one request, reads the response's head, and leaves the body open."""
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    sent = {"Host": f"{host}:{port}", "Accept": "text/event-stream", **(headers or {})}
    if last_event_id:
        sent["Last-Event-ID"] = last_event_id
    if body or method in ("POST", "PUT"):
        sent["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    target = quote(path, safe="/?&=%:+,*~$'()[]@!;")
    # Bytes of headers that are not ASCII are given as Latin-1, as HTTP has them.
    writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
    return await read_head(reader, writer, method=method, last_event_id=last_event_id)


async def read_head(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, method: str = "GET", last_event_id: str = ""
) -> RawStream:
    """The response to a request that was written by hand, its body left open."""
    async with asyncio.timeout(WAIT_S):
        status = int((await reader.readline()).split(b" ")[1])
        got: dict[str, str] = {}
        while line := (await reader.readline()).rstrip(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            got[name.lower()] = value.strip()
    stream = RawStream(reader, writer, status, got, Decoder(last_event_id))
    if method == "HEAD" or status in (204, 304):
        stream._left = 0
    elif "content-length" in got:
        stream._left = int(got["content-length"])
    return stream


async def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json_body: Any = None,
    body: bytes = b"",
) -> Answer:
    """One request and its whole response."""
    sent = {"Accept": "*/*", "Connection": "close", **(headers or {})}
    if json_body is not None:
        body = json.dumps(json_body).encode()
        sent.setdefault("Content-Type", "application/json")
    async with await open_stream(port, path, method=method, headers=sent, body=body) as stream:
        await stream.rest()
        return Answer(stream.status, stream.headers, bytes(stream.raw))


async def publish(
    port: int, topic: str, data: str, *, type: str = "message", headers: Mapping[str, str] | None = None
) -> str:
    """Publishes one event over HTTP; its id."""
    body = {"data": data, "type": type}
    answer = await ask(port, f"/topics/{topic}", method="POST", headers=headers, json_body=body)
    assert answer.status == 202, answer
    return str(answer.json()["id"])
