"""A reader: topics, a cursor, an outlet.

There is one way to read, `journal.after(cursor)`. A reader that has everything stands with its topics and is handed
the shared bytes of each new frame; one whose outlet is full is only its cursor, and reads on from it when the outlet
drains. Replay, reconnect and slowness are the same walk.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Protocol

from ..observe import logger
from ..sse import Event
from ..stream import Cursor, Frame, Gap, GapReason, Slice
from ..stream.retry import jitter
from .encoding import HEARTBEAT, WIRE, Encoding, bye_event, gap_event, reauth_event
from .limits import ANONYMOUS, Principal, Reservation
from .position import Place, from_history, gap_of, newest_within, next_frames
from .reasons import (
    BROKER_FAILED,
    CLIENT_LEFT,
    DRAIN,
    ERROR,
    EXPIRED,
    FINAL,
    LIFETIME,
    SEND_TIMEOUT,
    EndReason,
    Last,
)
from .topic import Topic

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Connection", "Lifetime", "Outlet", "SubscribeOptions", "Subscription"]


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """What a reader asks for.

    `after`: the position that it had; without one it begins with the `newest` events kept, in each topic or by topic,
    and so does a returning reader in the topics named by `always_new`. `until_final`: its stream ends with the topic's
    final event. `principal`: whom the stream is for; it ends when that expires. `reservation`: the place that
    `Hub.reserve` took for it. `internal`: a reader of this server itself, which no bound applies to, and which is
    neither listed nor counted.
    """

    after: Cursor | None = None
    newest: int | Mapping[str, int] = 0
    always_new: Collection[str] = ()
    encoding: Encoding = WIRE
    until_final: bool = False
    principal: Principal = ANONYMOUS
    reservation: Reservation | None = None
    internal: bool = False


class Outlet(Protocol):
    """Where a reader's bytes go. Calls `Subscription.resume` when it has room again, `end` when its client has left."""

    @property
    def chunked(self) -> bool:
        """Whether it wants the chunk framing of HTTP/1.1."""
        ...

    @property
    def full(self) -> bool:
        """Whether its client takes nothing at the moment, so that what is written now would wait."""
        ...

    def write(self, payload: bytes) -> bool:
        """Takes all the bytes; False when it wants no more until it has called `resume`."""
        ...

    def finish(self, payload: bytes) -> None:
        """The last bytes, then the end of the response."""
        ...

    def abort(self) -> None:
        """The end at once, without waiting for the client."""
        ...


# Seconds before a token's end at which its reader is told; a fifth of what is left where that is less.
_REMINDER = 60.0


class Lifetime:
    """Times of the event loop, in seconds. `reminder`: when the reader is to be told that its token is about to end;
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


class Connection(ABC):
    """What a reader is beside its place in the topics, which a subclass knows.

    `id` is drawn at random, for those who run the server; `since` is Unix time. `events` of topics and bytes (`sent`)
    that were written, and `gaps` that were told.
    """

    __slots__ = (
        "_ending",
        "_hub",
        "_life",
        "_outlet",
        "_stalled",
        "closed",
        "encoding",
        "events",
        "gaps",
        "id",
        "live",
        "principal",
        "sent",
        "since",
        "touched",
    )

    def __init__(self, hub: Hub, principal: Principal, encoding: Encoding) -> None:
        self.id = token_urlsafe(9)
        self.since = time.time()
        self.principal = principal
        self.encoding = encoding
        self.events = self.sent = self.gaps = 0
        self.live = False  # stands with its topics, has all that they have handed out
        self.closed = False
        self.touched = 0.0  # when it was last written to
        self._hub = hub
        self._outlet: Outlet | None = None
        # Why it ends as soon as it has everything, or has ended before its start.
        self._ending: EndReason | None = None
        self._stalled: float | None = None  # since when its outlet has been full
        self._life = Lifetime(hub.loop.time(), self.since, longest=hub.max_lifetime, expires=principal.expires)

    @property
    @abstractmethod
    def cursor(self) -> Cursor: ...

    @abstractmethod
    def _leave(self) -> None:
        """Stands with its topics no longer. Idempotent."""

    @abstractmethod
    def _release(self, reason: EndReason) -> None:
        """Gives back what it holds. Called once."""

    @property
    def age(self) -> float:
        """Seconds since it was opened."""
        return max(0.0, time.time() - self.since)  # clocks are set back, too

    @property
    def send_timeout(self) -> float:
        return self._hub.send_timeout

    @property
    def lagging(self) -> bool:
        return self._stalled is not None

    def end(self, reason: EndReason = CLIENT_LEFT) -> None:
        """Ends the stream now, as the reason says (`reasons.py`), and gives back all that it held. Idempotent: the
        first reason counts."""
        if self.closed:
            return
        outlet = self._outlet
        if outlet is None:
            if reason.last is Last.FAREWELL:
                self._ending = reason  # `start` will write it
            self._close(reason)
            return
        last = reason.last
        if last is Last.FAREWELL and outlet.full and not reason.patient:
            last = Last.ABORT
        payload = b""
        if last is Last.FAREWELL:
            try:
                payload = self._farewell(reason)
            except Exception:
                # It must not keep the readers after it from their farewell.
                logger.exception("the farewell of a stream could not be encoded")
                last = Last.ABORT
        self.sent += len(payload)
        self._close(reason)
        if last is Last.ABORT:
            outlet.abort()
        elif last is not Last.NOTHING:
            outlet.finish(payload)

    def end_when_current(self, reason: EndReason) -> None:
        """Ends the stream as soon as it has everything that has been published: at once for most."""
        if self.live or self._outlet is None:
            self.end(reason)
        else:
            self._ending = reason

    def _close(self, reason: EndReason) -> None:
        self.closed = True
        if self._stalled is not None:
            self._hub.stats.lagging -= 1
            self._stalled = None
        self._leave()
        self._outlet = None
        self._release(reason)

    def on_time(self, now: float) -> float | None:
        """`TimerWheel`: heartbeat, send deadline, lifetime, the end of its token."""
        if self.closed:
            return None
        life = self._life
        if now >= life.ends:
            self.end(life.reason)
            return None
        if self._stalled is not None:
            if now - self._stalled >= self._hub.send_timeout:
                self.end(SEND_TIMEOUT)
                return None
            # It may have room again at any moment (on the portable outlet right after each write), and then its silence
            # counts from the last write: to look again at the deadline alone would leave out heartbeats until then.
            again = max(self.touched + self._hub.heartbeat, now + self._hub.heartbeat / 4)
            return min(self._stalled + self._hub.send_timeout, again, life.due)
        if now >= life.reminder:
            self._remind(life, now)
        elif self.live and now - self.touched >= self._hub.heartbeat:
            self._hub.stats.heartbeats += 1
            if not self._send(self.encoding.wrap(HEARTBEAT), now):
                self._stall()
        return min(self.touched + self._hub.heartbeat, life.due)

    def _stall(self) -> None:
        self._leave()
        if self._stalled is None and not self.closed:
            self._stalled = self._hub.loop.time()
            self._hub.stats.lagging += 1

    def _remind(self, life: Lifetime, now: float) -> None:
        assert life.expires is not None
        life.reminded()
        if not self._control(reauth_event(life.expires, life.left(now))):
            self._stall()

    def _farewell(self, reason: EndReason) -> bytes:
        return self._encode_control(bye_event(reason, retry_ms=self._hub.retry_ms))

    def _control(self, event: Event) -> bool:
        return self._send(self._encode_control(event), self._hub.loop.time())

    def _encode_control(self, event: Event) -> bytes:
        if event.id is None:
            event = replace(event, id=f"{self.encoding.id_prefix}{self.cursor}")
        return self.encoding.wrap(self.encoding.control(event))

    def _send(self, payload: bytes, now: float) -> bool:
        if not payload:
            return True
        self.touched = now
        self.sent += len(payload)
        assert self._outlet is not None
        return self._outlet.write(payload)


class Subscription(Connection):
    """Made by `Hub.subscribe`; begins with `start`, ends with `end`."""

    __slots__ = ("_budget", "_catching_up", "_floors", "_lost_position", "offset", "topics", "until_final")

    def __init__(
        self,
        hub: Hub,
        topics: Sequence[Topic],
        options: SubscribeOptions,
        *,
        place: Place,
        budget: int | None,
    ) -> None:
        super().__init__(hub, options.principal, options.encoding)
        self.topics = tuple(topics)
        self.offset, self._floors, self._lost_position = place
        self.until_final = options.until_final
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
            outlet.finish(self._farewell(self._ending or DRAIN))
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
            self.end(FINAL)

    def catch_up(self) -> None:
        """Leaves the live readers and reads on from its own cursor."""
        self._leave()
        self._catch_up()

    def connection_reset(self) -> None:
        """Its connection was reset right after its end."""
        self._hub.connection_reset(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.live else "lagging"
        return f"<Subscription {[topic.name for topic in self.topics]} at {self.offset} {state}>"

    def _join(self) -> None:
        if self.until_final and len(self.topics) == 1 and self.topics[0].journal.final:
            # Nothing will ever come: its final event was let go, or came before the position that it asked for.
            self.end(FINAL)
        elif self._ending is not None:
            self.end(self._ending)
        elif not self.live:
            self.live = True
            for topic in self.topics:
                topic.join(self)

    def _leave(self) -> None:
        if self.live:
            self.live = False
            for topic in self.topics:
                topic.leave(self)

    def _release(self, reason: EndReason) -> None:
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
            self.end(ERROR)

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
                self.end(FINAL)
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
            self.end(BROKER_FAILED)
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
