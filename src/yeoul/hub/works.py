"""All work of one kind in a hub: started, found, listed, stopped, and forgotten after a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

from ..errors import HubClosed, TooMuchWork
from ..observe import logger
from ..sse import Event
from .hub import Hub
from .work import Work

__all__ = ["Works"]

_W = TypeVar("_W", bound=Work)

# Seconds that interrupted work has to let go of its source: a library's `aclose` may wait for its server for ever.
_STOP = 2.0


class Works(Generic[_W]):
    """`max_running` at once, of which one owner has `max_per_owner` (None: no bound, as for what nobody owns).
    `keep_seconds` after its end a piece of work is forgotten, sooner where more than
    `max_kept` have ended. When the hub closes, running ones are given `grace_seconds`."""

    def __init__(
        self,
        hub: Hub,
        *,
        max_running: int = 1_000,
        max_per_owner: int | None = None,
        keep_seconds: float = 600.0,
        max_kept: int = 10_000,
        grace_seconds: float = 10.0,
    ) -> None:
        self.hub = hub
        self._max_running = max_running
        self._max_per_owner = max_per_owner
        self._keep_seconds = keep_seconds
        self._max_kept = max_kept
        self._grace_seconds = grace_seconds
        self._all: dict[str, _W] = {}
        self._running: dict[str, _W] = {}
        self._by_question: dict[bytes, list[_W]] = {}
        self._questions: dict[str, bytes] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}  # of those that have ended, oldest first
        self._closed = False
        hub.before_close(self.close)

    async def open(self, owner: str | None = None) -> None:
        """Whether one more may be started. Raises HubClosed, TooMuchWork."""
        if self._closed or self.hub.draining:
            raise HubClosed("this server is shutting down: ask again, another one will answer")
        if len(self._running) >= self._max_running:
            raise TooMuchWork(f"{self._max_running} answers are being written at the moment: ask again shortly")
        if owner is not None and self._max_per_owner is not None and self._running_of(owner) >= self._max_per_owner:
            most = f"{self._max_per_owner} answers are being written for you, as many as may be"
            raise TooMuchWork(f"{most}: wait for one of them, or stop it")
        await self.hub.open()

    async def launch(self, work: _W, first: Event, question: str | None = None) -> _W:
        """Begins the work with its first event. `question`: what `orphan` finds it by."""
        self._all[work.id] = self._running[work.id] = work
        if question is not None:
            self._questions[work.id] = _key(question)
            self._by_question.setdefault(_key(question), []).append(work)

        def keep() -> None:
            del self._running[work.id]
            self._timers[work.id] = self.hub.loop.call_later(self._keep_seconds, self._forget, work.id)
            while len(self._timers) > self._max_kept:
                self._forget(next(iter(self._timers)))

        try:
            await work.begin(first, keep)
        except BaseException:
            del self._running[work.id]
            self._remove(work.id)
            raise
        return work

    def get(self, id: str) -> _W | None:
        return self._all.get(id)

    def orphan(self, question: str) -> _W | None:
        """The work that the same request began, if its reader was lost: a client that was cut before it had its first
        event cannot name the work that it started, and must not be billed for it twice."""
        return next((work for work in self._by_question.get(_key(question), ()) if work.abandoned), None)

    def running(self) -> list[_W]:
        return list(self._running.values())

    def _running_of(self, owner: str) -> int:
        return sum(work.owner == owner for work in self._running.values())

    async def close(self) -> None:
        """Takes no more, gives the running ones their grace, then interrupts them. The hub calls it."""
        self._closed = True
        await self._wait_for(self.running(), self._grace_seconds)
        for work in self.running():
            work.interrupt()
        left = await self._wait_for(self.running(), _STOP)
        if left:
            logger.error("%d pieces of work did not let themselves be stopped", left)
        for id in list(self._timers):
            self._drop(id)  # their events stay: readers that are behind still have the end to come

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._running)} running, {len(self._timers)} kept>"

    async def _wait_for(self, works: Sequence[_W], seconds: float) -> int:
        """Until all have ended, or for so long; how many have not."""
        if not works:
            return 0
        ends = [self.hub.loop.create_task(work.ended()) for work in works]
        _, pending = await asyncio.wait(ends, timeout=seconds)
        for task in pending:
            task.cancel()
        return len(pending)

    def _drop(self, id: str) -> _W:
        self._timers.pop(id).cancel()
        work = self._remove(id)
        work.close()
        return work

    def _remove(self, id: str) -> _W:
        work = self._all.pop(id)
        key = self._questions.pop(id, None)
        if key is not None:
            self._by_question[key].remove(work)
            if not self._by_question[key]:
                del self._by_question[key]
        return work

    def _forget(self, id: str) -> None:
        work = self._drop(id)
        self.hub.spawn(self.hub.broker.forget(work.topic))


def _key(question: str) -> bytes:
    """A question is made of a request, and may hold a secret: only its digest is kept."""
    return blake2b(question.encode(errors="surrogatepass"), digest_size=16).digest()
