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
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from weakref import WeakKeyDictionary

from ..observe import logger

__all__ = ["Acceptor", "Turn", "Turns", "turns_of"]


class Turn(Enum):
    """Kinds of work, in the order in which they have their turn."""

    LOOK = auto()  # at a connection that nothing was read from: who comes?
    REQUEST = auto()
    CONNECTION = auto()
    RETURNING_REQUEST = auto()
    RETURNING_CONNECTION = auto()
    LEAVING = auto()


# How much of a kind is done in one turn: all of it together takes a few milliseconds, and none waits for ever for those
# before it. Not more connections than requests: what is read of those that wait for their turn would fill the memory.
# More that leave than that come: whoever has left still counts in the bounds on streams. With twice of each, events
# took more than two seconds to their readers on a busy machine: rounds of delivery have their slices in between.
_AT_ONCE = {
    Turn.LOOK: 512,
    Turn.REQUEST: 8,
    Turn.CONNECTION: 8,
    Turn.RETURNING_REQUEST: 4,
    Turn.RETURNING_CONNECTION: 4,
    Turn.LEAVING: 32,
}


class Turns:
    """Does all that it has taken, each kind in the order in which it came. It holds a few things for each connection.
    One turn of this, then one of the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Turn, deque[Callable[[], None]]] = {kind: deque() for kind in Turn}
        self._handle: asyncio.Handle | None = None

    def take(self, kind: Turn, work: Callable[[], None]) -> None:
        self._waiting[kind].append(work)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        for kind, waiting in self._waiting.items():
            for _ in range(min(len(waiting), _AT_ONCE[kind])):
                try:
                    waiting.popleft()()
                except Exception:
                    logger.exception("what waited for its turn failed")
        again = any(self._waiting.values())
        self._handle = asyncio.get_running_loop().call_soon(self._turn) if again else None


# The values must not hold their keys: a loop that is over would never be let go of.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Those of all connections of this event loop."""
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns()
    return turns


# Connections taken before the event loop gets its turn.
_ACCEPTOR_AT_ONCE = 1_024
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
        for _ in range(_ACCEPTOR_AT_ONCE):
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
