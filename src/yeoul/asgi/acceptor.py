"""Takes connections out of the kernel's hands as soon as they are there.

uvloop accepts one connection in each turn of the event loop. When thousands come back at once each waits for all before
it, and so does whoever asks whether the server is alive; the kernel, which holds 4096 at most, drops the rest, who try
again after a second, after three, after seven. To take all that are there costs a few microseconds each; they are then
opened a few at a time, those that come back (their request says so) after everybody else.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial

from ..observe import logger
from .turns import Turn, turns_of

__all__ = ["Acceptor"]

# Connections taken before the event loop gets its turn.
_AT_ONCE = 1_024
# Bytes of a request that are looked at, without taking them.
_PEEKED = 4_096
# Seconds until the next try where the system has no file or memory for a connection.
_PAUSE = 0.5
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Opens the connections of a listening socket until it is closed. It owns the socket. What it has taken and not
    opened yet is bounded by the files that the process may have."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._protocol = protocol
        self._turns = turns_of(loop)
        self._opening: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._closed = False
        listener.setblocking(False)
        loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Takes no more connections, and lets go of those that were not opened yet."""
        self._closed = True
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                # It stays readable: looking again at once would keep the event loop busy for nothing.
                logger.error("no connection can be accepted: %s (see `ulimit -n`)", error.strerror)
                self._loop.remove_reader(self._listener)
                self._resume = self._loop.call_later(_PAUSE, self._loop.add_reader, self._listener, self._accept)
                return
            connection.setblocking(False)
            self._turns.take(Turn.LOOK, partial(self._look, connection))

    def _look(self, connection: socket.socket) -> None:
        request = _peek(connection)
        if not request:  # nothing to do but to wait for it
            self._open(connection)
            return
        back = b"last-event-id:" in request.lower() or b"lastEventId=" in request
        kind = Turn.RETURNING_CONNECTION if back else Turn.CONNECTION
        self._turns.take(kind, partial(self._open, connection))

    def _open(self, connection: socket.socket) -> None:
        if self._closed:
            connection.close()
            return
        task = self._loop.create_task(self._opened(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _opened(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:
            connection.close()  # it was reset meanwhile


def _peek(connection: socket.socket) -> bytes:
    """What it has sent so far."""
    try:
        return connection.recv(_PEEKED, socket.MSG_PEEK)
    except OSError:
        return b""
