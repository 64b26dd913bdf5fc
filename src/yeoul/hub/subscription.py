"""A reader: topics, a cursor, an outlet.

There is one way to read, `journal.after(cursor)`. A reader that has everything stands with its topics and is handed
the shared bytes of each new frame; one whose outlet is full is only its cursor, and reads on from it when the outlet
drains. Replay, reconnect and slowness are the same walk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..observe import logger
from ..sse import Event
from ..stream import Cursor, Frame, Gap, GapReason, Slice
from .catch_up import from_history, gap_of, newest_within, next_frames
from .connection import Connection
from .control import gap_event
from .encoding import Encoding
from .outlet import Outlet
from .place import Place
from .principal import Principal
from .topic import Topic

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Subscription"]


class Subscription(Connection):
    """Made by `Hub.subscribe`; begins with `start`, ends with `close` (idempotent, whoever comes first)."""

    __slots__ = ("_budget", "_catching_up", "_floors", "_lost_position", "offset", "topics", "until_final")

    def __init__(
        self,
        hub: Hub,
        topics: Sequence[Topic],
        *,
        place: Place,
        encoding: Encoding,
        until_final: bool,
        principal: Principal,
        budget: int | None,
    ) -> None:
        super().__init__(hub, principal, encoding)
        self.topics = tuple(topics)
        self.offset, self._floors, self._lost_position = place
        self.until_final = until_final
        self._budget = budget  # bytes of what it has missed that it is given at most
        self._catching_up = False  # a step of it is scheduled, or the broker's history is being read

    @property
    def cursor(self) -> Cursor:
        return Cursor(self._hub.epoch, self.offset)

    @property
    def exhausted(self) -> bool:
        """Whether its one topic is over and has nothing left to show to this reader."""
        journal = self.topics[0].journal
        if len(self.topics) > 1 or not journal.final or self._lost_position is not None:
            return False
        rest = journal.after(self.offset)
        return rest is not None and not any(map(self.encoding.render, rest.frames))

    def start(self, outlet: Outlet, *opening: Event) -> None:
        """Begins to write to the outlet: the opening events, a gap if not all that it asked for is given, then the
        rest."""
        now = self._hub.loop.time()
        self._outlet = outlet
        if outlet.chunked:
            self.encoding = replace(self.encoding, chunked=True)
        if self.closed:
            # It was sent away while this response was being begun.
            self._outlet = None
            reason, reconnect = self._parting or ("drain", True)
            outlet.finish(self._farewell(reason, reconnect=reconnect))
            return
        self.touched = now
        self._hub.wheel.add(self, now)
        room = True
        for event in opening:
            room = self._control(event)
        gap = self._first_gap()
        if gap is not None:
            room = self._tell(gap)
        if room:
            self._catch_up()
        else:
            self._stall()

    def resume(self) -> None:
        """The outlet has room again."""
        if self._stalled is not None:
            self._stalled = None
            self._hub.stats.lagging -= 1
        if not self.live and not self._catching_up:
            self._catch_up()

    def deliver(self, payload: bytes, last: Frame, count: int, now: float) -> None:
        """So many frames that follow on what this reader has, encoded for it, up to `last`."""
        self.offset = last.offset
        if payload:
            self.touched = now
            self.events += count
            self.sent += len(payload)
            outlet = self._outlet
            assert outlet is not None
            if not outlet.write(payload):
                self._stall()
        if last.final and self.until_final:
            self.end("final")

    def catch_up(self) -> None:
        """Leaves the live readers and reads on from its own cursor."""
        self._leave()
        self._catch_up()

    def reset(self) -> None:
        """Its connection was reset right after its end."""
        self._hub.reset(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.live else "lagging"
        return f"<Subscription {[topic.name for topic in self.topics]} at {self.offset} {state}>"

    def _join(self) -> None:
        if self.until_final and len(self.topics) == 1 and self.topics[0].journal.final:
            # Nothing will ever come: its final event was let go, or came before the position that it asked for.
            self.end("final")
        elif self._parting is not None:
            reason, reconnect = self._parting
            self.bye(reason, reconnect=reconnect)
        elif not self.live:
            self.live = True
            for topic in self.topics:
                topic.join(self)

    def _leave(self) -> None:
        if self.live:
            self.live = False
            for topic in self.topics:
                topic.leave(self)

    def _release(self, reason: str) -> None:
        self._hub.release(self, reason)

    def _catch_up(self) -> None:
        self._catching_up = False
        if self.closed or self._stalled is not None:
            return
        lost = [topic for topic, known in self._known() if topic.journal.evicted > known]
        if lost:
            self._catching_up = True
            self._hub.spawn(self._recover(lost))
            return
        self._next_slice({})

    def _next_slice(self, deeper: Mapping[str, Slice], gap: GapReason | None = None) -> None:
        """`gap`: why one is told first."""
        try:
            if gap and not self._tell(gap_of(self._hub.broker, self.cursor, self._known(), gap)):
                self._stall()
            else:
                self._write_slice(deeper)
        except Exception:
            logger.exception("a reader could not be written to")
            self.fail()

    def _known(self) -> Iterator[tuple[Topic, int]]:
        """Each topic, and the offset up to which this reader has it or was told that it is lost."""
        return ((topic, max(self.offset, floor)) for topic, floor in zip(self.topics, self._floors, strict=True))

    def _write_slice(self, deeper: Mapping[str, Slice]) -> None:
        frames, more = next_frames(self._known(), deeper)
        if frames:
            self.offset = frames[-1].offset
            payload = self.encoding.join(frames)
            if payload:
                self.events += len(frames)
            room = self._send(payload, self._hub.loop.time())
            self._hub.stats.delivered(len(frames), len(payload))
            self._hub.moved(self)
            if self.until_final and frames[-1].final:
                self.end("final")
                return
            if not room:
                self._stall()
                return
        if more or deeper:
            if not self._catching_up:
                self._catching_up = True
                self._hub.loop.call_soon(self._catch_up)
        else:
            self._join()

    async def _recover(self, lost: Sequence[Topic]) -> None:
        """Reads from the broker's own history what the journals no longer have; what is gone there too is a gap."""
        try:
            deeper, gone = await from_history(self._hub.broker, self._known(), lost)
        except Exception:
            logger.exception("a reader could not read the broker's history")
            self.bye("broker")
            return
        finally:
            self._catching_up = False
        if self.closed or self._stalled is not None:
            return  # full since then, by a word about its token: `resume` reads on
        if self._budget is not None:
            self._budget -= sum(frame.size for part in deeper.values() for frame in part.frames)
            if self._budget < 0:
                self._next_slice({}, "budget")
                return
        self._next_slice(deeper, "evicted" if gone else None)

    def _first_gap(self) -> Gap | None:
        """Where not all that it asked for is given: its position is lost, or too much has come since."""
        lost, beyond = self._lost_position, None
        self._lost_position = None
        if self._budget is not None:
            beyond, self._budget = newest_within(self._known(), self._budget)
        if lost is None and beyond is None:
            return None
        requested, reason = lost or (self.cursor, "budget")
        return gap_of(self._hub.broker, requested, self._known(), reason, beyond or 0)

    def _tell(self, gap: Gap) -> bool:
        """The gap event; its id is the position just before the first frame that follows, so that a reader cut right
        after it loses nothing, and is not told again what it knows."""
        self._floors = [max(known, topic.journal.evicted) for topic, known in self._known()]
        self.offset = gap.resume
        self.gaps += 1
        self._hub.stats.gaps += 1
        return self._control(gap_event(gap))
