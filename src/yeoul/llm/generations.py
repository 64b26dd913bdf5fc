"""The generations of one hub: started, found, listed, stopped, and forgotten after a while."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator

from ..errors import HubClosed, TooManyGenerations
from ..hub import Hub
from .generation import CONTINUE, DisconnectPolicy, Generation, GenerationStats
from .provider import Delta, Finish

__all__ = ["Generations"]

_of_hub: weakref.WeakKeyDictionary[Hub, Generations] = weakref.WeakKeyDictionary()


class Generations:
    """`max_running` at once; each at most `max_seconds` long and `max_chars` of text; `keep_seconds` after its end a
    generation is forgotten, sooner where more than `max_kept` have ended. When the hub closes, running ones are given
    `grace_seconds`. The topic's retention must cover
    `max_seconds + keep_seconds` and that much text, otherwise late readers get a gap."""

    def __init__(
        self,
        hub: Hub,
        *,
        max_running: int = 1_000,
        max_seconds: float = 900.0,
        max_chars: int = 4_194_304,
        keep_seconds: float = 600.0,
        max_kept: int = 10_000,
        grace_seconds: float = 10.0,
    ) -> None:
        self.hub = hub
        self.stats = GenerationStats()
        self._max_running = max_running
        self._max_seconds = max_seconds
        self._max_chars = max_chars
        self._keep_seconds = keep_seconds
        self._max_kept = max_kept
        self._grace_seconds = grace_seconds
        self._all: dict[str, Generation] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}  # of those that have ended, oldest first
        self._closed = False
        hub.before_close(self.close)
        self._by_question: dict[str, Generation] = {}

    @classmethod
    def of(cls, hub: Hub) -> Generations:
        """The hub's own, made with defaults on first use."""
        if hub not in _of_hub:
            _of_hub[hub] = cls(hub)
        return _of_hub[hub]

    async def start(
        self,
        source: AsyncIterator[Delta | Finish],
        *,
        provider: str = "app",
        model: str = "app",
        owner: str | None = None,
        policy: DisconnectPolicy = CONTINUE,
        question: str | None = None,
    ) -> Generation:
        """Begins to consume the source in a task of its own. `question`: what `orphan` finds it by.

        Raises TooManyGenerations, HubClosed.
        """
        if self._closed or self.hub.draining:
            raise HubClosed("this server is shutting down: ask again, another one will answer")
        if self.stats.running >= self._max_running:
            raise TooManyGenerations(f"{self._max_running} answers are being written at the moment: ask again shortly")
        await self.hub.open()
        generation = Generation(
            self.hub, self.stats, provider=provider, model=model, owner=owner, policy=policy, on_end=self._keep
        )
        self.stats.running += 1
        self.stats.started += 1
        self._all[generation.id] = generation
        if question is not None:
            self._by_question[question] = generation
        try:
            await generation.begin(source, max_seconds=self._max_seconds, max_chars=self._max_chars)
        except BaseException:
            self.stats.running -= 1
            del self._all[generation.id]
            raise
        return generation

    def orphan(self, question: str) -> Generation | None:
        """The running generation that the same request began, if its reader was lost: a client that was cut before it
        had its first event cannot name the work that it started, and must not be billed for it twice."""
        generation = self._by_question.get(question)
        if generation is None or not generation.running or generation.readers:
            return None
        return generation

    def get(self, id: str) -> Generation | None:
        return self._all.get(id)

    def running(self) -> list[Generation]:
        return [generation for generation in self._all.values() if generation.running]

    async def close(self) -> None:
        """Takes no new ones, gives the running ones their grace, then interrupts them. The hub calls it."""
        self._closed = True
        running = self.running()
        if running and self._grace_seconds > 0:
            ends = [self.hub.loop.create_task(_until_over(generation)) for generation in running]
            _, pending = await asyncio.wait(ends, timeout=self._grace_seconds)
            for task in pending:
                task.cancel()
        for generation in running:
            generation.interrupt()
            await generation.wait()
        for id in list(self._timers):
            self._forget(id)

    def __repr__(self) -> str:
        return f"<Generations {self.stats.running} running, {len(self._timers)} kept>"

    def _keep(self, generation: Generation) -> None:
        self._timers[generation.id] = self.hub.loop.call_later(self._keep_seconds, self._forget, generation.id)
        while len(self._timers) > self._max_kept:
            self._forget(next(iter(self._timers)))
        for question in [q for q, g in self._by_question.items() if g is generation]:
            del self._by_question[question]

    def _forget(self, id: str) -> None:
        self._timers.pop(id).cancel()
        self._all.pop(id).close()


async def _until_over(generation: Generation) -> None:
    await generation.wait()
