"""What is the SQLite broker's own; the rest is in `contract/test_broker.py`."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from support.outlets import follow
from yeoul.errors import BrokerUnavailable, TopicClosed, UnusableDatabase
from yeoul.hub import Hub, SqliteBroker
from yeoul.hub.broker import Sink
from yeoul.sse import Event
from yeoul.sse.event import checked_event
from yeoul.stream import Cursor, Frame, Retention
from yeoul.stream.retention import Retentions

EVERYTHING = 1 << 40


def nobody(topic: str, frames: Sequence[Frame]) -> None:
    """A sink."""


@asynccontextmanager
async def opened(broker: SqliteBroker, sink: Sink = nobody) -> AsyncIterator[SqliteBroker]:
    await broker.open(sink)
    try:
        yield broker
    finally:
        await broker.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program is writing to the file, and does not finish."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def texts(broker: SqliteBroker, topic: str, after: int = 0) -> list[str] | None:
    found = await broker.history(topic, after, EVERYTHING)
    return None if found is None else [frame.event.data for frame in found.frames]


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


# --- after a restart


async def test_events_positions_and_the_order_go_on_after_a_restart(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        await broker.publish("a", [Event("1"), Event("2", "said", retry=5)])
        await broker.publish("b", [Event("3")], final=True)
        epoch = broker.epoch
    async with opened(SqliteBroker(path)) as broker:
        assert (broker.epoch, broker.head) == (epoch, 3)
        found = await broker.history("a", 1, EVERYTHING)
        assert found is not None
        assert [(f.offset, f.previous, f.event) for f in found.frames] == [(2, 1, Event("2", "said", retry=5))]
        with pytest.raises(TopicClosed):
            await broker.publish("b", [Event("4")])
        assert await broker.publish("a", [Event("4")]) == Cursor(epoch, 4)
        assert sorted(await broker.topics("")) == ["a", "b"]


async def test_every_event_that_can_be_received_comes_back_from_the_file(path: Path) -> None:
    events = [checked_event("a\0b\n\rc 안녕 \U0001f30a", "t\0y"), Event(""), Event("x" * 300_000)]
    async with opened(SqliteBroker(path)) as broker:
        await broker.publish("a", events)
    async with opened(SqliteBroker(path)) as broker:
        found = await broker.history("a", 0, EVERYTHING)
        assert found is not None
        assert [frame.event for frame in found.frames] == events


async def test_offsets_are_not_used_again_where_the_end_was_not_orderly(path: Path) -> None:
    """A power cut may undo events that were pushed before the disk was synced."""
    broker = SqliteBroker(path)
    await broker.open(nobody)
    last = await broker.publish("generations/x", [Event("token")])
    leave(broker)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM events")  # as the cut does
    async with opened(SqliteBroker(path)) as again:
        assert again.epoch == last.epoch
        assert again.head >= last.offset
        assert (await again.publish("a", [Event("next")])).offset > last.offset


async def test_what_was_let_go_of_before_a_restart_is_answered_by_a_gap_after_it(path: Path) -> None:
    async with opened(SqliteBroker(path, Retentions(default=Retention(events=2)))) as broker:
        await broker.publish("a", [Event(str(number)) for number in range(1, 6)])
        await broker.publish("b", [Event("6")])
        await broker.forget("b")
    assert rows(path) == 2
    async with opened(SqliteBroker(path)) as broker:
        assert await texts(broker, "a", 2) is None
        assert await texts(broker, "a", 3) == ["4", "5"]
        assert await texts(broker, "b", 5) is None
        assert await texts(broker, "b", 6) == []
        assert await texts(broker, "never", 1) == []


async def test_age_goes_on_over_a_restart_and_a_clock_that_is_set_back(path: Path) -> None:
    retention = Retentions(default=Retention(seconds=60))
    async with opened(SqliteBroker(path, retention, clock=lambda: 5.0, wall=lambda: 1_000.0)) as broker:
        await broker.publish("a", [Event("old")])
    async with opened(SqliteBroker(path, retention, clock=lambda: 900.0, wall=lambda: 1_030.0)) as broker:
        await broker.publish("a", [Event("young")])
    async with opened(SqliteBroker(path, retention, clock=lambda: 0.0, wall=lambda: 5.0)) as broker:
        broker.sweep()
        assert await texts(broker, "a") == ["old", "young"]
    async with opened(SqliteBroker(path, retention, clock=lambda: 0.0, wall=lambda: 1_070.0)) as broker:
        broker.sweep()
        assert await texts(broker, "a", 1) == ["young"]
        assert await texts(broker, "a") is None


async def test_a_smaller_bound_in_topics_is_kept_at_the_next_start(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        for number in range(10):
            await broker.publish(f"t{number % 5}", [Event(str(number))])
    async with opened(SqliteBroker(path, max_topics=2)) as broker:
        assert await broker.topics("") == ["t3", "t4"]
        assert await texts(broker, "t4", 9) == ["9"]
        assert await texts(broker, "t0", 5) is None


async def test_it_is_opened_again_with_what_it_has_in_memory_and_its_readers_attached(path: Path) -> None:
    pushed: list[int] = []
    broker = SqliteBroker(path)
    async with opened(broker):
        journal = await broker.attach("a")
        await broker.publish("a", [Event("1")])
    async with opened(broker, lambda topic, frames: pushed.extend(frame.offset for frame in frames)):
        await broker.publish("a", [Event("2")])
        assert (journal.last, pushed) == (2, [2])
        broker.detach("a")
    with pytest.raises(BrokerUnavailable, match="closed"):
        await broker.publish("a", [Event("3")])


async def test_another_server_may_use_the_file_between_a_close_and_an_open(path: Path) -> None:
    broker = SqliteBroker(path)
    async with opened(broker):
        await broker.attach("a")
        await broker.publish("a", [Event("1")])
    async with opened(SqliteBroker(path)) as other:
        await other.publish("a", [Event("2")])
    async with opened(broker):
        assert await texts(broker, "a") == ["1", "2"]
        broker.detach("a")


def test_a_publish_that_was_under_way_when_its_event_loop_ended_is_settled_on_the_next(path: Path) -> None:
    broker = SqliteBroker(path)

    async def begin() -> None:
        await broker.open(nobody)
        await broker.publish("a", [Event("1")])
        publishing = asyncio.ensure_future(broker.publish("a", [Event("2")]))
        while broker._flight is None:
            await asyncio.sleep(0)
        publishing.add_done_callback(lambda done: done.cancelled() or done.exception())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()

    async def go_on() -> None:
        async with opened(broker):
            assert await texts(broker, "a") == ["1", "2"]
            assert (await broker.publish("a", [Event("3")])).offset == 3

    asyncio.run(go_on())
    gc.collect()


async def test_a_restored_copy_with_another_epoch_answers_old_positions_with_a_gap(path: Path) -> None:
    async with Hub(SqliteBroker(path)) as hub:
        cursor = await hub.publish("a", Event("1"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE state SET epoch = 'restored1'")
    async with Hub(SqliteBroker(path)) as hub:
        _, outlet = await follow(hub, "a", after=cursor)
        await outlet.until(lambda outlet: outlet.data)
        assert outlet.types[0] == "stream.gap"
        assert hub.epoch == "restored1"
        await outlet.until(lambda outlet: "1" in outlet.data)


# --- one transaction for many


async def test_publishes_of_one_turn_of_the_event_loop_share_one_transaction(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        begun: list[str] = []
        writer = broker._file._opened()
        await asyncio.to_thread(writer.set_trace_callback, lambda sql: begun.append(sql) if "BEGIN" in sql else None)
        cursors = await asyncio.gather(*(broker.publish(f"t{n % 3}", [Event(str(n))]) for n in range(100)))
        assert [cursor.offset for cursor in cursors] == list(range(1, 101))
        assert len(begun) == 1


async def test_only_what_is_committed_is_pushed(path: Path) -> None:
    """And it is there for every other reader of the file by then."""
    seen: list[int] = []
    async with opened(SqliteBroker(path), lambda topic, frames: seen.append(rows(path))) as broker:
        await broker.attach("a")
        for _ in range(3):
            await broker.publish("a", [Event("x")])
        assert seen == [1, 2, 3]
        broker.detach("a")


async def test_the_event_loop_runs_while_the_file_is_locked(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        with locked(path):
            publishing = asyncio.ensure_future(broker.publish("a", [Event("x")]))
            turns = 0
            while turns < 1_000:
                await asyncio.sleep(0)
                turns += 1
            assert not publishing.done()
        assert (await publishing).offset == 1


async def test_a_publish_that_is_cancelled_before_its_turn_is_not_made(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        with locked(path):
            first = asyncio.ensure_future(broker.publish("a", [Event("1")]))
            while broker._flight is None:
                await asyncio.sleep(0)
            second = asyncio.ensure_future(broker.publish("a", [Event("2")]))
            await asyncio.sleep(0)
            second.cancel()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        await broker.publish("a", [Event("3")])
        assert await texts(broker, "a") == ["1", "3"]


async def test_a_publish_that_is_cancelled_while_it_is_written_is_settled_before_the_cancellation(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        publishing = asyncio.ensure_future(broker.publish("a", [Event("1")]))
        while broker._flight is None:
            await asyncio.sleep(0)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        assert await texts(broker, "a") == ["1"]


async def test_refused_publishes_in_a_batch_leave_the_others_alone(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        outcomes = await asyncio.gather(
            broker.publish("a", [Event("1")], final=True),
            broker.publish("a", [Event("2")]),
            broker.publish("b", [Event("3")]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Cursor, TopicClosed, Cursor]
        assert await texts(broker, "b") == ["3"]
        with pytest.raises(TopicClosed):
            await broker.publish("a", [Event("4")])
        assert broker._journals._held == {}


# --- faults


async def test_a_file_that_another_program_locks_refuses_publishes_and_recovers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yeoul.sqlite.BUSY_S", 0.05)
    async with opened(SqliteBroker(path)) as broker:
        await broker.attach("a")
        with locked(path):
            outcomes = await asyncio.gather(
                *(broker.publish("a", [Event("lost")]) for _ in range(3)), return_exceptions=True
            )
            assert {type(outcome) for outcome in outcomes} == {BrokerUnavailable}
            for outcome in outcomes:
                assert "another program is writing to it and does not finish; stop that program" in str(outcome)
        assert (await broker.publish("a", [Event("kept")])).offset == 1
        assert await texts(broker, "a") == ["kept"]
        broker.detach("a")
    async with opened(SqliteBroker(path)) as broker:
        assert await texts(broker, "a") == ["kept"]


async def test_a_full_disk_refuses_publishes_and_recovers(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        await broker.publish("a", [Event("1")])
        writer = broker._file._opened()
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        kept = ["1"]
        text, refused = "x" * 1_000, None
        while refused is None:
            try:
                await broker.publish("a", [Event(text)])
                kept.append(text)
            except BrokerUnavailable as error:
                refused = error
        assert "its disk is full; make room on it" in str(refused)
        with pytest.raises(BrokerUnavailable, match="its disk is full; make room"):
            await broker.publish("a", [Event("y" * 5_000)])
        assert await texts(broker, "a") == kept
        writer.execute("PRAGMA max_page_count = 1000000")
        assert (await broker.publish("a", [Event("last")])).offset == len(kept) + 1
    async with opened(SqliteBroker(path)) as broker:
        assert await texts(broker, "a") == [*kept, "last"]


async def test_what_was_let_go_of_while_the_disk_was_full_leaves_the_file_later(path: Path) -> None:
    async with opened(SqliteBroker(path, Retentions(default=Retention(events=2)))) as broker:
        await broker.publish("a", [Event("1"), Event("2"), Event("3")])
        writer = broker._file._opened()
        writer.execute("PRAGMA query_only = ON")
        with pytest.raises(BrokerUnavailable, match="read-only"):
            await broker.forget("a")
        assert await texts(broker, "a", 3) == []
        writer.execute("PRAGMA query_only = OFF")
        await broker.publish("b", [Event("4")])
    assert rows(path) == 1


async def test_more_than_the_disk_can_take_is_refused_not_kept_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yeoul.hub.sqlite._MAX_QUEUED", 5)
    async with opened(SqliteBroker(path)) as broker:
        outcomes = await asyncio.gather(
            *(broker.publish("a", [Event(str(n))]) for n in range(8)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [Cursor] * 5 + [BrokerUnavailable] * 3
        assert "too many events are waiting" in str(outcomes[-1])


async def test_a_file_in_use_is_refused_with_the_process_and_what_to_do(path: Path) -> None:
    async with opened(SqliteBroker(path)):
        with pytest.raises(UnusableDatabase, match=rf"in use by another Yeoul server \(process {os.getpid()}\).*Redis"):
            await SqliteBroker(path).open(nobody)
        with pytest.raises(UnusableDatabase, match="in use"):  # the refusal has not let go of the lock
            await SqliteBroker(path).open(nobody)
    async with opened(SqliteBroker(path)):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not a database, but long enough to be looked at" * 50, "damaged, or is not a SQLite database")],
)
async def test_a_file_that_is_no_database_is_named(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UnusableDatabase, match=f"{path}.*{message}.*YEOUL_BROKER"):
        await SqliteBroker(path).open(nobody)
    path.unlink()
    async with opened(SqliteBroker(path)):
        pass


async def test_a_damaged_file_is_named(path: Path) -> None:
    async with opened(SqliteBroker(path)) as broker:
        await broker.publish("a", [Event("x" * 1_000)] * 100)
    with path.open("r+b") as file:
        file.seek(8 * 4_096)
        file.write(b"\xff" * 4_096 * 8)
    with pytest.raises(UnusableDatabase, match=r"damaged.*YEOUL_BROKER"):
        await SqliteBroker(path).open(nobody)


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    async with opened(SqliteBroker(path)):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UnusableDatabase, match=r"newer version of Yeoul.*99.*YEOUL_BROKER"):
        await SqliteBroker(path).open(nobody)


async def test_the_file_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(UnusableDatabase, match="database of another program"):
        await SqliteBroker(path).open(nobody)


@pytest.mark.parametrize("place", ["taken/broker.db", "/proc/yeoul/broker.db"])
async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UnusableDatabase, match=r"cannot be created.*a folder that this user may write to"):
        await SqliteBroker(tmp_path / place).open(nobody)


def test_a_broker_that_was_open_before_a_fork_is_refused_after_it(path: Path) -> None:
    broker = SqliteBroker(path)

    async def before() -> None:
        await broker.open(nobody)
        broker._process += 1  # as a child sees it

    async def after() -> None:
        with pytest.raises(UnusableDatabase, match="before this process was forked"):
            await broker.open(nobody)

    asyncio.run(before())
    asyncio.run(after())
    leave(broker)


async def test_an_open_that_is_cancelled_goes_on_for_the_next_caller(path: Path) -> None:
    broker = SqliteBroker(path)
    first = asyncio.ensure_future(broker.open(nobody))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    async with opened(broker):
        assert (await broker.publish("a", [Event("x")])).offset == 1


# --- its size


async def test_topics_that_come_and_go_leave_a_bounded_number_of_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yeoul.hub.sqlite._MIN_EMPTIED", 10)
    async with opened(SqliteBroker(path, max_topics=5)) as broker:
        for number in range(100):
            await broker.publish(f"t{number}", [Event("x")])
            await broker.forget(f"t{number}")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM emptied").fetchone()[0] <= 20
    async with opened(SqliteBroker(path, max_topics=5)) as broker:
        assert await texts(broker, "t3", 3) is None  # it may have had more: it is not remembered
        assert await texts(broker, "t99", 99) is None
        assert await texts(broker, "t99", 100) == []


async def test_the_file_gives_back_the_room_of_what_was_let_go(path: Path) -> None:
    now = [0.0]
    retention = Retentions(default=Retention(events=10_000, bytes=1 << 30, seconds=60))
    async with opened(SqliteBroker(path, retention, clock=lambda: now[0])) as broker:
        for _ in range(20):
            await broker.publish("a", [Event("x" * 4_000)] * 200)
        now[0] = 100.0
        for _ in range(20):
            broker.sweep()
            await broker.publish("a", [Event("x")])
            now[0] += 100.0
    assert path.stat().st_size < 8_000_000


async def test_the_thread_ends_with_the_broker(path: Path) -> None:
    before = threading.active_count()
    async with opened(SqliteBroker(path)) as broker:
        await broker.publish("a", [Event("x")])
    assert threading.active_count() == before


async def test_a_hub_over_it_replays_after_a_restart(path: Path) -> None:
    async with Hub(SqliteBroker(path)) as hub:
        cursor = await hub.publish("a", Event("1"))
        await hub.publish("a", Event("2"))
    async with Hub(SqliteBroker(path)) as hub:
        with await hub.hold("a") as held:
            found = held.journal.after(cursor.offset)
            assert found is not None
            assert [frame.event.data for frame in found.frames] == ["2"]


def leave(broker: SqliteBroker) -> None:
    """Gives up the file as a killed process does: nothing is written any more."""
    assert broker._thread is not None
    broker._thread.shutdown()
    broker._file.close()
    broker._lock.release()
