"""How far a relayed stream may be ahead of those who read it. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["Pace"]

# Parts that the bytes in flight are counted in: publishes are joined until a part is full, so that counting costs
# nothing in memory however small they are.
_PARTS = 64


class Pace:
    """Counts the bytes that no reader has been given yet. `limit`: how many there may be."""

    __slots__ = ("_limit", "_part", "_parts", "unread")

    def __init__(self, limit: int) -> None:
        self.unread = 0
        self._limit = limit
        self._part = max(1, limit // _PARTS)
        self._parts: deque[tuple[int, int]] = deque()  # (offset of the last event, bytes)

    @property
    def full(self) -> bool:
        return self.unread > self._limit

    def add(self, offset: int, size: int) -> None:
        """Bytes that now stand up to this offset."""
        self.unread += size
        if self._parts and self._parts[-1][1] < self._part:
            size += self._parts.pop()[1]
        self._parts.append((offset, size))

    def read(self, offset: int) -> None:
        """The foremost reader has been given all up to this offset."""
        while self._parts and self._parts[0][0] <= offset:
            self.unread -= self._parts.popleft()[1]
