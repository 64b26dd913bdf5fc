"""Deadlines that are all equally long, for any number of connections, with one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls `expired(item)` for each item that was started and not cancelled within `seconds`.

    All deadlines are equally long, so the first to start is the first to expire, and a dict keeps that order: starting
    and cancelling one costs a dict operation. A timer per connection would cost two heap operations per request.
    """

    __slots__ = ("_due", "_expired", "_loop", "_timer", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[T], None]) -> None:
        self.seconds = seconds
        self._loop = loop
        self._expired = expired
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def start(self, item: T) -> None:
        """Does nothing where the item's deadline runs already."""
        if item in self._due:
            return
        due = self._due[item] = self._loop.time() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._check)

    def cancel(self, item: T) -> None:
        """Does nothing where the item has no deadline."""
        self._due.pop(item, None)

    def _check(self) -> None:
        now = self._loop.time()
        late: list[T] = []
        for item, due in self._due.items():
            if due > now:
                break
            late.append(item)
        # Where this process had no processor for a while, what it waits for may be here already: what the sockets hold
        # is read before these expire. (uvloop runs the first of the two before it looks at the sockets.)
        self._loop.call_soon(self._loop.call_soon, self._expire, late)

    def _expire(self, late: list[T]) -> None:
        now = self._loop.time()
        for item in late:
            if self._due.get(item, inf) <= now:
                del self._due[item]
                self._expired(item)
        first = next(iter(self._due.values()), None)
        self._timer = None if first is None else self._loop.call_at(first, self._check)
