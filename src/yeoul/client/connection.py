"""Reading another server's event stream: one request, one connection, its events. Failures are UpstreamErrors.

A request is repeated only while it is certain that nothing has begun: the connection was refused, a pooled connection
turned out to be closed, or the response was a status that passes (429, 5xx). Never after a time-out and never in
mid-stream: behind the request a model may be running that costs money. A caller whose stream can be resumed asks anew,
with its `last_event_id`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from ..errors import EventTooLarge, UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamTimeout
from ..sse import DEFAULT_MAX_EVENT_BYTES, Decoder, Event
from ..stream.retry import RetryPolicy
from .body import BodyReader, connector, take_over
from .request import DEFAULT_MAX_ERROR_BYTES, Opened, Request, close, open_response, stream_headers, tracing
from .timeouts import Timeouts

__all__ = ["DEFAULT_MAX_ERROR_BYTES", "EventStream", "new_session", "open_stream"]

# The reader's buffer; aiohttp stops reading the socket at twice that. Its own 256 KiB would let one upstream that
# sends faster than we publish hold the loop for thousands of tokens.
_READ_BUFFER_BYTES = 32 * 1024

# Of one header, in bytes. Gateways add long ones (cookies, policies, traces); servers' own bounds are 8 to 64 KiB.
_MAX_HEADER_BYTES = 64 * 1024

# Seconds for which an idle connection is kept: less than the 5 s after which the most common servers (uvicorn, Node)
# close theirs, so that requests rarely meet a connection that is being closed.
_KEEP_ALIVE_SECONDS = 4.0

# Lines of a stream that are not part of its format are kept up to so many, and so many bytes of each.
_MAX_IGNORED_LINES = 8
_MAX_IGNORED_BYTES = 4_096

_BLANK = b"\xef\xbb\xbf \t\r\n"

_TIMEOUTS = Timeouts()
_RETRY = RetryPolicy()


def new_session(*, connections: int = 0) -> aiohttp.ClientSession:
    """A session fit for streams; to be made in the running loop and closed by its owner.

    `connections` bounds those open at once, 0 does not: a stream holds its connection for minutes, and aiohttp's
    own bound of 100 would make the 101st reader wait for one of them to end. Cookies are not kept, because one
    session serves many users.
    """
    session = aiohttp.ClientSession(
        connector=connector(connections, _KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=_READ_BUFFER_BYTES,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        trace_configs=[tracing()],
    )
    # aiohttp repeats a GET whose connection was lost before the response, on new connections too: the server may have
    # begun its work. What may be repeated is decided in `request.py`.
    session._retry_connection = False
    return session


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
    documents: bool = False,
    own_ids: bool = False,
    on_comment: Callable[[bytes], None] | None = None,
) -> AsyncIterator[EventStream]:
    """The events of the response to this request.

    A response is taken for an event stream by its Content-Type, or by its first bytes where the type says something
    else. `documents`: a body that is a JSON value is taken too, as one event (see `EventStream.document`).
    `own_ids` and `on_comment`: see `sse.Decoder`.

    Leaving the context closes the connection at once, unless the response was read to its end. `name` is what messages
    call the upstream (by default its host); `secrets` never occur in them. A proxy is used as the environment says
    (`proxy_for`).

    Raises UpstreamRefused for a status other than 2xx and where nothing could be reached, UpstreamTimeout, UpstreamCut
    for a connection that was closed before a response, UpstreamGarbage for a response that is not an event stream.
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
        documents=documents,
    )
    opened = await open_response(request, retry)
    events = EventStream(
        opened,
        request.name,
        timeouts,
        max_event_bytes,
        last_event_id,
        documents=documents,
        own_ids=own_ids,
        on_comment=on_comment,
    )
    try:
        yield events
    finally:
        events.close()


class EventStream:
    """The events of one connection, in lists: what each read of the socket completed (never an empty list).

    Iteration ends where the upstream ended its response cleanly. Otherwise it raises UpstreamCut, UpstreamTimeout or
    UpstreamGarbage, after everything that had arrived by then.

    - `status`, `headers`: those of the response.
    - `framed`: the response says where it ends (by chunks or a length): a clean end cannot be a lost connection.
    - `document`: the body was one JSON value instead of an event stream; it is the only event.
    - `unterminated`: after a clean end, the event that stood there without the blank line that ends an event. The
      standard discards it, so it is not among the events.
    - `ignored`: lines that are not in the format (bounded), which readers must skip. Some servers write errors there.
    """

    def __init__(
        self,
        opened: Opened,
        name: str,
        timeouts: Timeouts,
        max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
        last_event_id: str = "",
        *,
        documents: bool = False,
        own_ids: bool = False,
        on_comment: Callable[[bytes], None] | None = None,
    ) -> None:
        response = opened.response
        self.status = response.status
        self.headers = response.headers
        self.framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        self.document = False
        self.unterminated: Event | None = None
        self.ignored: list[bytes] = []
        self._response = response
        self._content: BodyReader | aiohttp.StreamReader = take_over(response) or response.content
        self._name = name
        self._max_event_bytes = max_event_bytes
        self._decoder = Decoder(
            last_event_id, max_event_bytes, ignored=self._keep_ignored, comment=on_comment, own_ids=own_ids
        )
        self._collected = bytearray()  # of a document
        self._undecided = documents  # whether it is a document
        self._plain = False  # what comes is the next part of an event stream
        self._failure: UpstreamError | None = None
        self._begun = opened.begun
        self._comments_count = timeouts.comments_count
        self._idle = timeouts.idle
        self._first_event = timeouts.first_event
        self._awaits_first = True
        self._same_wait = True  # the next wait goes on with the clock of the last one
        self._watchdog = _Watchdog(lambda: self._content.set_exception(TimeoutError()))
        self._since = self._watchdog.now() if self._first_event is None else opened.sent_at
        self._watchdog.limit(self._idle if self._first_event is None else self._first_event, self._since)
        self._closed = self._watch_connection()

    @property
    def idle(self) -> float | None:
        """How long the upstream may be silent between two events, in seconds; None is for ever."""
        return self._idle

    @idle.setter
    def idle(self, seconds: float | None) -> None:
        if seconds != self._idle:
            self._idle = seconds
            if not self._awaits_first:
                self._watchdog.limit(seconds)

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    @property
    def retry_ms(self) -> int | None:
        """The reconnection time that the stream asked for, in milliseconds."""
        return self._decoder.retry_ms

    def keep_waiting(self) -> None:
        """The events that came last are not what the reader waits for: the clocks go on as if they had not come."""
        self._same_wait = True

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> list[Event]:
        watchdog = self._watchdog
        if self._same_wait or self._awaits_first:
            self._go_on_waiting()
        else:
            watchdog.waiting_since = self._since = watchdog.now()
        try:
            while self._failure is None:
                try:
                    data = self._begun or await self._content.readany()
                except TimeoutError as error:
                    raise self._silence() from error
                except (aiohttp.ClientError, OSError) as error:
                    data = self._rescue(error)
                    if not data:
                        raise self._broken(error) from error
                if not data:
                    return self._end()
                try:
                    events = self._decoder.feed(data) if self._plain else self._decode(data)
                except EventTooLarge as error:
                    events = self._fail(error)
                if events:
                    return events
                if self._comments_count:
                    self._begin_wait()
            raise self._failure
        finally:
            watchdog.waiting_since = None

    def close(self) -> None:
        """Closes the connection; a reader that waits for the next events gets UpstreamCut. (Closing the session does
        not wake it: aiohttp forgets its readers there.)"""
        self._watchdog.limit(None)
        if self._closed is not None:
            self._closed.remove_done_callback(self._on_connection_closed)
        close(self._response)

    async def drain(self, seconds: float) -> bool:
        """Reads on to the end, for at most this long: a connection whose response was read to its end is used again.
        Returns whether the body broke off."""
        try:
            async with asyncio.timeout(seconds):
                async for _ in self:
                    pass
        except UpstreamCut:
            return True
        except (TimeoutError, UpstreamError):
            pass
        return False

    def _go_on_waiting(self) -> None:
        """The first wait, the one after the first event, and one that goes on with the clock of the last one."""
        if self._same_wait:
            self._same_wait = False
            self._watchdog.waiting_since = self._since
        else:
            self._begin_wait()

    def _begin_wait(self) -> None:
        if self._awaits_first:
            self._awaits_first = False
            self._watchdog.limit(self._idle)
        self._watchdog.waiting_since = self._since = self._watchdog.now()

    def _rescue(self, error: Exception) -> bytes:
        """What had arrived before the connection was lost: aiohttp's reader does not hand it out any more once it
        knows of the loss, yet it is the text (or the end marker) that came last."""
        self._content.set_exception(None)  # type: ignore[arg-type]
        data = self._content.read_nowait()
        self._content.set_exception(error)
        return data

    def _broken(self, error: Exception) -> UpstreamError:
        if "content-encoding" in f"{error} {error.__cause__}":
            return UpstreamGarbage(
                f"{self._name} compressed its answer in a way that cannot be read",
                detail="the request asked for no compression: turn it off for this URL",
            )
        return UpstreamCut(f"{self._name} broke off: the connection was lost in mid-stream")

    def _decode(self, data: bytes) -> list[Event]:
        """At the beginning, and of a document."""
        self._begun = b""
        if self._undecided:
            start = data.lstrip(_BLANK)[:1]
            self._undecided = not start
            self.document = start in (b"{", b"[")
        self._plain = not (self._undecided or self.document)
        if not self.document:
            return self._decoder.feed(data)
        self._collected += data
        if len(self._collected) > self._max_event_bytes:
            raise EventTooLarge(len(self._collected), self._max_event_bytes)
        return []

    def _fail(self, error: EventTooLarge) -> list[Event]:
        """Ends the stream after the events before the one that is too large."""
        self._failure = UpstreamGarbage(f"{self._name} sent too much at once: {error}")
        self._failure.__cause__ = error
        return error.events

    def _end(self) -> list[Event]:
        """After a clean end of the body."""
        if self._collected:
            text = self._collected.decode(errors="replace")
            self._collected.clear()
            return [Event(text)]
        self.unterminated = self._decoder.unterminated() or self.unterminated
        raise StopAsyncIteration

    def _keep_ignored(self, line: bytes) -> None:
        if len(self.ignored) < _MAX_IGNORED_LINES:
            self.ignored.append(line[:_MAX_IGNORED_BYTES])

    def _silence(self) -> UpstreamTimeout:
        seconds = self._watchdog.seconds or 0.0
        if self._awaits_first and self._first_event is not None:
            return UpstreamTimeout(f"{self._name} began no answer within {seconds:g} s (first-event time-out)")
        return UpstreamTimeout(f"{self._name} fell silent for {seconds:g} s in mid-stream (idle time-out)")

    def _watch_connection(self) -> asyncio.Future[None] | None:
        connection = self._response.connection
        if connection is None or connection.protocol is None:
            return None
        # From here on the watchdog does the waiting: aiohttp knows one read time-out, not two.
        connection.protocol.read_timeout = None
        connection.protocol.start_timeout()
        closed = getattr(connection.protocol, "closed", None)  # not in older versions of aiohttp
        if closed is not None:
            closed.add_done_callback(self._on_connection_closed)
        return closed

    def _on_connection_closed(self, closed: asyncio.Future[None]) -> None:
        """aiohttp does not report to its reader that a body could not be parsed (an invalid chunk size)."""
        if not closed.cancelled():
            closed.exception()  # retrieved here: the reader gets it
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("the connection was closed in mid-body"))


class _Watchdog:
    """Calls `bark` once `waiting_since` is more than `seconds` ago.

    One timer, which looks at the clock when it runs down, for all the waits of a stream: a timer armed and cancelled
    for each read (`asyncio.timeout`) was measured to take a third of all that a token costs here.
    """

    __slots__ = ("_bark", "_loop", "_timer", "now", "seconds", "waiting_since")

    def __init__(self, bark: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._bark = bark
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._loop.time
        self.waiting_since: float | None = None
        self.seconds: float | None = None

    def limit(self, seconds: float | None, since: float | None = None) -> None:
        """The bound from now on (or from `since`, for a wait that has begun), for the present wait too; None ends the
        watch."""
        self.seconds = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            past = 0.0 if since is None else self.now() - since
            self._timer = self._loop.call_later(max(0.0, seconds - past), self._look, seconds)

    def _look(self, seconds: float) -> None:
        # A reader that does not wait for the upstream (but for a slow reader of its own) has all the time before it.
        left = seconds if self.waiting_since is None else self.waiting_since + seconds - self.now()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look, seconds)
        else:
            self._bark()
