"""One open response: where its bytes go, what has been written, how long it may last, and how it ends."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from ..observe import logger
from ..sse import Event
from ..stream import Cursor
from .control import bye_event, reauth_event
from .encoding import HEARTBEAT, Encoding
from .lifetime import Lifetime
from .outlet import Outlet
from .principal import Principal

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Connection"]


class Connection(ABC):
    """What a reader is beside its place in the topics, which a subclass knows.

    `id` is drawn at random, for those who run the server; `since` is Unix time. `events` of topics and bytes (`sent`)
    that were written, and `gaps` that were told.
    """

    __slots__ = (
        "_hub",
        "_life",
        "_outlet",
        "_parting",
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
        # Why it leaves as soon as it has everything, or has left before its start, and whether it may come back.
        self._parting: tuple[str, bool] | None = None
        self._stalled: float | None = None  # since when its outlet has been full
        self._life = Lifetime(hub.loop.time(), self.since, longest=hub.max_lifetime, expires=principal.expires)

    @property
    @abstractmethod
    def cursor(self) -> Cursor: ...

    @abstractmethod
    def _leave(self) -> None:
        """Stands with its topics no longer. Idempotent."""

    @abstractmethod
    def _release(self, reason: str) -> None:
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

    def bye(self, reason: str, *, reconnect: bool = True) -> None:
        """The farewell event, then the end. Readers are told to come back at different times."""
        if self._outlet is None:
            if not self.closed:
                self._parting = (reason, reconnect)
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
            self._parting = (reason, True)

    def dismiss(self, reason: str, *, reconnect: bool) -> None:
        """The end now, whatever it has not had; with a farewell if there is room for one."""
        if self._outlet is not None and self._outlet.full:
            self.fail(reason)
        else:
            self.bye(reason, reconnect=reconnect)

    def end(self, reason: str, payload: bytes = b"") -> None:
        outlet = self._outlet
        self.sent += len(payload)
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
        self._release(reason)

    def fail(self, reason: str = "error") -> None:
        """The end without a word: nothing can be said to it. It may come back with its cursor."""
        outlet = self._outlet
        self.close(reason)
        if outlet is not None:
            outlet.abort()

    def on_time(self, now: float) -> float | None:
        """`Wheel`: heartbeat, send deadline, lifetime, the end of its token."""
        if self.closed:
            return None
        life = self._life
        if now >= life.ends:
            self.dismiss(life.reason, reconnect=True)
            return None
        if self._stalled is not None:
            if now - self._stalled >= self._hub.send_timeout:
                self.fail("send timeout")
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

    def _farewell(self, reason: str, *, reconnect: bool) -> bytes:
        return self._encode_control(bye_event(reason, reconnect=reconnect, retry_ms=self._hub.retry_ms))

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
