"""What may be published."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EventTooLarge
from ..sse import Event

__all__ = ["check_events"]


def check_events(events: Sequence[Event], max_bytes: int) -> None:
    """`max_bytes` bounds each one's data. Raises EventTooLarge, ValueError."""
    if not events:
        raise ValueError("publish at least one event")
    for event in events:
        # Characters first: a cheap bound below which the bytes cannot be over it (UTF-8 has at most 4 a character).
        if len(event.data) * 4 > max_bytes:
            size = len(event.data.encode())
            if size > max_bytes:
                raise EventTooLarge(size, max_bytes)
        if event.id is not None:
            raise ValueError("publish an event without an id: the hub gives each its place in the order")
        if event.type.startswith("stream."):
            raise ValueError(f"event types that begin with 'stream.' are the server's own: {event.type!r}")
