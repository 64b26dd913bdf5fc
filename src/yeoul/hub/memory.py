"""A broker in this process's memory: the embedded default, and the measure for the others."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ..errors import TooManyTopics, TopicClosed
from ..sse import Event
from ..stream import Cursor, Frame, Journal, Retention, Slice, draw_epoch
from ..stream.retention import DEFAULT_RETENTIONS
from .broker import BrokerStats, Sink

__all__ = ["MemoryBroker"]

# Topics looked at per sweep: about 1 ms of work.
_SWEEP = 2_000


class MemoryBroker:
    """Keeps journals in a dict. Everything is gone with the process; the next one has another epoch.

    `retention` says how long each topic's frames are kept. `max_topics` and `max_bytes` (text of all frames) bound
    the whole: over either the topics published to longest ago lose their frames first. A topic more is refused only
    where all are followed: else anyone who may choose names could keep everyone out for as long as events are kept.

    Each process has its own data. One that was forked from a process with an open broker (gunicorn `--preload`) begins
    with a new epoch and without events, so that a position of one process is answered by a gap in another.
    """

    shared = False

    def __init__(
        self,
        retention: Callable[[str], Retention] = DEFAULT_RETENTIONS,
        *,
        max_topics: int = 100_000,
        max_bytes: int = 512 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.head = 0
        self._epoch: str | None = None
        self._process = 0  # whose data it is
        self._retention = retention
        self._max_topics = max_topics
        self._max_bytes = max_bytes
        self._clock = clock
        self._sink: Sink = lambda topic, frames: None
        self._journals: OrderedDict[str, Journal] = OrderedDict()  # least recently published first
        self._ring: OrderedDict[str, None] = OrderedDict()  # every topic, in the order in which sweeps look at them
        self._attached: dict[str, int] = {}
        self._bytes = 0
        # The last offsets of topics that nothing else is left of, forgotten longest ago first: a cursor from before
        # must be answered by a gap. Where even that is let go, any unknown topic may have had some up to `_forgotten`.
        self._last: OrderedDict[str, int] = OrderedDict()
        self._forgotten = 0

    @property
    def epoch(self) -> str:
        # Not drawn when the object is made: that may be before a fork, and two sets of data would share the name.
        if self._epoch is None:
            self._epoch, self._process = draw_epoch(), os.getpid()
        return self._epoch

    def stats(self) -> BrokerStats:
        return BrokerStats(topics=len(self._journals), bytes=self._bytes)

    async def open(self, sink: Sink) -> None:
        if self._epoch is not None and self._process != os.getpid():
            self._begin_again()
        self._sink = sink

    async def close(self) -> None:
        self._sink = lambda topic, frames: None

    async def newest(self) -> int:
        return self.head

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        journal = self._journal(topic)
        if journal.final:
            raise TopicClosed(f"topic {topic!r} has had its final event: publish to another topic")
        epoch, offset, now, before = self._epoch or self.epoch, self.head, self._clock(), journal.size
        frames: list[Frame] = []
        for event in events:
            offset += 1
            frame = Frame(epoch, offset, journal.last, event, now, final=final and len(frames) == len(events) - 1)
            journal.append(frame)
            frames.append(frame)
        self.head = offset
        self._bytes += journal.size - before
        self._journals.move_to_end(topic)
        if self._bytes > self._max_bytes:
            self._make_room(topic)
        if topic in self._attached:
            self._sink(topic, frames)
        return Cursor(epoch, offset)

    async def attach(self, topic: str) -> Journal:
        journal = self._journal(topic)
        self._expire(journal)
        self._attached[topic] = self._attached.get(topic, 0) + 1
        return journal

    def detach(self, topic: str) -> None:
        count = self._attached.get(topic, 0) - 1
        if count > 0:
            self._attached[topic] = count
        elif count == 0:
            del self._attached[topic]
            self._forget_if_empty(topic)

    async def history(self, topic: str, after: int, max_bytes: int) -> Slice | None:
        return self._journal(topic).after(after, max_bytes)

    async def forget(self, topic: str) -> None:
        if topic in self._journals:
            self._empty(topic)

    def sweep(self) -> None:
        for _ in range(min(_SWEEP, len(self._ring))):
            topic = next(iter(self._ring))
            self._expire(self._journals[topic])
            if not self._forget_if_empty(topic):
                self._ring.move_to_end(topic)

    def __repr__(self) -> str:
        return f"<MemoryBroker {len(self._journals)} topics, {self._bytes} bytes, head {self.head}>"

    def _begin_again(self) -> None:
        """What is here was copied from another process by a fork."""
        self._epoch = None
        self.head = self._bytes = self._forgotten = 0
        for table in (self._journals, self._ring, self._attached, self._last):
            table.clear()

    def _journal(self, topic: str) -> Journal:
        journal = self._journals.get(topic)
        if journal is None:
            if len(self._journals) >= self._max_topics:
                self._let_one_go()
            evicted = max(self._last.pop(topic, 0), self._forgotten)
            journal = self._journals[topic] = Journal(self._retention(topic), evicted=evicted)
            self._ring[topic] = None
        return journal

    def _expire(self, journal: Journal) -> None:
        before = journal.size
        journal.expire(self._clock())
        self._bytes -= before - journal.size

    def _forget_if_empty(self, topic: str) -> bool:
        journal = self._journals[topic]
        if len(journal) or topic in self._attached:
            return False
        del self._journals[topic], self._ring[topic]
        if journal.last > self._forgotten:
            self._last[topic] = journal.last
            if len(self._last) > self._max_topics:
                _, last = self._last.popitem(last=False)
                self._forgotten = max(self._forgotten, last)
        return True

    def _let_one_go(self) -> None:
        if len(self._attached) >= self._max_topics:
            raise TooManyTopics(f"{self._max_topics} topics are in use: raise the bound, or use fewer names")
        while (topic := next(iter(self._journals))) in self._attached:
            self._journals.move_to_end(topic)  # out of the way of the next look
        self._empty(topic)

    def _make_room(self, newest: str) -> None:
        while self._bytes > self._max_bytes:
            topic = next(iter(self._journals))
            if topic == newest:
                return
            if not self._empty(topic):
                # Followed, so it stays. Nothing to take from it until its next event: out of the way of the next look.
                self._journals.move_to_end(topic)

    def _empty(self, topic: str) -> bool:
        journal = self._journals[topic]
        self._bytes -= journal.size
        journal.clear()
        return self._forget_if_empty(topic)
