"""The journals of all topics of a broker, in this process's memory, and what bounds the whole of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from ..errors import TooManyTopics
from ..stream import Frame, Journal, Retention

__all__ = ["Journals"]

# Topics looked at per sweep: about 1 ms of work.
_SWEEP = 2_000


class Journals:
    """`retention` says how long each topic's frames are kept. `max_topics` and `max_bytes` (text of all frames) bound
    the whole: over either the topics published to longest ago lose their frames first. A topic more is refused only
    where all are held: else anyone who may choose names could keep everyone out for as long as events are kept.

    `make_journal` makes the journal of a topic, given its name, its retention and the offset of the last frame that the
    topic has had.
    """

    def __init__(
        self,
        retention: Callable[[str], Retention],
        *,
        max_topics: int,
        max_bytes: int,
        make_journal: Callable[[str, Retention, int], Journal] | None = None,
    ) -> None:
        self.bytes = 0
        self._retention = retention
        self._max_topics = max_topics
        self._max_bytes = max_bytes
        self._make_journal = make_journal or _plain_journal
        self._all: OrderedDict[str, Journal] = OrderedDict()  # least recently published first
        self._ring: OrderedDict[str, None] = OrderedDict()  # every topic, in the order in which sweeps look at them
        self._held: dict[str, int] = {}
        # The last offsets of topics that nothing else is left of, forgotten longest ago first: a cursor from before
        # must be answered by a gap. Where even that is let go, any unknown topic may have had some up to `forgotten`.
        self.last: OrderedDict[str, int] = OrderedDict()
        self.forgotten = 0

    def of(self, topic: str) -> Journal:
        """The topic's journal, a new one where it has none. Raises TooManyTopics."""
        journal = self._all.get(topic)
        if journal is None:
            if len(self._all) >= self._max_topics:
                self._let_one_go()
            evicted = max(self.last.pop(topic, 0), self.forgotten)
            journal = self._all[topic] = self._make_journal(topic, self._retention(topic), evicted)
            self._ring[topic] = None
        return journal

    def append(self, topic: str, journal: Journal, frames: Sequence[Frame]) -> None:
        """Appends the topic's next frames to its journal, and makes room for them."""
        before = journal.size
        for frame in frames:
            journal.append(frame)
        self.bytes += journal.size - before
        self._all.move_to_end(topic)
        if self.bytes > self._max_bytes:
            self._make_room(topic)

    def hold(self, topic: str) -> Journal:
        """Keeps the topic's journal from being forgotten until `release`, one for each hold. Raises TooManyTopics."""
        journal = self.of(topic)
        self._held[topic] = self._held.get(topic, 0) + 1
        return journal

    def release(self, topic: str) -> None:
        count = self._held.get(topic, 0) - 1
        if count > 0:
            self._held[topic] = count
        elif count == 0:
            del self._held[topic]
            self._forget_if_empty(topic)

    def is_held(self, topic: str) -> bool:
        return topic in self._held

    def expire(self, journal: Journal, now: float) -> None:
        """Lets go of its frames that are too old."""
        before = journal.size
        journal.expire(now)
        self.bytes -= before - journal.size

    def empty(self, topic: str) -> None:
        """Lets go of all frames of a topic."""
        if topic in self._all:
            self._empty(topic)

    def sweep(self, now: float) -> None:
        """Lets go of what is too old, in as many topics as one call may look at."""
        for _ in range(min(_SWEEP, len(self._ring))):
            topic = next(iter(self._ring))
            self.expire(self._all[topic], now)
            if not self._forget_if_empty(topic):
                self._ring.move_to_end(topic)

    def clear(self, *, keep_holds: bool = False) -> None:
        """Forgets everything. With `keep_holds`, `restore_holds` has to follow."""
        self.bytes = self.forgotten = 0
        for table in (self._all, self._ring, self.last):
            table.clear()
        if not keep_holds:
            self._held.clear()

    def restore_holds(self) -> None:
        """Gives the topics that are held a journal again."""
        for topic in self._held:
            self.of(topic)

    def __iter__(self) -> Iterator[str]:
        """The topics that have a journal."""
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def _forget_if_empty(self, topic: str) -> bool:
        journal = self._all[topic]
        if len(journal) or topic in self._held:
            return False
        del self._all[topic], self._ring[topic]
        if journal.last > self.forgotten:
            self.last[topic] = journal.last
            if len(self.last) > self._max_topics:
                _, last = self.last.popitem(last=False)
                self.forgotten = max(self.forgotten, last)
        return True

    def _let_one_go(self) -> None:
        if len(self._held) >= self._max_topics:
            raise TooManyTopics(f"{self._max_topics} topics are in use: raise the bound, or use fewer names")
        while (topic := next(iter(self._all))) in self._held:
            self._all.move_to_end(topic)  # out of the way of the next look
        self._empty(topic)

    def _make_room(self, newest: str) -> None:
        while self.bytes > self._max_bytes:
            topic = next(iter(self._all))
            if topic == newest:
                return
            if not self._empty(topic):
                # Held, so it stays. Nothing to take from it until its next event: out of the way of the next look.
                self._all.move_to_end(topic)

    def _empty(self, topic: str) -> bool:
        journal = self._all[topic]
        self.bytes -= journal.size
        journal.clear()
        return self._forget_if_empty(topic)


def _plain_journal(topic: str, retention: Retention, evicted: int) -> Journal:
    return Journal(retention, evicted=evicted)
