"""One timer for all readers: heartbeats, send deadlines, lifetimes.

A timer per reader would cost a heap operation per delivery. Here a delivery only stores the time, and a reader is
looked at when the first of its deadlines could be due; whatever has moved meanwhile just moves it on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..observe import logger

__all__ = ["Timed", "TimerWheel"]


class Timed(Protocol):
    def on_time(self, now: float) -> float | None:
        """Do what is due; the answer is when to look again (event loop time), None for never."""
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
        self._slots.clear()

    def add(self, item: Timed, when: float) -> None:
        slot = max(int(when / self._tick) + 1, self._at + 1)
        self._slots.setdefault(slot, []).append(item)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        current = int(now / self._tick)
        while self._at < current:
            self._at += 1
            for item in self._slots.pop(self._at, ()):
                try:
                    when = item.on_time(now)
                except Exception:
                    # One reader's outlet or dialect is broken: everybody else's deadlines hang on this loop.
                    logger.exception("a reader's deadline could not be kept")
                    continue
                if when is not None:
                    self.add(item, when)
        self._timer = loop.call_later(self._tick, self._turn, loop)
        self._on_tick()
