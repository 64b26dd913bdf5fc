"""What is produced only while somebody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import chain, repeat

from ..errors import HubClosed
from ..observe import logger
from ..sse import Event
from ..stream.retry import RetryPolicy
from .hub import Hub
from .reasons import EndReason
from .subscription import Subscription

__all__ = ["Producer"]

# Waits between attempts of a source that fails: it is tried for as long as somebody reads.
_RETRIES = RetryPolicy(attempts=8, base=0.5, cap=30.0)


class Producer:
    """Publishes the events of a source into a topic while the topic has readers; all of them share one run of it.

    It begins with the first reader and ends `linger` seconds after the last, so that one that reconnects finds it
    running. A source that raises is logged and begun anew, after a wait that grows with each failure in a row; one that
    ends by itself is begun anew when somebody comes after all have gone. `on_idle` is called when nothing runs and
    nobody reads; where it is given, the producer has to be made in the event loop. Raises InvalidTopic.
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
        self._readers = 0
        self._run: asyncio.Task[None] | None = None
        hub.watch(topic, self._on_reader)
        self._timer: asyncio.TimerHandle | None = None
        if on_idle is not None:
            # Nobody may come: whoever it was made for may be refused, or be gone before it reads.
            self._timer = asyncio.get_running_loop().call_later(linger, self._idle)

    @property
    def running(self) -> bool:
        return self._run is not None and not self._run.done()

    def close(self) -> None:
        """Ends the run, and looks at readers no more."""
        self._hub.unwatch(self.topic)
        self._stop()

    def _on_reader(self, topic: str, reader: Subscription, reason: EndReason | None) -> None:
        self._readers += 1 if reason is None else -1
        if self._readers:
            self._forget_timer()
            if self._run is None:
                self._run = self._hub.spawn(self._produce())
        elif self._timer is None:
            self._timer = self._hub.loop.call_later(self._linger, self._idle)

    def _idle(self) -> None:
        self._stop()
        if self._on_idle is not None:
            self._on_idle()

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
            except Exception:
                if self._hub.loop.time() - began > _RETRIES.cap:
                    delays = _delays()  # it has worked: this is the first failure of its kind
                wait = next(delays)
                logger.exception("what topic %r is made of has failed: it is tried again in %.1f s", self.topic, wait)
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
            await self._hub.publish(self.topic, event)


def _delays() -> Iterator[float]:
    return chain(_RETRIES.delays(), repeat(_RETRIES.cap))
