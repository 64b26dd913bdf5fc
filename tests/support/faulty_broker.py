"""A broker that works until a test says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from yeoul.hub import MemoryBroker
from yeoul.sse import Event
from yeoul.stream import Cursor, Frame, Journal

__all__ = ["FaultyBroker"]


class FaultyBroker(MemoryBroker):
    """`fault`: it keeps what is published but pushes it to nobody ("lose"), never answers a publish ("hang") or an
    attach ("hang attach"), or raises an error whose text is a secret ("fail"). Without one it is as good as any
    other."""

    fault: Literal["lose", "hang", "hang attach", "fail"] | None = None
    publishes = 0

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        self.publishes += 1
        if self.fault == "hang":
            await asyncio.get_running_loop().create_future()
        if self.fault == "fail":
            raise ConnectionError("redis://:s3cr3t@broker.internal is gone")
        if self.fault != "lose":
            return await super().publish(topic, events, final=final)
        sink, self._sink = self._sink, _nobody
        try:
            return await super().publish(topic, events, final=final)
        finally:
            self._sink = sink

    async def attach(self, topic: str) -> Journal:
        if self.fault == "hang attach":
            await asyncio.get_running_loop().create_future()
        return await super().attach(topic)


def _nobody(topic: str, frames: Sequence[Frame]) -> None:
    pass
