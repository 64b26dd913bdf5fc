"""Which users are in which room. Pure: the caller passes the time and the streams that begin and end.

A user is in a room from the first stream of it on until a grace period after the last one has ended, however many
streams there are: two tabs are one user, and a reconnect is no event.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ...sse import json_data

__all__ = ["MAX_LISTED", "Change", "Member", "Presence"]

# Members that the list of a room names, those who entered first; all of them are counted.
MAX_LISTED = 100

# Members removed by one call of `expire`: about 2 ms of work.
_MAX_EXPIRED = 2_000

# A room, and a user in it.
_Place = tuple[str, str]


@dataclass(slots=True)
class Member:
    """A user in a room. `since`: when the user entered, as text; `streams`: how many are open now."""

    user: str
    name: str | None
    since: str
    streams: int = 0

    def shown(self) -> dict[str, str | None]:
        """As other users see the member."""
        return {"id": self.user, "name": self.name, "since": self.since}


class Change(NamedTuple):
    """A user has entered the room (`joined`), or left it."""

    member: Member
    joined: bool


class _Room:
    """The members of one room, in the order in which they entered, and the JSON list of the first of them: built when
    it is asked for, and again only after a change to one of those whom it names."""

    __slots__ = ("_json", "_listed", "members")

    def __init__(self) -> None:
        # Ordered: those who entered first are removed first, and a plain dict would walk over all their empty slots
        # each time that its first items are read.
        self.members: OrderedDict[str, Member] = OrderedDict()
        self._listed: frozenset[str] = frozenset()
        self._json: str | None = None

    def add(self, member: Member) -> None:
        self.members[member.user] = member
        if len(self._listed) < MAX_LISTED:
            self._json = None

    def remove(self, user: str) -> Member:
        self.outdate(user)
        return self.members.pop(user)

    def outdate(self, user: str) -> None:
        """This member is shown differently from now on."""
        if user in self._listed:
            self._json = None

    def listed(self) -> list[Member]:
        return list(islice(self.members.values(), MAX_LISTED))

    def json(self) -> str:
        if self._json is None:
            listed = self.listed()
            self._listed = frozenset(member.user for member in listed)
            self._json = json_data([member.shown() for member in listed])
        return self._json


class Presence:
    """`grace`: seconds for which a user without a stream stays in the room. `max_places` bounds the memory (a place is
    one user in one room): at the bound, users in their grace period are removed early, and after that newcomers are
    not counted. Times are seconds of one clock that never goes back.
    """

    def __init__(self, *, grace: float, max_places: int = 100_000) -> None:
        self._grace = grace
        self._max_places = max_places
        self._rooms: dict[str, _Room] = {}
        self._streams: dict[tuple[Hashable, str], str] = {}  # the user, by stream and room
        self._places = 0
        self._absent: OrderedDict[_Place, float] = OrderedDict()  # when the grace period ends: in this order
        self._changes: dict[str, dict[str, Change]] = {}  # the last one of each user, by room

    def arrive(self, stream: Hashable, room: str, user: str, name: str | None, since: str) -> None:
        """A stream of this user begins. Repeated for the same stream, it has no effect."""
        if (stream, room) not in self._streams and self._enter(room, user, name, since):
            self._streams[stream, room] = user

    def depart(self, stream: Hashable, room: str, now: float, *, permanent: bool = False) -> None:
        """A stream has ended. `permanent`: the user cannot come back, so there is no grace period."""
        user = self._streams.pop((stream, room), None)
        if user is None:
            return
        member = self._rooms[room].members[user]
        member.streams -= 1
        if member.streams:
            return
        if permanent or not self._grace:
            self._leave(room, user)
        else:
            self._absent[room, user] = now + self._grace

    def expire(self, now: float) -> None:
        """Removes users whose grace period is over, a bounded number in one call: `next_expiry` says when to call it
        again."""
        for _ in range(_MAX_EXPIRED):
            until = self.next_expiry
            if until is None or until > now:
                return
            self._leave(*next(iter(self._absent)))

    @property
    def rooms(self) -> int:
        """Rooms with at least one member."""
        return len(self._rooms)

    @property
    def places(self) -> int:
        """Members of all rooms, counted once per room."""
        return self._places

    @property
    def next_expiry(self) -> float | None:
        """When `expire` is to be called next; None if no user is in the grace period."""
        return next(iter(self._absent.values()), None)

    @property
    def changed(self) -> Iterable[str]:
        """The rooms for which `changes` has something."""
        return self._changes.keys()

    def changes(self, room: str) -> list[Change]:
        """Who has entered or left the room since the last call. Of a user who did both, the last is included: a reader
        may have been given the list of the room in between."""
        return list(self._changes.pop(room, {}).values())

    def pending(self, room: str) -> int:
        """How many changes `changes` has for the room."""
        return len(self._changes.get(room, ()))

    def count(self, room: str) -> int:
        """How many members the room has."""
        found = self._rooms.get(room)
        return 0 if found is None else len(found.members)

    def members(self, room: str) -> list[Member]:
        """The first members of the room, at most `MAX_LISTED`."""
        found = self._rooms.get(room)
        return [] if found is None else found.listed()

    def members_json(self, room: str) -> str:
        """The same as a JSON list of objects with `id`, `name` and `since`. Costs nothing while it has not changed."""
        found = self._rooms.get(room)
        return "[]" if found is None else found.json()

    def __repr__(self) -> str:
        return f"<Presence {self._places} places in {len(self._rooms)} rooms, {len(self._absent)} in the grace period>"

    def _enter(self, name_of_room: str, user: str, name: str | None, since: str) -> bool:
        room = self._rooms.get(name_of_room)
        member = None if room is None else room.members.get(user)
        if room is None or member is None:
            if self._places >= self._max_places and self._absent:
                self._leave(*next(iter(self._absent)))
            if self._places >= self._max_places:
                return False
            member = Member(user, name, since)
            # Looked up again: the user who has just been removed may have been the last one in this room.
            self._rooms.setdefault(name_of_room, _Room()).add(member)
            self._places += 1
            self._note(name_of_room, Change(member, joined=True))
        else:
            self._absent.pop((name_of_room, user), None)
            if member.name != name:
                member.name = name
                room.outdate(user)
        member.streams += 1
        return True

    def _leave(self, name_of_room: str, user: str) -> None:
        self._absent.pop((name_of_room, user), None)
        room = self._rooms[name_of_room]
        self._note(name_of_room, Change(room.remove(user), joined=False))
        if not room.members:
            del self._rooms[name_of_room]
        self._places -= 1

    def _note(self, room: str, change: Change) -> None:
        self._changes.setdefault(room, {})[change.member.user] = change
