"""Events that are produced only while they have readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import chain, repeat

from ..errors import EventTooLarge, HubClosed
from ..observe import logger
from ..sse import Event
from ..stream.retry import RetryPolicy
from .hub import Hub
from .reasons import SOURCE_FAILED, EndReason
from .subscription import Subscription

__all__ = ["Producer", "UnsendableValue"]

# Waits between attempts of a source that raises: it is started again for as long as it has readers.
_RETRIES = RetryPolicy(attempts=8, base=0.5, cap=30.0)

# Seconds before a source is started again that has yielded what cannot be sent: that is a mistake in it.
_PAUSE_S = 30.0


class UnsendableValue(Exception):
    """Raised by a source for a value that it cannot turn into an event. The message names source and value."""


class Producer:
    """Publishes the events of a source to a topic while the topic has readers: the source runs once for all of them.

    It starts with the first reader and ends `linger` seconds after the last, so that a reader that reconnects finds it
    running. A source that raises is logged and started again, after a wait that grows with each failure in a row. One
    that ends by itself is started again with the first reader after all have left. One that yields what cannot be sent
    is logged once, its readers are ended (SOURCE_FAILED; those that follow other topics too stay), and it is started
    again no sooner than after half a minute.

    `on_idle` is called when nothing runs and the topic has no readers; with it, the producer must be created in the
    event loop. Raises InvalidTopic; ValueError where the topic has a source, or a watcher, already.
    """

    def __init__(
        self,
        hub: Hub,
        topic: str,
        source: Callable[[], AsyncIterator[Event]],
        *,
        linger: float = 5.0,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.topic = topic
        self._hub = hub
        self._source = source
        self._linger = linger
        self._on_idle = on_idle
        self._readers = set(hub.readers_of(topic))  # they may have come by another route before
        self._loop: asyncio.AbstractEventLoop | None = None  # of the run and the timer
        self._run: asyncio.Task[None] | None = None
        self._paused_until = 0.0
        hub.watch(topic, self._on_reader)
        self._timer: asyncio.TimerHandle | None = None
        if self._readers:
            self._start()
        elif on_idle is not None:
            # There may be no reader: the one that it was created for may be refused, or leave before it reads.
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(linger, self._idle)

    @property
    def running(self) -> bool:
        return self._run is not None and not self._run.done()

    def close(self) -> None:
        """Ends the run, and watches the topic no longer."""
        self._hub.unwatch(self.topic)
        self._stop()

    def _on_reader(self, topic: str, reader: Subscription, reason: EndReason | None) -> None:
        if self._loop is not self._hub.loop:
            self._reset()
        if reason is None:
            self._readers.add(reader)
            if self._pause:
                if len(reader.topics) == 1:
                    reader.end(SOURCE_FAILED)
            else:
                self._forget_timer()
                if self._run is None:
                    self._start()
        else:
            self._readers.discard(reader)
            if not self._readers and self._timer is None:
                self._timer = self._hub.loop.call_later(max(self._linger, self._pause), self._idle)

    def _start(self) -> None:
        self._loop = self._hub.loop
        self._run = self._hub.spawn(self._produce())

    def _reset(self) -> None:
        """The hub runs on another event loop than before: what belonged to that one is gone."""
        self._loop = self._hub.loop
        self._readers.clear()
        self._run = self._timer = None
        self._paused_until = 0.0

    @property
    def _pause(self) -> float:
        """Seconds until a source that has failed may be started again."""
        return max(0.0, self._paused_until - self._hub.loop.time())

    def _idle(self) -> None:
        self._stop()
        if self._on_idle is not None:
            self._on_idle()

    def _resume(self) -> None:
        """Readers that follow other topics too have waited for the end of the pause."""
        self._stop()
        if self._readers:
            self._start()
        else:
            self._idle()

    def _stop(self) -> None:
        self._forget_timer()
        if self._run is not None:
            self._run.cancel()
            self._run = None

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _produce(self) -> None:
        delays = _delays()
        while True:
            began = self._hub.loop.time()
            try:
                await self._publish_all()
                return
            except HubClosed:
                return
            except UnsendableValue as error:
                self._fail(error)
                return
            except Exception:
                if self._hub.loop.time() - began > _RETRIES.cap:
                    delays = _delays()  # it has worked: this is the first failure of its kind
                wait = next(delays)
                logger.exception("the source of topic %r failed: it is started again in %.1f s", self.topic, wait)
            await asyncio.sleep(wait)

    async def _publish_all(self) -> None:
        source = self._source()
        if hasattr(source, "aclose"):
            async with aclosing(source):  # type: ignore[type-var]
                await self._publish(source)
        else:
            await self._publish(source)

    async def _publish(self, source: AsyncIterator[Event]) -> None:
        async for event in source:
            try:
                await self._hub.publish(self.topic, event)
            except (EventTooLarge, ValueError) as error:
                wrong = f"the source of topic {self.topic!r} yielded an invalid event: {error}"
                raise UnsendableValue(wrong) from error

    def _fail(self, error: UnsendableValue) -> None:
        logger.error("%s: the streams of topic %r are ended", error, self.topic, exc_info=error.__cause__)
        self._run = None
        self._paused_until = self._hub.loop.time() + _PAUSE_S
        self._forget_timer()
        self._timer = self._hub.loop.call_later(_PAUSE_S, self._resume)
        for reader in self._hub.readers_of(self.topic):
            if len(reader.topics) == 1:
                reader.end(SOURCE_FAILED)


def _delays() -> Iterator[float]:
    return chain(_RETRIES.delays(), repeat(_RETRIES.cap))
