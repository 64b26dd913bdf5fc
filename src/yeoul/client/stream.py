"""Reading a stream over as many connections as it takes: what `EventSource` does, with headers, bodies and an end.

Theory of operation. A task of the `Stream` reads: it sends the request, hands out what comes, waits, and sends the next
one with the position, until the stream is closed. What it has read waits for the caller in a queue with a bound; when
that is full nothing more is read from the connection, so that a slow caller slows the server and not its own memory.

A request that is not a GET is sent once: behind it work may be running that costs money. What it has started is read on
by a GET of the address that the response names (`Content-Location`, else `Location`), on the same origin.

`clients/cases/` has what a reconnecting client does in each case, for this client and the one in TypeScript.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from multidict import CIMultiDict

from ..errors import InvalidCursor, UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused
from ..sse import DEFAULT_MAX_EVENT_BYTES, Event
from ..stream import LastEventId
from ..stream.retry import RETRYABLE_STATUSES, RetryPolicy
from .connection import EventStream, new_session, open_stream
from .timeouts import Timeouts

__all__ = ["BlockingStream", "Closed", "Credentials", "State", "Stream", "connect", "connect_blocking"]

_T = TypeVar("_T")

# A value, or a function that returns it for each request; its argument says whether the value before was refused, or
# has expired, so that a new one is needed.
Credentials: TypeAlias = _T | Callable[[bool], _T | Awaitable[_T]]

# Heartbeats of a server whose first comment says that it is Yeoul, until its `stream.hello` says how long they are.
_YEOUL_HEARTBEAT = 15.0
_YEOUL = b"yeoul"
_SILENT_HEARTBEATS = 2.5

# Bounds on the time that a server names, in seconds: neither a storm, nor gone for good.
_LEAST_RETRY, _MOST_RETRY = 0.1, 600.0

# A connection that has lived as long was a good one, also without events.
_GOOD_SECONDS = 10.0

_MAX_QUEUED = 256
_MAX_IDS = 1_000
_MAX_REDIRECTS = 20

_ONE_ATTEMPT = RetryPolicy(attempts=1)

# Statuses of redirects; after the first three another method than GET and HEAD becomes GET (Fetch, 4.4).
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BECOME_GET = frozenset({301, 302, 303})


class State(Enum):
    """`WAITING`: the connection was lost, and the next attempt follows after a while. `CLOSED` is for good."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a stream is closed: its last event has come (`end`); the server says that nothing follows (`complete`, 204);
    the server has sent this reader away (`bye`); the caller has closed it (`client`); or `failed`, by `error`."""

    reason: Literal["end", "complete", "bye", "client", "failed"]
    error: UpstreamError | None = None


def connect(
    url: str,
    *,
    method: str | None = None,
    body: bytes | str | Any = None,
    headers: Credentials[Mapping[str, str]] | None = None,
    token: Credentials[str | None] | None = None,
    ticket: Callable[[bool], str | Awaitable[str]] | None = None,
    last_event_id: str = "",
    is_end: Callable[[Event], bool] | None = None,
    reconnect: bool = True,
    reconnect_interval: float = 2.0,
    max_reconnect_interval: float = 30.0,
    max_failures: int | None = None,
    connect_timeout: float = 60.0,
    heartbeat: float | None = None,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    session: aiohttp.ClientSession | None = None,
    name: str | None = None,
    on_state: Callable[[State], None] | None = None,
    on_open: Callable[[EventStream], None] | None = None,
    on_control: Callable[[Event], None] | None = None,
    on_hello: Callable[[Mapping[str, Any]], None] | None = None,
    on_gap: Callable[[Mapping[str, Any]], None] | None = None,
    on_bye: Callable[[Mapping[str, Any]], None] | None = None,
    on_reauth: Callable[[Mapping[str, Any]], None] | None = None,
    on_error: Callable[[UpstreamError, float | None], None] | None = None,
) -> Stream:
    """`async with connect(url) as stream: async for event in stream: …`

    The iteration ends with the stream, and raises the UpstreamError that it failed of: UpstreamRefused (`status`),
    UpstreamTimeout, UpstreamGarbage, or UpstreamCut where a stream that cannot be resumed ended before its last event.
    What may pass is not raised: the stream reconnects. Times in seconds.

    - `method`: by default POST where there is a `body`, otherwise GET. Only a GET is ever repeated. A `body` that is
      neither bytes nor text is sent as JSON.
    - `headers`, `token` (sent as `Authorization: Bearer …`), `ticket` (sent as `?ticket=`): see `Credentials`. After a
      401 functions are asked once for new ones.
    - `last_event_id`: where to begin. `is_end`: whether an event is the last one; not needed for servers whose last id
      says so, as Yeoul's does.
    - `reconnect`: False for one connection only. `reconnect_interval`: until the first attempt to reconnect, where the
      server has named no time; it doubles with each failure up to `max_reconnect_interval`. `max_failures` in a row
      close the stream.
    - `connect_timeout`: until the response has begun. `heartbeat`: after two and a half times as long without a byte
      the connection is taken for dead; 0 for never. By default what `stream.hello` says, 15 s on Yeoul's other streams,
      and never elsewhere.
    - `session`: by default one of its own, made by `new_session`. `name`: what messages call the server (by default
      its host).
    - `on_gap`: events are missing, load the state anew. `on_bye`: the server ends the stream. `on_reauth`: the token
      expires soon. `on_hello`: the first event on topics. Each is called with the event's data,
      and `on_control` before it with the event. `on_error`: an attempt
      failed, or a connection was lost; with the seconds until the next attempt, None where none follows. `on_open`:
      with each response. An exception that one of them raises ends the stream, and is raised by the iteration.
    """
    callbacks = _Callbacks(on_state, on_open, on_control, on_hello, on_gap, on_bye, on_reauth, on_error)
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        json_body = True
    else:
        json_body = False
    request = _Request(
        url=url,
        name=name,
        method=(method or ("GET" if body is None else "POST")).upper(),
        body=body.encode() if isinstance(body, str) else body,
        json_body=json_body,
        headers=headers,
        token=token,
        ticket=ticket,
    )
    return Stream(
        request,
        _Policy(reconnect, reconnect_interval, max_reconnect_interval, max_failures, connect_timeout, heartbeat),
        callbacks,
        last_event_id=last_event_id,
        is_end=is_end,
        max_event_bytes=max_event_bytes,
        session=session,
    )


def connect_blocking(url: str, **options: Any) -> BlockingStream:
    """`connect` for code without an event loop: `with connect_blocking(url) as stream: for event in stream: …`

    The options and errors of `connect`. It reads while the next event is waited for, and not between. Raises
    RuntimeError within a running event loop.
    """
    return BlockingStream(url, options)


@dataclass(frozen=True, slots=True)
class _Callbacks:
    state: Callable[[State], None] | None
    open: Callable[[EventStream], None] | None
    control: Callable[[Event], None] | None
    hello: Callable[[Mapping[str, Any]], None] | None
    gap: Callable[[Mapping[str, Any]], None] | None
    bye: Callable[[Mapping[str, Any]], None] | None
    reauth: Callable[[Mapping[str, Any]], None] | None
    error: Callable[[UpstreamError, float | None], None] | None


@dataclass(frozen=True, slots=True)
class _Policy:
    reconnect: bool
    interval: float
    max_interval: float
    max_failures: int | None
    connect_timeout: float
    heartbeat: float | None

    def backoff(self, failures: int, base: float) -> float:
        """At least `base`, doubled for each failure up to the bound, plus up to half of it at random: readers that
        failed together do not come back together."""
        ceiling = min(max(self.max_interval, base), base * 2.0 ** min(failures, 30))
        return _spread(ceiling, 0.5)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked for; `credentials` are resolved for each connection."""

    url: str
    name: str | None
    method: str
    body: bytes | None
    json_body: bool
    headers: Credentials[Mapping[str, str]] | None
    token: Credentials[str | None] | None
    ticket: Callable[[bool], str | Awaitable[str]] | None

    @property
    def has_providers(self) -> bool:
        return any(callable(value) for value in (self.headers, self.token, self.ticket))

    async def prepare(self, *, refresh: bool) -> _Prepared:
        """Raises what the functions of the caller raise."""
        headers = dict(await _provided(self.headers, refresh) or {})
        token = await _provided(self.token, refresh)
        ticket = await _provided(self.ticket, refresh)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return _Prepared(headers, ticket or "", [secret for secret in (token, ticket) if secret])


@dataclass(frozen=True, slots=True)
class _Prepared:
    headers: dict[str, str]
    ticket: str
    secrets: list[str]


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a connection ended. `passing`: trying again may help; `opened`: the stream had begun; `at_once`: the next
    one follows without a wait."""

    error: UpstreamError | None = None
    passing: bool = True
    opened: bool = False
    at_once: bool = False


class Stream(AsyncIterator[Event]):
    """A stream that is being read. Made by `connect`.

    `closed`: why it is closed, None before. `retry_in`: the last wait before a reconnect, in seconds.
    """

    def __init__(
        self,
        request: _Request,
        policy: _Policy,
        callbacks: _Callbacks,
        *,
        last_event_id: str,
        is_end: Callable[[Event], bool] | None,
        max_event_bytes: int,
        session: aiohttp.ClientSession | None,
    ) -> None:
        self.state = State.CONNECTING
        self.closed: Closed | None = None
        self.retry_in = 0.0
        self._request = request
        self._policy = policy
        self._callbacks = callbacks
        self._is_end = is_end
        self._max_event_bytes = max_event_bytes
        self._session = session
        self._own_session = session is None
        # Where the stream is resumed: the address itself, or what the response to a POST names. None: it cannot be.
        self._resume_url = request.url if request.method == "GET" else None
        self._retry = _bounded(policy.interval)
        self._failures = 0
        self._refresh = False  # new credentials are needed
        self._refreshed = False  # and have just been asked for
        self._position = self._taken = last_event_id  # of what was read, and of what the caller has taken
        self._finite = False  # its ids name work, whose stream has an end
        self._bye: Mapping[str, Any] | None = None
        self._opened: EventStream | None = None
        self._ids = _Ids()
        self._queue: deque[Event] = deque()
        self._changed = asyncio.Event()  # for the caller: there is an event, or the end
        self._room = asyncio.Event()  # for the reader
        self._task: asyncio.Task[None] | None = None
        self._crash: BaseException | None = None  # raised by a callback

    # --- for the caller

    @property
    def last_event_id(self) -> str:
        """The position: the id of the last event that the caller has taken, or of what came after it without data."""
        return self._taken if self._queue else self._position

    async def __aenter__(self) -> Self:
        if self._task is None and self.closed is None:
            if self._session is None:
                self._session = new_session()
            self._task = asyncio.create_task(
                self._run(), name=f"yeoul.client.connect {urlsplit(self._request.url).path}"
            )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._task is None and self.closed is None:
            raise RuntimeError("enter the stream before it is read: async with connect(url) as stream")
        while not self._queue:
            if self._crash is not None:
                raise self._crash
            if self.closed is not None:
                if self.closed.error is not None:
                    raise self.closed.error
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        event = self._queue.popleft()
        self._taken = event.id or ""
        self._room.set()
        return event

    def close(self) -> None:
        """Ends the stream: no more events are handed out. Idempotent."""
        self._position = self.last_event_id
        self._queue.clear()
        self._finish(Closed("client"))
        if self._task is not None and self._task is not _current_task():
            self._task.cancel()

    async def aclose(self) -> None:
        """`close`, and waits until the connection is closed."""
        self.close()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._own_session and self._session is not None:
            await self._session.close()

    def __repr__(self) -> str:
        return f"<Stream {self._request.method} {urlsplit(self._request.url).path} {self.state.value}>"

    # --- connections

    async def _run(self) -> None:
        try:
            while self.closed is None:
                self._set_state(State.CONNECTING)
                if self.closed is not None:
                    return  # by a function of the caller
                ended = await self._connection()
                if self.closed is None:
                    await self._after(ended)
        except Exception as error:
            self._crash = error
            self._finish(Closed("failed"))
            self._changed.set()

    async def _connection(self) -> _Ended:
        """One connection to its end."""
        try:
            prepared = await self._request.prepare(refresh=self._refresh)
        except Exception as cause:
            error = UpstreamError(
                "the headers, the token or the ticket of the request are not available", kind="request"
            )
            error.__cause__ = cause
            return _Ended(error, passing=self._request.has_providers)
        self._refresh = False
        url, method, body = self._resume_url or self._request.url, "GET", None
        if self._resume_url is None:
            method, body = self._request.method, self._request.body
        for _ in range(_MAX_REDIRECTS):
            try:
                return await self._read(url, method, body, prepared)
            except UpstreamRefused as refused:
                target = _redirected(url, refused)
                if target is None:
                    return self._refused(refused)
                if refused.status in _BECOME_GET and method != "HEAD":
                    method, body = "GET", None
                if not _same_origin(url, target):
                    prepared = _Prepared(_without_credentials(prepared.headers), "", prepared.secrets)
                url = target
            except UpstreamGarbage as error:
                return _Ended(error, passing=False, opened=self._opened is not None)
            except UpstreamError as error:
                return _Ended(error, opened=self._opened is not None)
        return _Ended(UpstreamGarbage(f"the server redirects more than {_MAX_REDIRECTS} times"), passing=False)

    async def _read(self, url: str, method: str, body: bytes | None, prepared: _Prepared) -> _Ended:
        """Raises UpstreamError."""
        self._opened = None
        assert self._session is not None
        headers: Mapping[str, str] = prepared.headers
        if body is not None and self._request.json_body:
            typed = CIMultiDict({"Content-Type": "application/json"})
            typed.update(prepared.headers)
            headers = typed
        address = url
        if prepared.ticket:
            address += f"{'&' if '?' in url else '?'}ticket={quote(prepared.ticket, safe='')}"
        connect_timeout = self._policy.connect_timeout
        async with open_stream(
            self._session,
            method,
            address,
            name=self._request.name,
            headers=headers,
            body=body,
            last_event_id=self._position if self._position.isprintable() else "",
            timeouts=Timeouts(connect=connect_timeout, first_byte=connect_timeout, idle=self._idle(None)),
            retry=_ONE_ATTEMPT,
            max_event_bytes=self._max_event_bytes,
            secrets=prepared.secrets,
            own_ids=True,
            on_comment=self._on_comment,
        ) as opened:
            self._refreshed = False
            _check_type(opened)
            self._opened = opened
            if self._resume_url is None:
                self._resume_url = _named_address(opened, url, self._request.url)
            self._bye = None
            self._ids.begin_connection()
            self._set_state(State.OPEN)
            if self._callbacks.open is not None:
                self._callbacks.open(opened)
            return await self._consume(opened)

    async def _consume(self, opened: EventStream) -> _Ended:
        clock = asyncio.get_running_loop().time
        since, events = clock(), 0
        try:
            async for batch in opened:
                for event in batch:
                    events += 1
                    await self._take(event)
                    if self.closed is not None:
                        return _Ended(opened=True)
                self._position = opened.last_event_id
        finally:
            if self.closed is None:
                self._position = opened.last_event_id
            if opened.retry_ms is not None:
                self._retry = _bounded(opened.retry_ms / 1000)
            good = events > 0 or clock() - since > _GOOD_SECONDS
            if good:
                self._failures = 0
        if not good:
            self._failures += 1  # one that ends at once, again and again, is no better than none
        return _Ended(opened=True)

    def _refused(self, refused: UpstreamRefused) -> _Ended:
        status = refused.status
        if status == 204:
            self._finish(Closed("complete"))
            return _Ended()
        if status == 401 and self._request.has_providers and not self._refreshed:
            self._refresh = self._refreshed = True
            return _Ended(refused, at_once=True)  # a request that is refused with 401 has started nothing
        if status != 401:
            self._refreshed = False
        return _Ended(refused, passing=status is None or status in RETRYABLE_STATUSES)

    async def _after(self, ended: _Ended) -> None:
        """What follows on a connection that has ended: the end, or a wait for the next."""
        error, policy = ended.error, self._policy
        if self._bye is not None and self._bye.get("reconnect") is False:
            self._finish(Closed("bye"))
            return
        if ended.at_once:
            return
        if error is not None and not ended.passing:
            self._fail(error)
            return
        if self._resume_url is None or not policy.reconnect:
            self._end_for_good(error, opened=ended.opened)
            return
        if error is not None:
            self._failures += 1
            if policy.max_failures is not None and self._failures >= policy.max_failures:
                self._fail(error)
                return
        wait = policy.backoff(max(0, self._failures - 1), self._retry)
        if self._bye is not None:
            self._refresh = self._bye.get("reason") == "expired"
            wait = self._retry  # the server has drawn it at random
        if error is not None:
            if error.retry_after is not None:
                wait = _spread(error.retry_after, 0.2)
            if self._callbacks.error is not None:
                self._callbacks.error(error, wait)
        self.retry_in = wait
        self._set_state(State.WAITING)
        if self.closed is None:
            await asyncio.sleep(wait)

    def _end_for_good(self, error: UpstreamError | None, *, opened: bool) -> None:
        """Of a stream that cannot be resumed."""
        if error is None and not (self._finite or self._is_end is not None):
            self._finish(Closed("end"))
        elif error is not None and not opened:
            self._fail(error)  # it is not known whether the request has started something
        else:
            cut = UpstreamCut("the stream ended before its last event")
            cut.__cause__ = error
            self._fail(cut)

    def _fail(self, error: UpstreamError) -> None:
        if self._callbacks.error is not None:
            self._callbacks.error(error, None)
        self._finish(Closed("failed", error))

    def _finish(self, closed: Closed) -> None:
        if self.closed is not None:
            return
        self.closed = closed
        self._set_state(State.CLOSED)
        self._changed.set()

    def _set_state(self, state: State) -> None:
        if state is self.state or self.state is State.CLOSED:
            return
        self.state = state
        if self._callbacks.state is not None:
            self._callbacks.state(state)

    # --- events

    async def _take(self, event: Event) -> None:
        own = event.id is not None
        if event.id is not None:
            self._position = event.id
        event = replace(event, id=self._position)
        position = _position_of(self._position)
        self._finite = self._finite or (position is not None and position.work is not None)
        if not self._is_control(event) and not (own and self._ids.is_repeated(self._position)):
            await self._deliver(event)
        last = event.type == "stream.end" or (position is not None and position.final)
        if last or (self._is_end is not None and self._is_end(event)):
            self._finish(Closed("end"))

    async def _deliver(self, event: Event) -> None:
        while len(self._queue) >= _MAX_QUEUED:
            self._room.clear()
            await self._room.wait()
        if self.closed is None:
            self._queue.append(event)
            self._changed.set()

    def _is_control(self, event: Event) -> bool:
        """Whether it is about the stream; its function is called then."""
        kind, callbacks = event.type, self._callbacks
        if kind not in ("stream.hello", "stream.gap", "stream.bye", "stream.reauth", "stream.end"):
            return False
        if callbacks.control is not None:
            callbacks.control(event)
        data = _object(event.data)
        if kind == "stream.bye":
            self._bye = data
        elif kind == "stream.hello" and self._opened is not None:
            interval = data.get("heartbeat")
            if isinstance(interval, (int, float)) and interval > 0:
                self._opened.idle = self._idle(float(interval))
        called = {
            "stream.hello": callbacks.hello,
            "stream.gap": callbacks.gap,
            "stream.bye": callbacks.bye,
            "stream.reauth": callbacks.reauth,
        }.get(kind)
        if called is not None:
            called(data)
        return True

    def _on_comment(self, text: bytes) -> None:
        if text.strip() == _YEOUL and self._opened is not None and self._opened.idle is None:
            self._opened.idle = self._idle(_YEOUL_HEARTBEAT)

    def _idle(self, announced: float | None) -> float | None:
        """Seconds of silence after which a connection is taken for dead."""
        own = self._policy.heartbeat
        interval = announced if own is None else own
        return interval * _SILENT_HEARTBEATS if interval else None


class BlockingStream(Iterator[Event]):
    """A `Stream` with an event loop of its own. Made by `connect_blocking`."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._runner = asyncio.Runner()
        self._url = url
        self._options = options
        self._stream: Stream | None = None

    def __enter__(self) -> Self:
        self._stream = self._runner.run(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None:
                self._runner.run(self._stream.aclose())
        finally:
            self._runner.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        stream = self.stream
        event = self._runner.run(_next(stream))
        if event is None:
            raise StopIteration
        return event

    @property
    def stream(self) -> Stream:
        """What it reads with: its `state`, `last_event_id` and `closed`."""
        if self._stream is None:
            raise RuntimeError("enter the stream before it is read: with connect_blocking(url) as stream")
        return self._stream

    def close(self) -> None:
        """Ends the stream, as `Stream.close`."""
        self.stream.close()

    async def _enter(self) -> Stream:
        return await connect(self._url, **self._options).__aenter__()


async def _next(stream: Stream) -> Event | None:
    return await anext(stream, None)


class _Ids:
    """Ids of events of this connection and of those before it. Within one connection each event counts, whatever its
    id; after a reconnect a server may repeat some."""

    def __init__(self) -> None:
        self._earlier: OrderedDict[str, None] = OrderedDict()
        self._now: OrderedDict[str, None] = OrderedDict()

    def begin_connection(self) -> None:
        for id in self._now:
            _remember(self._earlier, id)
        self._now.clear()

    def is_repeated(self, id: str) -> bool:
        if not id:
            return False
        if id in self._earlier:
            return True
        _remember(self._now, id)
        return False


def _remember(ids: OrderedDict[str, None], id: str) -> None:
    ids[id] = None
    if len(ids) > _MAX_IDS:
        ids.popitem(last=False)


def _position_of(id: str) -> LastEventId | None:
    """What a Yeoul server says by it; None for an id of another server."""
    try:
        return LastEventId.parse(id)
    except InvalidCursor:
        return None


async def _provided(value: Any, refresh: bool) -> Any:
    if callable(value):
        value = value(refresh)
    return await value if inspect.isawaitable(value) else value


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _bounded(seconds: float) -> float:
    return min(max(seconds, _LEAST_RETRY), _MOST_RETRY)


def _spread(seconds: float, part: float) -> float:
    """The time, lengthened at random by up to this part of it."""
    return seconds * (1 + random.uniform(0, part))


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _check_type(opened: EventStream) -> None:
    """`open_stream` also takes what only looks like an event stream, as model servers need it."""
    kind = opened.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() != "text/event-stream":
        raise UpstreamGarbage("the server answered with something that is not an event stream", detail=kind)


def _named_address(opened: EventStream, url: str, asked: str) -> str | None:
    """Where the stream that a request has started can be read. Of the same origin only: the credentials go there."""
    named = opened.headers.get("Content-Location") or opened.headers.get("Location")
    target = None if named is None else _absolute(url, named)
    return target if target is not None and _same_origin(asked, target) else None


def _redirected(url: str, refused: UpstreamRefused) -> str | None:
    if refused.status not in _REDIRECTS or not refused.location:
        return None
    return _absolute(url, refused.location)


def _absolute(base: str, reference: str) -> str | None:
    try:
        if urlsplit(reference).scheme and not urlsplit(reference).netloc:
            return None  # `urljoin` takes it for the base
        target = urljoin(base, reference)
        parts = urlsplit(target)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return target if known else None


def _same_origin(one: str, other: str) -> bool:
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in ("authorization", "cookie")}
