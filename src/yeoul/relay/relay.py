"""A relay: copies an upstream's stream into a topic. It outlives its readers, and waits while all of them are slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from ..client import EventStream, Timeouts, open_stream
from ..client.refusal import REDACTED
from ..errors import UpstreamCut, UpstreamGarbage, UpstreamTimeout, YeoulError
from ..hub import Encoding, Hub
from ..hub.job import CONTINUE, DisconnectPolicy, Job
from ..hub.reasons import EndReason
from ..hub.subscription import Subscription
from ..observe import logger
from ..sse import Event, encode, json_data
from ..stream import END_EVENT, FINAL_MARK, Frame
from ..stream.retry import RetryPolicy
from .failure import Failure, failure_of, stopped
from .pace import Pace
from .route import Outgoing, Route

__all__ = ["START", "Relay", "RelayStats"]

# Events of this server in a relay's topic. Readers do not receive them.
START, _END = "relay.start", "relay.end"
# Prefix of the type of the last event that readers receive, where it is known to be the last.
_LAST = "relay.last."
_RESERVED = ("stream.", "relay.")

# Limits of one publish, since one read of the upstream's socket may return thousands of tiny events or a few huge ones:
# events, and bytes as a fraction of those that may be unread. A publish as large as the journal would evict its own
# beginning.
_BATCH = 128
_BATCH_PART = 8
# Bytes of a frame beside its text: the cursor and the field names.
_FRAME = 128
# How long, after its end marker, the upstream may take to end the response, in seconds: then the connection can be
# reused.
_DRAIN = 0.1


@dataclass(slots=True)
class RelayStats:
    """Counters. `held`: how often reading from an upstream was paused because all readers were slow."""

    started: int = 0
    ended: dict[str, int] = field(default_factory=dict)  # by kind of failure, or "done"
    events: int = 0
    held: int = 0


class Relay(Job):
    """Runs an upstream's stream into the topic `relays/<id>`. Made by `Relays.start`.

    Types and data are copied unchanged, ids are replaced. Types that begin with `stream.` or `relay.`, which are
    reserved, get the prefix `upstream.`. A recovered one has neither session nor request. `headers`:
    the upstream's response headers that readers may see, once its response has begun. `failure`: why it failed, once
    it has ended.
    """

    kind = "relays"

    def __init__(
        self,
        hub: Hub,
        session: aiohttp.ClientSession | None,
        route: Route,
        request: Outgoing | None,
        stats: RelayStats,
        *,
        credential: str | None = None,
        owner: str | None = None,
        policy: DisconnectPolicy = CONTINUE,
        max_unread: int,
        id: str | None = None,
        created: float | None = None,
    ) -> None:
        super().__init__(hub, owner=owner, upstream=route.upstream.origin, policy=policy, id=id, created=created)
        self.route = route
        self.headers: dict[str, str] = {}
        self.failure: Failure | None = None
        self._encodings: dict[bool, Encoding] = {}
        self._session = session
        self._request = request
        self._stats = stats
        self._credential = credential
        self._largest = min(route.max_event_bytes, hub.max_event_bytes)
        self._taken = 0
        self._begun = False  # the upstream has begun to stream
        self._complete = False  # its end marker has come
        self._pace = Pace(max_unread)
        self._batch_bytes = max_unread // _BATCH_PART
        self._moved = asyncio.Event()
        self._head = asyncio.Event()

    def encoding(self, *, end_event: bool = False) -> Encoding:
        """The encoding for its readers: one object, so that they share bytes. `end_event`: with a named last event."""
        if end_event not in self._encodings:
            prefix = f"{self.id}."
            self._encodings[end_event] = Encoding(_renderer(prefix, end_event=end_event), encode, prefix)
        return self._encodings[end_event]

    async def head(self, seconds: float) -> Failure | None:
        """Waits for the upstream's response, for at most so many seconds. The failure, if there was one."""
        try:
            async with asyncio.timeout(seconds):
                await self._head.wait()
        except TimeoutError:
            return None
        return None if self._begun else self.failure

    async def produce(self) -> None:
        self.hub.watch_progress(self.topic, self._moved.set)
        limit = asyncio.timeout(self.route.max_s)
        try:
            async with limit:
                await self._relay()
        except TimeoutError as error:
            if not limit.expired():
                raise
            late = f"the stream took longer than {self.route.max_s:g} s and was stopped"
            raise UpstreamTimeout(late) from error

    async def release(self) -> None:
        """The request has been closed by leaving `_relay`."""
        self.hub.unwatch_progress(self.topic)

    def conclude(self, stopped_by: str | None, error: Exception | None) -> list[Event]:
        if not self._complete:
            if stopped_by is not None:
                self.failure = stopped(stopped_by)
            elif error is not None:
                self.failure = self._failure(error)
        self._head.set()
        state = "done" if self.failure is None else self.failure.kind
        self._stats.ended[state] = self._stats.ended.get(state, 0) + 1
        end = Event(json_data({"state": "done" if self.failure is None else "failed"}), _END)
        return [end] if self.failure is None else [_as_last(self.failure.event(self.route)), end]

    def first_event(self) -> Event:
        about = {"path": self.route.path, "created": self.created, "owner": self.owner}
        return Event(json_data(about), START)

    def read_back(self, frames: Sequence[Frame]) -> None:
        self._begun = len(frames) > 1
        self._complete = any(frame.event.type.startswith(_LAST) for frame in frames)
        self._head.set()

    def __repr__(self) -> str:
        state = "running" if self.running else self.failure.kind if self.failure else "done"
        return f"<Relay {self.route.path} {state} {self._taken} bytes>"

    def _failure(self, error: Exception) -> Failure:
        failure = failure_of(error, self.route.upstream.name)
        if not isinstance(error, YeoulError):
            logger.error("relaying %s failed", self.route.path, exc_info=error)
        elif failure.private is not None:
            logger.warning("relaying %s: %s", self.route.path, failure.private)
        return failure

    async def _relay(self) -> None:
        target = self.route.upstream
        assert self._session is not None
        assert self._request is not None
        async with open_stream(
            self._session,
            self._request.method,
            self._request.url,
            name=target.name,
            headers=self._request.headers,
            body=self._request.body,
            timeouts=Timeouts(
                connect=target.connect_s,
                first_byte=target.first_byte_s,
                first_event=target.first_event_s,
                idle=target.idle_s,
                comments_count=target.comments_count,
            ),
            retry=RetryPolicy(target.attempts),
            max_event_bytes=self._largest,
            secrets=[self._credential] if self._credential else [],
        ) as upstream:
            self._note_head(upstream)
            async for events in upstream:
                await self._copy(events)
                if self._complete:
                    await upstream.drain(_DRAIN)
                    return
            # Some servers omit the blank line after the last event. After a clean end of the body the event counts if
            # it is complete.
            last = upstream.unterminated
            if last is not None and (any(marker.matches(last) for marker in target.end) or _is_json(last.data)):
                await self._copy([last])
        if target.end and not self._complete:
            raise UpstreamCut(f"{target.name} ended its stream before its end marker")

    def _note_head(self, upstream: EventStream) -> None:
        for name in self.route.upstream.response_headers:
            value = upstream.headers.get(name)
            if value is not None and value.isascii() and value.isprintable() and self._clean(value) == value:
                self.headers[name] = value
        self._begun = True
        self._head.set()

    async def _copy(self, events: Sequence[Event]) -> None:
        copies: list[Event] = []
        size, over = 0, False
        for event in events:
            try:
                size += self._weigh(event)
            except UpstreamGarbage:
                if copies:
                    await self._publish(copies, size)
                raise
            copy = _copy_of(self._clean(event.type), self._clean(event.data))
            over = any(marker.matches(event) for marker in self.route.upstream.end)
            copies.append(_as_last(copy) if over else copy)
            if over or len(copies) == _BATCH or size >= self._batch_bytes:
                await self._publish(copies, size)
                copies, size = [], 0
            if over:
                self._complete = True
                return
        if copies:
            await self._publish(copies, size)

    def _weigh(self, event: Event) -> int:
        """The event's size in bytes. Raises UpstreamGarbage over the route's limits."""
        data = event.data
        size = len(data) if data.isascii() else len(data.encode())
        if size > self._largest:
            # Each invalid UTF-8 byte becomes a character of three bytes, which the decoder's limit does not count.
            raise UpstreamGarbage(f"{self.route.upstream.name} sent an event of more than {self._largest} bytes")
        self._taken += size
        most = self.route.max_total_bytes
        if self._taken > most:
            raise UpstreamGarbage(f"{self.route.upstream.name} sent more than {most} bytes: its stream was stopped")
        return size + len(event.type) + 6 * data.count("\n") + _FRAME

    async def _publish(self, events: Sequence[Event], size: int) -> None:
        while self._pace.full and self._must_wait():
            self._stats.held += 1
            self._moved.clear()
            await self._moved.wait()
        cursor = await self.hub.publish(self.topic, *events)
        self._pace.add(cursor.offset, size)
        self._stats.events += len(events)

    def _must_wait(self) -> bool:
        """Whether all readers are slow. Without readers it waits only if the policy cancels it then."""
        self._pace.read(self.foremost)
        if not self._pace.full:
            return False
        if not self.readers:
            return self.policy.cancel_after is not None
        return not any(reader.live for reader in self.readers)

    def _on_reader(self, topic: str, reader: Subscription, reason: EndReason | None) -> None:
        super()._on_reader(topic, reader, reason)
        self._moved.set()

    def _clean(self, text: str) -> str:
        """The text without the credential, which some servers repeat."""
        if self._credential and self._credential in text:
            return text.replace(self._credential, REDACTED)
        return text


def _copy_of(kind: str, data: str) -> Event:
    if kind != "message":
        kind = kind.replace("\0", "\ufffd")  # may be received, but not sent
        if kind.startswith(_RESERVED):
            kind = f"upstream.{kind}"
    return Event(data, kind)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _as_last(event: Event) -> Event:
    return replace(event, type=_LAST + event.type)


def _renderer(id_prefix: str, *, end_event: bool) -> Callable[[Frame], bytes]:
    def render(frame: Frame) -> bytes:
        event = frame.event
        id = f"{id_prefix}{frame.epoch}-{frame.offset}"
        if event.type == START:
            return b""
        if event.type == _END:
            return encode(replace(event, type=END_EVENT), id=id + FINAL_MARK) if end_event else b""
        if event.type.startswith(_LAST):
            event = replace(event, type=event.type.removeprefix(_LAST))
            return encode(event, id=id if end_event else id + FINAL_MARK)
        return encode(event, id=id)

    return render
