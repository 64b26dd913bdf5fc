"""Heads of requests: how long they may take, and how large they may be."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..asgi.errors import problem
from ..asgi.event_stream import DIRECT
from ..hub import Subscription
from ..sse import Event
from .acceptor import Turn, turns_of

__all__ = ["MAX_HEAD_BYTES", "BoundedHeads", "DirectOutlet", "Protocol"]

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

    Plain uvicorn (`--http httptools`) has none of this; `--http yeoul.server.protocol:Protocol` has the default
    bounds.
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


# What one slow reader may hold, in bytes: in the transport's buffer, and unsent in the kernel. Without the second the
# kernel took 1.3 MB per stalled socket before it pushed back.
_TRANSPORT_BUFFER = 32 * 1024
_KERNEL_UNSENT = 32 * 1024

_LAST_CHUNK = b"0\r\n\r\n"


class DirectOutlet:
    __slots__ = ("_protocol", "_transport")

    chunked = True

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._transport = protocol.transport

    @property
    def full(self) -> bool:
        return self._protocol.flow.write_paused

    def write(self, payload: bytes) -> bool:
        if self._protocol.lost:
            return False  # the reader waits for its turn to leave
        self._transport.write(payload)
        return not self._protocol.flow.write_paused

    def finish(self, payload: bytes) -> None:
        if self._protocol.lost:
            return
        self._transport.write(payload + _LAST_CHUNK)
        self._protocol.stream_finished()

    def abort(self) -> None:
        self._transport.abort()


class Protocol(BoundedHeads):
    """uvicorn's HTTP/1.1 protocol with bounds on heads, and the direct outlet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost = False  # the connection
        self._reader: Subscription | None = None
        self._streaming: RequestResponseCycle | None = None
        self._finished: Subscription | None = None  # whose stream was the last thing on this connection
        self._answering: RequestResponseCycle | None = None
        self._shutting_down = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._finished = None
        scope: Any = self.scope
        scope["extensions"] = {DIRECT: partial(self._detach, scope)}

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        kind = Turn.RETURNING_REQUEST if _comes_back(cycle.scope) else Turn.REQUEST
        turns_of(self.loop).take(kind, partial(self._begin, cycle, _withdrawn_if_encoded(app)))

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:  # else the client has left while it waited for its turn
            super()._start_asgi_task(cycle, app)

    def _detach(self, scope: Scope, reader: Subscription, opening: Sequence[Event]) -> bool:
        """Takes the stream over from the application; False where that is not possible (HTTP/1.0, a pipelined
        request, a middleware that has not passed the first bytes on yet): the portable outlet then serves it."""
        cycle = self.cycle
        if (
            cycle.scope is not scope
            or not cycle.response_started
            or not cycle.chunked_encoding
            or cycle.disconnected
            or scope["http_version"] != "1.1"
        ):
            return False
        # uvicorn then ignores whatever middlewares still send, and does not miss the end of the response.
        cycle.disconnected = True
        cycle.message_event.set()
        empty: Any = {}
        cycle.scope = empty
        if self.scope is scope:  # not that of a pipelined request, whose head has begun to come in
            self.scope = empty
            self.headers = []
        self._streaming = cycle
        self._reader = reader
        self._bound_buffers(reader.send_timeout)
        reader.start(DirectOutlet(self), *opening)
        return True

    def _bound_buffers(self, send_timeout: float) -> None:
        self.transport.set_write_buffer_limits(high=_TRANSPORT_BUFFER)
        sock = self.transport.get_extra_info("socket")
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _KERNEL_UNSENT)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A peer that is gone without a word acknowledges nothing: the kernel ends it, heartbeats being its probes.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(send_timeout * 1000))

    def stream_finished(self) -> None:
        """The response is complete: the connection is free for the next request, or closes."""
        self._finished, self._reader = self._reader, None
        cycle, self._streaming = self._streaming, None
        if cycle is None:
            return
        cycle.response_complete = True
        if cycle.keep_alive and not self.transport.is_closing():
            self.on_response_complete()
        else:
            self.transport.close()
        if self._shutting_down:
            self._linger()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        reader, self._reader = self._reader, None
        if reader is not None:
            turns_of(self.loop).take(Turn.LEAVING, reader.end)
        elif self._finished is not None and exc is not None:
            self._finished.connection_reset()  # what was written was not all taken
        self._finished = None
        if self._answering is not None and self._answering is not self.cycle:
            # uvicorn tells only the last one of pipelined requests that the client has left.
            self._answering.disconnected = True
            self._answering.message_event.set()
        self._answering = None
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which uvicorn leaves to run out, with all it holds, after a reset

    def shutdown(self) -> None:
        """The hub ends its streams by itself; what comes after them is not waited for."""
        self._shutting_down = True
        if self._streaming is not None:
            self._streaming.keep_alive = False
        else:
            super().shutdown()
            if self.transport.is_closing():
                self._linger()


def _comes_back(scope: Any) -> bool:
    """Whether the request names a position, as readers do that were cut."""
    return any(name == b"last-event-id" for name, _ in scope["headers"]) or b"lastEventId=" in scope["query_string"]


def _withdrawn_if_encoded(app: ASGIApp) -> ASGIApp:
    """A middleware that compresses the body would be bypassed by the direct outlet: then it is not offered."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start" and any(
                name.lower() == b"content-encoding" for name, _ in message.get("headers", ())
            ):
                scope["extensions"].pop(DIRECT, None)
            await send(message)

        await app(scope, receive, note)

    return run
