"""The direct outlet: shared bytes straight to the transport.

A subclass of uvicorn's httptools protocol that offers its transport through an ASGI scope extension. The application
answers in the ordinary way up to and including the first bytes of the body; then the response takes the transport,
the application's coroutine returns, and what it held (task, scope, request) is freed. From there on the hub writes the
same chunk-framed bytes to every transport, with no task and no queue in between.

Used by `yeoul serve`, and by `uvicorn --http yeoul.asgi.direct:Protocol`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ..hub import Subscription
from ..sse import Event
from .heads import BoundedHeads
from .stream_response import DIRECT
from .turns import Turn, turns_of

__all__ = ["DirectOutlet", "Protocol"]

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
            turns_of(self.loop).take(Turn.LEAVING, reader.close)
        elif self._finished is not None and exc is not None:
            self._finished.reset()  # what was written was not all taken
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
