"""Reading somebody else's SSE: one request, one connection, its events. What it cannot do ends as an UpstreamError.

A request is repeated only while it is certain that nothing has begun: the connection was refused, or the answer was a
status that passes (429, 5xx). Never after a time-out and never in mid-stream: behind the request a model may be
running that somebody pays for. Whoever reads a stream that can be resumed asks anew, with its `last_event_id`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import aiohttp
from yarl import URL

from ..errors import EventTooLarge, UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamTimeout
from ..sse import DEFAULT_MAX_EVENT_BYTES, Decoder, Event
from ..stream.retry import RetryPolicy
from .request import DEFAULT_MAX_ERROR_BYTES, Request, Timeouts, answer, close, stream_headers

__all__ = ["DEFAULT_MAX_ERROR_BYTES", "EventStream", "Timeouts", "new_session", "open_stream"]

# The reader's buffer; aiohttp stops reading the socket at twice that. Its own 256 KiB would let one upstream that
# sends faster than we publish hold the loop for thousands of tokens.
_READ_BUFFER_BYTES = 32 * 1024

_TIMEOUTS = Timeouts()
_RETRY = RetryPolicy()


def new_session(*, connections: int = 0, proxy: str | None = None) -> aiohttp.ClientSession:
    """A session fit for streams; to be made in the running loop and closed by who made it.

    `connections` bounds those open at once, 0 does not: a stream holds its connection for minutes, and aiohttp's
    own bound of 100 would make the 101st reader wait for one of them to end. Cookies are not kept, because one
    session serves many users.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_BUFFER_BYTES,
        proxy=proxy,
    )


@asynccontextmanager
async def open_stream(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    name: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    last_event_id: str = "",
    timeouts: Timeouts = _TIMEOUTS,
    retry: RetryPolicy = _RETRY,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    max_error_bytes: int = DEFAULT_MAX_ERROR_BYTES,
    secrets: Sequence[str] = (),
) -> AsyncIterator[EventStream]:
    """The events that this request is answered with.

    Leaving the context closes the connection at once, unless the answer was read to its end. `name` is what messages
    call the upstream (its host if not given); `secrets` never occur in them.

    Raises UpstreamRefused for a status other than 2xx and where nothing could be reached, UpstreamTimeout, UpstreamCut
    for a connection that was closed before an answer, UpstreamGarbage for one that is no event stream.
    """
    request = Request(
        session=session,
        method=method,
        url=URL(url),
        name=name or URL(url).host or "the upstream",
        headers=stream_headers(headers, last_event_id),
        body=body,
        timeouts=timeouts,
        max_error_bytes=max_error_bytes,
        secrets=secrets,
    )
    response = await answer(request, retry)
    events = EventStream(response, request.name, Decoder(last_event_id, max_event_bytes), timeouts)
    try:
        yield events
    finally:
        events.close()


class EventStream:
    """The events of one connection, in lists: what each read of the socket completed (never an empty list).

    Iteration ends where the upstream ended its answer cleanly. Otherwise it raises UpstreamCut, UpstreamTimeout or
    UpstreamGarbage, after everything that had arrived by then.
    """

    def __init__(self, response: aiohttp.ClientResponse, name: str, decoder: Decoder, timeouts: Timeouts) -> None:
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._content = response.content
        self._name = name
        self._decoder = decoder
        self._failure: UpstreamError | None = None
        self._begun = False
        self._idle = timeouts.idle
        self._watchdog = _Watchdog(timeouts.first_byte, lambda: self._content.set_exception(TimeoutError()))
        if response.connection is not None and response.connection.protocol is not None:
            # From here on the watchdog does the waiting: aiohttp knows one read time-out, not two.
            response.connection.protocol.read_timeout = None
            response.connection.protocol.start_timeout()

    @property
    def idle(self) -> float | None:
        """How long the upstream may be silent in mid-stream, in seconds; None is for ever."""
        return self._idle

    @idle.setter
    def idle(self, seconds: float | None) -> None:
        self._idle = seconds
        if self._begun:
            self._watchdog.limit(seconds)

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    @property
    def retry_ms(self) -> int | None:
        """The reconnection time that the stream asked for, in milliseconds."""
        return self._decoder.retry_ms

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> list[Event]:
        while self._failure is None:
            data = await self._read()
            if not data:
                raise StopAsyncIteration
            events = self._decode(data)
            if events:
                return events
        raise self._failure

    def close(self) -> None:
        """Closes the connection; who waits for the next events gets UpstreamCut. (Closing the session does not wake
        them: aiohttp forgets its readers there.)"""
        self._watchdog.limit(None)
        close(self._response)

    async def drain(self, seconds: float) -> None:
        """Reads on to the end, for at most this long: a connection whose answer was read to its end is used again."""
        with suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(seconds):
                async for _ in self:
                    pass

    async def _read(self) -> bytes:
        """The next bytes, b"" at the end."""
        self._watchdog.waiting_since = self._watchdog.now()
        try:
            data = await self._content.readany()
        except TimeoutError as error:
            raise self._silence() from error
        except (aiohttp.ClientError, OSError) as error:
            data = self._rescue(error)
            if not data:
                raise UpstreamCut(f"{self._name} broke off: the connection was lost in mid-stream") from error
        finally:
            self._watchdog.waiting_since = None
        if not self._begun:
            self._begun = True
            self._watchdog.limit(self._idle)
        return data

    def _rescue(self, error: Exception) -> bytes:
        """What had arrived before the connection was lost: aiohttp's reader does not hand it out any more once it
        knows of the loss, yet it is the text (or the end marker) that came last."""
        self._content.set_exception(None)  # type: ignore[arg-type]
        data = self._content.read_nowait()
        self._content.set_exception(error)
        return data

    def _decode(self, data: bytes) -> list[Event]:
        try:
            return self._decoder.feed(data)
        except EventTooLarge as error:
            self._failure = UpstreamGarbage(f"{self._name} sent too much at once: {error}")
            self._failure.__cause__ = error
            return error.events

    def _silence(self) -> UpstreamTimeout:
        seconds = self._watchdog.seconds
        if self._begun:
            return UpstreamTimeout(f"{self._name} fell silent for {seconds:g} s in mid-stream (idle time-out)")
        return UpstreamTimeout(f"{self._name} began no answer within {seconds:g} s (first-byte time-out)")


class _Watchdog:
    """Calls `bark` once `waiting_since` is more than `seconds` ago.

    One timer, which looks at the clock when it runs down, for all the waits of a stream: a timer armed and cancelled
    for each read (`asyncio.timeout`) was measured to take a third of all that a token costs here.
    """

    __slots__ = ("_bark", "_loop", "_timer", "now", "seconds", "waiting_since")

    def __init__(self, seconds: float | None, bark: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bark = bark
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._loop.time
        self.waiting_since: float | None = None
        self.limit(seconds)

    def limit(self, seconds: float | None) -> None:
        """The bound from now on, for the present wait too; None ends the watch."""
        self.seconds = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        # Who does not wait for the upstream (but for a slow reader of his own) has all the time still before him.
        left = seconds if self.waiting_since is None else self.waiting_since + seconds - self.now()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look, seconds)
        else:
            self._bark()
