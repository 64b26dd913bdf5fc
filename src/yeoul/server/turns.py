"""Whose turn it is: what waits is done by kinds, a few of each in each turn of the event loop.

When thousands of readers come back at once, new clients, and the probes that ask whether the server is alive, are
answered between them, and rounds of delivery have their slices between them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum, auto
from weakref import WeakKeyDictionary

from ..observe import logger

__all__ = ["Turn", "Turns", "turns_of"]


class Turn(IntEnum):
    """Kinds of work, in the order in which they have their turn."""

    LOOK = 0  # at an accepted connection: has it sent a request, and is it one of a reader that comes back?
    REQUEST = auto()
    CONNECTION = auto()
    RETURNING_REQUEST = auto()
    RETURNING_CONNECTION = auto()
    LEAVING = auto()


# How much of a kind is done in one turn: all of it together takes a few milliseconds, and nothing waits for ever for
# what comes before it. Not more connections than requests: what is read of those that wait for their turn would fill
# the memory. More that leave than that come: a reader that has left still counts in the bounds on streams. With twice
# of each, events took more than two seconds to their readers on a busy machine.
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
        # uvloop's clock stands still during a turn of the loop: that is how a new turn is noticed for nothing.
        self._clock_has_turns = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        self._now = -1.0
        self._left = 0  # requests that may be done at once in this turn
        self._waiting: list[deque[Callable[[], None]]] = [deque() for _ in Turn]
        self._kinds = [(self._waiting[kind], most) for kind, most in _AT_ONCE.items()]
        self._handle: asyncio.Handle | None = None

    def take(self, kind: Turn, work: Callable[[], None]) -> None:
        self._waiting[kind].append(work)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def request(self, work: Callable[[], None]) -> None:
        """A new client's request: done at once where nothing waits, and not too many were in this turn of the loop."""
        if self._clock_has_turns and self._handle is None:
            now = asyncio.get_running_loop().time()
            if now != self._now:
                self._now, self._left = now, _AT_ONCE[Turn.REQUEST]
            if self._left:
                self._left -= 1
                work()
                return
        self.take(Turn.REQUEST, work)

    def _turn(self) -> None:
        again = False
        for waiting, most in self._kinds:
            if waiting:
                for _ in range(min(len(waiting), most)):
                    try:
                        waiting.popleft()()
                    except Exception:
                        logger.exception("what waited for its turn failed")
                again = again or bool(waiting)
        # What was done may have brought more work of a kind that had its turn.
        again = again or any(self._waiting)
        self._handle = asyncio.get_running_loop().call_soon(self._turn) if again else None


# The values must not hold their keys: a loop that is over would never be let go of.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Those of all connections of this event loop."""
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns()
    return turns
