"""Where a reader begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from typing import NamedTuple

from ..stream import Cursor, Frame, Gap, GapReason, Slice
from .broker import Broker
from .topic import Topic

__all__ = ["Lost", "Place", "from_history", "gap_of", "newest_within", "next_frames", "place_of"]

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
    always_new: Collection[str],
) -> Place:
    """`after`: the position that it had, `newest`: how many of the events kept a new reader begins with, `always_new`:
    the topics in which one that comes back begins so, too."""
    again = [after is None or topic.name in always_new for topic in topics]
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


# What a reader that catches up is given in one go, of each topic: large enough to keep a fast socket busy, small enough
# that thousands of readers take turns on the event loop.
_SLICE_BYTES = 64 * 1024

# Topics, and the offset up to which a reader has each or was told that it is lost.
Known = Iterable[tuple[Topic, int]]


def next_frames(known: Known, deeper: Mapping[str, Slice]) -> tuple[Sequence[Frame], bool]:
    """The next frames of all topics in the order of their offsets, and whether there are more. `deeper`: slices by
    topic from the broker's history, where the journals begin too late."""
    slices: list[Slice] = []
    for topic, offset in known:
        part = deeper.get(topic.name) or topic.journal.after(offset, _SLICE_BYTES)
        if part is None:
            return (), True  # let go while the broker's history was being read: begin again
        slices.append(part)
    if len(slices) == 1:
        return slices[0].frames, slices[0].more
    # A topic that has more may have frames right after its slice's last one: the others must not run ahead.
    horizon = min((part.frames[-1].offset for part in slices if part.more and part.frames), default=None)
    frames = [f for part in slices for f in part.frames if horizon is None or f.offset <= horizon]
    frames.sort(key=lambda frame: frame.offset)
    return frames, horizon is not None


async def from_history(broker: Broker, known: Known, lost: Sequence[Topic]) -> tuple[dict[str, Slice], bool]:
    """Slices of the lost topics from the broker's own history, and whether something is gone there too."""
    deeper: dict[str, Slice] = {}
    gone = False
    for topic, offset in known:
        if topic in lost:
            part = await broker.history(topic.name, offset, _SLICE_BYTES)
            if part is None or not part.frames:
                gone = True
            else:
                deeper[topic.name] = replace(part, more=True)
    return deeper, gone


def newest_within(known: Known, max_bytes: int) -> tuple[int | None, int]:
    """The offset after which stand exactly the newest frames, over all these topics, that fit into so many bytes; None
    where all do that the reader has not had, and then how many bytes are left."""
    known = list(known)
    left = max_bytes - sum(topic.journal.size for topic, _ in known)
    if left >= 0:  # nearly always, and nothing has to be looked at
        return None, left
    left = max_bytes
    for frame in merge(*(topic.journal.newest_first(offset) for topic, offset in known), key=_newest_first):
        if frame.size > left:
            return frame.offset, 0
        left -= frame.size
    return None, left


def gap_of(broker: Broker, requested: Cursor, known: Known, reason: GapReason, beyond: int = 0) -> Gap:
    """What to tell a reader that is not given all that it asked for, and where it goes on: before the oldest frame that
    is kept and comes after the offset `beyond`."""
    firsts = [topic.journal.after(max(offset, beyond, topic.journal.evicted), 1) for topic, offset in known]
    oldest = min((part.frames[0].offset for part in firsts if part and part.frames), default=None)
    return Gap(
        requested,
        None if oldest is None else Cursor(broker.epoch, oldest),
        reason,
        broker.head if oldest is None else oldest - 1,
    )


def _newest_first(frame: Frame) -> int:
    return -frame.offset
