"""An outlet without a socket: what a hub writes to one reader, and when it says that it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from yeoul.hub import Encoding, Hub, SubscribeOptions, Subscription
from yeoul.hub.encoding import WIRE
from yeoul.hub.limits import ANONYMOUS, Principal
from yeoul.sse import Decoder, Event
from yeoul.stream import Cursor

WAIT_S = 30.0


@dataclass
class MemoryOutlet:
    """Keeps every payload. `full`: pauses its reader after each write, although it takes all, as `Outlet` asks."""

    full: bool = False
    chunked: bool = False
    payloads: list[bytes] = field(default_factory=list)
    reader: Subscription | None = None
    finished: bool = False
    aborted: bool = False
    on_write: Callable[[bytes], None] = lambda payload: None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, payload: bytes) -> None:
        assert not self.finished, "written to after its end"
        self.payloads.append(payload)
        self._changed.set()
        self.on_write(payload)
        if self.full and self.reader is not None:
            self.reader.pause()

    @property
    def deliver(self) -> Callable[[bytes], object]:
        return self.write

    def finish(self, payload: bytes) -> None:
        if payload:
            self.write(payload)
        assert not self.finished, "ended twice"
        self.finished = True
        self._changed.set()

    def abort(self) -> None:
        self.aborted = True
        self._changed.set()

    @property
    def events(self) -> list[Event]:
        return Decoder().feed(b"".join(self.payloads))

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    async def until(self, done: Callable[[MemoryOutlet], object]) -> MemoryOutlet:
        """Waits for writes until this holds."""
        async with asyncio.timeout(WAIT_S):
            while not done(self):
                self._changed.clear()
                await self._changed.wait()
        return self

    async def take(self, count: int) -> list[Event]:
        """The first events, once there are so many."""
        return (await self.until(lambda outlet: len(outlet.events) >= count)).events[:count]


async def follow(
    hub: Hub,
    *topics: str,
    after: Cursor | None = None,
    newest: int | Mapping[str, int] = 0,
    always_new: Collection[str] = (),
    encoding: Encoding = WIRE,
    until_final: bool = False,
    principal: Principal = ANONYMOUS,
    opening: Sequence[Event] = (),
    **outlet: Any,
) -> tuple[Subscription, MemoryOutlet]:
    """A reader that has begun, and its outlet."""
    options = SubscribeOptions(after, newest, always_new, encoding, until_final, principal)
    reader = await hub.subscribe(topics, options)
    made = MemoryOutlet(reader=reader, **outlet)
    reader.start(made, *opening)
    return reader, made


async def publish(hub: Hub, topic: str, *data: str) -> Cursor:
    """Publishes one event for each text; the cursor of the last."""
    return await hub.publish(topic, *[Event(text) for text in data])


async def turns(count: int = 10) -> None:
    """Gives the event loop its turn: what is scheduled without a delay has run then."""
    for _ in range(count):
        await asyncio.sleep(0)
