"""Where a reader begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ..stream import Cursor, GapReason
from .broker import Broker
from .topic import Topic

__all__ = ["Lost", "Place", "place_of"]

# A position that no journal can be read from, and why.
Lost = tuple[Cursor, GapReason]


class Place(NamedTuple):
    """`floors`: by topic, what the reader goes on from where its offset is lower, since it did not ask for what was
    before. One for all topics would hide what is let go between the lower and the higher."""

    offset: int
    floors: list[int]
    lost: Lost | None = None


def place_of(
    broker: Broker,
    topics: Sequence[Topic],
    after: Cursor | None,
    newest: int | Mapping[str, int],
    afresh: Collection[str],
) -> Place:
    """`after`: the position that it had, `newest`: how many of the events kept a new reader begins with, `afresh`: the
    topics in which one that comes back begins so, too."""
    again = [after is None or topic.name in afresh for topic in topics]
    floors = [_start(topic, newest, broker.head) if new else 0 for topic, new in zip(topics, again, strict=True)]
    lost = None if after is None else _loss(broker, after)
    if after is None or (lost is not None and all(again)):
        return Place(min(floors), floors)
    return Place(after.offset if lost is None else 0, floors, lost)


def _start(topic: Topic, newest: int | Mapping[str, int], head: int) -> int:
    count = newest if isinstance(newest, int) else newest.get(topic.name, 0)
    start = topic.journal.tail(count) if count else head
    # Where there is nothing for it, the head: a reader of several topics that is cut at once comes back to the lowest
    # of its floors, and would be given what it did not ask for.
    return start if start < topic.journal.last else head


def _loss(broker: Broker, after: Cursor) -> Lost | None:
    if after.epoch != broker.epoch:
        return after, "epoch"
    return (after, "unknown") if after.offset > broker.head else None
