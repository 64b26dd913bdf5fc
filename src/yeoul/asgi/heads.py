"""Heads of requests: how long they may take, and how large they may be."""

from __future__ import annotations

import asyncio
import re
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .problem import problem

__all__ = ["MAX_HEAD_BYTES", "BoundedHeads"]

# Bytes of a request's line and header fields, and of the trailer fields after a body. uvicorn takes any number.
MAX_HEAD_BYTES = 64 * 1024

_TOO_LARGE = f"the request's head, or what follows its body, is larger than {MAX_HEAD_BYTES} bytes: send less"

# Seconds for which a client may still take what was written to it before it is closed.
_LINGER = 2.0

_END_OF_AUTHORITY = re.compile(rb"[/?#]")


class _Phase(Enum):
    """What of a request is there."""

    NOTHING = 0
    HEAD = 1  # a part of its head
    BODY = 2  # its head, and not all of its body


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, against clients that send slowly or without end.

    A head must be complete `header_timeout` seconds after the connection was made, or after the first byte of a
    following request, however it trickles in, else 408 and the connection ends. (uvicorn's own time-out is for
    connections on which nothing comes.) One timer for a connection that is young or late; none while a response is
    under way. What a body may take is for the application: `limits.py`.

    Under plain uvicorn (`--http httptools`) nothing of this holds; `--http yeoul.asgi.direct:Protocol` has the default.
    """

    def __init__(self, *args: Any, header_timeout: float = 10.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timeout = header_timeout
        self._deadline: asyncio.TimerHandle | None = None
        self._phase = _Phase.NOTHING
        self._loose = 0  # bytes that came since the message began, or since its last piece of body
        self._refusal: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._phase is _Phase.NOTHING:
            self._phase = _Phase.HEAD  # also where it is but an empty line, which the parser skips
            if not data.isascii():
                data = _escape_target(data)
        self._loose += len(data)
        super().data_received(data)
        if self._phase is not _Phase.NOTHING and self._loose > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, _TOO_LARGE)
        self._watch()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = _Phase.HEAD
        self._loose = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped: they would stand among the headers, which have been judged already (RFC 9110, 6.5.1).
        if self._phase is _Phase.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._phase = _Phase.BODY
        self._loose = 0
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refusal = 431, _TOO_LARGE
            raise ValueError("the head is too large")  # the parser stops, and `send_400_response` is called
        self._take_host_of_target()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = _Phase.NOTHING

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self._refusal or (400, "this is no HTTP/1.1 request: RFC 9112 says how one is written")))

    def _watch(self) -> None:
        """Has a deadline where something is awaited that the client alone can bring, and none elsewhere."""
        idle = self._phase is _Phase.NOTHING and self.cycle is not None  # uvicorn's time-out is for that
        if self.transport.is_closing() or idle or (self._phase is _Phase.BODY and self._is_answering()):
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._header_timeout, self._is_late)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        self._deadline = None
        if self._is_answering():
            return  # a next request has begun: the end of the response begins its time anew
        if self._phase is _Phase.HEAD:
            self._refuse(408, f"the request's head was not complete after {self._header_timeout:g} s: send it at once")
            return
        # Nothing was sent at all, as by browsers that connect in advance; or it was answered before its body was there.
        self._close()

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    def _refuse(self, status: int, detail: str) -> None:
        """Answers what never reached the application, and ends the connection."""
        if not (self._is_answering() and self.cycle.response_started):  # nothing is written into another response
            answer = problem(status, detail, headers={"Connection": "close"})
            head = b"".join(b"%s: %s\r\n" % pair for pair in answer.raw_headers)
            self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(answer.body))
        self._close()

    def _close(self) -> None:
        self._unwatch()
        self.transport.close()
        self._linger()

    def _linger(self) -> None:
        """Closing waits until the client has taken everything, which one that reads no more never does."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(_LINGER, self.transport.abort)

    def _take_host_of_target(self) -> None:
        """`GET http://name/ HTTP/1.1` is for `name`, whatever its Host header says (RFC 9112, 3.2.2)."""
        scheme, found, rest = self.url.partition(b"://")
        hosts = [place for place, (name, _) in enumerate(self.headers) if name == b"host"]
        if found and b"/" not in scheme and len(hosts) == 1:
            self.headers[hosts[0]] = (b"host", _END_OF_AUTHORITY.split(rest, maxsplit=1)[0])


def _escape_target(data: bytes) -> bytes:
    """Percent-encodes what is not ASCII in a request line. RFC 9112, 3.2 wants that of clients, but curl sends what was
    typed, and the parser would refuse `?message=안녕` with a 400."""
    line, end, rest = data.partition(b"\r\n")
    return b"".join(b"%%%02X" % byte if byte >= 0x80 else bytes((byte,)) for byte in line) + end + rest
