"""Sending readers away, without taking from those who are behind what they have not had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from .subscription import Subscription

__all__ = ["Farewell"]

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
