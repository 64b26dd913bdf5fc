"""The direct outlet: the hub writes a stream's bytes straight to the transport."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from .exchange import LAST_CHUNK

__all__ = ["DirectOutlet", "bound_buffers", "socket_options"]

# What one slow reader may hold, in bytes: in the transport's buffer, and unsent in the kernel. Without the second the
# kernel took 1.3 MB per stalled socket before it pushed back.
_TRANSPORT_BUFFER = 32 * 1024
_KERNEL_UNSENT = 32 * 1024


class Connection(Protocol):
    """What the outlet needs of a connection. `direct`: the transport may be written to at once; not while writes are
    joined, and not when it is `lost`. `write_paused`: the transport's buffer is full."""

    transport: asyncio.Transport
    direct: bool
    lost: bool
    write_paused: bool

    def write(self, data: bytes) -> None:
        """Writes with what is joined; nothing on a lost connection."""

    def abort(self) -> None:
        """Ends the connection at once."""

    def stream_finished(self) -> None:
        """The response is complete."""


class DirectOutlet:
    """Writes what the hub has encoded and framed straight to the transport."""

    __slots__ = ("_connection", "_transport")

    chunked = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport = connection.transport

    @property
    def full(self) -> bool:
        return self._connection.write_paused

    def write(self, payload: bytes) -> None:
        if self._connection.direct:
            self._transport.write(payload)
        else:
            self._connection.write(payload)

    @property
    def deliver(self) -> Callable[[bytes], object]:
        # The transport's own method. Where its buffer is full afterwards, it calls `pause_writing`.
        return self._transport.write

    def finish(self, payload: bytes) -> None:
        if self._connection.lost:
            return
        self.write(payload + LAST_CHUNK)
        self._connection.stream_finished()

    def abort(self) -> None:
        self._connection.abort()


def bound_buffers(transport: asyncio.Transport, send_timeout: float | None) -> None:
    """Bounds what a reader that takes nothing may hold. `send_timeout` in seconds; None where the socket has its
    options from the listening socket."""
    transport.set_write_buffer_limits(high=_TRANSPORT_BUFFER)
    sock = transport.get_extra_info("socket") if send_timeout is not None else None
    if sock is not None and send_timeout is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in socket_options(send_timeout):
            sock.setsockopt(level, option, value)


def socket_options(send_timeout: float) -> list[tuple[int, int, int]]:
    """What bounds the memory and the time of a reader in the kernel. `send_timeout` in seconds."""
    options = []
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _KERNEL_UNSENT))
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A peer that is gone without a word acknowledges nothing: the kernel ends it, heartbeats being its probes.
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(send_timeout * 1000)))
    return options
