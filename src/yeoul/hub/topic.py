"""A named sequence of frames, as one worker sees it: its journal and the readers that are up to date."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidTopic
from ..stream import Frame, Journal
from .broker import Broker
from .encoding import Encoding

if TYPE_CHECKING:
    from .subscription import Subscription

__all__ = ["MAX_TOPIC_LENGTH", "Topic", "TopicHold", "Topics", "check_topic"]

# Long enough for any path-like name with two UUIDs in it, short enough for keys, logs and labels.
MAX_TOPIC_LENGTH = 200

# Characters that patterns and query strings use, kept free in names.
_RESERVED = frozenset('*?#&%"<>\\^`{|}')


def check_topic(name: str) -> str:
    """The name, if it may be one: 1 to 200 characters in parts separated by `/`, such as `chat/general`; letters and
    digits of any script, and punctuation other than ``* ? # & % " < > \\ ^ ` { | }``; no space, control or invisible
    character, no empty, `.` or `..` part. Raises InvalidTopic, saying which rule is broken."""
    if not 1 <= len(name) <= MAX_TOPIC_LENGTH:
        raise InvalidTopic(f"a topic name has 1 to {MAX_TOPIC_LENGTH} characters, this one has {len(name)}")
    for char in name:
        # C: control, format, surrogate, private, unassigned; Z: separators. Look-alikes and log forgery live there.
        if char in _RESERVED or unicodedata.category(char)[0] in "CZ":
            raise InvalidTopic(
                f"topic name {name!r} has the character {char!r} (U+{ord(char):04X}): "
                "use letters, digits, '/', '-', '_', '.' and ':'"
            )
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidTopic(f"topic name {name!r} has an empty, '.' or '..' part: separate non-empty parts by one '/'")
    return name


class Topic:
    """Exists while it has readers. Only readers that have all of the journal stand in `groups` and `mixed`; one that
    lags is just its own cursor until it has caught up."""

    __slots__ = ("groups", "journal", "mixed", "name", "pending", "readers")

    def __init__(self, name: str, journal: Journal) -> None:
        self.name = name
        self.journal = journal
        self.readers = 0  # all of them, lagging ones too
        # Readers of this topic alone, by encoding: they all get the very same bytes. Dicts keep the order of joining.
        self.groups: dict[Encoding, dict[Subscription, None]] = {}
        self.mixed: dict[Encoding, dict[Subscription, None]] = {}  # readers of several topics
        self.pending: list[Frame] = []  # appended, not yet handed to the readers above

    @property
    def events(self) -> int:
        """Events kept."""
        return len(self.journal)

    @property
    def bytes(self) -> int:
        """What they count for (`Frame.size`)."""
        return self.journal.size

    def join(self, reader: Subscription) -> None:
        self._groups_of(reader).setdefault(reader.encoding, {})[reader] = None

    def leave(self, reader: Subscription) -> None:
        groups = self._groups_of(reader)
        group = groups.get(reader.encoding)
        if group is not None:
            group.pop(reader, None)
            if not group:
                del groups[reader.encoding]

    def _groups_of(self, reader: Subscription) -> dict[Encoding, dict[Subscription, None]]:
        return self.mixed if len(reader.topics) > 1 else self.groups

    def __repr__(self) -> str:
        return f"<Topic {self.name!r} {self.readers} readers, {self.journal!r}>"


class TopicHold:
    """Keeps a topic's data from being forgotten until `release` (idempotent); a context manager for a short time.

    Made by `Hub.hold`. `journal`: what is kept of the topic, up to date while it is held.
    """

    __slots__ = ("_broker", "_held", "journal", "topic")

    def __init__(self, broker: Broker, topic: str, journal: Journal) -> None:
        self._broker = broker
        self._held = True
        self.topic = topic
        self.journal = journal

    def release(self) -> None:
        if self._held:
            self._held = False
            self._broker.detach(self.topic)

    def __enter__(self) -> TopicHold:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Topics:
    """Those that have readers here, by name."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._all: dict[str, Topic] = {}

    def get(self, name: str) -> Topic | None:
        return self._all.get(name)

    async def attach(self, names: Sequence[str]) -> list[Topic]:
        """One more reader for each of them, or for none where it fails. Each is matched by one `detach`."""
        attached: list[Topic] = []
        try:
            for name in names:
                # The broker first: a topic that others are attaching at the same time counts one attach each.
                journal = await self._broker.attach(name)
                topic = self._all.get(name)
                if topic is None:
                    topic = self._all[name] = Topic(name, journal)
                topic.readers += 1
                attached.append(topic)
        except BaseException:
            self.detach(attached)
            raise
        return attached

    def detach(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            topic.readers -= 1
            if topic.readers == 0:
                del self._all[topic.name]
            self._broker.detach(topic.name)

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)
