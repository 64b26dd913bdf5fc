"""A client that comes back as `EventSource` does, whatever happens to its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httptools

from support.proxy import reset
from yeoul.sse import Decoder, Event


class Follower:
    """Follows one path through all cuts. `events`: everything that was dispatched, control events too.

    `silence`: seconds without a byte after which it takes the connection for dead. `before_return` is awaited before
    each reconnect.
    """

    def __init__(self, port: int, path: str, *, silence: float = 10.0) -> None:
        self.port = port
        self.path = path
        self.events: list[Event] = []
        self.last_event_id = ""
        self.statuses: list[int] = []
        self.connections = 0
        self.before_return: Callable[[], asyncio.Future[None] | None] = lambda: None
        self._silence = silence
        self._changed = asyncio.Event()
        self._over = False

    async def run(self) -> None:
        """Until a response says that nothing follows."""
        while not self._over:
            self.connections += 1
            with suppress(ConnectionError, TimeoutError):
                await self._connection()
            waiting = self.before_return()
            if waiting is not None:
                await waiting

    async def until(self, done: Callable[[list[Event]], object]) -> None:
        while not done(self.events):
            self._changed.clear()
            await self._changed.wait()

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events if not event.type.startswith("stream.")]

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            back = f"Last-Event-ID: {self.last_event_id}\r\n" if self.last_event_id else ""
            writer.write(f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n{back}\r\n".encode())
            response = _Response(self)
            while not response.complete:
                async with asyncio.timeout(self._silence):
                    piece = await reader.read(65_536)
                if not piece:
                    return
                response.parser.feed_data(piece)
            self._over = response.status != 200
        finally:
            reset(writer)

    def _take(self, events: list[Event], last_event_id: str) -> None:
        self.events += events
        self.last_event_id = last_event_id
        self._changed.set()


class _Response:
    def __init__(self, follower: Follower) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.complete = False
        self.status = 0
        self._follower = follower
        self._decoder = Decoder(follower.last_event_id)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self._follower.statuses.append(self.status)

    def on_body(self, body: bytes) -> None:
        if self.status == 200:
            events = self._decoder.feed(body)
            self._follower._take(events, self._decoder.last_event_id)

    def on_message_complete(self) -> None:
        self.complete = True
