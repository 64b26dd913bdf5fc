"""Rounds of delivery: what has been appended since the last round goes to every reader that is up to date.

The first event goes at once. Events that come while a round is under way, or right after a long one, are joined and go
in the next: one write per reader however many they are. The wait is never longer than the last round took, so small
hubs do not wait at all, and a large one spends at most half of its time joined up. A round over very many readers gives
the event loop back between slices of them.

Rounds are taken for the whole hub in the order of offsets, because a reader of several topics has one cursor: it
may not see a later event of one topic before an earlier one of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from time import perf_counter

from ..observe import HubStats, logger
from ..stream import Frame
from .encoding import Encoding
from .reasons import ERROR
from .subscription import Subscription
from .topic import Topic

__all__ = ["Fanout"]

# Readers written to before the event loop gets its turn: about 1.5 ms at 6 µs a write.
_SLICE = 256
# The longest that an event waits to be joined with others, in seconds: far below what a person notices.
_MAX_WAIT = 0.005
# Bytes of events that wait for the next round: what each reader may be written in one go. Over it publishers wait.
_MAX_PENDING = 256 * 1024


class Fanout:
    def __init__(self, loop: asyncio.AbstractEventLoop, stats: HubStats) -> None:
        self._loop = loop
        self._stats = stats
        self._dirty: list[Topic] = []  # topics with pending frames
        self._pending = 0  # bytes of them
        self._waiting: list[asyncio.Future[None]] = []  # publishers, until the next round begins
        self._since = 0.0  # when the first of them was appended
        self._round: Iterator[None] | None = None
        self._handle: asyncio.Handle | None = None
        self._not_before = 0.0
        self._busy = 0.0  # seconds spent in the round under way

    def push(self, topic: Topic, frames: Sequence[Frame]) -> None:
        """Frames appended to the topic's journal; readers that lag find them there by themselves."""
        if not topic.groups and not topic.mixed and not topic.pending:
            return
        if not topic.pending:
            if not self._dirty:
                self._since = perf_counter()
            self._dirty.append(topic)
        topic.pending.extend(frames)
        self._pending += sum([frame.size for frame in frames])
        if self._handle is None:
            self._schedule()

    @property
    def crowded(self) -> bool:
        return self._pending > _MAX_PENDING

    async def room(self) -> None:
        """Until less is waiting to be handed out. Rounds never wait for a reader, so this takes milliseconds."""
        while self.crowded:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def flush(self) -> None:
        """Hands out all that is pending, now."""
        while self._round is not None or self._dirty:
            self.stop()
            self._turn(slices=False)

    def _schedule(self) -> None:
        # call_soon, not a direct call: publishes that the loop has already read from their sockets join this round.
        if self._loop.time() >= self._not_before:
            self._handle = self._loop.call_soon(self._turn)
        else:
            self._handle = self._loop.call_at(self._not_before, self._turn)

    def _turn(self, slices: bool = True) -> None:
        self._handle = None
        if self._round is None:
            self._busy = 0.0
            self._round = self._deliver()
        began = perf_counter()
        for _ in self._round:
            if slices:
                self._busy += perf_counter() - began
                self._handle = self._loop.call_soon(self._turn)
                return
        self._round = None
        self._busy += perf_counter() - began
        self._not_before = self._loop.time() + min(self._busy, _MAX_WAIT)
        if self._dirty and self._handle is None:
            self._schedule()

    def _deliver(self) -> Iterator[None]:
        """One round, as a generator that yields when the loop should have its turn."""
        since, dirty, self._dirty = self._since, self._dirty, []
        now = self._loop.time()
        written = 0
        mixed: dict[Subscription, list[Frame]] = {}
        # All at once, before the loop has its first turn: what is published during this round must not get into it in
        # one topic and not in another, or a reader of both would be given the later event first.
        taken = []
        for topic in dirty:
            taken.append((topic, topic.pending))
            topic.pending = []
        self._pending = 0
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        # With nothing else in the round, readers of several topics are given the same as those of this one.
        alone = len(taken) == 1
        for topic, frames in taken:
            for encoding, group in [*topic.groups.items(), *(topic.mixed.items() if alone else ())]:
                for _ in self._deliver_to_group(list(group), _join(encoding, frames), frames, now):
                    written += 1
                    if written % _SLICE == 0:
                        yield
            for group in () if alone else topic.mixed.values():
                for reader in group:
                    mixed.setdefault(reader, []).extend(frames)
        joined: dict[tuple[Encoding, tuple[int, ...]], bytes | None] = {}
        for reader, frames in mixed.items():
            self._deliver_mixed(reader, frames, joined, now)
            written += 1
            if written % _SLICE == 0:
                yield
        self._stats.publish_latency.observe(perf_counter() - since)

    def _deliver_to_group(
        self, readers: list[Subscription], payload: bytes | None, frames: list[Frame], now: float
    ) -> Iterator[None]:
        """`payload` None: their encoding is broken."""
        first, last, joined = frames[0], frames[-1], len(frames)
        count = size = 0
        for reader in readers:
            if reader.live:
                if payload is None:
                    reader.end(ERROR)
                elif reader.offset < first.offset:
                    count += 1
                    size += len(payload)
                    try:
                        reader.deliver(payload, last, joined, now)
                    except Exception:
                        _end_broken(reader)
                elif reader.offset < last.offset:
                    reader.catch_up()
            yield
        self._stats.delivered(count * joined, size)

    def _deliver_mixed(
        self,
        reader: Subscription,
        frames: list[Frame],
        joined: dict[tuple[Encoding, tuple[int, ...]], bytes | None],
        now: float,
    ) -> None:
        if not reader.live:
            return
        frames.sort(key=lambda frame: frame.offset)
        if reader.offset >= frames[0].offset:
            reader.catch_up()
            return
        # Many readers follow the same set of topics: they share the bytes.
        key = (reader.encoding, tuple(frame.offset for frame in frames))
        if key not in joined:
            joined[key] = _join(reader.encoding, frames)
        payload = joined[key]
        if payload is None:
            reader.end(ERROR)
            return
        self._stats.delivered(len(frames), len(payload))
        try:
            reader.deliver(payload, frames[-1], len(frames), now)
        except Exception:
            _end_broken(reader)


# A dialect or an outlet that is broken is the trouble of its own readers: they are ended, and may come back. The round
# goes on, or everybody after them would miss these events in silence.


def _join(encoding: Encoding, frames: Sequence[Frame]) -> bytes | None:
    try:
        return encoding.join(frames)
    except Exception:
        logger.exception("events could not be written in the form of some readers")
        return None


def _end_broken(reader: Subscription) -> None:
    """Where an exception has just come out of it."""
    logger.exception("a reader could not be written to")
    reader.end(ERROR)
