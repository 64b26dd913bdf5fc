"""The hub: publish to topics, subscribe readers to them. One per process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from ..errors import EventTooLarge, HubClosed, InvalidToken, TooManyConnections
from ..observe import HubStats, logger
from ..sse import Event
from ..stream import Cursor, Frame
from .broker import Broker
from .delivery import Fanout
from .drain import Ending, Farewell, before_signals, end_all
from .limits import ConnectionLimits, Principal, Reservation
from .memory import MemoryBroker
from .position import place_of
from .reasons import CONNECTION_RESET, DRAIN, EndReason
from .subscription import SubscribeOptions, Subscription
from .timer import TimerWheel
from .topic import Topic, TopicHold, Topics, check_topic

__all__ = ["Hub", "Readers", "Watcher", "Watchers", "check_events", "note_ended", "note_opened"]

# Called when a reader joins a watched topic (reason None), and when it leaves, with the reason: CLIENT_LEFT where the
# client went away, any other where this server ended the stream. Once for each of the reader's topics. After the end of
# a stream that ends with its topic it may be called once more, with CONNECTION_RESET: the end may not have arrived.
Watcher = Callable[[str, "Subscription", EndReason | None], None]

_BELOW = "/*"


class Watchers:
    """One watcher per topic, one per kind of topic (its name's first part), one pace per topic."""

    def __init__(self) -> None:
        self.by_topic: dict[str, Watcher] = {}
        self.by_kind: dict[str, Watcher] = {}
        self.paces: dict[str, Callable[[], None]] = {}

    def watch(self, name: str, watcher: Watcher) -> None:
        """Raises InvalidTopic, ValueError."""
        table, key = self._table(name)
        check_topic(key)
        if key in table:
            raise ValueError(f"{name!r} has a watcher already: a topic has one source, and one watcher of its readers")
        table[key] = watcher

    def unwatch(self, name: str) -> None:
        """Raises ValueError."""
        table, key = self._table(name)
        table.pop(key, None)

    def watch_progress(self, topic: str, moved: Callable[[], None]) -> None:
        """Raises ValueError."""
        if topic in self.paces:
            raise ValueError(f"the progress of {topic!r} is watched already")
        self.paces[topic] = moved

    def unwatch_progress(self, topic: str) -> None:
        self.paces.pop(topic, None)

    def _table(self, name: str) -> tuple[dict[str, Watcher], str]:
        kind = name.removesuffix(_BELOW)
        if kind == name:
            return self.by_topic, name
        if "/" in kind:
            raise ValueError(f"{name!r} cannot be watched: watch a topic, or all below its first part, as in 'chat/*'")
        return self.by_kind, kind

    def tell(self, reader: Subscription, reason: EndReason | None) -> None:
        if not self.by_topic and not self.by_kind:
            return
        for topic in reader.topics:
            for watcher in self._of(topic.name):
                try:
                    watcher(topic.name, reader, reason)
                except Exception:
                    # It must not keep a reader from being let in, or what the reader held from being given back.
                    logger.exception("whoever watches the readers of a topic has failed")

    def moved(self, reader: Subscription) -> None:
        """A reader that lags has been given more."""
        if self.paces:
            for topic in reader.topics:
                pace = self.paces.get(topic.name)
                if pace is not None:
                    pace()

    def _of(self, topic: str) -> Iterator[Watcher]:
        exact = self.by_topic.get(topic)
        if exact is not None:
            yield exact
        kind, _, below = topic.partition("/")
        if below and kind in self.by_kind:
            yield self.by_kind[kind]


def check_events(events: Sequence[Event], max_bytes: int) -> None:
    """`max_bytes` bounds each one's data. Raises EventTooLarge, ValueError."""
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
            raise ValueError(f"event types that begin with 'stream.' are the server's own: {event.type!r}")


# Characters of an unguessable name that are shown: enough to tell two apart, too few to read what it names.
_SHOWN = 6


def note_opened(reader: Subscription) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("stream opened", extra=_about(reader))


def note_ended(reader: Subscription, reason: EndReason) -> None:
    if logger.isEnabledFor(reason.log_level):
        about = {
            **_about(reader),
            "reason": reason.name,
            "seconds": round(reader.age, 3),
            "events": reader.events,
            "bytes": reader.sent,
            "gaps": reader.gaps,
        }
        logger.log(reason.log_level, "stream ended", extra=about)


def _about(reader: Subscription) -> dict[str, object]:
    return {
        "connection": reader.id,
        "user": reader.principal.user,
        "address": reader.principal.address,
        "topics": [_shown(topic.name, reader.until_final) for topic in reader.topics],
    }


def _shown(topic: str, work: bool) -> str:
    """Whoever holds the id of a piece of work may read it, and a log is read by more than its owner."""
    kind, _, id = topic.rpartition("/")
    return f"{kind}/{id[:_SHOWN]}…" if work and len(id) > _SHOWN else topic


_T = TypeVar("_T")


class Readers:
    """Iterates over those that are open, in the order in which they came."""

    def __init__(self, hub: Hub, topics: Topics, admission: ConnectionLimits, watchers: Watchers) -> None:
        self._hub = hub
        self._topics = topics
        self._admission = admission
        self._watchers = watchers
        self._open: dict[Subscription, None] = {}

    async def open(self, topics: Sequence[str], options: SubscribeOptions) -> Subscription:
        """`Hub.subscribe`."""
        principal = options.principal
        names = self._check(topics, principal)
        if options.reservation is not None:
            options.reservation.use()
        elif not options.internal:
            self._counting_refusals(self._admission.enter, principal)
        followed: list[Topic] = []
        try:
            followed = await self._topics.attach(names)
            reader = Subscription(
                self._hub,
                followed,
                options,
                place=place_of(self._hub.broker, followed, options.after, options.newest, options.always_new),
                budget=None if options.after is None or options.until_final else self._hub.max_replay_bytes,
            )
        except BaseException:
            self._topics.detach(followed)
            if not options.internal:
                self._admission.leave(principal)
            raise
        if not options.internal:
            self._note_opened(reader)
        return reader

    def release(self, reader: Subscription, reason: EndReason) -> None:
        """Takes back all that it held. Once, however it ended: `Connection.close` sees to that."""
        self._topics.detach(reader.topics)
        if reader not in self._open:
            return  # an internal one
        del self._open[reader]
        self._admission.leave(reader.principal)
        stats = self._hub.stats
        stats.readers -= 1
        stats.closed[reason.name] = stats.closed.get(reason.name, 0) + 1
        stats.durations.observe(reader.age)
        note_ended(reader, reason)
        self._watchers.tell(reader, reason)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def _check(self, topics: Sequence[str], principal: Principal) -> list[str]:
        names = list(dict.fromkeys(topics))
        most = self._hub.max_topics_per_reader
        if not 1 <= len(names) <= most:
            raise ValueError(f"follow 1 to {most} topics with one stream, not {len(names)}")
        for name in names:
            check_topic(name)
        if principal.expires is not None and principal.expires <= time.time():
            raise InvalidToken("the token has expired: get a new one")
        return names

    def reserve(self, principal: Principal) -> Reservation:
        """`Hub.reserve`."""
        return self._counting_refusals(self._admission.reserve, principal)

    def _counting_refusals(self, step: Callable[[Principal], _T], principal: Principal) -> _T:
        try:
            return step(principal)
        except TooManyConnections as error:
            refused = self._hub.stats.refused
            refused[error.bound] = refused.get(error.bound, 0) + 1
            raise

    def _note_opened(self, reader: Subscription) -> None:
        self._open[reader] = None
        self._hub.stats.readers += 1
        self._hub.stats.opened += 1
        note_opened(reader)
        self._watchers.tell(reader, None)


DEFAULT_OPTIONS = SubscribeOptions()

# Publishes after which the event loop gets its turn: one that never waits for anything else would keep it for itself.
_UNBROKEN = 128


class Hub:
    """Publishes events to topics and delivers them to readers.

    `broker`: where events live; by default this process's memory. Times in seconds: `heartbeat` between signs of
    life on a silent stream (15 s is below every proxy's idle time-out that we know of), `send_timeout` until a reader
    whose socket takes nothing is let go (it comes back with its cursor), `max_lifetime` of one response, shortened at
    random by up to a fifth so that readers do not come back together (None: no end). `retry_ms` is the reconnection
    time that readers are told. `max_event_bytes` bounds one event's data.

    Bounds on streams open at once, None for none: `max_connections` in all, `max_connections_per_user` and
    `max_connections_per_address` by a reader's Principal (IPv6 by its /64; this machine's own addresses only with
    `limit_loopback`). `max_replay_bytes`: what a reader that comes back is given of what it has missed, as `Frame.size`
    counts; where that is more, it is told of a gap and given the newest that fit. Readers of streams that end with
    their topic are given all of it: half an answer is none.

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
        max_connections: int | None = None,
        max_connections_per_user: int | None = None,
        max_connections_per_address: int | None = None,
        limit_loopback: bool = True,
        max_replay_bytes: int | None = None,
    ) -> None:
        if heartbeat <= 0 or send_timeout <= 0 or (max_lifetime is not None and max_lifetime <= 0):
            raise ValueError("heartbeat, send_timeout and max_lifetime are seconds above 0")
        if max_replay_bytes is not None and max_replay_bytes < 1:
            raise ValueError("max_replay_bytes is 1 and more, or None for all that is kept")
        self.broker: Broker = broker if broker is not None else MemoryBroker()
        self.heartbeat = heartbeat
        self.send_timeout = send_timeout
        self.max_lifetime = max_lifetime
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
        self._fanout: Fanout | None = None
        self._opening: asyncio.Lock | None = None
        self._topics = Topics(self.broker)
        self._watchers = Watchers()
        admission = ConnectionLimits(
            max_connections, max_connections_per_user, max_connections_per_address, limit_loopback=limit_loopback
        )
        self._readers = Readers(self, self._topics, admission, self._watchers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._swept = 0.0
        self._unbroken = 0
        self._leaving = Farewell()
        self._endings: list[Ending] = []
        self._checks: dict[Callable[[object], None], None] = {}
        self._closing: asyncio.Future[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    @property
    def epoch(self) -> str:
        return self.broker.epoch

    @property
    def head(self) -> int:
        """The newest offset that this process knows of; 0 before the first event."""
        return self.broker.head

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
        check_events(events, self.max_event_bytes)
        # Before the event is there, not after: whoever is cancelled while it waits has not published.
        await self._breathe()
        cursor = await self.broker.publish(topic, events, final=final)
        self.stats.published += len(events)
        return cursor

    async def subscribe(
        self,
        topics: Sequence[str],
        options: SubscribeOptions = DEFAULT_OPTIONS,
    ) -> Subscription:
        """A reader of these topics, from this moment on; nothing is written before its `start`.

        The caller owns the subscription, and must `end` it. Raises InvalidTopic, HubClosed, TooManyConnections,
        InvalidToken where the principal has expired, ValueError for no topic or too many.
        """
        await self.open()
        if self.draining:
            raise HubClosed("this server is shutting down: connect again, another one will answer")
        return await self._readers.open(topics, options)

    async def hold(self, topic: str) -> TopicHold:
        """Keeps what the broker has of a topic from being forgotten while nobody reads it. Raises InvalidTopic,
        TooManyTopics, HubClosed."""
        await self.open()
        return TopicHold(self.broker, check_topic(topic), await self.broker.attach(topic))

    async def forget(self, topic: str) -> None:
        """Deletes the events that are kept of a topic. A position among them is then answered by a gap."""
        await self.broker.forget(topic)

    def reserve(self, principal: Principal) -> Reservation:
        """A place for a reader that is to subscribe later (`SubscribeOptions.reservation`): for work that must not be
        started where its stream could not be opened. Raises TooManyConnections."""
        return self._readers.reserve(principal)

    def readers(self) -> list[Subscription]:
        """All that are open, in the order in which they came."""
        return list(self._readers)

    def readers_of(self, topic: str) -> list[Subscription]:
        """Those that follow this topic, alone or with others."""
        if topic not in self._topics:
            return []
        return [reader for reader in self._readers if any(followed.name == topic for followed in reader.topics)]

    def topics(self) -> list[Topic]:
        """All that are followed, in the order in which they were first."""
        return list(self._topics)

    @property
    def followed(self) -> int:
        """How many topics are followed."""
        return len(self._topics)

    def disconnect(self, match: Callable[[Subscription], bool], reason: EndReason) -> int:
        """Ends the streams that match, now: what they have not been given they do not get. Returns how many there
        were."""
        matching = [reader for reader in self._readers if match(reader)]
        for reader in matching:
            reader.end(reason)
        return len(matching)

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

    def before_close(self, ending: Ending) -> None:
        """Has `close` await this after endless streams have had their farewell, and before the others have theirs."""
        self._endings.append(ending)

    def before_serving(self, check: Callable[[object], None]) -> None:
        """Has `lifespan` call this with the application before it serves: what it raises is an error at the start.
        Repeated for the same function, it has no effect."""
        self._checks[check] = None

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
        await end_all(self._endings)
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
        await self._leaving.say([reader for reader in self._readers if everybody or not reader.until_final], DRAIN)

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
        for check in self._checks:
            check(app)
        async with self:
            with before_signals(self.loop, self.close):
                yield

    # What subscriptions use.

    def release(self, reader: Subscription, reason: EndReason) -> None:
        self._readers.release(reader, reason)
        self._leaving.gone(reader)

    def moved(self, reader: Subscription) -> None:
        """A reader that lags has been given more."""
        self._watchers.moved(reader)

    def connection_reset(self, reader: Subscription) -> None:
        """The connection of a reader that has had its end was reset: the end may not have arrived."""
        if reader.until_final:
            self._watchers.tell(reader, CONNECTION_RESET)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Runs it in a task that this hub owns and ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __repr__(self) -> str:
        return f"<Hub {len(self._readers)} readers, {len(self._topics)} topics, {self.broker!r}>"

    async def _breathe(self) -> None:
        assert self._fanout is not None
        self._unbroken += 1
        if self._unbroken >= _UNBROKEN:
            self._unbroken = 0
            await asyncio.sleep(0)
        if self._fanout.crowded:
            await self._fanout.room()

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
