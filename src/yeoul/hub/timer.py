"""One timer for all deadlines of a hub: heartbeats, send time-outs, lifetimes.

A timer for each reader would cost a heap operation per delivery. Here a delivery only stores the time, and an item is
looked at when the first of its deadlines could be due; whatever has moved meanwhile just moves it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..observe import logger

__all__ = ["Timed", "TimerWheel"]


class Timed(Protocol):
    """`due` and `place` belong to the wheel: the slot in which it looks at this item next (0 for none), and where in
    that slot the item stands."""

    due: int
    place: int

    def on_time(self, now: float) -> float | None:
        """Does what is due. Returns when to look again (event loop time), None for never."""
        ...


class TimerWheel:
    """`tick`: resolution in seconds; nothing is early, and nothing is later than about one tick."""

    def __init__(self, tick: float, on_tick: Callable[[], None] = lambda: None) -> None:
        self._tick = tick
        self._on_tick = on_tick
        self._slots: dict[int, list[Timed]] = {}
        self._at = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._at = int(loop.time() / self._tick)
            self._timer = loop.call_later(self._tick, self._turn, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for items in self._slots.values():
            for item in items:
                item.due = 0
        self._slots.clear()

    def add(self, item: Timed, when: float) -> None:
        """Looks at the item at this time, if not before."""
        slot = max(int(when / self._tick) + 1, self._at + 1)
        if 0 < item.due <= slot:
            return
        self.remove(item)
        items = self._slots.setdefault(slot, [])
        item.due, item.place = slot, len(items)
        items.append(item)

    def remove(self, item: Timed) -> None:
        """Looks at the item no more, and does not keep it in memory."""
        if not item.due:
            return
        items = self._slots[item.due]
        last = items.pop()
        if last is not item:
            items[item.place] = last
            last.place = item.place
        elif not items:
            del self._slots[item.due]
        item.due = 0

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        current = int(now / self._tick)
        while self._at < current:
            self._at += 1
            items = self._slots.pop(self._at, ())
            for item in items:
                item.due = 0
            for item in items:
                self._look(item, now)
        self._timer = loop.call_later(self._tick, self._turn, loop)
        self._on_tick()

    def _look(self, item: Timed, now: float) -> None:
        try:
            when = item.on_time(now)
        except Exception:
            # One reader's outlet or encoding is broken: the deadlines of all others depend on this loop.
            logger.exception("a deadline could not be met")
            return
        if when is not None:
            self.add(item, when)
