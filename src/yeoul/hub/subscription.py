"""A reader: topics, a position, an outlet.

There is one way to read, `Position.next_frames`. A reader that has everything stands in a group (`topic.py`) and is
written the shared bytes of each new frame. A reader whose outlet is full is only its position, and reads on from it
when the outlet has room. Replay, reconnect and slowness are the same walk.

    subscribe -> (start) -> reading -> live -> (end)
                               ^        |
                               `- pause, resume
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from secrets import token_urlsafe
from typing import Protocol

from ..observe import HubStats, logger
from ..sse import Event
from ..stream import Cursor, Gap, GapReason, Position, Slice, UnknownId
from ..stream.retry import jitter
from .broker import Broker
from .delivery import Delivery
from .encoding import WIRE, Encoding, bye_event, gap_event, reauth_event
from .limits import ANONYMOUS, Principal, Reservation
from .reasons import BROKER_FAILED, CLIENT_LEFT, DRAIN, ERROR, EXPIRED, FINAL, LIFETIME, SEND_TIMEOUT, EndReason, Last
from .timer import TimerWheel
from .topic import Group, ReaderKind, Topic

__all__ = ["Lifetime", "Outlet", "ReaderHost", "SubscribeOptions", "Subscription"]


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """What a reader asks for.

    `after`: the position that it had, or the id that it brought from another server; without one it begins with the
    `newest` events kept, in each topic or by topic, and so does a returning reader in the topics named by
    `always_new`. `until_final`: its stream ends with the topic's final event. `principal`: whom the stream is for; it
    ends when that expires. `reservation`: the place that `Hub.reserve` took for it. `internal`: a reader of this server
    itself, which no bound applies to, and which is neither listed nor counted.
    """

    after: Cursor | UnknownId | None = None
    newest: int | Mapping[str, int] = 0
    always_new: Collection[str] = ()
    encoding: Encoding = WIRE
    until_final: bool = False
    principal: Principal = ANONYMOUS
    reservation: Reservation | None = None
    internal: bool = False


class Outlet(Protocol):
    """Where a reader's bytes go. It calls the subscription's `pause` when it is full, `resume` when it has room again,
    and `end` when its client has left."""

    @property
    def chunked(self) -> bool:
        """Whether it wants the chunk framing of HTTP/1.1."""
        ...

    @property
    def full(self) -> bool:
        """Whether its client takes nothing at the moment, so that what is written now would wait."""
        ...

    def write(self, payload: bytes) -> object:
        """Takes all the bytes, also when it is full."""
        ...

    @property
    def deliver(self) -> Callable[[bytes], object]:
        """What is called with the bytes of each event while the reader is up to date: `write`, or the function at the
        bottom of it."""
        ...

    def finish(self, payload: bytes) -> None:
        """The last bytes, then the end of the response."""
        ...

    def abort(self) -> None:
        """The end at once, without waiting for the client."""
        ...


class ReaderHost(Protocol):
    """What a subscription needs of its hub."""

    broker: Broker
    wheel: TimerWheel
    stats: HubStats
    send_timeout: float
    retry_ms: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def delivery(self) -> Delivery: ...

    def spawn(self, work: Coroutine[None, None, None]) -> object:
        """Runs it in a task that the hub owns."""
        ...

    def on_progress(self, reader: Subscription) -> None:
        """It lags, and has been given more."""
        ...

    def on_end(self, reader: Subscription, reason: EndReason) -> None:
        """It has ended. Called once."""
        ...

    def on_reset(self, reader: Subscription) -> None:
        """The connection was reset right after its end: the end may not have arrived."""
        ...


# How many seconds before its token expires a reader is notified; a fifth of what is left if that is less.
_REMINDER = 60.0


class Lifetime:
    """Times of the event loop, in seconds. `reminder`: when to notify the reader that its token is about to expire;
    `ends`: when the stream has to, for `reason`.

    `expires` is Unix time, as tokens have it, `unix` the same moment as `now`. The difference is taken once: setting
    this machine's clock neither lengthens nor cuts the streams that are open.
    """

    __slots__ = ("_expiry", "ends", "expires", "reason", "reminder")

    def __init__(self, now: float, unix: float, *, longest: float | None, expires: float | None) -> None:
        self.ends = inf if longest is None else now + jitter(longest)
        self.reason = LIFETIME
        self.reminder = inf
        self.expires = expires
        self._expiry = inf
        if expires is not None:
            left = expires - unix
            self._expiry = now + left
            self.reminder = self._expiry - min(_REMINDER, left / 5)
            if self._expiry <= self.ends:
                self.ends, self.reason = self._expiry, EXPIRED

    @property
    def due(self) -> float:
        """When something is to be done next."""
        return min(self.reminder, self.ends)

    def left(self, now: float) -> float:
        """Seconds until the token's end."""
        return max(0.0, self._expiry - now)

    def reminded(self) -> None:
        self.reminder = inf


# What a reader that catches up is given in one go, of each topic: large enough to keep a fast socket busy, small enough
# that thousands of readers take turns on the event loop.
_SLICE_BYTES = 64 * 1024


class Subscription:
    """Made by `Hub.subscribe`; begins with `start`, ends with `end`.

    `since` is Unix time, `gaps` how many it was sent. `closed`: it has ended.
    """

    __slots__ = (
        "_budget",
        "_ending",
        "_events",
        "_group",
        "_host",
        "_id",
        "_kind",
        "_life",
        "_offset",
        "_outlet",
        "_paused_at",
        "_position",
        "_reading",
        "_sent",
        "_touched",
        "closed",
        "due",
        "gaps",
        "index",
        "place",
        "principal",
        "since",
    )

    def __init__(
        self,
        host: ReaderHost,
        kind: ReaderKind,
        position: Position,
        principal: Principal,
        *,
        max_lifetime: float | None = None,
        max_replay_bytes: int | None = None,
    ) -> None:
        self.since = time.time()
        self.principal = principal
        self.closed = False
        self.gaps = 0
        self.due = self.place = 0  # the wheel's
        self.index = 0  # its group's
        self._id: str | None = None
        self._host = host
        self._kind = kind
        self._events = self._sent = 0  # less what its group counts
        self._touched = 0.0  # when it was last written to; not while it is live
        # One of these: its group while it is live, its position while it reads, and an offset that says all in between.
        self._group: Group | None = None
        self._position: Position | None = position
        self._offset = position.offset
        self._reading = False  # a step of reading is scheduled, or the broker's history is being read
        self._budget = max_replay_bytes  # bytes of what it has missed that it is given at most
        self._outlet: Outlet | None = None
        self._paused_at: float | None = None
        self._ending: EndReason | None = None  # why it ends as soon as it has everything, or has ended before its start
        self._life: Lifetime | None = None
        if max_lifetime is not None or principal.expires is not None:
            now = host.loop.time()
            self._life = Lifetime(now, self.since, longest=max_lifetime, expires=principal.expires)

    # What it is, and how far.

    @property
    def id(self) -> str:
        """Drawn at random when it is first asked for; for those who run the server."""
        if self._id is None:
            self._id = token_urlsafe(9)
        return self._id

    @property
    def topics(self) -> tuple[Topic, ...]:
        return self._kind.topics

    @property
    def encoding(self) -> Encoding:
        return self._kind.encoding

    @property
    def until_final(self) -> bool:
        return self._kind.until_final

    @property
    def internal(self) -> bool:
        return self._kind.internal

    @property
    def live(self) -> bool:
        """Whether it has all that its topics have handed out, and is handed each new event."""
        return self._group is not None

    @property
    def lagging(self) -> bool:
        """Whether its outlet is full."""
        return self._paused_at is not None

    @property
    def offset(self) -> int:
        if self._group is not None:
            return self._group.offset
        return self._offset if self._position is None else self._position.offset

    @property
    def cursor(self) -> Cursor:
        return Cursor(self._host.broker.epoch, self.offset)

    @property
    def events(self) -> int:
        """Events of its topics that were written."""
        return self._events if self._group is None else self._events + self._group.events

    @property
    def sent(self) -> int:
        """Bytes that were written."""
        return self._sent if self._group is None else self._sent + self._group.bytes

    @property
    def touched(self) -> float:
        """Event loop time of the last write."""
        return self._touched if self._group is None else self._group.touched

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return max(0.0, time.time() - self.since)  # clocks are set back, too

    @property
    def send_timeout(self) -> float:
        return self._host.send_timeout

    @property
    def exhausted(self) -> bool:
        """Whether its one topic is over and has nothing left to show to this reader."""
        position = self._position
        journal = self.topics[0].journal
        if len(self.topics) > 1 or not journal.final or position is None or position.lost is not None:
            return False
        rest = journal.after(position.offset)
        return rest is not None and not any(map(self.encoding.render, rest.frames))

    # What its outlet calls.

    def start(self, outlet: Outlet, *opening: Event) -> None:
        """Begins to write to the outlet: the opening events, a gap if not all that it asked for is given, then the
        rest."""
        if outlet.chunked:
            topics, encoding, until_final, internal = self._kind
            self._kind = ReaderKind(topics, encoding.in_chunks(), until_final, internal)
        if self.closed:
            # It was ended while this response was being begun.
            outlet.finish(self.encoding.wrap(self._farewell(self._ending or DRAIN)))
            return
        self._outlet = outlet
        self._touched = self._host.loop.time()
        if self._life is not None:
            self._host.wheel.add(self, self._life.due)
        first = b"".join([self._control(event) for event in opening])
        gap = self._first_gap()
        if gap is not None:
            first += self._skip(gap)
        self._read(first)

    def pause(self) -> None:
        """The outlet is full: until `resume` nothing more is written to it."""
        if self.closed or self._paused_at is not None:
            return
        self._leave()
        now = self._host.loop.time()
        self._paused_at = now
        if not self.internal:
            self._host.stats.lagging += 1
        self._host.wheel.add(self, now + self._host.send_timeout)

    def resume(self) -> None:
        """The outlet has room again."""
        if self._paused_at is None:
            return
        self._unpause()
        if not self._reading:
            self._read()

    def disconnected(self) -> None:
        """The connection is gone: nothing is written from now on. `end` follows, perhaps a little later."""
        self._leave()
        self._outlet = None

    def connection_reset(self) -> None:
        """Its connection was reset right after its end."""
        self._host.on_reset(self)

    # Its end.

    def end(self, reason: EndReason = CLIENT_LEFT) -> None:
        """Ends the stream now, as the reason says (`reasons.py`), and gives back all that it held. Idempotent: the
        first reason counts."""
        if self.closed:
            return
        outlet, last, payload = self._outlet, reason.last, b""
        if last is Last.FAREWELL:
            if outlet is None:
                self._ending = reason  # `start` will write it
            elif outlet.full and not reason.patient:
                last = Last.ABORT
            else:
                try:
                    payload = self.encoding.wrap(self._farewell(reason))
                except Exception:
                    # It must not keep the readers after it from their farewell.
                    logger.exception("the farewell of a stream could not be encoded")
                    last = Last.ABORT
        self._leave()
        self._sent += len(payload)
        self._offset = self.offset
        self._position = None
        self._unpause()
        self._host.wheel.remove(self)
        self.closed = True
        self._outlet = None
        self._host.on_end(self, reason)
        if outlet is None or last is Last.NOTHING:
            return
        try:
            if last is Last.ABORT:
                outlet.abort()
            else:
                outlet.finish(payload)
        except Exception:
            logger.exception("a stream could not be ended")

    def end_when_current(self, reason: EndReason) -> None:
        """Ends the stream as soon as it has everything that has been published: at once for most."""
        if self.live or self._outlet is None:
            self.end(reason)
        else:
            self._ending = reason

    # What the wheel and its group call.

    def on_time(self, now: float) -> float | None:
        """`TimerWheel`: send deadline, lifetime, the end of its token. (Heartbeats are the group's.)"""
        if self.closed:
            return None
        again = inf
        life, paused = self._life, self._paused_at
        if life is not None:
            if now >= life.ends:
                self.end(life.reason)
                return None
            if now >= life.reminder and paused is None:
                self._remind(life, now)
            again = max(life.due, now)
        if paused is not None:
            deadline = paused + self._host.send_timeout
            if now >= deadline:
                self.end(SEND_TIMEOUT)
                return None
            again = min(again, deadline)
        return None if again == inf else again

    def joined(self, group: Group, index: int) -> None:
        self._group = group
        self._kind = group.kind  # the same object for all of them
        self.index = index
        self._events -= group.events
        self._sent -= group.bytes

    def parted(self) -> None:
        group = self._group
        assert group is not None
        self._group = None
        self._offset = group.offset
        self._touched = group.touched
        self._events += group.events
        self._sent += group.bytes

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.live else "lagging"
        return f"<Subscription {[topic.name for topic in self.topics]} at {self.offset} {state}>"

    # Reading.

    def _read(self, first: bytes = b"") -> None:
        """The next slice of what it has not had. `first`: control events, not yet wrapped, to be written before it."""
        self._reading = False
        if self.closed or self._outlet is None or self._paused_at is not None:
            return
        if self._position is None:
            self._position = Position([topic.journal for topic in self.topics], self._offset)
        if not first and self._position.current:
            self._join(self._position)
            return
        missing = self._position.missing()
        if not missing:
            self._next_slice(self._position, first)
            return
        if first and not self._write(first):
            return
        self._reading = True
        self._host.spawn(self._recover(self._position, missing))

    def _next_slice(self, position: Position, first: bytes, history: Mapping[int, Slice] | None = None) -> None:
        try:
            frames, more = position.next_frames(_SLICE_BYTES, history)
            body = b"".join(map(self.encoding.render, frames))
            if frames:
                position.advance(frames)
                if body:
                    self._events += len(frames)
                if not self.internal:
                    self._host.stats.delivered(len(frames), len(body))
            room = self._write(first + body)
        except Exception:
            logger.exception("a reader could not be written to")
            self.end(ERROR)
            return
        if frames:
            self._host.on_progress(self)
            if self.until_final and frames[-1].final:
                self.end(FINAL)
                return
        if not room or self.closed:
            return
        if more or history:
            self._reading = True
            self._host.loop.call_soon(self._read)
        else:
            self._join(position)

    def _join(self, position: Position) -> None:
        if self.until_final and len(self.topics) == 1 and self.topics[0].journal.final:
            # Nothing will ever come: its final event was let go, or came before the position that it asked for.
            self.end(FINAL)
        elif self._ending is not None:
            self.end(self._ending)
        else:
            assert self._outlet is not None
            self._offset = position.settle()
            self._position = None
            self._host.delivery.join(
                self,
                self._outlet.deliver,
                self._kind,
                offset=self._offset,
                head=self._host.broker.head,
                touched=self._touched,
            )

    def _leave(self) -> None:
        if self._group is not None:
            self._host.delivery.leave(self, self._group)

    def _unpause(self) -> None:
        if self._paused_at is not None:
            self._paused_at = None
            if not self.internal:
                self._host.stats.lagging -= 1

    async def _recover(self, position: Position, missing: Sequence[int]) -> None:
        """Reads from the broker's own history what the journals no longer have; what is gone there too is a gap."""
        try:
            history, gone = await self._from_history(position, missing)
        except Exception:
            logger.exception("a reader could not read the broker's history")
            self.end(BROKER_FAILED)
            return
        finally:
            self._reading = False
        if self.closed or self._outlet is None or self._paused_at is not None:
            return  # full since then, by a control event: `resume` reads on
        gap: GapReason | None = "evicted" if gone else None
        if self._budget is not None:
            self._budget -= sum(frame.size for part in history.values() for frame in part.frames)
            if self._budget < 0:
                gap, history = "budget", {}
        try:
            first = b"" if gap is None else self._skip(self._gap(position, self.cursor, gap))
        except Exception:
            logger.exception("a gap could not be encoded")
            self.end(ERROR)
            return
        self._next_slice(position, first, history)

    async def _from_history(self, position: Position, missing: Sequence[int]) -> tuple[dict[int, Slice], bool]:
        """Slices by the topic's index, and whether something is gone there too."""
        history: dict[int, Slice] = {}
        gone = False
        known = [offset for _, offset in position.known()]
        for index in missing:
            part = await self._host.broker.history(self.topics[index].name, known[index], _SLICE_BYTES)
            if part is None or not part.frames:
                gone = True
            else:
                history[index] = replace(part, more=True)
        return history, gone

    # Gaps.

    def _first_gap(self) -> Gap | None:
        """Where not all that it asked for is given: its position is lost, or too much has come since."""
        position = self._position
        assert position is not None
        beyond = None
        if self._budget is not None:
            beyond, self._budget = position.newest_within(self._budget)
        if position.lost is not None:
            requested, reason = position.lost
            return self._gap(position, requested, reason, beyond or 0)
        return None if beyond is None else self._gap(position, self.cursor, "budget", beyond)

    def _gap(self, position: Position, requested: Cursor | UnknownId, reason: GapReason, beyond: int = 0) -> Gap:
        broker = self._host.broker
        return position.gap(requested, reason, epoch=broker.epoch, head=broker.head, beyond=beyond)

    def _skip(self, gap: Gap) -> bytes:
        """The gap event; its id is the position just before the first frame that follows, so that a reader cut right
        after it loses nothing, and is not told again what it knows."""
        assert self._position is not None
        self._position.skip(gap)
        self.gaps += 1
        self._host.stats.gaps += 1
        return self._control(gap_event(gap))

    # Bytes.

    def _remind(self, life: Lifetime, now: float) -> None:
        assert life.expires is not None
        life.reminded()
        self._write(self._control(reauth_event(life.expires, life.left(now))))

    def _farewell(self, reason: EndReason) -> bytes:
        return self._control(bye_event(reason, retry_ms=self._host.retry_ms))

    def _control(self, event: Event) -> bytes:
        """A control event as bytes, not yet wrapped. Its id is the position, unless it has one."""
        if event.id is None:
            event = replace(event, id=f"{self.encoding.id_prefix}{self._host.broker.epoch}-{self.offset}")
        return self.encoding.control(event)

    def _write(self, payload: bytes) -> bool:
        """Whether more may be written now."""
        if payload:
            assert self._outlet is not None
            payload = self.encoding.wrap(payload)
            self._touched = self._host.loop.time()
            self._sent += len(payload)
            self._outlet.write(payload)
        return self._paused_at is None
