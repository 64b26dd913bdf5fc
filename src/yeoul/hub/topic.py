"""A named sequence of frames, as one process sees it: its journal, and the readers that have all of it.

Readers that have everything stand in *groups*. The readers of a group follow the same topics in the same encoding and
have the same events, so the position, the time of the last write and the counters are the group's, and a delivery to
it is a loop that writes the same bytes to each outlet. A reader that falls behind leaves its group and is its own
position until it has caught up.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import NamedTuple, Protocol

from ..errors import InvalidTopic
from ..observe import HubStats, logger
from ..stream import Frame, Journal
from .broker import Broker
from .encoding import HEARTBEAT, Encoding
from .reasons import ERROR, FINAL, EndReason

__all__ = ["MAX_TOPIC_LENGTH", "Group", "Member", "ReaderKind", "Topic", "TopicHold", "Topics", "check_topic"]

# Long enough for any path-like name with two UUIDs in it, short enough for keys, logs and labels.
MAX_TOPIC_LENGTH = 200

# Characters that patterns and query strings use, kept free in names.
_RESERVED = frozenset('*?#&%"<>\\^`{|}')


# Nearly all names: those that need no look at each character. The parts "." and ".." are left to that look.
_PLAIN = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.:-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.:-]+)*")


def check_topic(name: str) -> str:
    """Returns the name if it is valid: 1 to 200 characters in parts separated by `/`, such as `chat/general`; letters
    and digits of any script, and punctuation other than ``* ? # & % " < > \\ ^ ` { | }``; no space, control or
    invisible character, no empty, `.` or `..` part. Raises InvalidTopic, which says what rule is broken."""
    if not 1 <= len(name) <= MAX_TOPIC_LENGTH:
        raise InvalidTopic(f"a topic name has 1 to {MAX_TOPIC_LENGTH} characters, this one has {len(name)}")
    if _PLAIN.fullmatch(name) is not None:
        return name
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


# Readers of one group. A group is written to in one go, before the event loop has its turn: about 1.5 ms at 6 µs each.
_MAX_READERS = 256


class Member(Protocol):
    """What a group needs of a reader."""

    index: int  # its place in the group

    def joined(self, group: Group, index: int) -> None:
        """It stands in this group now: what is written to the group is written to it."""
        ...

    def parted(self) -> None:
        """It stands in its group no longer, and has what the group has had."""
        ...

    def end(self, reason: EndReason) -> None: ...


class ReaderKind(NamedTuple):
    """What the readers of a group have in common. `internal` readers are not counted."""

    topics: tuple[Topic, ...]
    encoding: Encoding
    until_final: bool
    internal: bool


class Group:
    """Readers of one kind that have the same events: all up to `offset` in all of their topics.

    `touched`: event loop time of the last write to all of them. `events` and `bytes` that were written so far.
    `older`: the next one of the same kind; all of a kind are a list that begins in `Topic.groups`.
    """

    __slots__ = (
        "_heartbeat",
        "_stats",
        "_writes",
        "bytes",
        "due",
        "events",
        "kind",
        "offset",
        "older",
        "place",
        "readers",
        "touched",
    )

    def __init__(
        self,
        kind: ReaderKind,
        *,
        offset: int,
        touched: float,
        older: Group | None,
        heartbeat: float,
        stats: HubStats,
    ) -> None:
        self.kind = kind
        self.offset = offset
        self.touched = touched
        self.older = older
        self.events = self.bytes = 0
        self.due = self.place = 0
        self.readers: list[Member] = []
        self._writes: list[Callable[[bytes], object]] = []
        self._heartbeat = heartbeat
        self._stats = stats

    def __len__(self) -> int:
        return len(self.readers)

    @property
    def full(self) -> bool:
        return len(self.readers) >= _MAX_READERS

    def chain(self) -> Iterator[Group]:
        """This group and all older ones of its kind."""
        group: Group | None = self
        while group is not None:
            yield group
            group = group.older

    def fits(self, other: Group) -> bool:
        """Whether there is room here for all readers of the other one."""
        return len(self.readers) + len(other.readers) < _MAX_READERS

    @property
    def current(self) -> bool:
        """Whether it has all frames of its topics: none of them waits for a round of delivery."""
        offset = self.offset
        return all(topic.journal.last <= offset for topic in self.kind.topics)

    def add(self, reader: Member, write: Callable[[bytes], object]) -> None:
        index = len(self.readers)
        self.readers.append(reader)
        self._writes.append(write)
        reader.joined(self, index)

    def remove(self, reader: Member) -> None:
        """The last one takes its place."""
        last, write = self.readers.pop(), self._writes.pop()
        if last is not reader:
            self.readers[reader.index] = last
            self._writes[reader.index] = write
            last.index = reader.index
        reader.parted()

    def absorb(self, other: Group) -> None:
        """Takes over all readers of another one that has the same events."""
        self.touched = min(self.touched, other.touched)
        self.offset = max(self.offset, other.offset)
        for reader, write in zip(other.readers, other._writes, strict=True):
            reader.parted()
            self.add(reader, write)
        other.readers.clear()
        other._writes.clear()

    def deliver(self, frames: Sequence[Frame], payload: bytes, now: float) -> None:
        """Hands out the frames, which follow on what the group has, encoded as `payload`.

        Not interrupted by the event loop. A reader whose outlet is full after its write leaves the group meanwhile.
        """
        last = frames[-1]
        self.offset = last.offset
        if payload:
            count = len(self.readers)
            self.touched = now
            self.events += len(frames)
            self.bytes += len(payload)
            self._write(payload)
            if not self.kind.internal:
                self._stats.delivered(count * len(frames), count * len(payload))
        if last.final and self.kind.until_final:
            self.end_all(FINAL)

    def end_all(self, reason: EndReason) -> None:
        for reader in self.readers[:]:
            reader.end(reason)

    def on_time(self, now: float) -> float | None:
        """`TimerWheel`: heartbeats."""
        if not self.readers:
            return None
        if now - self.touched >= self._heartbeat:
            payload = self.kind.encoding.wrap(HEARTBEAT)
            self.touched = now
            self.bytes += len(payload)
            if not self.kind.internal:
                self._stats.heartbeats += len(self.readers)
            self._write(payload)
        return self.touched + self._heartbeat

    def _write(self, payload: bytes) -> None:
        readers, writes = self.readers[:], self._writes[:]  # readers leave meanwhile
        left = iter(writes)
        while True:
            try:
                for write in left:
                    write(payload)
            except Exception:
                # An outlet that is broken ends its own reader; the round goes on for those after it.
                logger.exception("a reader could not be written to")
                readers[len(writes) - length_hint(left) - 1].end(ERROR)
            else:
                return

    def __repr__(self) -> str:
        names = [topic.name for topic in self.kind.topics]
        return f"<Group of {names} {len(self.readers)} readers at {self.offset}>"


class Topic:
    """Exists while it has readers. `readers` counts all of them, lagging ones too; those that have all of the journal
    stand in `groups`."""

    __slots__ = ("groups", "journal", "name", "pending", "readers")

    def __init__(self, name: str, journal: Journal) -> None:
        self.name = name
        self.journal = journal
        self.readers = 0
        self.groups: dict[ReaderKind, Group] = {}  # the newest one of each kind
        self.pending: list[Frame] = []  # appended, not yet handed to the groups

    @property
    def events(self) -> int:
        """Events kept."""
        return len(self.journal)

    @property
    def bytes(self) -> int:
        """What they count for (`Frame.size`)."""
        return self.journal.size

    def all_groups(self) -> Iterator[Group]:
        """Those of each kind from the oldest on."""
        for newest in self.groups.values():
            if newest.older is None:
                yield newest
            else:
                yield from reversed(list(newest.chain()))

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
    """The topics that have readers in this process, by name."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._all: dict[str, Topic] = {}

    def get(self, name: str) -> Topic | None:
        return self._all.get(name)

    async def attach(self, names: Sequence[str]) -> tuple[Topic, ...]:
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
        return tuple(attached)

    def detach(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            topic.readers -= 1
            if topic.readers == 0:
                del self._all[topic.name]
            self._broker.detach(topic.name)

    def reset(self) -> None:
        """Forgets what waits for a round of delivery that will not come."""
        for topic in self._all.values():
            topic.groups.clear()
            topic.pending.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)
