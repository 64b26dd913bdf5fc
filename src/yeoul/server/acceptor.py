"""Accepts connections as soon as they are there, and opens them by turns.

uvloop accepts one connection in each turn of the event loop. When thousands come back at once, each waits for all those
before it, and so does the probe that asks whether the server is alive; the kernel, whose queue holds 4096 at most,
drops the rest, who try again after one second, three, seven. To accept all that are there costs a few microseconds
each. They are then opened a few at a time, those of readers that come back (their request says so) after the others.

At the limit of open files a connection is answered with 503 and closed. Left in the kernel's queue, it would hang until
its client's own time-out.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from ..addresses import parse_address
from ..observe import logger
from .exchange import refusal
from .turns import Turn, turns_of

__all__ = ["Acceptor"]

# Connections accepted in one turn of the event loop.
_AT_ONCE = 1_024
# Bytes of a request that are looked at, without taking them.
_PEEKED = 4_096

# Files that connections leave to the rest of the server, for databases and model servers; an eighth of few files.
_RESERVED_FILES = 64
# Seconds between two log lines about connections that are refused.
_LOG_EVERY = 10.0

# Seconds until the next attempt where the system has no memory for a connection.
_PAUSE = 0.5
_WITHOUT_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_WITHOUT_MEMORY = frozenset({errno.ENOBUFS, errno.ENOMEM})

_NO_FILES = refusal(
    503, "this server has as many connections open as it may have files: try again later", **{"Retry-After": "5"}
)


class Acceptor:
    """Opens the connections of a listening socket until it is closed. It owns the socket. What it has accepted and not
    opened yet is bounded by the files that the process may have.

    `protocol` is called with the addresses of the client and of the server (None where only the connection knows it).
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, protocol: Callable[[Any, Any], asyncio.Protocol]
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._protocol = protocol
        self._turns = turns_of(loop)
        self._resume: asyncio.TimerHandle | None = None
        self._closed = False
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._files = files
        # The system gives the lowest number that is free: a connection with this one has all the others before it.
        self._highest = files - min(_RESERVED_FILES, files // 8)
        self._spare = _spare_file()
        self._refused = 0  # since the last log line
        self._logged = float("-inf")
        server = listener.getsockname()
        address = parse_address(server[0])
        # Listening on all addresses, each connection has one of its own, which the protocol asks for.
        self._server = None if address is None or address.is_unspecified else server
        listener.setblocking(False)
        loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accepts no more connections, and closes those that were not opened yet."""
        self._closed = True
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, client = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in _WITHOUT_FILES and self._refuse_with_spare_file():
                    continue
                if error.errno not in _WITHOUT_FILES | _WITHOUT_MEMORY:
                    raise
                self._pause(error)
                return
            if connection.fileno() >= self._highest:
                self._refuse(connection)
            else:
                self._turns.take(Turn.LOOK, partial(self._look, connection, client))

    def _refuse_with_spare_file(self) -> bool:
        """Where even accepting needs a file: the spare one. False where that does not help."""
        if self._spare is None:
            self._spare = _spare_file()
        if self._spare is None:
            return False
        os.close(self._spare)
        self._spare = None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return False
        self._refuse(connection)
        self._spare = _spare_file()
        return True

    def _refuse(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(
                _PEEKED, socket.MSG_DONTWAIT
            )  # a request that stays unread would turn the answer into a reset
        with suppress(OSError):
            connection.send(_NO_FILES, socket.MSG_DONTWAIT)
        connection.close()
        self._refused += 1
        now = self._loop.time()
        if now - self._logged >= _LOG_EVERY:
            logger.error(
                "%d connections were refused: %d of %d files are open; raise `ulimit -n`",
                self._refused,
                self._highest,
                self._files,
            )
            self._refused, self._logged = 0, now

    def _pause(self, error: OSError) -> None:
        """The socket stays readable: to look again at once would keep the event loop busy for nothing."""
        now = self._loop.time()
        if now - self._logged >= _LOG_EVERY:
            logger.error("no connection can be accepted: %s", error.strerror)
            self._logged = now
        self._loop.remove_reader(self._listener)
        self._resume = self._loop.call_later(_PAUSE, self._loop.add_reader, self._listener, self._accept)

    def _look(self, connection: socket.socket, client: Any) -> None:
        request = _peek(connection)
        if not request:  # nothing to do but to wait for it
            self._open(connection, client)
            return
        returning = b"last-event-id:" in request.lower() or b"lastEventId=" in request
        kind = Turn.RETURNING_CONNECTION if returning else Turn.CONNECTION
        self._turns.take(kind, partial(self._open, connection, client))

    def _open(self, connection: socket.socket, client: Any) -> None:
        if self._closed:
            connection.close()
            return
        connection.setblocking(False)
        protocol = partial(self._protocol, client, self._server)
        self._advance(self._loop.connect_accepted_socket(protocol, connection), connection)

    def _advance(self, opening: Coroutine[Any, Any, object], connection: socket.socket, *_: object) -> None:
        """Runs the opening of a connection up to its next wait, of which there is one: a task for it would cost more
        than the opening itself."""
        try:
            waits_for: asyncio.Future[object] = opening.send(None)
        except StopIteration:
            return
        except OSError:
            connection.close()  # the client has reset it meanwhile
        else:
            waits_for.add_done_callback(partial(self._advance, opening, connection))


def _peek(connection: socket.socket) -> bytes:
    """What the client has sent so far."""
    try:
        return connection.recv(_PEEKED, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""


def _spare_file() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None
