"""A scripted OpenAI-compatible upstream: a real HTTP/1.1 server whose answers are written by the test, byte for byte.

    async with Upstream(Answer(["안녕", " 세계"], ending=reset)) as upstream:
        ...
        await upstream.requests[0].closed.wait()

A script is an async callable that is given an `Exchange` and writes what it likes, well formed or not. `Upstream` takes
one for every request, or several for one after another (the last one stays). `Answer` is the script of a streamed
answer, on `/v1/chat/completions` in the one format and on `/v1/responses` in the other; its `ending` is how it goes
wrong, or right.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from support.formats import CHAT, RESPONSES, Format, usage_of

__all__ = [
    "TOKENS",
    "Answer",
    "Exchange",
    "Refusal",
    "SeenRequest",
    "Upstream",
    "complete",
    "cut_in_chunk",
    "echo_key",
    "eof",
    "error",
    "garbage",
    "huge",
    "raw",
    "reset",
    "stall",
]

# Hangul, leading spaces, a line break, an emoji of four bytes and one of several code points.
TOKENS = ("양파", "와", " 감자", "\n", "로", " 끓인", " 🍲", " 👩‍🍳", " 수프")


@dataclass(eq=False)
class SeenRequest:
    """`closed` is set as soon as the client has closed the connection that the request came on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One request, and the pen for its answer."""

    def __init__(self, request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.format: Format = RESPONSES if request.path.endswith("/responses") else CHAT
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """As it is, outside of any chunk."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """Headers of a chunked answer; `Retry_After="1"` is `Retry-After: 1`."""
        lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.write("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.write(b"0\r\n\r\n")

    def cut(self, *, rst: bool) -> None:
        """The connection ends here: with a RST, or with a FIN after what was written."""
        if rst:
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.close()


Script = Callable[[Exchange], Awaitable[None]]


class Upstream:
    """The server, on a free port of 127.0.0.1. `requests`: what it was asked; `connections`: how many it accepted."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.requests: list[SeenRequest] = []
        self.connections = 0
        self.port = 0
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def request(self, index: int = 0) -> SeenRequest:
        """The request of this number, as soon as it has come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > index)
        return self.requests[index]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                first = await reader.read(1)
                while first:
                    first = await self._exchange(first, reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over; asyncio.streams would report a cancelled handler as a failure
        finally:
            writer.transport.abort()

    async def _exchange(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """One request and its answer; the first byte of the next request, b"" if there is none."""
        request = _parse(first + await reader.readuntil(b"\r\n\r\n"))
        request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
        next_byte = asyncio.ensure_future(_next_byte(request, reader))
        try:
            async with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            await script(Exchange(request, writer))
            return await next_byte
        except ConnectionError:
            request.closed.set()  # it was found out by writing, before reading had told it
            raise
        finally:
            next_byte.cancel()


async def _next_byte(request: SeenRequest, reader: asyncio.StreamReader) -> bytes:
    data = b""
    with suppress(ConnectionError):
        data = await reader.read(1)
    if not data:
        request.closed.set()
    return data


def _parse(head: bytes) -> SeenRequest:
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    fields = (line.partition(":") for line in lines)
    return SeenRequest(method, path, {name.lower(): value.strip() for name, _, value in fields}, b"")


# --- endings of an Answer: what comes after its tokens -------------------------------------------------------------


def complete(*, reason: str | None = "stop", usage: bool = True, done: bool = True) -> Ending:
    """The marker or markers, and the end of the body. `reason=None` sends none (Chat only)."""

    async def end(answer: Answer, exchange: Exchange) -> None:
        counts = usage_of(len(answer.tokens)) if usage else None
        if reason is not None:
            await answer.send(exchange, exchange.format.finish(reason, counts))
        if done and exchange.format.done:
            await answer.send(exchange, exchange.format.done)
        await exchange.end()

    return end


async def eof(answer: Answer, exchange: Exchange) -> None:
    """A clean end of the body without any marker."""
    await exchange.end()


async def reset(answer: Answer, exchange: Exchange) -> None:
    """A RST in mid-stream: the server's process has died."""
    exchange.cut(rst=True)


async def cut_in_chunk(answer: Answer, exchange: Exchange) -> None:
    """The connection ends in the middle of a chunk that was announced."""
    await exchange.write(b"100\r\ndata: {")
    exchange.cut(rst=False)


async def stall(answer: Answer, exchange: Exchange) -> None:
    """Silence, until the client goes."""
    await exchange.request.closed.wait()


async def garbage(answer: Answer, exchange: Exchange) -> None:
    await exchange.chunk(b"data: <html>overloaded</html>\n\n")
    await exchange.end()


def error(message: str) -> Ending:
    async def end(answer: Answer, exchange: Exchange) -> None:
        await exchange.chunk(exchange.format.error(message))
        await exchange.end()

    return end


def huge(size: int) -> Ending:
    """One event of this many bytes."""

    async def end(answer: Answer, exchange: Exchange) -> None:
        await exchange.chunk(b"data: " + b"x" * size + b"\n\n")
        await exchange.end()

    return end


def raw(*chunks: bytes, end: bool = True) -> Ending:
    """These bytes, each piece a chunk of its own; then the end of the body, or silence."""

    async def send(answer: Answer, exchange: Exchange) -> None:
        for chunk in chunks:
            await exchange.chunk(chunk)
        await (exchange.end() if end else exchange.request.closed.wait())

    return send


# --- scripts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A streamed answer, or a whole one where the request does not ask for a stream.

    `hold`: before the token of this index waits for the event. `split`: bytes per chunk, whatever falls between them,
    instead of a chunk for each event. `comments`: one before each token. `line_end` replaces every LF.
    """

    tokens: Sequence[str] = TOKENS
    ending: Ending = field(default_factory=complete)
    hold: tuple[int, asyncio.Event] | None = None
    split: int = 0
    comments: bool = False
    line_end: bytes = b"\n"

    async def __call__(self, exchange: Exchange) -> None:
        if not json.loads(exchange.request.body or b"{}").get("stream"):
            await self._whole(exchange)
            return
        await exchange.head()
        await self.send(exchange, exchange.format.begin())
        for index, token in enumerate(self.tokens):
            if self.hold is not None and self.hold[0] == index:
                await self.hold[1].wait()
            if self.comments:
                await self.send(exchange, b": still here\n\n")
            await self.send(exchange, exchange.format.token(token))
        await self.ending(self, exchange)

    async def send(self, exchange: Exchange, data: bytes) -> None:
        data = data.replace(b"\n", self.line_end)
        size = self.split or len(data)
        for start in range(0, len(data), size):
            await exchange.chunk(data[start : start + size])

    async def _whole(self, exchange: Exchange) -> None:
        await exchange.head(content_type="application/json")
        answer = exchange.format.whole("".join(self.tokens), usage_of(len(self.tokens)))
        await exchange.chunk(json.dumps(answer).encode())
        await exchange.end()


Ending = Callable[[Answer, Exchange], Awaitable[None]]


class Refusal:
    """An answer that is no stream: an error, a redirect, something of another type."""

    def __init__(self, status: int, body: bytes = b"", content_type: str = "application/json", **headers: str) -> None:
        self._status, self._body, self._type, self._headers = status, body, content_type, headers

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head(self._status, self._type, **self._headers)
        if self._body:
            await exchange.chunk(self._body)
        await exchange.end()


async def echo_key(exchange: Exchange) -> None:
    """401 as OpenAI says it: with the key in the message."""
    key = exchange.request.headers["authorization"].removeprefix("Bearer ")
    message = f"Incorrect API key provided: {key}. You can find your API key in your account."
    body = {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}}
    await Refusal(401, json.dumps(body).encode())(exchange)
