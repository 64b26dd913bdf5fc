"""Chat rooms and their members: announced to the readers of `chat/<room>/presence`."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from ...errors import EventTooLarge, HubClosed, TooManyTopics
from ...hub import EndReason, Hub, Subscription
from ...hub.reasons import KICKED, REVOKED
from ...observe import logger
from ...sse import Event, json_data
from .pace import MAX_SINGLE, MIN_PACE, AnnouncementPace
from .presence import Change, Presence
from .sender import replace_surrogates
from .timestamp import timestamp

__all__ = ["Rooms", "check_room", "presence_topic", "room_topic"]

_MAX_ROOM = 64
# Normalizing a name takes time that grows with the square of its length, and the event loop waits meanwhile: no
# composed character is written with more than four.
_MAX_WRITTEN = 4 * _MAX_ROOM
_MARKS = frozenset("-_.")

# Seconds between two looks at the rooms with changes, and before another attempt where the broker has failed.
_PACE = MIN_PACE
_RETRY = 5.0

# Reasons for which a stream ends whose user cannot come back.
_PERMANENT = frozenset({KICKED, REVOKED})


@lru_cache(maxsize=1_024)  # of valid names: an error is not kept
def check_room(name: str) -> str:
    """The room's name in its composed form (NFC): two names that look the same are one. Raises ValueError for an
    invalid name."""
    if len(name) <= _MAX_WRITTEN:
        name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= _MAX_ROOM:
        raise ValueError(f"a room's name has 1 to {_MAX_ROOM} characters, not {len(name)}")
    if name in (".", "..") or not all(unicodedata.category(char)[0] in "LMN" or char in _MARKS for char in name):
        raise ValueError("a room's name consists of letters and digits of any script, '-', '_' and '.'")
    return name


def room_topic(room: str) -> str:
    return f"chat/{room}"


def presence_topic(room: str) -> str:
    return f"chat/{room}/presence"


class Rooms:
    """Watches who reads `chat/<room>`, by whatever route. Only authenticated users are members: others have no name.

    It knows the readers of this process only. `grace`: seconds, as in `Presence`. Raises ValueError if the hub has
    rooms already.
    """

    def __init__(self, hub: Hub, *, grace: float) -> None:
        self._hub = hub
        self._grace = grace
        self._reset()
        hub.watch("chat/*", self._on_reader)
        hub.before_close(self._close)
        hub.on_reopen(self._reset)

    @property
    def count(self) -> int:
        """Rooms with at least one member."""
        return self._presence.rooms

    @property
    def places(self) -> int:
        """Members of all rooms, counted once per room."""
        return self._presence.places

    def state(self, room: str) -> str:
        """Who is in the room, as the JSON of a `presence` event: it replaces what a reader knew. It names the first
        members and counts all."""
        members, count = self._presence.members_json(room), self._presence.count(room)
        return f'{{"roomId": {json_data(room)}, "users": {members}, "count": {count}}}'

    def greeting(self, room: str) -> Event:
        """For a reader that has just been subscribed."""
        return Event(self.state(room), "presence")

    def _reset(self) -> None:
        """At the start; and when the hub is opened again: its readers, tasks and timers of before are gone."""
        self._presence = Presence(grace=self._grace)
        self._timer: asyncio.TimerHandle | None = None
        self._announcing = False
        self._pace = AnnouncementPace(_PACE)
        self._failed: set[str] = set()  # rooms whose last announcement failed: they are sent the whole list

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_reader(self, topic: str, reader: Subscription, reason: EndReason | None) -> None:
        room, user = _room_of(topic), reader.principal.user
        # Readers that a draining server sends away come back to the next one: their users have not left.
        if room is None or user is None or self._hub.draining:
            return
        if reason is None:
            name = reader.principal.name
            name = None if name is None else replace_surrogates(name)
            self._presence.arrive(reader, room, replace_surrogates(user), name, timestamp())
        else:
            self._presence.depart(reader, room, self._hub.loop.time(), permanent=reason in _PERMANENT)
        self._schedule()

    def _schedule(self) -> None:
        due = self._presence.next_expiry
        if due is not None and self._timer is None:
            self._timer = self._hub.loop.call_at(due, self._on_time)
        if self._presence.changed and not self._announcing:
            self._announcing = True
            self._hub.spawn(self._announce())

    def _on_time(self) -> None:
        self._timer = None
        if not self._hub.draining:
            self._presence.expire(self._hub.loop.time())
            self._schedule()

    async def _announce(self) -> None:
        """Runs until all changes are announced and no room has to wait any more."""
        waiting = True
        try:
            while self._presence.changed or self._failed or waiting:
                for room in self._due():
                    await self._publish(room)
                await asyncio.sleep(_RETRY if self._failed else _PACE)
                waiting = self._pace.forget(self._presence.count, self._hub.loop.time())
        except HubClosed:
            pass
        finally:
            self._announcing = False

    def _due(self) -> list[str]:
        presence, now = self._presence, self._hub.loop.time()
        return [
            room
            for room in dict.fromkeys((*presence.changed, *self._failed))
            if self._pace.is_due(room, members=presence.count(room), changes=presence.pending(room), now=now)
        ]

    async def _publish(self, room: str) -> None:
        changes, failed = self._presence.changes(room), room in self._failed
        self._failed.discard(room)
        self._pace.announced(room, self._hub.loop.time())
        whole = failed or len(changes) > MAX_SINGLE
        events = [self.greeting(room)] if whole else list(_announcements(room, changes))
        try:
            await self._hub.publish(presence_topic(room), *events)
        except HubClosed:
            raise
        except (TooManyTopics, EventTooLarge) as error:
            # A topic that cannot be created has no readers who could miss this; later ones are greeted with the list.
            logger.warning("the members of room %r could not be announced: %s", room, error)
        except Exception:
            logger.exception("the members of room %r could not be announced", room)
            self._failed.add(room)


@lru_cache(maxsize=1_024)
def _room_of(topic: str) -> str | None:
    """The room whose messages the topic holds; None if it is not the topic of a room."""
    kind, _, room = topic.partition("/")
    try:
        return room if kind == "chat" and check_room(room) == room else None
    except ValueError:
        return None


def _announcements(room: str, changes: Sequence[Change]) -> Iterator[Event]:
    now = timestamp()
    for change in changes:
        data = {"roomId": room, "user": change.member.shown(), "timestamp": now}
        yield Event(json_data(data), "join" if change.joined else "leave")
