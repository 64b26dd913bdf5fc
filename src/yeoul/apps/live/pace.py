"""When changes among the members of a room are announced in it. Pure: the caller passes the time.

After a restart, or a lost network, all users are back within seconds: if each were announced, n users would be sent n
announcements.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["MAX_SINGLE", "MIN_PACE", "AnnouncementPace"]

# Changes of one room that are announced one by one; more are announced as one list.
MAX_SINGLE = 10

# Seconds between two announcements in one room: at least `MIN_PACE`, and so many more for each member that telling all
# of them takes a few percent of a core (a member costs about 10 µs), up to `_MAX_PACE`.
MIN_PACE = 0.25
_PER_MEMBER = 0.0004
_MAX_PACE = 10.0

# While a room is in a rush (more changes between two looks than are announced one by one) it waits so many times
# longer: those who enter are greeted with the members, and one list at the end of the rush is enough for all.
_RUSH = 4


class AnnouncementPace:
    """`minimum`: seconds between two announcements in a small room. The caller looks at all rooms with changes about as
    often."""

    def __init__(self, minimum: float = MIN_PACE) -> None:
        self._minimum = minimum
        self._announced: dict[str, float] = {}  # when, by room, while that delays the next announcement
        self._changes: dict[str, int] = {}  # how many there were when they were last looked at

    def is_due(self, room: str, *, members: int, changes: int, now: float) -> bool:
        """Whether to announce now: at once in a room that was not told lately. `members` and `changes`: how many the
        room has at the moment."""
        last = self._announced.get(room)
        rush = changes - self._changes.get(room, 0) > MAX_SINGLE
        self._changes[room] = changes
        return last is None or now - last >= self._pace(members, rush)

    def announced(self, room: str, now: float) -> None:
        self._announced[room] = now
        self._changes.pop(room, None)

    def forget(self, members: Callable[[str], int], now: float) -> bool:
        """Forgets the rooms whose next change may be announced at once. Whether any are left. `members`: how many
        a room has."""
        for room, at in list(self._announced.items()):
            if room not in self._changes and now - at >= self._pace(members(room), False):
                del self._announced[room]
        return bool(self._announced)

    def _pace(self, members: int, rush: bool) -> float:
        pace = max(self._minimum, _PER_MEMBER * members)
        return min(pace * _RUSH if rush else pace, _MAX_PACE)
