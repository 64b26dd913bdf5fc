"""A broker in this process's memory: a library's default, and the measure for the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from ..errors import TopicClosed
from ..sse import Event
from ..stream import Cursor, Frame, Journal, Retention, Slice, draw_epoch
from ..stream.retention import DEFAULT_RETENTIONS
from .broker import BrokerStats, Sink
from .journals import Journals

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """Keeps events until the process ends; the next one has another epoch.

    `retention` says how long each topic's events are kept; `max_topics` and `max_bytes` (text of all events) bound the
    whole: over either the topics published to longest ago lose their events first.

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
        self._clock = clock
        self._sink: Sink = lambda topic, frames: None
        self._journals = Journals(retention, max_topics=max_topics, max_bytes=max_bytes)

    @property
    def epoch(self) -> str:
        # Not drawn when the object is made: that may be before a fork, and two sets of data would share the name.
        if self._epoch is None:
            self._epoch, self._process = draw_epoch(), os.getpid()
        return self._epoch

    def stats(self) -> BrokerStats:
        return BrokerStats(topics=len(self._journals), bytes=self._journals.bytes)

    async def open(self, sink: Sink) -> None:
        if self._epoch is not None and self._process != os.getpid():
            # What is here was copied from another process by a fork.
            self._epoch = None
            self.head = 0
            self._journals.clear()
        self._sink = sink

    async def close(self) -> None:
        self._sink = lambda topic, frames: None

    async def newest(self) -> int:
        return self.head

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        journals = self._journals
        journal = journals.of(topic)
        if journal.final:
            raise TopicClosed(f"topic {topic!r} has had its final event: publish to another topic")
        epoch, offset, previous, now = self._epoch or self.epoch, self.head, journal.last, self._clock()
        frames: list[Frame] = []
        for event in events:
            offset += 1
            frames.append(Frame(epoch, offset, previous, event, now, final=final and len(frames) == len(events) - 1))
            previous = offset
        self.head = offset
        journals.append(topic, journal, frames)
        if journals.is_held(topic):
            self._sink(topic, frames)
        return Cursor(epoch, offset)

    async def attach(self, topic: str) -> Journal:
        journal = self._journals.hold(topic)
        self._journals.expire(journal, self._clock())
        return journal

    def detach(self, topic: str) -> None:
        self._journals.release(topic)

    async def history(self, topic: str, after: int, max_bytes: int) -> Slice | None:
        return self._journals.of(topic).after(after, max_bytes)

    async def forget(self, topic: str) -> None:
        self._journals.empty(topic)

    async def topics(self, prefix: str) -> Sequence[str]:
        return [topic for topic in self._journals if topic.startswith(prefix)]

    def sweep(self) -> None:
        self._journals.sweep(self._clock())

    def __repr__(self) -> str:
        return f"<MemoryBroker {len(self._journals)} topics, {self._journals.bytes} bytes, head {self.head}>"
