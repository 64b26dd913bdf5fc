"""Rounds of delivery: what has been appended since the last round goes to every reader that is up to date.

The first event goes at once. Events that come while a round is under way, or right after a long one, are joined and go
in the next: one write per reader however many they are. The wait is never longer than the last round took, so small
hubs do not wait at all, and a large one spends at most half of its time joining. A round over very many readers gives
the event loop its turn between groups of them.

Rounds are taken for the whole hub in the order of offsets, because a reader of several topics has one cursor: it
may not see a later event of one topic before an earlier one of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

from ..observe import HubStats, logger
from ..stream import Frame
from .encoding import Encoding
from .reasons import ERROR
from .timer import TimerWheel
from .topic import Group, Member, ReaderKind, Topic

__all__ = ["Delivery"]

# Readers written to before the event loop gets its turn: about 1.5 ms at 6 µs a write.
_SLICE = 256
# The longest that an event waits to be joined with others, in seconds: far below what a person notices.
_MAX_WAIT = 0.005
# Bytes of events that wait for the next round: what each reader may be written in one go. Over it publishers wait.
_MAX_PENDING = 256 * 1024


class Delivery:
    """`heartbeat`: seconds of silence after which the readers of a group are sent a comment."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel, stats: HubStats, *, heartbeat: float
    ) -> None:
        self._loop = loop
        self._wheel = wheel
        self._stats = stats
        self._heartbeat = heartbeat
        self._dirty: list[Topic] = []  # topics with pending frames
        self._pending = 0  # bytes of them
        self._waiting: list[asyncio.Future[None]] = []  # publishers, until the next round begins
        self._since = 0.0  # when the first of them was appended
        self._round: Iterator[None] | None = None
        self._handle: asyncio.Handle | None = None
        self._not_before = 0.0
        self._busy = 0.0  # seconds spent in the round under way

    # Readers that are up to date.

    def join(
        self,
        reader: Member,
        write: Callable[[bytes], object],
        kind: ReaderKind,
        *,
        offset: int,
        head: int,
        touched: float,
    ) -> None:
        """The reader has all frames of its topics up to `offset`, and was written to at `touched`: from now on it is
        handed each new one. `head`: up to where all frames have been pushed to this process."""
        newest = kind.topics[0].groups.get(kind)
        group = newest
        while group is not None and (group.full or not group.current or max(group.offset, offset) > head):
            group = group.older
        if group is None:
            # The frames that a group waits for, this reader has read from the journal: it needs another group. So does
            # one that comes from another process, and is ahead of what was pushed to this one.
            if newest is not None:
                kind = newest.kind
            group = Group(
                kind, offset=offset, touched=touched, older=newest, heartbeat=self._heartbeat, stats=self._stats
            )
            for topic in kind.topics:
                topic.groups[kind] = group
        else:
            # Nothing stands between their offsets in any of these topics.
            group.offset = max(group.offset, offset)
            group.touched = min(group.touched, touched)
            if group.older is not None:
                self._compact(group)
        group.add(reader, write)
        self._wheel.add(group, group.touched + self._heartbeat)

    def leave(self, reader: Member, group: Group) -> None:
        """The reader's outlet is full, or it ends."""
        group.remove(reader)
        if not group.readers:
            _unlink(group)
            self._wheel.remove(group)

    def _compact(self, group: Group) -> None:
        """Small groups of one kind become one, so that readers who come one by one do not stay in groups of one."""
        older = group.older
        if older is not None and older.current and group.fits(older):
            group.absorb(older)
            group.older = older.older
            self._wheel.remove(older)

    # Frames.

    def push(self, topic: Topic, frames: Sequence[Frame]) -> None:
        """Frames appended to the topic's journal; readers that lag find them there by themselves."""
        if not topic.groups and not topic.pending:
            return
        if not topic.pending:
            if not self._dirty:
                self._since = perf_counter()
            self._dirty.append(topic)
        topic.pending.extend(frames)
        for frame in frames:
            self._pending += frame.size
        if self._handle is None:
            self._schedule()

    @property
    def congested(self) -> bool:
        """Whether more is waiting for the next round than may be: publishers wait for `room`."""
        return self._pending > _MAX_PENDING

    async def room(self) -> None:
        """Returns when less is waiting. Rounds never wait for a reader, so this takes milliseconds."""
        while self.congested:
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
        """One round, as a generator that yields when the event loop should have its turn.

        Meanwhile readers may leave the groups that are still to be written to, but none joins them: they are not
        current. New groups have read from the journal what this round hands out.
        """
        since = self._since
        now = self._loop.time()
        counted = False
        written = 0
        parts = self._take()
        for group, frames, payloads in parts:
            if written and written + len(group) > _SLICE:
                written = 0
                yield
            if group.readers:
                written += len(group)
                counted = counted or not group.kind.internal
                _deliver_to_group(group, frames, payloads, now)
        if counted:
            self._stats.publish_latency.observe(perf_counter() - since)

    def _take(self) -> list[tuple[Group, Sequence[Frame], _Payloads]]:
        """All that is pending, by group, at once and before the event loop has its first turn: what is published during
        this round must not get into it in one topic and not in another, or a reader of both would be given the later
        event first."""
        dirty, self._dirty = self._dirty, []
        parts: list[tuple[Group, Sequence[Frame], _Payloads]] = []
        shared: dict[Group, list[Frame]] = {}
        # With nothing else in the round, readers of several topics are given the same as those of this one.
        alone = len(dirty) == 1
        for topic in dirty:
            frames, topic.pending = topic.pending, []
            payloads = _Payloads()
            for group in topic.all_groups():
                if alone or len(group.kind.topics) == 1:
                    parts.append((group, frames, payloads))
                else:
                    shared.setdefault(group, []).extend(frames)
        self._pending = 0
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        # Many readers follow the same set of topics, or have the same part of it in this round: they share the bytes.
        same: dict[tuple[int, ...], _Payloads] = {}
        for group, frames in shared.items():
            frames.sort(key=lambda frame: frame.offset)
            key = tuple([frame.offset for frame in frames])
            parts.append((group, frames, same.setdefault(key, _Payloads())))
        return parts


class _Payloads(dict[Encoding, "bytes | None"]):
    """Frames in each encoding, None where that is broken: encoded once, when the first group needs it."""

    def of(self, encoding: Encoding, frames: Sequence[Frame]) -> bytes | None:
        try:
            return self[encoding]
        except KeyError:
            payload = self[encoding] = _encode(encoding, frames)
            return payload


def _deliver_to_group(group: Group, frames: Sequence[Frame], payloads: _Payloads, now: float) -> None:
    if group.offset < frames[0].offset:
        payload = payloads.of(group.kind.encoding, frames)
    else:
        # Its readers have read some of these from the journal before they formed this group.
        frames = [frame for frame in frames if frame.offset > group.offset]
        if not frames:
            return
        payload = _encode(group.kind.encoding, frames)
    if payload is None:
        group.end_all(ERROR)
    else:
        group.deliver(frames, payload, now)


def _encode(encoding: Encoding, frames: Sequence[Frame]) -> bytes | None:
    # An encoding that is broken ends its own readers, who may come back. The round goes on, or everyone after them
    # would miss these events in silence.
    try:
        return encoding.join(frames)
    except Exception:
        logger.exception("events could not be encoded for some readers")
        return None


def _unlink(group: Group) -> None:
    kind = group.kind
    newest = kind.topics[0].groups[kind]
    if newest is not group:
        while newest.older is not group:
            assert newest.older is not None
            newest = newest.older
        newest.older = group.older
    elif group.older is not None:
        for topic in kind.topics:
            topic.groups[kind] = group.older
    else:
        for topic in kind.topics:
            del topic.groups[kind]
