"""A broker in one SQLite file: what has been acknowledged is there after the process was killed, and is replayed.

Each event is in memory, as with the memory broker, and in the file. A publish waits in a queue. One thread writes all
that is queued in one transaction, and only what is committed is appended to the journals, pushed to readers and
acknowledged. So nothing blocks the event loop, publishers that wait at the same time share one sync of the disk, and
the order in the file is the order of offsets. Readers never wait for the disk: the file is read once, at the start.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..errors import BrokerUnavailable, DatabaseUnavailable, TooManyTopics, TopicClosed, UnusableDatabase
from ..observe import logger
from ..sqlite import FileLock, Schema, SqliteFile
from ..sse import Event
from ..sse.event import checked_event
from ..stream import Cursor, Frame, Journal, Retention, Slice, draw_epoch
from ..stream.pattern import TopicPattern
from ..stream.retention import DEFAULT_RETENTIONS
from .broker import BrokerStats, Sink, StoreStats
from .journals import Journals

__all__ = ["SqliteBroker"]

_T = TypeVar("_T")

_SCHEMA = Schema.of(__package__, 0x59656F42)  # "YeoB"

_HINT = "set YEOUL_BROKER to another file (sqlite:///FILE)"

# Topics of jobs, whose tokens are not acknowledged to a publisher: they are not synced one by one.
_JOBS = ("generations/*", "relays/*")

# What waits for the disk at most; over it publishes are refused.
_MAX_QUEUED = 100_000
_MAX_QUEUED_CHARS = 64 * 1024 * 1024

# What one transaction takes of the queue.
_BATCH_EVENTS = 4_096
_BATCH_CHARS = 8 * 1024 * 1024

# Offsets are reserved in blocks of so many: a block is synced before its first offset is given out, and after a start
# that follows no orderly end offsets go on behind it. Those that a power cut has undone are not given out again.
_RESERVED = 100_000

# Rows of one statement. Each `sqlite3_step` releases the interpreter's lock, and a thread that wants it back while the
# event loop computes waits up to 5 ms for it: so there are few, long steps.
_ROWS = (512, 64, 8, 1)

# Emptied topics that are noted before the table of them is looked through, at least.
_MIN_EMPTIED = 1_000

# Pages that one step of `incremental_vacuum` gives back to the file system, and how many have to be free for one.
_VACUUM_PAGES = 1_000


class SqliteBroker:
    """`path`: the file, on a local disk, used by one process at a time. `retention`, `max_topics` and `max_bytes` are
    those of MemoryBroker; what they let go of leaves the file, too. `unsynced`: patterns of topics whose events are
    pushed before the disk is synced. They survive the death of the process, a power cut undoes the last of them;
    `final` events are always synced. By default the topics of answers and relays, where no publisher is acknowledged.

    `clock`: seconds that do not go back; `wall`: Unix seconds, asked once per start.
    """

    shared = False

    def __init__(
        self,
        path: str | Path,
        retention: Callable[[str], Retention] = DEFAULT_RETENTIONS,
        *,
        max_topics: int = 100_000,
        max_bytes: int = 512 * 1024 * 1024,
        unsynced: Sequence[str] = _JOBS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(path).absolute()
        self.head = 0
        self._epoch: str | None = None
        self._clock = clock
        self._wall = wall
        self._age = 0.0  # what the clock's seconds and Unix seconds differ by
        self._max_topics = max_topics
        self._unsynced = [TopicPattern(pattern) for pattern in unsynced]
        self._gone = _Gone()
        self._journals = Journals(
            retention, max_topics=max_topics, max_bytes=max_bytes, make_journal=self._make_journal
        )
        self._followed: dict[str, int] = {}
        self._sink: Sink = _nobody
        self._file = SqliteFile(
            self.path,
            _SCHEMA,
            "broker's file",
            hint=_HINT,
            incremental_vacuum=True,
        )
        self._lock = FileLock(self.path)
        self._thread: ThreadPoolExecutor | None = None
        self._opening: tuple[ThreadPoolExecutor, Future[None]] | None = None
        self._process = 0  # that has it open
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[_Publish] = deque()
        self._queued_chars = 0
        self._flight: _Flight | None = None
        self._scheduled = False
        self._stats = StoreStats()
        self._asked: list[asyncio.Future[None]] = []  # who waits until what is let go has left the file
        self._reserved = 0
        self._saved_forgotten = 0
        self._emptied = 0  # topics that were noted as emptied since the last look at that table

    @property
    def epoch(self) -> str:
        if self._epoch is None:
            raise RuntimeError("the broker's file is not open: it is opened with the hub's first use")
        return self._epoch

    def stats(self) -> BrokerStats:
        store = self._stats
        store.queued = len(self._queue)
        with suppress(OSError):
            store.file_bytes = self.path.stat().st_size
        return BrokerStats(topics=len(self._journals), bytes=self._journals.bytes, store=store)

    # Its life.

    async def open(self, sink: Sink) -> None:
        """Raises UnusableDatabase where waiting does not help: the file is another program's or that of a newer
        version, is damaged, cannot be created, or another process uses it."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            await self._start()
        elif self._process != os.getpid():
            raise UnusableDatabase(
                f"{self.path} was opened before this process was forked, and SQLite's files do not survive that: open "
                "the hub in one process, after the fork"
            )
        elif self._loop is not loop:
            await self._leave_loop()
        self._loop = loop
        self._sink = sink

    async def _start(self) -> None:
        """A caller that is cancelled meanwhile leaves the opening to the next one."""
        if self._opening is None:
            thread = ThreadPoolExecutor(1, "broker")
            self._opening = thread, thread.submit(self._open)
        thread, opened = self._opening
        try:
            await asyncio.shield(asyncio.wrap_future(opened))
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._opening = None
            thread.shutdown(wait=False)
            raise
        self._opening = None
        self._thread, self._process = thread, os.getpid()

    async def close(self) -> None:
        """Writes what is queued, and closes the file. Idempotent."""
        if self._thread is None:
            return
        while self._flight is not None or self._queue or self._asked:
            self._take_off()
            if self._flight is not None:
                await self._flight.wait()
        thread, self._thread = self._thread, None
        self._sink = _nobody
        assert self._loop is not None
        await self._loop.run_in_executor(thread, self._close)
        thread.shutdown()
        self._loop = None

    async def _leave_loop(self) -> None:
        """The event loop that it was opened on has ended. What was being written then is settled on this one."""
        flight, self._flight = self._flight, None
        self._scheduled = False
        self._asked.clear()
        self._queue.clear()  # their publishers are gone
        self._queued_chars = 0
        if flight is not None:
            assert flight.written is not None
            error = await asyncio.wrap_future(flight.written)
            self._settle(flight, error)

    # Publish.

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        """Where the caller is cancelled while it waits for its turn, nothing is published; later, it is published, and
        the cancellation is raised after that."""
        if self._loop is None or self._thread is None:
            raise BrokerUnavailable("the broker's file is closed: this server is shutting down")
        publish = _Publish(topic, events, final, self._loop.create_future())
        if len(self._queue) >= _MAX_QUEUED or self._queued_chars > _MAX_QUEUED_CHARS:
            raise BrokerUnavailable("too many events are waiting to be written to the broker's file: publish fewer")
        self._queue.append(publish)
        self._queued_chars += publish.chars
        self._schedule()
        try:
            return await publish.done
        except asyncio.CancelledError:
            if publish.flight is None:
                publish.withdrawn = True
            else:
                await publish.flight.wait()
            raise

    async def newest(self) -> int:
        return self.head

    async def forget(self, topic: str) -> None:
        self._journals.empty(topic)
        if self._loop is not None and self._gone:
            done = self._loop.create_future()
            self._asked.append(done)
            self._schedule()
            await done

    # Read.

    async def attach(self, topic: str) -> Journal:
        journal = self._journals.hold(topic)
        self._followed[topic] = self._followed.get(topic, 0) + 1
        self._journals.expire(journal, self._now())
        return journal

    def detach(self, topic: str) -> None:
        count = self._followed.get(topic, 0) - 1
        if count < 0:
            return
        if count:
            self._followed[topic] = count
        else:
            del self._followed[topic]
        self._journals.release(topic)

    async def history(self, topic: str, after: int, max_bytes: int) -> Slice | None:
        return self._journals.of(topic).after(after, max_bytes)

    async def topics(self, prefix: str) -> Sequence[str]:
        return [topic for topic in self._journals if topic.startswith(prefix)]

    def sweep(self) -> None:
        self._journals.sweep(self._now())
        if self._gone and self._loop is not None:
            self._schedule()

    def __repr__(self) -> str:
        return f"<SqliteBroker {self.path} {len(self._journals)} topics, head {self.head}>"

    # One transaction after the other: what is queued takes off, is written by the thread, and lands.

    def _schedule(self) -> None:
        """At the end of this turn of the event loop, so that all that is published in it is written together."""
        if self._flight is None and not self._scheduled:
            assert self._loop is not None
            self._scheduled = True
            self._loop.call_soon(self._take_off)

    def _take_off(self) -> None:
        self._scheduled = False
        if self._flight is not None or self._thread is None:
            return
        flight = self._load()
        if not (flight.frames or flight.gone or flight.asked):
            self._release(flight)
            return
        assert self._loop is not None
        loop = self._loop
        self._flight = flight
        flight.landed = loop.create_future()
        flight.written = self._thread.submit(self._write, flight)

        def land(written: Future[Exception | None]) -> None:
            # The loop may have ended meanwhile: `open` settles it on the next one.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._land, flight)

        flight.written.add_done_callback(land)

    def _load(self) -> _Flight:
        """The next batch of the queue, each event with its offset."""
        flight = _Flight(self._gone.take(), self._asked, self._journals.forgotten)
        self._asked = []
        self._emptied += len(flight.gone.emptied)
        if self._emptied > max(_MIN_EMPTIED, self._max_topics // 10):
            self._emptied, flight.purges = 0, True
        now, epoch, offset, chars = self._now(), self.epoch, self.head, 0
        ends: dict[str, tuple[int, bool]] = {}
        queue = self._queue
        while queue and len(flight.frames) < _BATCH_EVENTS and chars < _BATCH_CHARS:
            publish = queue.popleft()
            self._queued_chars -= publish.chars
            if publish.withdrawn:
                continue
            topic, events = publish.topic, publish.events
            end = ends.get(topic)
            if end is None:
                try:
                    journal = self._journals.hold(topic)
                except TooManyTopics as error:
                    publish.fail(error)
                    continue
                flight.held.append(topic)
                end = journal.last, journal.final
            previous, closed = end
            if closed:
                publish.fail(TopicClosed(f"topic {topic!r} has had its final event: publish to another topic"))
                ends[topic] = end
                continue
            last, final = offset + len(events), publish.final
            publish.frames = frames = []
            for event in events:
                offset += 1
                frames.append(Frame(epoch, offset, previous, event, now, final=final and offset == last))
                previous = offset
            ends[topic] = offset, final
            publish.flight = flight
            chars += publish.chars
            flight.publishes.append(publish)
            flight.frames += [(topic, frame) for frame in frames]
            flight.synced = flight.synced or final or not self._is_unsynced(topic)
        flight.head = offset
        if offset > self._reserved:
            flight.reserved = offset + _RESERVED
            flight.synced = True
        return flight

    def _land(self, flight: _Flight) -> None:
        if self._flight is not flight:
            return  # it was settled by `open`, on another loop
        self._flight = None
        assert flight.written is not None
        error = flight.written.result()
        self._settle(flight, error)
        if flight.landed is not None:
            flight.landed.set_result(None)
        if error is None:
            for publish in flight.publishes:
                publish.succeed(Cursor(self.epoch, publish.frames[-1].offset))
            for asked in flight.asked:
                if not asked.done():
                    asked.set_result(None)
        else:
            self._refuse(flight, error)
        if self._queue or self._asked:
            self._schedule()

    def _settle(self, flight: _Flight, error: Exception | None) -> None:
        """Its events are there for readers, or have never been."""
        self._stats.commit_seconds.observe(flight.seconds)
        if error is None:
            self._stats.commits += 1
            self._reserved = flight.reserved or self._reserved
            self._saved_forgotten = flight.forgotten
            journals, followed = self._journals, self._followed
            for publish in flight.publishes:
                topic = publish.topic
                journals.append(topic, journals.of(topic), publish.frames)
                self.head = publish.frames[-1].offset
                if topic in followed:
                    self._sink(topic, publish.frames)
            self.head = flight.head
        else:
            self._stats.failures += 1
            self._gone.put_back(flight.gone)
        self._release(flight)

    def _release(self, flight: _Flight) -> None:
        for topic in flight.held:
            self._journals.release(topic)

    def _refuse(self, flight: _Flight, error: Exception) -> None:
        """Those who wait in the queue are refused, too: each attempt may take seconds, and they would add up."""
        if not isinstance(error, DatabaseUnavailable):
            logger.error("a batch of events could not be written", exc_info=error)
        text = str(error) if isinstance(error, DatabaseUnavailable) else "the broker's file cannot be written"
        for publish in [*flight.publishes, *self._queue]:
            publish.fail(BrokerUnavailable(text))
        for asked in [*flight.asked, *self._asked]:
            if not asked.done():
                asked.set_exception(BrokerUnavailable(text))
        self._queue.clear()
        self._asked.clear()
        self._queued_chars = 0

    # In the thread.

    def _open(self) -> None:
        self._lock.acquire()
        try:
            self._file.open()
            self._restore()
        except BaseException as error:
            self._file.close()
            self._lock.release()
            if isinstance(error, DatabaseUnavailable):
                raise UnusableDatabase(f"{self.path}: {error}, or {_HINT}") from error
            raise

    def _restore(self) -> None:
        """Reads the file, unless this process itself has closed it and all of it is still in memory."""
        with self._file.write() as connection:
            row = connection.execute("SELECT epoch, reserved, head, forgotten FROM state").fetchone()
            if row is None:
                row = (draw_epoch(), 0, 0, 0)
                connection.execute("INSERT INTO state (epoch, reserved, head, forgotten) VALUES (?, ?, ?, ?)", row)
            epoch, reserved, head, forgotten = row
            connection.execute("UPDATE state SET head = NULL")
            self._reserved = self._saved_forgotten = 0
            if self._epoch == epoch and self.head == head:
                self._reserved = reserved
                return
            self._journals.clear(keep_holds=True)
            self._gone.take()
            connection.execute("DELETE FROM emptied WHERE topic IN (SELECT topic FROM events)")
            newest = self._read(connection, epoch)
            self._read_emptied(connection, forgotten)
            self._journals.restore_holds()
        self._epoch, self._reserved, self._saved_forgotten = epoch, reserved, forgotten
        # Without an orderly end a power cut may have undone events that readers have had: their offsets are not used
        # again.
        self.head = max(reserved if head is None else head, newest)

    def _read(self, connection: sqlite3.Connection, epoch: str) -> int:
        """All events, in the order in which they were published. Returns the last offset."""
        rows = connection.execute(
            "SELECT offset, topic, previous, at, type, data, retry, final FROM events ORDER BY offset"
        )
        journals, offset, newest = self._journals, 0, 0.0
        known: set[str] = set()
        for offset, topic, previous, at, type, data, retry, final in rows:
            newest = max(newest, at)
            if topic not in known:
                known.add(topic)
                journals.last[topic] = previous  # what it has let go of before
            event = checked_event(data, type, retry=retry)
            frame = Frame(epoch, offset, previous, event, at, final=bool(final))
            journals.append(topic, journals.of(topic), (frame,))
        # A clock that was set back since the last start must not make events younger than they are.
        self._age = max(self._wall(), newest) - self._clock()
        return offset

    def _read_emptied(self, connection: sqlite3.Connection, forgotten: int) -> None:
        journals = self._journals
        journals.forgotten = max(journals.forgotten, forgotten)
        emptied = connection.execute("SELECT topic, last FROM emptied ORDER BY last").fetchall()
        dropped = emptied[: max(0, len(emptied) - self._max_topics)]
        for topic, last in dropped:
            connection.execute("DELETE FROM emptied WHERE topic = ?", (topic,))
            journals.forgotten = max(journals.forgotten, last)
        for topic, last in emptied[len(dropped) :]:
            if last > journals.forgotten:
                journals.last[topic] = last

    def _write(self, flight: _Flight) -> Exception | None:
        """What prevented it, None where it is committed."""
        began = time.perf_counter()
        try:
            with self._file.write(synced=flight.synced) as connection:
                for sql, values in flight.statements(self._saved_forgotten):
                    connection.execute(sql, values)
            if flight.gone.offsets:
                self._file.shrink(_VACUUM_PAGES)
        except Exception as error:
            return error
        finally:
            flight.seconds = time.perf_counter() - began
        return None

    def _close(self) -> None:
        try:
            flight = _Flight(self._gone.take(), [], self._journals.forgotten)
            with self._file.write() as connection:
                for sql, values in flight.statements(self._saved_forgotten):
                    connection.execute(sql, values)
                connection.execute("UPDATE state SET head = ?", (self.head,))
        except DatabaseUnavailable:
            pass  # it is in the log; the next start finds what is committed
        finally:
            self._file.close()
            self._lock.release()

    def _now(self) -> float:
        return self._clock() + self._age

    def _is_unsynced(self, topic: str) -> bool:
        return any(pattern.fits(topic) for pattern in self._unsynced)

    def _make_journal(self, topic: str, retention: Retention, evicted: int) -> Journal:
        return _StoredJournal(topic, retention, evicted, self._gone)


class _Gone:
    """What journals have let go of, and the file still has: `offsets` of events, and the last offset of each topic that
    has no event left."""

    __slots__ = ("emptied", "offsets")

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.emptied: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def take(self) -> _Gone:
        taken = _Gone()
        taken.offsets, self.offsets = self.offsets, taken.offsets
        taken.emptied, self.emptied = self.emptied, taken.emptied
        return taken

    def put_back(self, taken: _Gone) -> None:
        self.offsets = taken.offsets + self.offsets
        self.emptied = taken.emptied | self.emptied


class _StoredJournal(Journal):
    """A journal that notes what has to leave the file."""

    __slots__ = ("_gone", "_topic")

    def __init__(self, topic: str, retention: Retention, evicted: int, gone: _Gone) -> None:
        super().__init__(retention, evicted=evicted)
        self._topic = topic
        self._gone = gone

    def _let_go(self) -> None:
        super()._let_go()
        self._gone.offsets.append(self.evicted)
        if not len(self):
            self._gone.emptied[self._topic] = self.evicted


class _Publish:
    """One call of `publish`. `flight`: the transaction that it is in, once it has its offsets."""

    __slots__ = ("chars", "done", "events", "final", "flight", "frames", "topic", "withdrawn")

    def __init__(self, topic: str, events: Sequence[Event], final: bool, done: asyncio.Future[Cursor]) -> None:
        self.topic = topic
        self.events = events
        self.final = final
        self.done = done
        self.chars = sum([len(event.data) for event in events])
        self.frames: Sequence[Frame] = ()
        self.flight: _Flight | None = None
        self.withdrawn = False

    def succeed(self, cursor: Cursor) -> None:
        if not self.done.done():  # else its caller was cancelled
            self.done.set_result(cursor)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(eq=False)
class _Flight:
    """One transaction. `gone`: what leaves the file; `asked`: who waits for that; `forgotten`: `Journals.forgotten`;
    `purges`: topics that this covers leave their table. `held`: topics whose journals are kept until it has landed.
    `reserved`: where more offsets are reserved, up to which."""

    gone: _Gone
    asked: list[asyncio.Future[None]]
    forgotten: int
    publishes: list[_Publish] = field(default_factory=list)
    frames: list[tuple[str, Frame]] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    head: int = 0
    reserved: int = 0
    synced: bool = False
    purges: bool = False
    seconds: float = 0.0
    written: Future[Exception | None] | None = None
    landed: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until it has landed, whatever the caller's task is told meanwhile: it takes a bounded time."""
        landed = self.landed
        while landed is not None and not landed.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([landed])

    def statements(self, saved_forgotten: int) -> Iterator[tuple[str, Sequence[object]]]:
        if self.reserved:
            yield "UPDATE state SET reserved = ?", (self.reserved,)
        rows = [
            (f.offset, topic, f.previous, f.at, f.event.type, f.event.data, f.event.retry, f.final)
            for topic, f in self.frames
        ]
        for part in _parts(rows):
            places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(part))
            yield f"INSERT INTO events VALUES {places}", [value for row in part for value in row]  # noqa: S608
        for offsets in _parts(self.gone.offsets):
            yield f"DELETE FROM events WHERE offset IN ({', '.join('?' * len(offsets))})", offsets  # noqa: S608
        for topic, last in self.gone.emptied.items():
            yield "INSERT OR REPLACE INTO emptied VALUES (?, ?)", (topic, last)
        if self.forgotten > saved_forgotten:
            yield "UPDATE state SET forgotten = ?", (self.forgotten,)
        if self.purges:
            yield "DELETE FROM emptied WHERE last <= ?", (self.forgotten,)


def _parts(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """In few sizes, so that the statements are prepared once."""
    at = 0
    while at < len(rows):
        size = next(size for size in _ROWS if size <= len(rows) - at)
        yield rows[at : at + size]
        at += size


def _nobody(topic: str, frames: Sequence[Frame]) -> None:
    """The sink of a broker that is closed."""
