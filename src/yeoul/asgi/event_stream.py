"""The one response that streams: topics of a hub, from a reader's cursor on, over either outlet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..eager import in_task
from ..errors import InvalidToken, YeoulError
from ..hub import Encoding, Hub, SubscribeOptions, Subscription
from ..hub.encoding import WIRE
from ..hub.limits import Principal
from ..hub.reasons import CLIENT_LEFT, ERROR, OVER, SEND_TIMEOUT
from ..sse import Event, comment, json_data
from ..stream import Cursor
from .authentication import challenge
from .errors import Problem, problem_of
from .extensions import DIRECT, Detach, offered
from .headers import headers_of
from .passthrough import has_open_dependencies, innermost_send
from .stream_request import StreamRequest

__all__ = ["STREAM_HEADERS", "EventStream", "complete", "departure"]

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    # no-store: a stream must never be answered from a cache; no-transform: nor compressed or batched on its way.
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # nginx: hand on each byte as it comes
}


_COMMENT = comment("yeoul")


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Of several fields with one name, whatever its case, the last is kept."""
    raw = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
    return list(raw.items())


# A tuple: the gate and the server remember what they make of headers that are always the same.
_RAW_HEADERS = tuple(_raw(STREAM_HEADERS))


def complete(request: HTTPConnection) -> Response:
    """The response to a client that has received the last event of its stream.

    204 ends the reconnecting of `EventSource` (WHATWG HTML, 9.2.3). Libraries on top of `fetch` take a 204 for an
    error, since it has no Content-Type, and repeat the request for ever: they get a stream without events that ends
    cleanly. (With the last event again, those that come back after every end, as htmx 4 does, would show it each time.)
    """
    if _is_fetch(request):
        return Response(_COMMENT, headers=STREAM_HEADERS)
    return Response(status_code=204, headers={"cache-control": "no-store"})


def _is_fetch(request: HTTPConnection) -> bool:
    """Whether the client uses `fetch`. Browsers (and Node.js) send `Sec-Fetch-Mode` with both; `EventSource` is a GET
    whose cache mode is "no-store", for which they send `Cache-Control: no-cache` (WHATWG HTML, 9.2.2; Fetch, 4.6)."""
    headers = headers_of(request.scope)
    if b"sec-fetch-mode" not in headers:
        return False
    return request.scope["method"] != "GET" or "no-cache" not in (headers.text(b"cache-control") or "")


async def departure(receive: Receive) -> None:
    """Returns when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """The response that streams the events of these topics.

    A client that reconnects with the last `id:` it received gets exactly what it missed, or one `stream.gap` event that
    says so. A new client begins after the position `after`, else with the `newest` events kept (in each topic, or by
    topic), else with the next event; it is sent the events `opening` first. In the topics named by `always_new` a
    client that reconnects begins like a new one. Every client is first sent `stream.hello` (unless `hello` is false:
    the heartbeat interval in seconds, the retention, the current cursor), then the events of `greeting`; a function is
    called after this reader was added to those of its topics.

    `until_final`: the stream ends after the topic's final event, and a client that has received it is answered with 204
    (`EventSource` then stops reconnecting). `principal`: the user of the stream, by default the authenticated one; the
    stream ends when that user's token expires. `opened`: where the request was read before. `status_code`: for FastAPI,
    which looks for it where a route has `response_class=EventStream` (its OpenAPI document then says
    `text/event-stream`).

    `background` runs after the stream has ended. A wrong position or topic name, a limit on open streams, and a hub
    that is shutting down are answered with a problem document."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        topics: Sequence[str] | str,
        request: HTTPConnection,
        *,
        after: Cursor | None = None,
        newest: int | Mapping[str, int] = 0,
        always_new: Collection[str] = (),
        encoding: Encoding = WIRE,
        hello: bool = True,
        greeting: Sequence[Event] | Callable[[], Sequence[Event]] = (),
        opening: Sequence[Event] = (),
        until_final: bool = False,
        headers: Mapping[str, str] | None = None,
        principal: Principal | None = None,
        opened: StreamRequest | None = None,
        status_code: int = 200,
    ) -> None:
        self.status_code = status_code
        self.background: BackgroundTask | None = None
        self.body = b""
        self._raw = _raw({**STREAM_HEADERS, **headers}) if headers else None
        self._hub = hub
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._request = request
        self._after = after
        self._newest = newest
        self._always_new = always_new
        self._encoding = encoding
        self._until_final = until_final
        self._principal = principal
        self._opened = opened
        self._hello = hello
        self._greeting = greeting
        self._opening = opening

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        """As Starlette has them; they may be changed until the response begins."""
        if self._raw is None:
            self._raw = list(_RAW_HEADERS)
        return self._raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)
        if self.background is not None:
            await self.background()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send(self._start())
            await send({"type": "http.response.body"})
            return
        try:
            opened = self._opened or StreamRequest.of(self._request, self._principal, any_id=not self._until_final)
            position = opened.position
            if position is not None and position.final and self._until_final:
                await complete(self._request)(scope, receive, send)
                return
            reader = await self._hub.subscribe(self._topics, self._options(opened))
        except InvalidToken as error:
            await problem_of(challenge(str(error), invalid=True))(scope, receive, send)
            return
        except (Problem, YeoulError, ValueError) as error:
            await problem_of(error)(scope, receive, send)
            return
        try:
            if position is not None and self._until_final and reader.exhausted:
                reader.end(OVER)
                await complete(self._request)(scope, receive, send)
                return
            await self._stream(
                reader, self._first_events(position is None and opened.unknown is None), scope, receive, send
            )
        except BaseException:
            reader.end(ERROR)
            raise

    def _options(self, opened: StreamRequest) -> SubscribeOptions:
        position = opened.position
        return SubscribeOptions(
            after=position.cursor if position is not None else opened.unknown or self._after,
            newest=self._newest,
            always_new=self._always_new,
            encoding=self._encoding,
            until_final=self._until_final,
            principal=opened.principal,
            reservation=opened.reservation,
        )

    async def _stream(
        self, reader: Subscription, opening: Sequence[Event], scope: Scope, receive: Receive, send: Send
    ) -> None:
        await send(self._start())
        # Bytes at once, so that every hop commits the response.
        first = self._first_bytes(reader)
        detach = self._detachable(scope, send)
        if detach is not None and detach(reader, opening, first):
            return
        await send({"type": "http.response.body", "body": first, "more_body": True})
        await in_task()
        await _pump(reader, opening, receive, send, self._hub.send_timeout)

    def _detachable(self, scope: Scope, send: Send) -> Detach | None:
        """The server's offer to write the stream itself. Not taken where something of the application has to be done
        with each piece of the body, or after the last: a middleware that may change it, a dependency with `yield`, a
        background task."""
        if self.background is not None or has_open_dependencies(scope):
            return None
        detach: Detach | None = offered(scope, DIRECT, innermost_send(send))
        return detach

    def _start(self) -> Message:
        headers = _RAW_HEADERS if self._raw is None else self._raw
        return {"type": "http.response.start", "status": self.status_code, "headers": headers}

    def _first_events(self, is_new: bool) -> list[Event]:
        greeting = self._greeting() if callable(self._greeting) else self._greeting
        return [*greeting, *(self._opening if is_new else ())]

    def _first_bytes(self, reader: Subscription) -> bytes:
        if not self._hello:
            return _without_hello(self._hub.retry_ms)
        events, some = 0, False
        seconds: float = 0
        for topic in reader.topics:
            if topic.name not in self._always_new:
                kept = topic.journal.retention
                events = min(events, kept.events) if some else kept.events
                seconds = min(seconds, kept.seconds) if some else kept.seconds
                some = True
        hub, encoding = self._hub, self._encoding
        text = _with_hello(hub.retry_ms, hub.heartbeat, (events, seconds), encoding.control, encoding.id_prefix)
        return text.replace(_CURSOR, str(reader.cursor).encode())


_CURSOR = b"CURSOR"


@lru_cache(16)
def _without_hello(retry_ms: int) -> bytes:
    """A comment. The `retry` line rides on the first event to come: a block of its own, without data, would break
    several readers."""
    return comment("yeoul") + b"retry: %d\n" % retry_ms


@lru_cache(256)
def _with_hello(
    retry_ms: int, heartbeat: float, kept: tuple[int, float], encode: Callable[[Event], bytes], id_prefix: str
) -> bytes:
    """The comment and `stream.hello`, with `CURSOR` in place of the position."""
    cursor = _CURSOR.decode()
    events, seconds = kept
    data = {"heartbeat": heartbeat, "replay": {"events": events, "seconds": seconds}, "cursor": cursor}
    hello = encode(Event(json_data(data), "stream.hello", f"{id_prefix}{cursor}"))
    return _without_hello(retry_ms) + hello


# Bytes that may wait for `send` before the reader is paused: a few events that come in one turn of the event loop.
_MAX_PENDING = 64 * 1024


class _PortableOutlet:
    """Stands between the hub, which never waits, and ASGI's `send`, which may."""

    chunked = False

    def __init__(self, reader: Subscription) -> None:
        self.wake = asyncio.Event()
        self.ended = False
        self.gone = False
        self.sending: asyncio.Timeout | None = None  # while `send` waits for the client
        self._reader = reader
        self._pending: list[bytes] = []
        self._size = 0

    @property
    def full(self) -> bool:
        return self.sending is not None

    def write(self, payload: bytes) -> None:
        self._pending.append(payload)
        self._size += len(payload)
        self.wake.set()
        if self.sending is not None or self._size > _MAX_PENDING:
            self._reader.pause()

    @property
    def deliver(self) -> Callable[[bytes], object]:
        return self.write

    def check(self) -> None:
        """Called in the turn of the event loop after a `send` has begun: one that still waits is a full socket."""
        if self.sending is not None:
            self._reader.pause()

    def finish(self, payload: bytes) -> None:
        self.ended = True
        self.write(payload)

    def abort(self) -> None:
        self.gone = True
        self.wake.set()
        if self.sending is not None and not self.sending.expired():
            self.sending.reschedule(0)

    def take(self) -> bytes:
        self.wake.clear()
        payload = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        return payload


async def _pump(
    reader: Subscription, opening: Sequence[Event], receive: Receive, send: Send, send_timeout: float
) -> None:
    """One loop per connection: one joined `send` per wake-up, a deadline per send."""
    outlet, loop = _PortableOutlet(reader), asyncio.get_running_loop()
    watch = asyncio.create_task(_watch(outlet, receive))
    try:
        reader.start(outlet, *opening)
        while not outlet.gone:
            await outlet.wake.wait()
            payload, ended = outlet.take(), outlet.ended
            if outlet.gone:
                break
            loop.call_soon(outlet.check)
            async with asyncio.timeout(send_timeout) as outlet.sending:
                await send({"type": "http.response.body", "body": payload, "more_body": not ended})
            outlet.sending = None
            if ended:
                break
            # A server whose client has left may answer `send` without ever giving the loop its turn (uvicorn).
            await asyncio.sleep(0)
            reader.resume()
    except TimeoutError:
        reader.end(CLIENT_LEFT if outlet.gone else SEND_TIMEOUT)
    finally:
        reader.end()
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


async def _watch(outlet: _PortableOutlet, receive: Receive) -> None:
    await departure(receive)
    outlet.abort()
