"""Jobs: work that publishes into a topic of its own and outlives its readers."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import ClassVar, Generic, TypeVar

from ..errors import BrokerUnavailable, HubClosed, KeyReused, TooMuchWork, YeoulError
from ..observe import logger
from ..sse import Event
from ..stream import Cursor, Frame, draw_work_id
from .hub import Hub
from .reasons import CLIENT_LEFT, FINAL, OVER, EndReason
from .subscription import Subscription
from .topic import TopicHold

__all__ = ["CANCEL", "CONTINUE", "DisconnectPolicy", "Job", "Jobs"]


@dataclass(frozen=True, slots=True)
class DisconnectPolicy:
    """What happens to a job without readers: it is stopped after `cancel_after` seconds; 0 is at once, None never."""

    cancel_after: float | None = None

    def __post_init__(self) -> None:
        if self.cancel_after is not None and not 0 <= self.cancel_after <= 86_400:
            raise ValueError("cancel_after must be 0 to 86400 seconds, or None")


CONTINUE = DisconnectPolicy()
CANCEL = DisconnectPolicy(0)

# How long a job waits for a reader that was asked to reconnect, or that was given its Location, in seconds.
_COME_BACK = 30.0

# Seconds for which the first event may be on its way to a reader.
_IN_FLIGHT = 2.0

# How long closing a source may take, in seconds: a library's `aclose` may never return, and the end must be published.
_RELEASE = 5.0

# Seconds between two attempts to publish the end of a job, the first and the longest.
_END_PAUSE, _END_MAX_PAUSE = 0.25, 5.0

# Why streams end whose readers have had everything.
_COMPLETE = (FINAL, OVER)


class Job(ABC):
    """One job, run in a task of its own. Its topic is `<kind>/<id>`; the id is unguessable, since it is what gives
    access. `upstream` names the server that it reads from. `origin` is the position just before its first event,
    `delivered` the furthest position of any reader. Times are Unix seconds.

    Subclasses implement the work (`produce`) and its last events (`conclude`).
    """

    kind: str

    def __init__(
        self,
        hub: Hub,
        *,
        owner: str | None = None,
        upstream: str = "",
        policy: DisconnectPolicy = CONTINUE,
        id: str | None = None,
        created: float | None = None,
    ) -> None:
        self.id = draw_work_id() if id is None else id
        self.topic = f"{self.kind}/{self.id}"
        self.owner = owner
        self.upstream = upstream
        self.policy = policy
        self.created = time.time() if created is None else created
        self.ended_at: float | None = None
        self.origin = Cursor(hub.epoch, 0)
        self.readers: dict[Subscription, float] = {}  # since when each reads (time of the event loop)
        self.hub = hub
        self._furthest = 0  # of those who have left
        self._lost_at: float | None = None  # when the last reader left that may not have had its first event
        self._on_end: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None
        self._producing = False
        self._hold: TopicHold | None = None
        self._stopped: str | None = None  # why, once it has been
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    @abstractmethod
    async def produce(self) -> None:
        """Publishes the job's events; cancelled when the job is stopped."""

    @abstractmethod
    async def release(self) -> None:
        """Releases what `produce` uses; awaited once, also if `produce` was never started."""

    @abstractmethod
    def conclude(self, stopped: str | None, error: Exception | None) -> list[Event]:
        """The topic's last events. `stopped`: "cancelled", "interrupted" or None; `error`: what `produce` raised."""

    @abstractmethod
    def read_back(self, frames: Sequence[Frame]) -> None:
        """Brings it into the state that its events say, all of its topic's: `recover`."""

    @property
    def running(self) -> bool:
        return self.ended_at is None

    @property
    def delivered(self) -> int:
        return max(self._furthest, self.foremost)

    @property
    def foremost(self) -> int:
        """The furthest position of the current readers; without any, of those who have left."""
        return max((reader.offset for reader in self.readers), default=self._furthest)

    @property
    def abandoned(self) -> bool:
        """Whether its reader was lost before it can have known the job's id, so that it will reconnect without one."""
        if self.readers or self._lost_at is None:
            return False
        # What was stopped is not what it would come back for.
        ended_lately = self._stopped is None and self.hub.loop.time() - self._lost_at < _COME_BACK
        return self.running or ended_lately

    async def begin(self, first: Event, on_end: Callable[[], None]) -> None:
        try:
            cursor = await self.hub.publish(self.topic, first)
            # Held, so that the end stays known after its frames were evicted: otherwise a late reader would wait for it
            # forever.
            self._hold = await self.hub.hold(self.topic)
        except BaseException:
            await self._release()
            raise
        self.origin = Cursor(cursor.epoch, cursor.offset - 1)
        self._on_end = on_end
        self.hub.watch(self.topic, self._on_reader)
        self._task = self.hub.loop.create_task(self._run())
        self._wait_for_reader(_COME_BACK)

    def recover(self, hold: TopicHold, on_end: Callable[[], None]) -> None:
        """Takes over the events of an earlier process, in which it was produced: it is over. Where that process ended
        before the job did, its end is published now: it was interrupted."""
        frames = hold.journal.kept()
        self._hold = hold
        self.origin = Cursor(frames[0].epoch, frames[0].offset - 1)
        # The clock of the events is the broker's own: it says how much time has passed.
        self.ended_at = self.created + (frames[-1].at - frames[0].at)
        self._on_end = on_end
        self.read_back(frames)
        self.hub.watch(self.topic, self._on_reader)
        if hold.journal.final:
            self._end()
        else:
            self._task = self.hub.loop.create_task(self._conclude("interrupted", None))

    def published_after(self, offset: int) -> Sequence[Frame]:
        """What its topic has after this offset: a publish that was cancelled while it was written may be among it."""
        found = None if self._hold is None else self._hold.journal.after(offset)
        return () if found is None else found.frames

    def cancel(self) -> None:
        """Stops it at once, also while it waits for its source. What was published is kept."""
        self._stop("cancelled")

    def interrupt(self) -> None:
        """Stops it because this server shuts down."""
        self._stop("interrupted")

    def reader_lost(self) -> None:
        """Its first reader left before its stream began: treated as a lost reader."""
        self._lost_at = self.hub.loop.time()
        if not self.readers:
            self._wait_for_reader(0.0)

    async def ended(self) -> None:
        """Returns when it has ended."""
        await self._over.wait()

    def close(self) -> None:
        """Releases its topic and timers, when it is forgotten."""
        if self._hold is not None:
            self._hold.release()
        self.hub.unwatch(self.topic)
        self._cancel_timer()
        if self._over.is_set() and self._task is not None:
            self._task.cancel()  # its end could not be published so far

    def abandon(self) -> None:
        """Its event loop has ended, and its task and timers with it."""
        self._timer = None
        self.close()

    async def _run(self) -> None:
        failure: Exception | None = None
        try:
            if self._stopped is None:
                self._producing = True
                await self.produce()
        except asyncio.CancelledError:
            # Not stopped by `_stop`: the event loop is being closed.
            self._stopped = self._stopped or "interrupted"
        except Exception as error:
            failure = error
        # From here on it cannot be stopped: it is ending.
        self._producing = False
        stopped = self._stopped
        await self._release()
        self.ended_at = time.time()
        self._cancel_timer()
        await self._conclude(stopped, failure)

    async def _conclude(self, stopped: str | None, failure: Exception | None) -> None:
        """Publishes the end; where the broker does not take it, again and again, since its readers wait for it."""
        events, pause = self.conclude(stopped, failure), _END_PAUSE
        while True:
            try:
                await self.hub.publish(self.topic, *events, final=True)
            except BrokerUnavailable as error:
                if not self._over.is_set():
                    logger.error("the end of a job cannot be published for now: %r: %s", self, error)
            except Exception:
                logger.exception("the end of a job could not be published: %r", self)
                break
            else:
                break
            self._end()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _END_MAX_PAUSE)
        self._end()

    def _end(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._on_end()

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_RELEASE):
                await self.release()
        except Exception:
            logger.exception("closing the source of a job failed: %r", self)

    def _stop(self, reason: str) -> None:
        if self._task is None or not self.running or self._stopped is not None:
            return
        self._stopped = reason
        # A task that is cancelled before its first step would never conclude, so `_run` looks at `_stopped` itself.
        if self._producing:
            self._task.cancel()

    def _on_reader(self, topic: str, reader: Subscription, reason: EndReason | None) -> None:
        if reason is None:
            self.readers[reader] = self.hub.loop.time()
            self._cancel_timer()
            return
        now = self.hub.loop.time()
        connected = now - self.readers.pop(reader, now)
        self._furthest = max(self._furthest, reader.offset)
        # A reader that has received an event reconnects with its id: a request without an id is a new one.
        may_lack_id = connected < _IN_FLIGHT or reader.offset <= self.origin.offset + 1
        self._lost_at = now if may_lack_id and reason not in _COMPLETE else None
        if not self.readers:
            self._wait_for_reader(0.0 if reason is CLIENT_LEFT else _COME_BACK)

    def _wait_for_reader(self, at_least: float) -> None:
        """`at_least`: seconds for a reader that this server disconnected, or that has not connected yet."""
        if self.policy.cancel_after is not None and self.running:
            self._cancel_timer()
            self._timer = self.hub.loop.call_later(max(at_least, self.policy.cancel_after), self.cancel)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_J = TypeVar("_J", bound=Job)


@dataclass(slots=True)
class _Keyed(Generic[_J]):
    """The job of an idempotency key. `settled`: its start has succeeded or failed."""

    content: bytes
    job: _J | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)


# How long interrupted jobs may take to close their sources, in seconds: a library's `aclose` may never return.
_STOP = 2.0


class Jobs(Generic[_J]):
    """All jobs of a kind. At most `max_running` run at the same time, at most `max_per_owner` for one owner, and at
    most `max_per_upstream` from one upstream, so that one slow server does not block the others (None: no limit). A job
    is forgotten `keep_seconds` after its end, earlier if more than `max_kept` have ended. When the hub closes, running
    jobs are given `grace_seconds`."""

    _kind: ClassVar[str]  # of its jobs

    def __init__(
        self,
        hub: Hub,
        *,
        max_running: int = 1_000,
        max_per_owner: int | None = None,
        max_per_upstream: int | None = None,
        keep_seconds: float = 600.0,
        max_kept: int = 10_000,
        grace_seconds: float = 10.0,
    ) -> None:
        self.hub = hub
        self._max_running = max_running
        self._max_per_owner = max_per_owner
        self._max_per_upstream = max_per_upstream
        self._keep_seconds = keep_seconds
        self._max_kept = max_kept
        self._grace_seconds = grace_seconds
        self._all: dict[str, _J] = {}
        self._running: dict[str, _J] = {}
        self._by_request: dict[bytes, list[_J]] = {}
        self._request_keys: dict[str, bytes] = {}
        self._keyed: dict[str, _Keyed[_J]] = {}
        self._key_of: dict[str, str] = {}  # by the id of the job
        self._timers: dict[str, asyncio.TimerHandle] = {}  # of those that have ended, oldest first
        self._closed = False
        self._recovered: asyncio.Lock | None = None  # there once `recover` has been called; held while it runs
        hub.before_close(self.close)
        hub.on_reopen(self._forget_all)

    async def open(self, owner: str | None = None, upstream: str = "", *, max_per_upstream: int | None = None) -> None:
        """Checks that another job may be started, and opens the hub. `max_per_upstream`: the limit for this upstream,
        instead of the general one. Raises HubClosed, TooMuchWork."""
        if self._closed or self.hub.draining:
            raise HubClosed("this server is shutting down: try again, another server will answer")
        await self.hub.open()
        if len(self._running) >= self._max_running:
            raise TooMuchWork(f"{self._max_running} answers are running at the moment, the maximum: try again shortly")
        most = max_per_upstream or self._max_per_upstream
        if most is not None and sum(job.upstream == upstream for job in self._running.values()) >= most:
            raise TooMuchWork(
                f"{most} answers of the same upstream are running at the moment, the maximum: try again shortly"
            )
        most = self._max_per_owner
        if owner is not None and most is not None and sum(job.owner == owner for job in self._running.values()) >= most:
            raise TooMuchWork(f"{most} answers are running for you, the maximum: wait for one of them, or stop it")

    async def launch(self, job: _J, first: Event, request_key: str | None = None) -> _J:
        """Begins the job with its first event. `request_key`: the key for `find_abandoned`."""
        self._all[job.id] = self._running[job.id] = job
        if request_key is not None:
            key = self._request_keys[job.id] = _digest(request_key)
            self._by_request.setdefault(key, []).append(job)

        try:
            await job.begin(first, lambda: self._keep(job.id))
        except BaseException:
            self._running.pop(job.id, None)
            self._remove(job.id)
            raise
        return job

    async def once(self, key: str, content: bytes, start: Callable[[], Awaitable[_J]]) -> tuple[_J, bool]:
        """The job that `start` starts, and True; or, if this key has started a job that is still known, or is starting
        one at the moment, that job, and False. A key whose start failed may be used again.

        `content`: a digest of the request. Raises KeyReused if the key came with another one, and what `start` raises.
        """
        while (known := self._keyed.get(key)) is not None:
            if known.content != content:
                raise KeyReused(
                    "this Idempotency-Key was sent with another body before: use a new key for each new request"
                )
            if known.job is not None:
                return known.job, False
            await known.settled.wait()
        known = self._keyed[key] = _Keyed(content)
        try:
            known.job = await start()
        except BaseException:
            del self._keyed[key]
            raise
        finally:
            known.settled.set()
        if known.job.id in self._all:
            self._key_of[known.job.id] = key
        else:
            del self._keyed[key]
        return known.job, True

    async def recover(self) -> None:
        """Takes over the jobs of earlier processes whose events the broker has kept, so that their readers read on.
        Those that were running end as interrupted. Once, and again after the hub was opened anew; raises
        BrokerUnavailable, HubClosed."""
        if self._recovered is None:
            self._recovered = asyncio.Lock()
        elif not self._recovered.locked():
            return
        async with self._recovered:
            await self._recover()

    async def _recover(self) -> None:
        await self.hub.open()
        for topic in await self.hub.broker.topics(f"{self._kind}/"):
            id = topic.removeprefix(f"{self._kind}/")
            if id in self._all:
                continue
            hold = await self.hub.hold(topic)
            try:
                job = self._of_topic(id, hold.journal.kept())
            except Exception as error:
                if not isinstance(error, YeoulError):
                    logger.warning("a job of an earlier process cannot be read back from %s", topic, exc_info=error)
                job = None
            if job is None:
                hold.release()
                await self._delete(topic)
                continue
            self._all[id] = self._running[id] = job
            job.recover(hold, partial(self._keep, id))

    def _of_topic(self, id: str, frames: Sequence[Frame]) -> _J | None:
        """The job of an earlier process, from the events of its topic; None where they do not say enough."""
        return None

    def get(self, id: str) -> _J | None:
        return self._all.get(id)

    def find_abandoned(self, request_key: str) -> _J | None:
        """The job that the same request started, if its reader was lost: a client that was cut before its first event
        cannot name its job, and must not pay for it twice."""
        return next((job for job in self._by_request.get(_digest(request_key), ()) if job.abandoned), None)

    def running(self) -> list[_J]:
        return list(self._running.values())

    async def close(self) -> None:
        """Starts no more jobs, gives the running ones their grace, then interrupts them. Called by the hub."""
        self._closed = True
        await self._wait_for(self.running(), self._grace_seconds)
        for job in self.running():
            job.interrupt()
        await self._wait_for(self.running(), _STOP, hurry=False)
        if self._running:
            logger.error("%d jobs did not stop within %g s after they were cancelled", len(self._running), _STOP)
        for id in list(self._timers):
            self._drop(id)  # their events stay, for readers that have not received the end yet

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._running)} running, {len(self._timers)} kept>"

    async def _wait_for(self, jobs: Sequence[_J], seconds: float, *, hurry: bool = True) -> None:
        """Returns when all have ended or the time is up; earlier if the hub is to close without grace."""

        async def end() -> None:
            for job in jobs:
                await job.ended()

        await self.hub.grace(end(), seconds, hurry=hurry)

    def _keep(self, id: str) -> None:
        """The job has ended: it is kept for a while."""
        if self._running.pop(id, None) is None:
            return  # `_forget_all` has forgotten it
        self._timers[id] = self.hub.loop.call_later(self._keep_seconds, self._forget, id)
        while len(self._timers) > self._max_kept:
            self._forget(next(iter(self._timers)))

    def _drop(self, id: str) -> _J:
        self._timers.pop(id).cancel()
        job = self._remove(id)
        job.close()
        return job

    def _remove(self, id: str) -> _J:
        job = self._all.pop(id)
        self._keyed.pop(self._key_of.pop(id, ""), None)
        key = self._request_keys.pop(id, None)
        if key is not None:
            self._by_request[key].remove(job)
            if not self._by_request[key]:
                del self._by_request[key]
        return job

    def _forget(self, id: str) -> None:
        job = self._drop(id)
        self.hub.spawn(self._delete(job.topic))

    async def _delete(self, topic: str) -> None:
        with suppress(BrokerUnavailable):  # readers are not given it any more; it leaves the store later
            await self.hub.forget(topic)

    def _forget_all(self) -> None:
        """The hub is opened again on another event loop: tasks and timers of the old one are gone."""
        self._closed = False
        self._recovered = None
        for job in self._all.values():
            job.abandon()
        for table in (self._all, self._running, self._by_request, self._request_keys, self._timers):
            table.clear()
        self._keyed.clear()
        self._key_of.clear()


def _digest(request_key: str) -> bytes:
    """Only the digest is kept: the key is made of a request and may contain secrets."""
    return blake2b(request_key.encode(errors="surrogatepass"), digest_size=16).digest()
