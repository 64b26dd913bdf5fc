"""Who is in which room. Pure: the caller says what time it is, and passes on what has changed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice

__all__ = ["Change", "Person", "Presence"]

# A room, and a user in it.
_Place = tuple[str, str]


@dataclass(slots=True)
class Person:
    """Somebody in a room. `since`: when that one came, as text; `readers`: streams that are open now."""

    user: str
    name: str | None
    since: str
    readers: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody has come (`joined`), or gone."""

    person: Person
    joined: bool


class Presence:
    """A user is in a room from the first stream of it on until `grace` seconds after the last one has ended, however
    many there are: two tabs are one person, and a reconnect is nothing that has happened.

    `max_places` bounds what is remembered (a place is one user in one room): over it those who are only in their grace
    go early, then newcomers are not counted. Times are seconds of one clock that never goes back.
    """

    def __init__(self, *, grace: float, max_places: int = 100_000) -> None:
        self._grace = grace
        self._max_places = max_places
        self._rooms: dict[str, dict[str, Person]] = {}
        self._readers: dict[tuple[Hashable, str], str] = {}  # by reader and room, whose it is
        self._places = 0
        self._absent: dict[_Place, float] = {}  # when their grace ends: in this order, since all have the same
        self._changed: dict[_Place, Change] = {}  # the last one of each place

    def arrive(self, reader: Hashable, room: str, user: str, name: str | None, since: str) -> None:
        """A stream of this user's begins. Said again of the same reader, it changes nothing."""
        if (reader, room) not in self._readers and self._take((room, user), name, since):
            self._readers[reader, room] = user

    def depart(self, reader: Hashable, room: str, now: float, *, for_good: bool = False) -> None:
        """A stream has ended. `for_good`: it was ended by somebody who may, and no grace is given."""
        user = self._readers.pop((reader, room), None)
        if user is None:
            return
        person = self._rooms[room][user]
        person.readers -= 1
        if person.readers:
            return
        if for_good or not self._grace:
            self._remove((room, user))
        else:
            self._absent[room, user] = now + self._grace

    def expire(self, now: float) -> None:
        """Those whose grace is over are gone."""
        while self._absent:
            place, until = next(iter(self._absent.items()))
            if until > now:
                return
            self._remove(place)

    @property
    def rooms(self) -> int:
        """Rooms that somebody is in."""
        return len(self._rooms)

    @property
    def places(self) -> int:
        """Users in rooms, once for each room."""
        return self._places

    @property
    def next_expiry(self) -> float | None:
        """When `expire` has something to do."""
        return next(iter(self._absent.values()), None)

    @property
    def changed(self) -> bool:
        """Whether `changes` has something to say."""
        return bool(self._changed)

    def changes(self) -> dict[str, list[Change]]:
        """By room, who has come or gone since this was last asked: of whoever did both, what was last. That one is not
        left out, because somebody may have read a list (`people`) in between."""
        found: dict[str, list[Change]] = {}
        for (room, _), change in self._changed.items():
            found.setdefault(room, []).append(change)
        self._changed.clear()
        return found

    def people(self, room: str, most: int) -> tuple[list[Person], int]:
        """Those in the room, `most` of them at most, the longest there first; and how many there are."""
        people = self._rooms.get(room, {})
        return list(islice(people.values(), most)), len(people)

    def __repr__(self) -> str:
        return f"<Presence {self._places} places in {len(self._rooms)} rooms, {len(self._absent)} in grace>"

    def _take(self, place: _Place, name: str | None, since: str) -> bool:
        room, user = place
        person = self._rooms.get(room, {}).get(user)
        if person is None:
            if self._places >= self._max_places and self._absent:
                self._remove(next(iter(self._absent)))
            if self._places >= self._max_places:
                return False
            person = self._rooms.setdefault(room, {})[user] = Person(user, name, since)
            self._places += 1
            self._changed[place] = Change(person, joined=True)
        self._absent.pop(place, None)
        person.name = name
        person.readers += 1
        return True

    def _remove(self, place: _Place) -> None:
        room, user = place
        self._absent.pop(place, None)
        people = self._rooms[room]
        self._changed[place] = Change(people.pop(user), joined=False)
        if not people:
            del self._rooms[room]
        self._places -= 1
