"""Where a reader's bytes go."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Outlet"]


class Outlet(Protocol):
    """Where a reader's bytes go. Calls `Subscription.resume` when it has room again, `close` when its client left."""

    @property
    def chunked(self) -> bool:
        """Whether it wants the chunk framing of HTTP/1.1."""
        ...

    @property
    def full(self) -> bool:
        """Whether its client takes nothing at the moment, so that what is written now would wait."""
        ...

    def write(self, payload: bytes) -> bool:
        """Takes all the bytes; False when it wants no more until it has called `resume`."""
        ...

    def finish(self, payload: bytes) -> None:
        """The last bytes, then the end of the response."""
        ...

    def abort(self) -> None:
        """The end at once, without waiting for the client."""
        ...
