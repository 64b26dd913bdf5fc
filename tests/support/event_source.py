"""A reader that comes back as `EventSource` does, cut by the test wherever it likes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from support.reader import RawStream, open_stream
from yeoul.sse import Event

__all__ = ["EventSource"]


@dataclass
class EventSource:
    """Follows one path, with the last id it had. `events`: all that were dispatched, over all connections."""

    port: int
    path: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    last_event_id: str = ""
    statuses: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """As the plain dialect has it."""
        return "".join(event.data for event in self.events if event.type == "message").removesuffix("[DONE]")

    async def connect(self) -> RawStream:
        stream = await open_stream(
            self.port,
            self.path,
            method=self.method,
            body=self.body,
            headers=self.headers,
            last_event_id=self.last_event_id,
        )
        self.statuses.append(stream.status)
        return stream

    async def read_bytes(self, count: int) -> bool:
        """One connection, reset after this many bytes of body; False where it is over (or was never a stream)."""
        stream = await self.connect()
        if stream.status != 200:
            await stream.close()
            return False
        left = count
        while left > 0 and not stream.ended:
            # Only what came before the cut is decoded, though the socket may have brought more.
            piece = await stream._piece()
            stream.ended = not piece
            stream.events += stream.decoder.feed(piece[:left])
            left -= len(piece)
        stream.cut()
        self._keep(stream)
        return True

    async def read_events(self, count: int) -> bool:
        """One connection, reset after this many events."""
        stream = await self.connect()
        if stream.status != 200:
            await stream.close()
            return False
        while len(stream.events) < count and not stream.ended:
            await stream.read()
        del stream.events[count:]
        stream.cut()
        if stream.events:
            self.last_event_id = stream.events[-1].id or ""
        self.events += stream.events
        return True

    async def read_all(self, cuts: Iterable[int] = ()) -> list[Event]:
        """Cut after so many bytes each, then undisturbed until the server says that it is over."""
        for count in cuts:
            if not await self.read_bytes(count):
                return self.events
        while True:
            stream = await self.connect()
            if stream.status != 200:
                await stream.close()
                return self.events
            await stream.rest()
            await stream.close()
            self._keep(stream)

    def _keep(self, stream: RawStream) -> None:
        self.events += stream.events
        self.last_event_id = stream.last_event_id
