"""How far a relayed stream may be ahead of its readers. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["Pace"]

# Bytes are counted in this many parts. Small publishes are joined until a part is full, so that the memory for counting
# is bounded however small they are.
_PARTS = 64


class Pace:
    """Counts the bytes that have not been sent to any reader. `limit`: how many there may be."""

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
        """`size` bytes have been published; the last event has this offset."""
        self.unread += size
        if self._parts and self._parts[-1][1] < self._part:
            size += self._parts.pop()[1]
        self._parts.append((offset, size))

    def read(self, offset: int) -> None:
        """The reader that is furthest has been sent everything up to this offset."""
        while self._parts and self._parts[0][0] <= offset:
            self.unread -= self._parts.popleft()[1]
