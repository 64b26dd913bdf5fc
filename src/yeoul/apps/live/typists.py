"""Who is typing, told no more often than people look. Pure: the caller says what time it is."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["TYPING_S", "Typists"]

# Seconds for which a word of somebody's typing holds: clients that show it take it away after that.
TYPING_S = 3.0


class Typists:
    """Remembers `most` users' last words, the oldest of which are forgotten first: that costs one more event."""

    def __init__(self, *, pause: float = TYPING_S, most: int = 10_000) -> None:
        self._pause = pause
        self._most = most
        # When it was last told that somebody types in a room, and whether that was taken back since.
        self._told: OrderedDict[tuple[str, str], tuple[float, bool]] = OrderedDict()

    def worth_telling(self, room: str, user: str, typing: bool, now: float) -> bool:
        """Whether others should hear this: that somebody types once per `pause`, that one has stopped once after it."""
        place = (room, user)
        at, types = self._told.get(place, (float("-inf"), False))
        recent = now - at < self._pause
        if typing:
            if recent:
                return False
            self._told[place] = (now, True)
        else:
            if not (recent and types):
                return False
            self._told[place] = (at, False)
        self._told.move_to_end(place)
        if len(self._told) > self._most:
            self._told.popitem(last=False)
        return True
