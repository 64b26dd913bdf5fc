"""Whose turn it is, where thousands come or leave in the same moment.

When a network or a server was away, all readers are cut at once and come back at once. Done as it comes in, that would
keep the event loop for seconds, and nobody else would be answered meanwhile. Here it is done a few at a time: readers
that come back have a position and miss nothing by waiting a little more, and those who have left wait for nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from weakref import WeakKeyDictionary

from ..observe import logger

__all__ = ["Turn", "Turns", "turns_of"]


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
