"""Who is typing in which room, announced no more often than readers need. Pure: the caller passes the time."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["TYPING_S", "Typists"]

# Seconds for which an announcement that a user types is valid: clients that show it remove it after that.
TYPING_S = 3.0


class Typists:
    """`pause`: seconds between two announcements of one user in one room. Remembers the last announcements of `limit`
    users; a user who was forgotten is announced once more than necessary."""

    def __init__(self, *, pause: float = TYPING_S, limit: int = 10_000) -> None:
        self._pause = pause
        self._limit = limit
        # When a user was last announced as typing in a room, and whether that is still what readers show.
        self._announced: OrderedDict[tuple[str, str], tuple[float, bool]] = OrderedDict()

    def should_announce(self, room: str, user: str, typing: bool, now: float) -> bool:
        """Whether to announce it in the room: that a user types once per `pause`, that the user has stopped once."""
        place = (room, user)
        at, shown = self._announced.get(place, (float("-inf"), False))
        recent = now - at < self._pause
        if typing:
            if recent:
                return False
            self._announced[place] = (now, True)
        else:
            if not (recent and shown):
                return False
            self._announced[place] = (at, False)
        self._announced.move_to_end(place)
        if len(self._announced) > self._limit:
            self._announced.popitem(last=False)
        return True
