"""The truth shared by all workers: one Protocol, one contract test suite, several implementations.

What a broker in another process or on disk may do, and one in memory does not:

- `publish`, `attach`, `history` and `open` may take their time, and raise BrokerUnavailable;
- frames may be pushed after `publish` has returned, so that `head` is behind what other processes have been given;
- its push channel may lose frames: each frame carries the offset of the one before it in its topic (`Frame.previous`),
  and the broker fills a hole from its own store before it pushes what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..observe import Distribution
from ..sse import Event
from ..stream import Cursor, Frame, Journal, Slice

__all__ = ["Broker", "BrokerStats", "Sink", "StoreStats"]


# Where a broker pushes the frames of an attached topic: in the order of offsets over all topics, in this process, on
# the event loop that it was opened on.
Sink = Callable[[str, Sequence[Frame]], None]


@dataclass(slots=True)
class StoreStats:
    """What a broker's own store has done: `queued` publishes wait to be written, `commits` transactions were written,
    in `commit_seconds`, and `failures` were not. `file_bytes`: its size, without the log."""

    queued: int = 0
    commits: int = 0
    failures: int = 0
    file_bytes: int = 0
    commit_seconds: Distribution = field(default_factory=Distribution)


@dataclass(frozen=True, slots=True)
class BrokerStats:
    """What a broker keeps: `topics`, followed or not, and the `bytes` of their events (`Frame.size`). `store`: where it
    has one of its own."""

    topics: int
    bytes: int
    store: StoreStats | None = None


class Broker(Protocol):
    """Assigns offsets, keeps history and pushes, in one atomic step per publish.

    Offsets are one total order over all topics of a broker, so that one cursor is a position in any set of topics.
    """

    @property
    def shared(self) -> bool:
        """Whether processes that are given the same settings have the same data."""
        ...

    @property
    def epoch(self) -> str:
        """Drawn when the data was created: cursors of another epoch mean nothing here."""
        ...

    @property
    def head(self) -> int:
        """The newest offset up to which this process has been pushed everything; 0 before the first event."""
        ...

    async def open(self, sink: Sink) -> None:
        """Connects. Called again after `close`, and on another event loop where the first has ended. Raises
        BrokerUnavailable; UnusableDatabase where waiting does not help."""
        ...

    async def close(self) -> None: ...

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        """Appends all the events or none, and returns the last one's cursor. `final`: nothing may follow.

        Raises TopicClosed after a final event, TooManyTopics at that bound, BrokerUnavailable.
        """
        ...

    async def newest(self) -> int:
        """The newest offset that any process has been given: asked where a reader brings a position after `head`.
        Raises BrokerUnavailable."""
        ...

    async def attach(self, topic: str) -> Journal:
        """Begins to push this topic's frames, and returns the journal that they are in when the sink is called.

        The broker appends to that journal; readers only read it. Raises TooManyTopics, BrokerUnavailable.
        """
        ...

    def detach(self, topic: str) -> None:
        """Ends what `attach` began. Each attach is matched by one detach."""
        ...

    async def history(self, topic: str, after: int, max_bytes: int) -> Slice | None:
        """Frames after an offset from the broker's own store, where the attached journal no longer has them; None
        where they are gone there too. Raises BrokerUnavailable."""
        ...

    async def forget(self, topic: str) -> None:
        """Deletes all that a topic holds, now. A position in it is then answered by a gap. Raises BrokerUnavailable."""
        ...

    async def topics(self, prefix: str) -> Sequence[str]:
        """The names of the topics of which events are kept and that begin so. Raises BrokerUnavailable."""
        ...

    def stats(self) -> BrokerStats | None:
        """What is kept; None where that is not known without asking an outside store."""
        ...

    def sweep(self) -> None:
        """Lets go of what is too old. Called about once a second; bounded work per call."""
        ...
