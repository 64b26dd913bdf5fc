"""Chat rooms and the people in them: told to everybody who follows `chat/<room>/presence`."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Sequence

from ...errors import EventTooLarge, HubClosed, TooManyTopics
from ...hub import EndReason, Hub, Subscription
from ...hub.reasons import KICKED, REVOKED
from ...observe import logger
from ...sse import Event, json_data
from .presence import Change, Person, Presence
from .senders import sendable, timestamp

__all__ = ["Rooms", "check_room", "presence_topic", "room_topic"]

_MAX_ROOM = 64
# To compose a name takes the square of its length, and the event loop meanwhile: no composed character is written with
# more than four.
_MAX_WRITTEN = 4 * _MAX_ROOM
_MARKS = frozenset("-_.")

# People whom a list of a room names; all are counted.
_MOST_LISTED = 100
# Seconds between two tellings of who came and went, and how many in one room are told one by one. After a restart, or
# the loss of a network, everybody is back within seconds: told one by one, n people would be told of n people.
_PACE = 0.25
_ONE_BY_ONE = 10
# Seconds until a room is told again after the broker has failed.
_AGAIN = 5.0

# Why a stream ended whose user does not come back by itself.
_FOR_GOOD = frozenset({KICKED, REVOKED})


def check_room(name: str) -> str:
    """The room's name, composed (NFC): two that look the same are one. Raises ValueError for what is none."""
    if len(name) <= _MAX_WRITTEN:
        name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= _MAX_ROOM:
        raise ValueError(f"a room's name has 1 to {_MAX_ROOM} characters, not {len(name)}")
    if name in (".", "..") or not all(unicodedata.category(char)[0] in "LMN" or char in _MARKS for char in name):
        raise ValueError("a room's name is made of letters and digits of any script, '-', '_' and '.'")
    return name


def room_topic(room: str) -> str:
    return f"chat/{room}"


def presence_topic(room: str) -> str:
    return f"chat/{room}/presence"


class Rooms:
    """Watches who reads `chat/<room>`, by whichever route. Only known users are people: others have no name to show.

    Who is here is known of this process alone. `grace` in seconds, as in `Presence`.
    """

    def __init__(self, hub: Hub, *, grace: float) -> None:
        self._hub = hub
        self._presence = Presence(grace=grace)
        self._timer: asyncio.TimerHandle | None = None
        self._telling = False
        self._untold: dict[str, None] = {}  # rooms that could not be told of a change: the whole list mends it
        hub.components.setdefault(Rooms, self)
        hub.watch("chat/*", self._on_reader)
        hub.before_close(self._close)

    @property
    def rooms(self) -> int:
        """Rooms that somebody known is in."""
        return self._presence.rooms

    @property
    def places(self) -> int:
        """Known users in rooms, once for each room."""
        return self._presence.places

    def people(self, room: str) -> dict[str, object]:
        """What `presence` says of a room: it replaces what one knew."""
        people, count = self._presence.people(room, _MOST_LISTED)
        return {"roomId": room, "users": [_shown(person) for person in people], "count": count}

    def greeting(self, room: str) -> Event:
        return Event(json_data(self.people(room)), "presence")

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_reader(self, topic: str, reader: Subscription, reason: EndReason | None) -> None:
        room, user = _room_of(topic), reader.principal.user
        # Whoever is sent away by a server that ends will come back to the next one: nobody has left.
        if room is None or user is None or self._hub.draining:
            return
        if reason is None:
            name = reader.principal.name
            self._presence.arrive(reader, room, sendable(user), None if name is None else sendable(name), timestamp())
        else:
            self._presence.depart(reader, room, self._hub.loop.time(), for_good=reason in _FOR_GOOD)
        self._follow_up()

    def _follow_up(self) -> None:
        due = self._presence.next_expiry
        if due is not None and self._timer is None:
            self._timer = self._hub.loop.call_at(due, self._on_time)
        if self._presence.changed and not self._telling:
            self._telling = True
            self._hub.spawn(self._tell())

    def _on_time(self) -> None:
        self._timer = None
        if not self._hub.draining:
            self._presence.expire(self._hub.loop.time())
            self._follow_up()

    async def _tell(self) -> None:
        try:
            while self._presence.changed or self._untold:
                changes = self._presence.changes()
                untold, self._untold = self._untold, {}
                for room in dict.fromkeys((*changes, *untold)):
                    whole = room in untold or len(changes[room]) > _ONE_BY_ONE
                    told = [self.greeting(room)] if whole else [_told(room, change) for change in changes[room]]
                    await self._publish(room, told)
                await asyncio.sleep(_AGAIN if self._untold else _PACE)
        except HubClosed:
            pass
        finally:
            self._telling = False

    async def _publish(self, room: str, events: Sequence[Event]) -> None:
        try:
            await self._hub.publish(presence_topic(room), *events)
        except HubClosed:
            raise
        except (TooManyTopics, EventTooLarge) as error:
            # A topic that cannot be made has no readers who could miss this; those to come are greeted with the list.
            logger.warning("who is in room %r could not be told: %s", room, error)
        except Exception:
            logger.exception("who is in room %r could not be told", room)
            self._untold[room] = None


def _room_of(topic: str) -> str | None:
    """The room whose messages the topic holds; None for what is no room."""
    kind, _, room = topic.partition("/")
    try:
        return room if kind == "chat" and check_room(room) == room else None
    except ValueError:
        return None


def _shown(person: Person) -> dict[str, str | None]:
    return {"id": person.user, "name": person.name, "since": person.since}


def _told(room: str, change: Change) -> Event:
    data = {"roomId": room, "user": _shown(change.person), "timestamp": timestamp()}
    return Event(json_data(data), "join" if change.joined else "leave")
