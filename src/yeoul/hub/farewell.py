"""Sending readers away, without taking from those who are behind what they have not had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress

from ..observe import logger
from .subscription import Subscription

__all__ = ["Ending", "Farewell", "end_all"]

# What is to be done between the two farewells: to endless streams, and to those that end by themselves.
Ending = Callable[[], Coroutine[None, None, None]]

# Seconds for which a reader that is behind may still be given what it has not had, before its farewell in a drain.
_PARTING = 1.0
# Readers after which the event loop gets its turn.
_SLICE = 256


class Farewell:
    def __init__(self) -> None:
        self._parting: set[Subscription] = set()
        self._parted = asyncio.Event()

    async def say(self, readers: Iterable[Subscription], reason: str) -> None:
        """Until they all have it. What has been handed out before is theirs."""
        self._parting = set(readers)
        for count, reader in enumerate(list(self._parting), 1):
            reader.part(reason)
            if count % _SLICE == 0:
                await asyncio.sleep(0)
        if self._parting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PARTING):
                    self._parted.clear()
                    await self._parted.wait()
        for reader in list(self._parting):
            reader.bye(reason)

    def gone(self, reader: Subscription) -> None:
        self._parting.discard(reader)
        if not self._parting:
            self._parted.set()


async def end_all(endings: Iterable[Ending]) -> None:
    # All at once: each may take its grace, and the server that waits for us counts them as one.
    for failure in await asyncio.gather(*(ending() for ending in endings), return_exceptions=True):
        if isinstance(failure, Exception):
            logger.error("what was to be done before the hub closes failed", exc_info=failure)
