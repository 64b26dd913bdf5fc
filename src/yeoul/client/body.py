"""The body of a response, straight from its connection.

aiohttp parses a body in C, but each piece of it costs a dozen calls of Python on its way to the reader: measured as a
seventh of all that a token costs here. So once the head of a streamed response is there, its reader takes the
connection over (`take_over`) and decodes the chunks itself; the end of the body is given back to aiohttp, which then
keeps or closes the connection as always.

Of aiohttp's private parts this relies on `BaseConnector._factory`, which makes the protocols. Where that is not what it
was, or a body is not in chunks, or is compressed, aiohttp's own reader is used.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler

from .chunked import ChunkedDecoder, InvalidChunk

__all__ = ["BodyReader", "StreamProtocol", "connector", "take_over"]

# Bytes that wait for the reader; over it the connection is not read.
_MAX_PENDING = 64 * 1024

_HEAD_END = b"\r\n\r\n"


def connector(limit: int, keepalive_timeout: float) -> aiohttp.TCPConnector:
    """One whose streamed responses can be taken over."""
    made = aiohttp.TCPConnector(limit=limit, keepalive_timeout=keepalive_timeout)
    if hasattr(made, "_factory"):
        made._factory = partial(StreamProtocol, loop=asyncio.get_running_loop())  # type: ignore[assignment]
    return made


def take_over(response: aiohttp.ClientResponse) -> BodyReader | None:
    """The body's reader from now on; None where aiohttp's must be used, which is always right. To be called in the step
    of the event loop in which the response was returned: after it what has come is given to aiohttp's reader."""
    connection = response.connection
    protocol = None if connection is None else connection.protocol
    headers = response.headers
    if (
        not isinstance(protocol, StreamProtocol)
        or headers.get(hdrs.TRANSFER_ENCODING, "").strip().lower() != "chunked"
        or headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity"
    ):
        return None
    return protocol.take_over()


class BodyReader:
    """What an `EventStream` uses of aiohttp's `StreamReader`, with the same meaning."""

    def __init__(self, protocol: StreamProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self._protocol = protocol
        self._loop = loop
        self._chunks = ChunkedDecoder()
        self._pending: list[bytes] = []
        self._size = 0
        self._paused = False
        self._eof = False
        self._exception: BaseException | None = None
        self._waiter: asyncio.Future[bytes] | None = None

    def feed(self, data: bytes) -> None:
        """Bytes from the connection."""
        try:
            body = self._chunks.feed(data)
        except InvalidChunk as error:
            if error.before:
                self._keep(error.before)
                self._wake()
            self.set_exception(aiohttp.ClientPayloadError(str(error)))
            self._protocol.break_off()
            return
        if body:
            waiter = self._waiter
            if waiter is not None and not waiter.done():
                self._waiter = None
                waiter.set_result(body)
            else:
                self._keep(body)
        if self._chunks.ended:
            self._end()

    async def readany(self) -> bytes:
        """What has come, or the next that comes; b"" at the end. What came before an error is returned before it is
        raised."""
        if self._pending:
            return self._take()
        if self._exception is not None:
            raise self._exception
        if self._eof:
            return b""
        self._waiter = waiter = self._loop.create_future()
        data: bytes = await waiter
        return data

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(self._take())

    def _keep(self, body: bytes) -> None:
        """For a reader that does not wait for it."""
        self._pending.append(body)
        self._size += len(body)
        if self._size > _MAX_PENDING and not self._paused:
            self._paused = True
            self._protocol.pause_reading_body()

    def _end(self) -> None:
        self._eof = True
        self._protocol.give_back(self._chunks.rest)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(b"")

    def read_nowait(self) -> bytes:
        if self._exception is not None and not self._pending:
            raise self._exception
        return self._take()

    def is_eof(self) -> bool:
        return self._eof

    def exception(self) -> BaseException | None:
        return self._exception

    def set_exception(self, error: BaseException | None) -> None:
        self._exception = error
        waiter = self._waiter
        if error is not None and waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _take(self) -> bytes:
        pending = self._pending
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._protocol.resume_reading_body()
        return data


class StreamProtocol(ResponseHandler):
    """aiohttp's client protocol, which holds the bytes after a response's head back for one step of the event loop, so
    that a reader can take them over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._reader: BodyReader | None = None
        self._head = b""  # of the response under way
        self._in_head = False
        self._held = b""
        self._may_be_taken = False

    def set_response_params(self, **options: Any) -> None:
        """aiohttp calls it before each request."""
        self._head, self._held, self._in_head, self._may_be_taken = b"", b"", True, False
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        if self._reader is not None:
            self._reader.feed(data)
        elif self._held:
            self._held += data
        elif self._in_head and data:
            self._receive_head(data)
        else:
            self._may_be_taken = self._may_be_taken and not data
            super().data_received(data)

    def _receive_head(self, data: bytes) -> None:
        before = len(self._head)
        self._head += data
        end = self._head.find(_HEAD_END, max(0, before - 3))
        if end < 0:
            super().data_received(data)
            return
        end += len(_HEAD_END)
        head, rest = self._head[:end], data[end - before :]
        # An interim response (RFC 9110, 15.2) is followed by another head. Lines that end without CR are aiohttp's.
        self._in_head = head.startswith(b"HTTP/1.1 1")
        self._may_be_taken = not self._in_head and head.count(b"\n") == head.count(b"\r\n")
        self._head = b""
        super().data_received(data[: end - before])
        if rest and self._in_head:
            self._receive_head(rest)
        elif rest:
            self._held = rest
            self._loop.call_soon(self._let_through)

    def _let_through(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._may_be_taken = False
            super().data_received(held)

    def take_over(self) -> BodyReader | None:
        if not self._may_be_taken or self.transport is None:
            return None
        self._may_be_taken = False
        self._reader = reader = BodyReader(self, self._loop)
        held, self._held = self._held, b""
        if held:
            reader.feed(held)
        return reader

    def give_back(self, rest: bytes) -> None:
        """The body has ended: aiohttp, which has seen none of it, is given an empty one."""
        self._reader = None
        super().data_received(b"0\r\n\r\n" + rest)

    def break_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def pause_reading_body(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading_body(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._let_through()
        reader, self._reader = self._reader, None
        super().connection_lost(exc)
        if reader is not None:
            reader.set_exception(aiohttp.ClientPayloadError("the connection was lost in mid-body"))
