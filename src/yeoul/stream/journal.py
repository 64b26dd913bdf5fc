"""What replay means: the frames of one topic that are still kept, and the one way of reading them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..sse import Event
from ..sse.encoder import encode_fields
from .cursor import Cursor, UnknownId

__all__ = ["Frame", "Gap", "GapReason", "Journal", "Retention", "Slice"]

# Why what was asked for is not given: it was let go, is of other data, was never given out, or is more than one reader
# is given at once.
GapReason = Literal["evicted", "epoch", "unknown", "budget"]


class Frame:
    """An event at its place in the order, encoded once; the same object goes to every reader.

    `previous` is the offset of the frame before it in its topic (0: none), so that a reader of a lossy channel sees a
    hole at once. `at` is the time of its append in seconds of the broker's clock. `final`: nothing follows it
    in its topic.
    """

    __slots__ = ("_wire", "at", "epoch", "event", "final", "offset", "previous", "size")

    def __init__(self, epoch: str, offset: int, previous: int, event: Event, at: float, *, final: bool = False) -> None:
        self.epoch = epoch
        self.offset = offset
        self.previous = previous
        self.event = event
        self.at = at
        self.final = final
        # What it counts for in bounds: at least the length of `wire`, without building it.
        breaks = event.data.count("\n") + event.data.count("\r")
        self.size = _utf8_length(event.data) + breaks * len("data: ") + _utf8_length(event.type) + _FIELDS
        self._wire: bytes | None = None

    @property
    def wire(self) -> bytes:
        """The frame as one block of the wire format, its cursor as `id:`. Built on first use, then kept: frames of
        a generation are mostly asked for in a dialect, and never need it."""
        wire = self._wire
        if wire is None:
            event = self.event
            wire = encode_fields(event.data, event.type, id=f"{self.epoch}-{self.offset}", retry=event.retry)
            self._wire = wire
        return wire

    def __repr__(self) -> str:
        return f"<Frame {self.epoch}-{self.offset} {self.event.type}{' final' if self.final else ''}>"


# The longest `id: <epoch>-<offset>` and `retry:` lines, and the names and line ends of `event:` and `data:`.
_FIELDS = 56 + 24 + 8 + 8


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# Stands where a frame was let go, until its place in the list is cut off: the frame itself must not stay in memory.
_GONE = Frame("", 0, 0, Event(), 0.0)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long frames are kept: whichever bound is reached first lets the oldest go."""

    events: int = 1_000
    bytes: int = 1_048_576
    seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.events < 1 or self.bytes < 1 or not self.seconds > 0:
            raise ValueError(f"a retention needs events >= 1, bytes >= 1 and seconds > 0, not {self}")


@dataclass(frozen=True, slots=True)
class Gap:
    """The answer when a position is no longer covered, or when too much has come since. An answer, not an exception.

    `oldest` is the first frame that follows, `resume` the offset to go on from: reading after it begins there.
    """

    requested: Cursor | UnknownId
    oldest: Cursor | None
    reason: GapReason
    resume: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Frames in order; `more` says that the journal has others after them."""

    frames: Sequence[Frame]
    more: bool = False


class Journal:
    """The kept frames of one topic, bounded in count, bytes and age. Pure: the caller says what time it is.

    `evicted` is the offset of the last frame that it let go; a journal made for a topic that was forgotten
    starts with the offset up to which nothing is known. `last` is the offset of the newest frame, kept or not, and
    `final` says whether that frame was the final one.
    """

    __slots__ = ("_bytes", "_frames", "_head", "_offsets", "evicted", "final", "last", "retention")

    def __init__(self, retention: Retention, *, evicted: int = 0) -> None:
        self.retention = retention
        self.evicted = evicted
        self.last = evicted
        self.final = False
        self._frames: list[Frame] = []
        self._offsets: list[int] = []
        self._head = 0  # frames below it have been let go; they are cut off in batches, so that append stays O(1)
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames) - self._head

    def __repr__(self) -> str:
        return f"<Journal {len(self)} frames, {self._bytes} bytes, offsets {self.evicted}..{self.last}>"

    @property
    def size(self) -> int:
        """Bytes held, as `Frame.size` counts them."""
        return self._bytes

    @property
    def oldest(self) -> Frame | None:
        return self._frames[self._head] if self._head < len(self._frames) else None

    def append(self, frame: Frame) -> None:
        """Raises ValueError for a frame that does not come after the last one."""
        if frame.offset <= self.last:
            raise ValueError(f"offset {frame.offset} does not come after {self.last}")
        self._frames.append(frame)
        self._offsets.append(frame.offset)
        self._bytes += frame.size
        self.last = frame.offset
        self.final = frame.final
        bounds = self.retention
        # The newest frame is always kept, even one that alone is over the bound: it has readers now.
        while self._bytes > bounds.bytes and self._head < len(self._frames) - 1:
            self._let_go()
        while len(self._frames) - self._head > bounds.events:
            self._let_go()
        oldest = self._frames[self._head]
        while oldest is not frame and frame.at - oldest.at > self.retention.seconds:
            self._let_go()
            oldest = self._frames[self._head]

    def expire(self, now: float) -> None:
        """Let go what is older than the retention allows."""
        oldest = self.oldest
        while oldest is not None and now - oldest.at > self.retention.seconds:
            self._let_go()
            oldest = self.oldest

    def clear(self) -> None:
        """Let go of everything."""
        while len(self):
            self._let_go()

    def after(self, offset: int, max_bytes: int = 1 << 62) -> Slice | None:
        """The frames after this offset, as many as fit in `max_bytes` but at least one; None where some that came
        after it have been let go."""
        if offset < self.evicted:
            return None
        start = bisect_right(self._offsets, offset, self._head)
        frames = self._frames
        if start == len(frames):
            return Slice(())
        if max_bytes >= self._bytes:
            return Slice(frames[start:])
        stop, taken = start, 0
        while stop < len(frames) and (taken == 0 or taken + frames[stop].size <= max_bytes):
            taken += frames[stop].size
            stop += 1
        return Slice(frames[start:stop], more=stop < len(frames))

    def kept(self) -> Sequence[Frame]:
        """All frames that are kept, oldest first."""
        return self._frames[self._head :]

    def newest_first(self, offset: int) -> Iterator[Frame]:
        """The frames after this offset that are kept, from the newest back. Not while frames are appended."""
        for at in range(len(self._frames) - 1, self._head - 1, -1):
            if self._offsets[at] <= offset:
                return
            yield self._frames[at]

    def tail(self, count: int) -> int:
        """The offset after which exactly the newest `count` frames stand (all of them where fewer are kept)."""
        start = max(self._head, len(self._frames) - count)
        if start == self._head:
            return self.evicted
        return self._offsets[start - 1]

    def _let_go(self) -> None:
        frame = self._frames[self._head]
        self._frames[self._head] = _GONE
        self._bytes -= frame.size
        self.evicted = frame.offset
        self._head += 1
        if self._head > 64 and self._head * 2 > len(self._frames):
            del self._frames[: self._head]
            del self._offsets[: self._head]
            self._head = 0
