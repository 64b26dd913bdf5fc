"""The hub: publish to topics, subscribe readers to them. One per process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress

from ..errors import EventTooLarge, HubClosed
from ..observe import HubStats, logger
from ..sse import Event
from ..stream import Cursor, Frame
from .broker import Broker
from .encoding import WIRE, Encoding
from .fanout import Fanout
from .memory import MemoryBroker
from .principal import NOBODY, Principal
from .signals import before_signals
from .subscription import Lost, Subscription
from .topic import Topic, check_topic
from .wheel import Wheel

__all__ = ["Hub", "Watcher"]

# Seconds for which a reader that is behind may still be given what it has not had, before its farewell in a drain.
_PARTING = 1.0
# Publishes after which the event loop gets its turn: one that never waits for anything else would keep it for itself.
_UNBROKEN = 128

# Called when a reader joins a watched topic (reason None), and when it leaves, with the reason: "client" where the
# client went away, anything else where this server ended the stream.
Watcher = Callable[[Subscription, str | None], None]
Ending = Callable[[], Coroutine[None, None, None]]


class Hub:
    """Publishes events to topics and delivers them to readers.

    `broker`: where events live; by default this process's memory. Times in seconds: `heartbeat` between signs of
    life on a silent stream (15 s is below every proxy's idle time-out that we know of), `send_timeout` until a reader
    whose socket takes nothing is let go (it comes back with its cursor), `max_lifetime` of one response, shortened at
    random by up to a fifth so that readers do not come back together (None: no end). `retry_ms` is the reconnection
    time that readers are told. `max_event_bytes` bounds one event's data.

    It begins by itself with its first use in an event loop; `close` (or `async with`) ends it.
    """

    def __init__(
        self,
        broker: Broker | None = None,
        *,
        heartbeat: float = 15.0,
        send_timeout: float = 60.0,
        max_lifetime: float | None = None,
        retry_ms: int = 2_000,
        max_event_bytes: int = 262_144,
        max_topics_per_reader: int = 50,
    ) -> None:
        if heartbeat <= 0 or send_timeout <= 0 or (max_lifetime is not None and max_lifetime <= 0):
            raise ValueError("heartbeat, send_timeout and max_lifetime are seconds above 0")
        self.broker: Broker = broker if broker is not None else MemoryBroker()
        self.heartbeat = heartbeat
        self.send_timeout = send_timeout
        self.max_lifetime = max_lifetime
        self.retry_ms = retry_ms
        self.max_event_bytes = max_event_bytes
        self.max_topics_per_reader = max_topics_per_reader
        self.stats = HubStats()
        self.companions: dict[type, object] = {}  # what other layers keep with a hub, by its class
        self.draining = False
        self.closed = False
        self.wheel = Wheel(min(1.0, heartbeat / 10, send_timeout / 10), self._sweep)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fanout: Fanout | None = None
        self._opening: asyncio.Lock | None = None
        self._topics: dict[str, Topic] = {}
        self._readers: dict[Subscription, None] = {}
        self._watchers: dict[str, Watcher] = {}
        self._paces: dict[str, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._swept = 0.0
        self._unbroken = 0
        self._parting: set[Subscription] = set()
        self._parted = asyncio.Event()
        self._endings: list[Ending] = []
        self._closing: asyncio.Future[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    @property
    def epoch(self) -> str:
        return self.broker.epoch

    async def open(self) -> None:
        """Connects the broker. Not needed: publish and subscribe do it."""
        if self.closed:
            raise HubClosed("this server is shutting down: try again, another one will answer")
        if self._loop is not None:
            return
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._loop is None:
                await self.broker.open(self._on_frames)
                loop = asyncio.get_running_loop()
                self._fanout = Fanout(loop, self.stats)
                self.wheel.start(loop)
                self._loop = loop

    async def publish(self, topic: str, *events: Event, final: bool = False) -> Cursor:
        """Appends the events, all or none, and returns the last one's cursor. `final`: nothing follows in this topic.

        Readers are handed them right after; nothing here waits for a reader. It waits for the event loop where a lot
        has been published in one turn of it. Raises InvalidTopic, EventTooLarge, TopicClosed, TooManyTopics, HubClosed;
        ValueError for no event, one with an `id` (the hub gives ids), and the reserved types `stream.*`.
        """
        if self._loop is None or self.closed:
            await self.open()
        if topic not in self._topics:
            check_topic(topic)
        if not events:
            raise ValueError("publish at least one event")
        for event in events:
            self._check_event(event)
        # Before the event is there, not after: whoever is cancelled while it waits has not published.
        await self._breathe()
        cursor = await self.broker.publish(topic, events, final=final)
        self.stats.published += len(events)
        return cursor

    async def subscribe(
        self,
        topics: Sequence[str],
        *,
        after: Cursor | None = None,
        newest: int = 0,
        encoding: Encoding = WIRE,
        until_final: bool = False,
        principal: Principal = NOBODY,
    ) -> Subscription:
        """A reader of these topics, from this moment on; nothing is written before its `start`.

        `after`: the position it had; without one it begins with the `newest` events kept (in each topic).
        `until_final`: its response ends with the topic's final event. `principal`: whom it is for. Whoever calls this
        owns the subscription and must `close` it. Raises InvalidTopic, HubClosed, ValueError for no topic or too many.
        """
        await self.open()
        if self.draining:
            raise HubClosed("this server is shutting down: connect again, another one will answer")
        names = list(dict.fromkeys(topics))
        if not 1 <= len(names) <= self.max_topics_per_reader:
            raise ValueError(f"follow 1 to {self.max_topics_per_reader} topics with one stream, not {len(names)}")
        for name in names:
            check_topic(name)
        followed: list[Topic] = []
        try:
            for name in names:
                followed.append(await self._attach(name))  # noqa: PERF401 (what is attached must be known on failure)
        except BaseException:
            for topic in followed:
                self._detach(topic)
            raise
        offset, gap = self._position(after)
        starts = [topic.journal.tail(newest) for topic in followed] if after is None and newest else None
        reader = Subscription(
            self,
            followed,
            encoding=encoding,
            offset=offset,
            starts=starts,
            gap=gap,
            until_final=until_final,
            principal=principal,
        )
        self._readers[reader] = None
        self.stats.readers += 1
        self.stats.opened += 1
        self._notify(reader, None)
        return reader

    def watch(self, topic: str, watcher: Watcher | None) -> None:
        """Tells the watcher (one per topic) of each reader that joins or leaves; None ends it."""
        if watcher is None:
            self._watchers.pop(topic, None)
        else:
            self._watchers[topic] = watcher

    def watch_pace(self, topic: str, moved: Callable[[], None] | None) -> None:
        """Calls `moved` (one per topic) each time that a reader which lags has been given more; None ends it."""
        if moved is None:
            self._paces.pop(topic, None)
        else:
            self._paces[topic] = moved

    def before_close(self, ending: Ending) -> None:
        """Has `close` await this after endless streams have had their farewell, and before the others have theirs."""
        self._endings.append(ending)

    async def close(self) -> None:
        """Takes no new readers, says farewell to those of endless streams, waits for what `before_close` named (readers
        of streams that end by themselves stay for that), and ends the rest. Idempotent: a second call waits for the
        first."""
        if self._closing is None:
            self.draining = True
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._farewell(everybody=False)
        # All at once: each may take its grace, and the server that waits for us counts them as one.
        for failure in await asyncio.gather(*(ending() for ending in self._endings), return_exceptions=True):
            if isinstance(failure, Exception):
                logger.error("what was to be done before the hub closes failed", exc_info=failure)
        await self._farewell(everybody=True)
        self.closed = True
        self.wheel.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._loop is not None:
            await self.broker.close()

    async def _farewell(self, *, everybody: bool) -> None:
        if self._fanout is not None:
            self._fanout.flush()
        self._parting = {reader for reader in self._readers if everybody or not reader.until_final}
        for count, reader in enumerate(list(self._parting), 1):
            reader.part("drain")
            if count % 256 == 0:
                await asyncio.sleep(0)
        if self._parting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PARTING):
                    self._parted.clear()
                    await self._parted.wait()
        for reader in list(self._parting):
            reader.bye("drain")

    async def __aenter__(self) -> Hub:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """`FastAPI(lifespan=hub.lifespan)`: opens the hub with the application and closes it with it.

        Servers wait for open responses before they end the lifespan, so the hub also listens for SIGTERM and SIGINT:
        streams get their farewell at once, then the server's own handler runs.
        """
        async with self:
            with before_signals(self.loop, self.close):
                yield

    # What subscriptions use.

    def release(self, reader: Subscription, reason: str) -> None:
        self._readers.pop(reader, None)
        self._parting.discard(reader)
        if not self._parting:
            self._parted.set()
        self.stats.readers -= 1
        self.stats.closed[reason] = self.stats.closed.get(reason, 0) + 1
        for topic in reader.topics:
            self._detach(topic)
        self._notify(reader, reason)

    def moved(self, reader: Subscription) -> None:
        """A reader that lags has been given more."""
        if self._paces:
            for topic in reader.topics:
                pace = self._paces.get(topic.name)
                if pace is not None:
                    pace()

    def reset(self, reader: Subscription) -> None:
        """The connection of a reader that has had its end was reset: it may not have arrived."""
        self._notify(reader, "reset")

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Runs it in a task that this hub owns and ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __repr__(self) -> str:
        return f"<Hub {len(self._readers)} readers, {len(self._topics)} topics, {self.broker!r}>"

    def _check_event(self, event: Event) -> None:
        # Characters first: a cheap bound below which the bytes cannot be over it (UTF-8 has at most 4 a character).
        if len(event.data) * 4 > self.max_event_bytes:
            size = len(event.data.encode())
            if size > self.max_event_bytes:
                raise EventTooLarge(size, self.max_event_bytes)
        if event.id is not None:
            raise ValueError("publish an event without an id: the hub gives each its place in the order")
        if event.type.startswith("stream."):
            raise ValueError(f"event types that begin with 'stream.' are the server's own: {event.type!r}")

    async def _breathe(self) -> None:
        assert self._fanout is not None
        self._unbroken += 1
        if self._unbroken >= _UNBROKEN:
            self._unbroken = 0
            await asyncio.sleep(0)
        if self._fanout.crowded:
            await self._fanout.room()

    def _position(self, after: Cursor | None) -> tuple[int, Lost | None]:
        if after is None:
            return self.broker.head, None
        if after.epoch != self.epoch:
            return 0, (after, "epoch")
        if after.offset > self.broker.head:
            return 0, (after, "unknown")
        return after.offset, None

    async def _attach(self, name: str) -> Topic:
        # The broker first: a topic that others are attaching at the same time counts one attach each.
        journal = await self.broker.attach(name)
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name, journal)
        topic.readers += 1
        return topic

    def _detach(self, topic: Topic) -> None:
        topic.readers -= 1
        if topic.readers == 0:
            del self._topics[topic.name]
        self.broker.detach(topic.name)

    def _notify(self, reader: Subscription, reason: str | None) -> None:
        if self._watchers:
            for topic in reader.topics:
                watcher = self._watchers.get(topic.name)
                if watcher is not None:
                    watcher(reader, reason)

    def _on_frames(self, name: str, frames: Sequence[Frame]) -> None:
        topic = self._topics.get(name)
        if topic is not None:
            assert self._fanout is not None
            self._fanout.push(topic, frames)

    def _sweep(self) -> None:
        now = self.loop.time()
        if now - self._swept >= 1.0:
            self._swept = now
            try:
                self.broker.sweep()
            except Exception:
                logger.exception("the broker could not let go of old events")
