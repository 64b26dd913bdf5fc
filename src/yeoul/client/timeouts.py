"""How long an upstream may take for each step of its answer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; None is no bound. Each has one meaning, and each attempt of a request has its own clocks.

    - `connect`: until there is a connection (name, TCP, TLS).
    - `first_byte`: from then until the head of the answer is complete.
    - `first_event`: from then (not from the head) until the first event. None: `idle`, counted from the head.
    - `idle`: between two events, while they are waited for.

    `comments_count`: comments, which servers send to keep a connection open, end a wait as events do. Without it a
    server that only sends comments is ended like one that is silent.

    Raises ValueError for a time that is not greater than 0.
    """

    connect: float | None = 5.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    first_event: float | None = None
    comments_count: bool = True

    def __post_init__(self) -> None:
        for name in ("connect", "first_byte", "idle", "first_event"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"invalid time-out {name}={seconds!r}: give seconds > 0, or None for no bound")
