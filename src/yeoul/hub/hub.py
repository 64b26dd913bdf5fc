"""The hub: publish to topics, subscribe readers to them. One per process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager

from ..errors import EventTooLarge, HubClosed
from ..observe import HubStats, logger
from ..sse import Event
from ..stream import Cursor, Frame
from .broker import Broker
from .delivery import Delivery
from .drain import BeforeClose, Farewell, before_signals, first_of, run_all
from .limits import ConnectionLimits, Principal, Reservation
from .memory import MemoryBroker
from .other_workers import OtherWorkers
from .readers import Readers
from .reasons import CONNECTION_RESET, DRAIN, LOOP_GONE, EndReason
from .running_server import RunningServer, find_server
from .subscription import SubscribeOptions, Subscription
from .timer import TimerWheel
from .topic import Topic, TopicHold, Topics, check_topic
from .watchers import Watcher, Watchers

__all__ = ["Hub", "check_events"]


def check_events(events: Sequence[Event], max_bytes: int) -> None:
    """`max_bytes` bounds each event's data. Raises EventTooLarge, ValueError."""
    if not events:
        raise ValueError("publish at least one event")
    for event in events:
        # Characters first: a cheap bound below which the bytes cannot be over it (UTF-8 has at most 4 a character).
        if len(event.data) * 4 > max_bytes:
            size = len(event.data.encode())
            if size > max_bytes:
                raise EventTooLarge(size, max_bytes)
        if event.id is not None:
            raise ValueError("publish an event without an id: the hub gives each its place in the order")
        if event.type.startswith("stream."):
            raise ValueError(f"event types that begin with 'stream.' are reserved for the server: {event.type!r}")


_DEFAULT_OPTIONS = SubscribeOptions()

_UNMANAGED = (
    "this hub is used without its lifespan: pass FastAPI(lifespan=hub.lifespan), in the application that the server "
    "runs, not only in one that is mounted in it"
)

_SEVERAL_WORKERS = (
    "several worker processes serve the same socket, each with a hub in its own memory: an event reaches only the "
    "readers of the worker that it was published in. Run one worker, or use a broker that the workers share"
)

# Seconds for which a worker that ends and the one that follows it may serve the same socket.
_HANDOVER = 5.0

# Publishes after which the event loop gets its turn: one that never waits for anything else would keep it for itself.
_UNBROKEN = 128


class Hub:
    """Publishes events to topics and delivers them to readers.

    `broker`: where events live; by default this process's memory. Times in seconds: `heartbeat` between signs of
    life on a silent stream (15 s is below every proxy's idle time-out that we know of), `send_timeout` until a reader
    whose socket takes nothing is let go (it comes back with its cursor), `max_lifetime` of one response, shortened at
    random by up to a fifth so that readers do not come back together (None: no end). `retry_ms` is the reconnection
    time that readers are told. `max_event_bytes` bounds one event's data.

    Limits on streams open at once, None for none: `max_connections` in all, `max_connections_per_user` and
    `max_connections_per_address` by a reader's Principal (IPv6 by its /64; this machine's own addresses only with
    `limit_loopback`). `max_replay_bytes`: what a reader that comes back is given of what it has missed, as `Frame.size`
    counts; where that is more, it is sent a gap and the newest that fit. Readers of streams that end with
    their topic are given all of it: half an answer is useless.

    It opens by itself with its first use in an event loop; `close` (or `async with`) ends it, and `async with` may
    open it again. Where the event loop that it was opened on has ended, its next use opens it on the running one: the
    events are kept, the streams of the old loop are gone.
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
        max_connections: int | None = None,
        max_connections_per_user: int | None = None,
        max_connections_per_address: int | None = None,
        limit_loopback: bool = True,
        max_replay_bytes: int | None = None,
    ) -> None:
        if heartbeat <= 0 or send_timeout <= 0 or (max_lifetime is not None and max_lifetime <= 0):
            raise ValueError("heartbeat, send_timeout and max_lifetime must be seconds above 0")
        if max_replay_bytes is not None and max_replay_bytes < 1:
            raise ValueError("max_replay_bytes must be 1 or more, or None for all that is kept")
        self.broker: Broker = broker if broker is not None else MemoryBroker()
        self.heartbeat = heartbeat
        self.send_timeout = send_timeout
        self.retry_ms = retry_ms
        self.max_event_bytes = max_event_bytes
        self.max_topics_per_reader = max_topics_per_reader
        self.max_replay_bytes = max_replay_bytes
        self.stats = HubStats()
        self.components: dict[type, object] = {}  # what other layers keep with a hub, by its class
        self.draining = False
        self.closed = False
        self.wheel = TimerWheel(min(1.0, heartbeat / 10, send_timeout / 10), self._sweep)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._delivery: Delivery | None = None
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._topics = Topics(self.broker)
        self._watchers = Watchers()
        limits = ConnectionLimits(
            max_connections, max_connections_per_user, max_connections_per_address, limit_loopback=limit_loopback
        )
        self._readers = Readers(
            self,
            self._topics,
            limits,
            self._watchers,
            max_topics=max_topics_per_reader,
            max_lifetime=max_lifetime,
            max_replay_bytes=max_replay_bytes,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._swept = 0.0
        self._unbroken = 0
        self._farewell = Farewell()
        self._hurry = asyncio.Event()
        self._before_close: list[BeforeClose] = []
        self._on_reopen: list[Callable[[], None]] = []
        self._checks: dict[Callable[[object], None], None] = {}
        self._closing: asyncio.Future[None] | None = None
        self._managed = False  # whether `async with`, and so `lifespan`, closes it
        self._looked_for_server = False
        self._server: RunningServer | None = None
        self._others: OtherWorkers | None = None
        self._signals = ExitStack()  # where no lifespan listens for them

    # What it is.

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    @property
    def delivery(self) -> Delivery:
        assert self._delivery is not None
        return self._delivery

    @property
    def epoch(self) -> str:
        """Names the broker's set of data; drawn when that is created, for memory in each process."""
        return self.broker.epoch

    @property
    def head(self) -> int:
        """The newest offset that this process knows of; 0 before the first event."""
        return self.broker.head

    @property
    def followed(self) -> int:
        """How many topics have readers."""
        return len(self._topics)

    def readers(self) -> list[Subscription]:
        """All that are open, in the order in which they came."""
        return list(self._readers)

    def readers_of(self, topic: str) -> list[Subscription]:
        """Those that follow this topic, alone or with others."""
        if topic not in self._topics:
            return []
        return [reader for reader in self._readers if any(followed.name == topic for followed in reader.topics)]

    def topics(self) -> list[Topic]:
        """All that have readers, in the order in which they first had one."""
        return list(self._topics)

    def __repr__(self) -> str:
        return f"<Hub {len(self._readers)} readers, {len(self._topics)} topics, {self.broker!r}>"

    # Publish, subscribe.

    async def publish(self, topic: str, *events: Event, final: bool = False) -> Cursor:
        """Appends the events, all or none, and returns the last one's cursor. `final`: nothing follows in this topic.

        Readers are handed them right after; nothing here waits for a reader. It waits for the event loop where a lot
        has been published in one turn of it. Raises InvalidTopic, EventTooLarge, TopicClosed, TooManyTopics,
        BrokerUnavailable, HubClosed; ValueError for no event, one with an `id` (the hub gives ids), and the reserved
        types `stream.*`.
        """
        if self._loop is not asyncio.get_running_loop() or self.closed:
            await self.open()
        if topic not in self._topics:
            check_topic(topic)
        check_events(events, self.max_event_bytes)
        # Before the event is there, not after: a caller that is cancelled while it waits has not published.
        self._unbroken += 1
        if self._unbroken >= _UNBROKEN or self.delivery.congested:
            await self._yield_to_loop()
        cursor = await self.broker.publish(topic, events, final=final)
        self.stats.published += len(events)
        return cursor

    async def subscribe(
        self,
        topics: Sequence[str],
        options: SubscribeOptions = _DEFAULT_OPTIONS,
    ) -> Subscription:
        """A reader of these topics, from this moment on; nothing is written before its `start`.

        The caller owns the subscription, and must `end` it. Raises InvalidTopic, HubClosed, TooManyConnections,
        TooManyTopics, BrokerUnavailable, InvalidToken where the principal has expired, ValueError for no topic or too
        many.
        """
        await self.open()
        if self.draining:
            raise HubClosed("this server is shutting down: connect again, another one will answer")
        if not self._looked_for_server and not options.internal:
            self._look_for_server()
        return await self._readers.open(topics, options)

    async def hold(self, topic: str) -> TopicHold:
        """Keeps what the broker has of a topic from being forgotten while it has no readers. Raises InvalidTopic,
        TooManyTopics, BrokerUnavailable, HubClosed."""
        await self.open()
        return TopicHold(self.broker, check_topic(topic), await self.broker.attach(topic))

    async def forget(self, topic: str) -> None:
        """Deletes the events that are kept of a topic. A position among them is then answered by a gap."""
        await self.open()
        await self.broker.forget(topic)

    def reserve(self, principal: Principal) -> Reservation:
        """A place for a reader that is to subscribe later (`SubscribeOptions.reservation`): for work that must not be
        started where its stream could not be opened. Raises TooManyConnections."""
        return self._readers.reserve(principal)

    def disconnect(self, match: Callable[[Subscription], bool], reason: EndReason) -> int:
        """Ends the streams that match, now: what they have not been given they do not get. Returns how many there
        were."""
        matching = [reader for reader in self._readers if match(reader)]
        for reader in matching:
            reader.end(reason)
        return len(matching)

    # Callbacks.

    def watch(self, topic: str, watcher: Watcher) -> None:
        """Calls the watcher for each reader that joins or leaves the topic; with `chat/*`, any topic whose name begins
        so. Raises InvalidTopic; ValueError for a name that is neither, and for one that has a watcher already."""
        self._watchers.watch(topic, watcher)

    def unwatch(self, topic: str) -> None:
        """Ends what `watch` began."""
        self._watchers.unwatch(topic)

    def watch_progress(self, topic: str, moved: Callable[[], None]) -> None:
        """Calls `moved` each time that a lagging reader of the topic has been given more. Raises ValueError where
        there is such a callback already."""
        self._watchers.watch_progress(topic, moved)

    def unwatch_progress(self, topic: str) -> None:
        """Ends what `watch_progress` began."""
        self._watchers.unwatch_progress(topic)

    def before_close(self, callback: BeforeClose) -> None:
        """Has `close` await this after endless streams have had their farewell, and before the others have theirs."""
        self._before_close.append(callback)

    def on_reopen(self, callback: Callable[[], None]) -> None:
        """Calls this when the hub is opened again: after a close, or on another event loop than before. What belongs to
        the old loop (tasks, timers, holds) has to be forgotten then; it cannot be cancelled any more."""
        self._on_reopen.append(callback)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs it in a task that this hub owns and ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Its life.

    async def open(self) -> None:
        """Connects the broker. Not needed: publish and subscribe do it. Raises HubClosed, BrokerUnavailable;
        RuntimeError where the hub is in use on another event loop that is running."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise HubClosed("this server is shutting down: try again, another one will answer")
        if self._loop is loop:
            return
        if self._opening is None or self._opening[0] is not loop:
            self._opening = loop, asyncio.Lock()
        async with self._opening[1]:
            if self._loop is loop:
                return
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError(
                    "this hub is in use on another event loop, which is running: make one hub for each event loop"
                )
            await self.broker.open(self._on_frames)
            self._bind(loop)

    def before_serving(self, check: Callable[[object], None]) -> None:
        """Has `lifespan` call this with the application before it serves: what it raises is an error at the start.
        Repeated for the same function, it has no effect."""
        self._checks[check] = None

    async def close(self) -> None:
        """Takes no new readers, says farewell to those of endless streams, waits for what `before_close` named (readers
        of streams that end by themselves stay for that), and ends the rest. Idempotent: a second call waits for the
        first."""
        await asyncio.shield(self._begin_close())

    def hurry(self) -> None:
        """Ends the graces of a `close` that is under way."""
        self._hurry.set()

    async def grace(self, work: Coroutine[None, None, None], seconds: float, *, hurry: bool = True) -> None:
        """For callbacks of `before_close`: gives the work so many seconds, with `hurry` only until the close is to end
        its graces."""
        await first_of(work, *((self._hurry.wait(),) if hurry else ()), seconds=seconds)

    async def __aenter__(self) -> Hub:
        if self.closed or (self._closing is not None and self._closing.get_loop() is not asyncio.get_running_loop()):
            self._loop, self._closing = None, None
            self.closed = self.draining = False
            self._call_on_reopen()
        self._managed = True
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """`FastAPI(lifespan=hub.lifespan)`: opens the hub with the application and closes it with it.

        Servers wait for open responses before they end the lifespan, so the hub also listens for SIGTERM and SIGINT:
        streams get their farewell at once, then the server's own handler runs. A second signal ends all graces.
        """
        for check in self._checks:
            check(app)
        async with self:
            with before_signals(self.loop, self.close, self.hurry):
                try:
                    yield
                finally:
                    await self.close()  # in here: a second signal has to find its handler while the graces last

    def _begin_close(self) -> asyncio.Future[None]:
        if self._closing is None:
            self.draining = True
            self._closing = asyncio.ensure_future(self._close())
        return self._closing

    async def _close(self) -> None:
        await self._say_farewell(everyone=False)
        await run_all(self._before_close)
        await self._say_farewell(everyone=True)
        self.closed = True
        self.wheel.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._let_go_of_server()
        if self._loop is not None:
            await self.broker.close()

    async def _say_farewell(self, *, everyone: bool) -> None:
        if self._delivery is not None:
            self._delivery.flush()
        readers = [reader for reader in self._readers if everyone or not reader.until_final]
        await self._farewell.end(readers, DRAIN, self._hurry)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The hub runs on this loop now. Whatever the one before it had is gone."""
        old, self._loop = self._loop, loop
        self.wheel.stop()
        if self._delivery is not None:
            self._delivery.stop()
        self._delivery = Delivery(loop, self.wheel, self.stats, heartbeat=self.heartbeat)
        self._hurry = asyncio.Event()
        self._let_go_of_server()
        self.wheel.start(loop)
        if old is not None:
            self._tasks.clear()
            self._call_on_reopen()
            self._readers.end_all(LOOP_GONE)
            self._topics.reset()

    def _look_for_server(self) -> None:
        """With the first stream: by then the server has its sockets."""
        self._looked_for_server = True
        self._server = server = find_server(self.loop)
        if server is None:
            return
        if server.socket_id is not None and not self.broker.shared:
            self._others = OtherWorkers(server.socket_id, handover=_HANDOVER)
        if not self._managed:
            logger.warning(_UNMANAGED)
            self._signals.enter_context(before_signals(self.loop, self.close, self.hurry))

    def _let_go_of_server(self) -> None:
        self._looked_for_server, self._server = False, None
        self._signals.close()
        if self._others is not None:
            self._others.close()
            self._others = None

    def _call_on_reopen(self) -> None:
        for callback in self._on_reopen:
            callback()

    # What subscriptions call (`ReaderHost`).

    def on_end(self, reader: Subscription, reason: EndReason) -> None:
        self._readers.release(reader, reason)
        self._farewell.ended(reader)

    def on_progress(self, reader: Subscription) -> None:
        self._watchers.notify_progress(reader)

    def on_reset(self, reader: Subscription) -> None:
        if reader.until_final:
            self._watchers.notify(reader, CONNECTION_RESET)

    # What the broker, the wheel and publishers call.

    def _on_frames(self, name: str, frames: Sequence[Frame]) -> None:
        topic = self._topics.get(name)
        if topic is not None:
            self.delivery.push(topic, frames)

    def _sweep(self) -> None:
        now = self.loop.time()
        if now - self._swept >= 1.0:
            self._swept = now
            if self._server is not None and self._server.is_exiting():
                self._begin_close()  # without a signal that reached this hub
            if self._others is not None and self._others.found():
                logger.warning(_SEVERAL_WORKERS)
            try:
                self.broker.sweep()
            except Exception:
                logger.exception("the broker could not let go of old events")

    async def _yield_to_loop(self) -> None:
        if self._unbroken >= _UNBROKEN:
            self._unbroken = 0
            await asyncio.sleep(0)
        if self.delivery.congested:
            await self.delivery.room()
