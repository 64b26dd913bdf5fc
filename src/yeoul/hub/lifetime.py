"""How long a stream may last: its longest time, and the end of its reader's token. Pure: the caller says what time it
is."""

from __future__ import annotations

from math import inf

from ..stream.retry import jitter

__all__ = ["Lifetime"]

# Seconds before a token's end at which its reader is told; a fifth of what is left where that is less.
_REMINDER = 60.0


class Lifetime:
    """Times of the event loop, in seconds. `reminder`: when the reader is to be told that its token is about to end;
    `ends`: when the stream has to, for `reason`.

    `expires` is Unix time, as tokens have it, `unix` the same moment as `now`. The difference is taken once: setting
    this machine's clock neither lengthens nor cuts the streams that are open.
    """

    __slots__ = ("_expiry", "ends", "expires", "reason", "reminder")

    def __init__(self, now: float, unix: float, *, longest: float | None, expires: float | None) -> None:
        self.ends = inf if longest is None else now + jitter(longest)
        self.reason = "lifetime"
        self.reminder = inf
        self.expires = expires
        self._expiry = inf
        if expires is not None:
            left = expires - unix
            self._expiry = now + left
            self.reminder = self._expiry - min(_REMINDER, left / 5)
            if self._expiry <= self.ends:
                self.ends, self.reason = self._expiry, "expired"

    @property
    def due(self) -> float:
        """When something is to be done next."""
        return min(self.reminder, self.ends)

    def left(self, now: float) -> float:
        """Seconds until the token's end."""
        return max(0.0, self._expiry - now)

    def reminded(self) -> None:
        self.reminder = inf
