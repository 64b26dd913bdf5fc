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
from ..sse import Event, json_data
from ..stream import Cursor, Frame, Gap, GapReason, Slice
from ..stream.retry import jitter
from .catch_up import from_history, gap_of, next_frames
from .encoding import HEARTBEAT, Encoding
from .outlet import Outlet
from .principal import NOBODY, Principal
from .topic import Topic

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Lost", "Subscription"]

# A position that no journal can be read from, and why.
Lost = tuple[Cursor, GapReason]


class Subscription:
    """Made by `Hub.subscribe`; begins with `start`, ends with `close` (idempotent, whoever comes first)."""

    __slots__ = (
        "_catching_up",
        "_expires",
        "_floors",
        "_hub",
        "_lost_position",
        "_outlet",
        "_parting",
        "_stalled",
        "closed",
        "encoding",
        "live",
        "offset",
        "principal",
        "topics",
        "touched",
        "until_final",
    )

    def __init__(
        self,
        hub: Hub,
        topics: Sequence[Topic],
        *,
        encoding: Encoding,
        offset: int,
        starts: Sequence[int] | None,
        gap: Lost | None,
        until_final: bool,
        principal: Principal = NOBODY,
    ) -> None:
        self.topics = tuple(topics)
        self.encoding = encoding
        self.offset = offset if starts is None else min(starts)
        self.until_final = until_final
        self.principal = principal
        self.live = False  # stands with its topics, has all that they have handed out
        self.closed = False
        self.touched = 0.0  # when it was last written to
        self._hub = hub
        self._outlet: Outlet | None = None
        self._lost_position = gap
        # By topic, what it goes on from where its offset is lower: it did not ask for what was before, or was told
        # that it is lost. One for all topics would hide what is let go between the lower and the higher.
        self._floors = list(starts) if starts is not None else [0] * len(topics)
        self._parting: str | None = None  # why it leaves as soon as it has everything
        self._stalled: float | None = None  # since when its outlet has been full
        self._expires = float("inf")
        self._catching_up = False  # a step of it is scheduled, or the broker's history is being read

    @property
    def cursor(self) -> Cursor:
        return Cursor(self._hub.epoch, self.offset)

    @property
    def send_timeout(self) -> float:
        return self._hub.send_timeout

    @property
    def lagging(self) -> bool:
        return self._stalled is not None

    @property
    def exhausted(self) -> bool:
        """Whether its one topic is over and has nothing left to show to this reader."""
        journal = self.topics[0].journal
        if len(self.topics) > 1 or not journal.final or self._lost_position is not None:
            return False
        rest = journal.after(self.offset)
        return rest is not None and not any(map(self.encoding.render, rest.frames))

    def start(self, outlet: Outlet, *opening: Event) -> None:
        """Begins to write to the outlet: the opening events, a gap if the position was lost, then what is kept."""
        now = self._hub.loop.time()
        self._outlet = outlet
        if outlet.chunked:
            self.encoding = replace(self.encoding, chunked=True)
        if self.closed:
            # Everybody was sent away while this response was being begun.
            self._outlet = None
            outlet.finish(self._farewell("drain", reconnect=True))
            return
        self.touched = now
        if self._hub.max_lifetime is not None:
            self._expires = now + jitter(self._hub.max_lifetime)
        self._hub.wheel.add(self, now)
        room = True
        for event in opening:
            room = self._control(event)
        if self._lost_position is not None:
            (requested, reason), self._lost_position = self._lost_position, None
            room = self._tell(gap_of(self._hub.broker, requested, self.topics, reason))
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

    def deliver(self, payload: bytes, last: Frame, now: float) -> None:
        """Frames that follow on what this reader has, encoded for it, up to `last`."""
        self.offset = last.offset
        if payload:
            self.touched = now
            assert self._outlet is not None
            if not self._outlet.write(payload):
                self._stall()
        if last.final and self.until_final:
            self.end("final")

    def bye(self, reason: str, *, reconnect: bool = True) -> None:
        """The farewell event, then the end. Readers are told to come back at different times."""
        if self.closed or self._outlet is None:
            self.close(reason)
            return
        try:
            self.end(reason, self._farewell(reason, reconnect=reconnect))
        except Exception:
            # It must not keep those after it from their farewell.
            logger.exception("a reader could not be said farewell to")
            self.fail(reason)

    def part(self, reason: str) -> None:
        """The farewell as soon as it has everything that has been published: at once for most."""
        if self.live or self._outlet is None:
            self.bye(reason)
        else:
            self._parting = reason

    def end(self, reason: str, payload: bytes = b"") -> None:
        outlet = self._outlet
        self.close(reason)
        if outlet is not None:
            outlet.finish(payload)

    def close(self, reason: str = "client") -> None:
        """The reader is gone. Everything it held is given back."""
        if self.closed:
            return
        self.closed = True
        if self._stalled is not None:
            self._hub.stats.lagging -= 1
            self._stalled = None
        self._leave()
        self._outlet = None
        self._hub.release(self, reason)

    def reset(self) -> None:
        """Its connection was reset right after its end."""
        self._hub.reset(self)

    def fail(self, reason: str = "error") -> None:
        """The end without a word: nothing can be said to it. It may come back with its cursor."""
        outlet = self._outlet
        self.close(reason)
        if outlet is not None:
            outlet.abort()

    def on_time(self, now: float) -> float | None:
        """`Wheel`: heartbeat, send deadline, lifetime."""
        if self.closed:
            return None
        if now >= self._expires:
            self.bye("lifetime")
            return None
        if self._stalled is not None:
            if now - self._stalled >= self._hub.send_timeout:
                self.fail("send timeout")
                return None
            # It may have room again at any moment (on the portable outlet right after each write), and then its silence
            # counts from the last write: to look again at the deadline alone would leave out heartbeats until then.
            again = max(self.touched + self._hub.heartbeat, now + self._hub.heartbeat / 4)
            return min(self._stalled + self._hub.send_timeout, again, self._expires)
        if self.live and now - self.touched >= self._hub.heartbeat:
            self.touched = now
            self._hub.stats.heartbeats += 1
            assert self._outlet is not None
            if not self._outlet.write(self.encoding.wrap(HEARTBEAT)):
                self._stall()
        return min(self.touched + self._hub.heartbeat, self._expires)

    def catch_up(self) -> None:
        """Leaves the live readers and reads on from its own cursor."""
        self._leave()
        self._catch_up()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.live else "lagging"
        return f"<Subscription {[topic.name for topic in self.topics]} at {self.offset} {state}>"

    def _stall(self) -> None:
        self._leave()
        if self._stalled is None and not self.closed:
            self._stalled = self._hub.loop.time()
            self._hub.stats.lagging += 1

    def _join(self) -> None:
        if self.until_final and len(self.topics) == 1 and self.topics[0].journal.final:
            # Nothing will ever come: its final event was let go, or came before the position that it asked for.
            self.end("final")
        elif self._parting is not None:
            self.bye(self._parting)
        elif not self.live:
            self.live = True
            for topic in self.topics:
                topic.join(self)

    def _leave(self) -> None:
        if self.live:
            self.live = False
            for topic in self.topics:
                topic.leave(self)

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

    def _next_slice(self, deeper: Mapping[str, Slice], *, gone: bool = False) -> None:
        """`gone`: a gap is told first."""
        try:
            if gone and not self._tell(gap_of(self._hub.broker, self.cursor, self.topics, "evicted")):
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
            room = self._send(payload) if payload else True
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
        if not self.closed:
            self._next_slice(deeper, gone=gone)

    def _tell(self, gap: Gap) -> bool:
        """The gap event; its id is the position just before the first frame that follows, so that a reader cut right
        after it loses nothing, and is not told again what it knows."""
        self._floors = [topic.journal.evicted for topic in self.topics]
        self.offset = gap.resume
        self._hub.stats.gaps += 1
        data = {
            "requested": str(gap.requested),
            "oldest": None if gap.oldest is None else str(gap.oldest),
            "reason": gap.reason,
        }
        return self._control(Event(json_data(data), "stream.gap"))

    def _farewell(self, reason: str, *, reconnect: bool) -> bytes:
        wait = round(jitter(self._hub.retry_ms, 0.8)) if reconnect else None
        event = Event(json_data({"reason": reason, "reconnect": reconnect}), "stream.bye", retry=wait)
        return self._encode_control(event)

    def _control(self, event: Event) -> bool:
        return self._send(self._encode_control(event))

    def _encode_control(self, event: Event) -> bytes:
        if event.id is None:
            event = replace(event, id=f"{self.encoding.id_prefix}{self.cursor}")
        return self.encoding.wrap(self.encoding.control(event))

    def _send(self, payload: bytes) -> bool:
        self.touched = self._hub.loop.time()
        assert self._outlet is not None
        return self._outlet.write(payload) if payload else True
