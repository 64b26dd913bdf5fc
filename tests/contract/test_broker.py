"""What every broker does, whatever it keeps its events in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.faulty_broker import FaultyBroker
from yeoul.errors import TooManyTopics, TopicClosed
from yeoul.hub import Broker, MemoryBroker, SqliteBroker
from yeoul.hub.broker import Sink
from yeoul.sse import Event
from yeoul.stream import Cursor, Frame, Journal, Retention
from yeoul.stream.retention import Retentions

EVERYTHING = 1 << 40


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Pushed:
    """What a broker has pushed, in order."""

    calls: list[tuple[str, list[int]]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def __call__(self, topic: str, frames: Sequence[Frame]) -> None:
        self.calls.append((topic, [frame.offset for frame in frames]))
        self.frames.extend(frames)


# Makes an open broker with this retention for every topic and these bounds on the whole.
Factory = Callable[..., AbstractAsyncContextManager[Broker]]


@asynccontextmanager
async def memory(
    sink: Sink, clock: Clock, retention: Retention | None = None, **bounds: int
) -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker(Retentions(default=retention), clock=clock, **bounds)
    await broker.open(sink)
    yield broker
    await broker.close()


@asynccontextmanager
async def faulty(
    sink: Sink, clock: Clock, retention: Retention | None = None, **bounds: int
) -> AsyncIterator[FaultyBroker]:
    """The one that tests of probes use, while nothing is wrong with it."""
    broker = FaultyBroker(Retentions(default=retention), clock=clock, **bounds)
    await broker.open(sink)
    yield broker
    await broker.close()


@asynccontextmanager
async def sqlite(
    sink: Sink, clock: Clock, retention: Retention | None = None, **bounds: int
) -> AsyncIterator[SqliteBroker]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "broker.db"
        broker = SqliteBroker(path, Retentions(default=retention), clock=clock, **bounds)
        await broker.open(sink)
        yield broker
        await broker.close()


@pytest.fixture(params=[memory, faulty, sqlite])
def make(request: pytest.FixtureRequest) -> Factory:
    factory: Factory = request.param
    return factory


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pushed() -> Pushed:
    return Pushed()


@pytest.fixture
async def broker(make: Factory, pushed: Pushed, clock: Clock) -> AsyncIterator[Broker]:
    async with make(pushed, clock) as made:
        yield made


def events(*data: str) -> list[Event]:
    return [Event(text) for text in data]


async def offsets(broker: Broker, topic: str, after: int = 0) -> list[int] | None:
    found = await broker.history(topic, after, EVERYTHING)
    return None if found is None else [frame.offset for frame in found.frames]


# --- the one order


async def test_offsets_are_one_total_order_over_all_topics(broker: Broker) -> None:
    cursors = [await broker.publish(topic, events("x")) for topic in ("a", "b", "a", "c", "b")]
    assert cursors == [Cursor(broker.epoch, offset) for offset in (1, 2, 3, 4, 5)]
    assert broker.head == 5
    assert await offsets(broker, "a") == [1, 3]
    assert await offsets(broker, "b") == [2, 5]


async def test_the_head_of_an_empty_broker_is_0(broker: Broker) -> None:
    assert broker.head == 0


async def test_several_events_are_published_in_one_step_and_the_last_ones_cursor_is_returned(
    broker: Broker, pushed: Pushed
) -> None:
    await broker.attach("a")
    assert await broker.publish("a", events("1", "2", "3")) == Cursor(broker.epoch, 3)
    assert pushed.calls == [("a", [1, 2, 3])]
    broker.detach("a")


async def test_each_frame_names_the_one_before_it_in_its_topic(broker: Broker, pushed: Pushed) -> None:
    for topic in ("a", "b"):
        await broker.attach(topic)
    await broker.publish("a", events("1"))
    await broker.publish("b", events("2", "3"))
    await broker.publish("a", events("4", "5"))
    assert [(frame.offset, frame.previous) for frame in pushed.frames] == [(1, 0), (2, 0), (3, 2), (4, 1), (5, 4)]
    for topic in ("a", "b"):
        broker.detach(topic)


async def test_two_brokers_have_different_epochs(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock) as one, make(pushed, clock) as other:
        assert one.epoch != other.epoch
        cursor = await one.publish("a", events("x"))
        assert cursor.epoch == one.epoch


# --- final


async def test_nothing_follows_a_final_event(broker: Broker) -> None:
    await broker.publish("a", events("1"), final=True)
    head = broker.head
    with pytest.raises(TopicClosed):
        await broker.publish("a", events("2", "3"))
    assert broker.head == head
    assert await offsets(broker, "a") == [1]
    await broker.publish("b", events("4"))


async def test_only_the_last_event_of_a_final_publish_is_final(broker: Broker) -> None:
    journal = await broker.attach("a")
    await broker.publish("a", events("1", "2", "3"), final=True)
    found = journal.after(0)
    assert found is not None
    assert [frame.final for frame in found.frames] == [False, False, True]
    assert journal.final
    broker.detach("a")


# --- pushing


async def test_only_attached_topics_are_pushed(broker: Broker, pushed: Pushed) -> None:
    await broker.publish("a", events("before"))
    await broker.attach("a")
    await broker.publish("a", events("1"))
    await broker.publish("b", events("2"))
    broker.detach("a")
    await broker.publish("a", events("after"))
    assert [frame.event.data for frame in pushed.frames] == ["1"]


async def test_a_topic_is_pushed_until_it_has_been_detached_as_often_as_attached(
    broker: Broker, pushed: Pushed
) -> None:
    first, second = await broker.attach("a"), await broker.attach("a")
    assert first is second
    broker.detach("a")
    await broker.publish("a", events("1"))
    broker.detach("a")
    await broker.publish("a", events("2"))
    assert [frame.event.data for frame in pushed.frames] == ["1"]


async def test_frames_are_pushed_in_the_order_of_their_offsets(broker: Broker, pushed: Pushed) -> None:
    for topic in ("a", "b"):
        await broker.attach(topic)
    for number in range(20):
        await broker.publish("ab"[number % 2], events(*"x" * (1 + number % 3)))
    got = [frame.offset for frame in pushed.frames]
    assert got == list(range(1, broker.head + 1))
    for topic in ("a", "b"):
        broker.detach(topic)


async def test_a_frame_is_in_the_attached_journal_when_it_is_pushed(make: Factory, clock: Clock) -> None:
    journals: list[Journal] = []
    seen: list[int] = []
    async with make(lambda topic, frames: seen.append(journals[0].last), clock) as broker:
        journals.append(await broker.attach("a"))
        await broker.publish("a", events("1", "2"))
        assert seen == [2]
        broker.detach("a")


async def test_the_journal_has_what_was_published_before_the_attach(broker: Broker) -> None:
    await broker.publish("a", events("1", "2"))
    journal = await broker.attach("a")
    found = journal.after(1)
    assert found is not None
    assert [frame.event.data for frame in found.frames] == ["2"]
    broker.detach("a")


# --- history


async def test_history_begins_after_an_offset(broker: Broker) -> None:
    for number in range(4):
        await broker.publish("ab"[number % 2], events(str(number)))
    assert await offsets(broker, "a", 0) == [1, 3]
    assert await offsets(broker, "a", 1) == [3]
    assert await offsets(broker, "a", 2) == [3]
    assert await offsets(broker, "a", 3) == []
    assert await offsets(broker, "a", 1_000) == []


async def test_history_comes_in_pieces_of_a_bounded_size(broker: Broker) -> None:
    await broker.publish("a", events(*["x" * 1_000] * 10))
    got: list[int] = []
    more = True
    while more:
        part = await broker.history("a", got[-1] if got else 0, 2_500)
        assert part is not None
        assert 1 <= len(part.frames) <= 2
        got += [frame.offset for frame in part.frames]
        more = part.more
    assert got == list(range(1, 11))


async def test_evicted_history_is_none_and_not_empty(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock, Retention(events=2)) as broker:
        await broker.publish("a", events("1", "2", "3", "4"))
        assert await offsets(broker, "a", 1) is None
        assert await offsets(broker, "a", 2) == [3, 4]


# --- what is let go


async def test_a_sweep_lets_go_of_what_is_too_old(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock, Retention(seconds=60)) as broker:
        journal = await broker.attach("a")
        await broker.publish("a", events("1"))
        clock.now += 40
        await broker.publish("a", events("2"))
        clock.now += 30
        broker.sweep()
        assert await offsets(broker, "a", 0) is None
        assert await offsets(broker, "a", 1) == [2]
        assert journal.evicted == 1
        broker.detach("a")


async def test_a_reader_that_attaches_is_not_given_what_is_too_old(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock, Retention(seconds=60)) as broker:
        await broker.publish("a", events("1"))
        clock.now += 61
        journal = await broker.attach("a")
        assert journal.after(0) is None
        broker.detach("a")


async def test_a_cursor_from_before_a_topic_was_forgotten_gets_a_gap(
    make: Factory, pushed: Pushed, clock: Clock
) -> None:
    async with make(pushed, clock, Retention(seconds=60)) as broker:
        await broker.publish("a", events("1", "2"))
        clock.now += 61
        broker.sweep()
        assert await offsets(broker, "a", 1) is None
        assert await offsets(broker, "a", 2) == []


async def test_a_topic_that_was_forgotten_takes_nothing_from_one_that_never_had_events(
    make: Factory, pushed: Pushed, clock: Clock
) -> None:
    async with make(pushed, clock, Retention(seconds=60)) as broker:
        await broker.publish("a", events("1"))
        await broker.publish("b", events("2"))
        clock.now += 61
        broker.sweep()
        assert await offsets(broker, "never", 1) == []


async def test_the_order_goes_on_after_a_topic_was_forgotten(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock, Retention(seconds=60)) as broker:
        await broker.publish("a", events("1", "2"))
        clock.now += 61
        broker.sweep()
        assert (await broker.publish("a", events("3"))).offset == 3
        assert await offsets(broker, "a", 2) == [3]


async def test_a_topic_in_use_is_not_forgotten(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock, Retention(seconds=60)) as broker:
        journal = await broker.attach("a")
        await broker.publish("a", events("1"))
        clock.now += 61
        broker.sweep()
        await broker.publish("a", events("2"))
        assert journal.last == 2
        assert pushed.frames[-1].previous == 1
        broker.detach("a")


async def test_a_forgotten_topic_has_nothing_and_says_so(broker: Broker) -> None:
    journal = await broker.attach("a")
    await broker.publish("a", events("1", "2"))
    await broker.publish("b", events("3"))
    await broker.forget("a")
    await broker.forget("never there")
    assert await offsets(broker, "a", 1) is None
    assert await offsets(broker, "a", 2) == []
    assert await offsets(broker, "b") == [3]
    await broker.publish("a", events("4"))
    assert journal.last == 4
    broker.detach("a")


async def test_more_topics_than_are_followed_at_the_bound_are_refused_and_leave_nothing_behind(
    make: Factory, pushed: Pushed, clock: Clock
) -> None:
    async with make(pushed, clock, Retention(seconds=60), max_topics=2) as broker:
        await broker.attach("a")
        await broker.publish("a", events("1"))
        await broker.attach("b")
        with pytest.raises(TooManyTopics):
            await broker.publish("c", events("2"))
        with pytest.raises(TooManyTopics):
            await broker.attach("d")
        assert broker.head == 1
        broker.detach("b")
        await broker.publish("c", events("2"))
        await broker.attach("d")
        broker.detach("d")
        broker.detach("a")


async def test_over_the_bound_in_topics_the_one_published_to_longest_ago_goes_unless_it_is_followed(
    make: Factory, pushed: Pushed, clock: Clock
) -> None:
    """Whoever may choose names must not keep others out for as long as events are kept."""
    async with make(pushed, clock, max_topics=3) as broker:
        await broker.attach("followed")
        await broker.publish("followed", events("x"))
        await broker.publish("old", events("x"))
        await broker.publish("busy", events("x"))
        await broker.publish("new", events("x"))
        assert await offsets(broker, "followed") == [1]
        assert await offsets(broker, "busy") == [3]
        assert await offsets(broker, "new", after=2) == [4], "whoever was there before it is told of a gap"
        journal = await broker.attach("old")
        assert journal.after(0) is None
        broker.detach("old")
        broker.detach("followed")


async def test_a_topic_without_events_and_readers_takes_no_place(make: Factory, pushed: Pushed, clock: Clock) -> None:
    async with make(pushed, clock, max_topics=1) as broker:
        for number in range(10):
            await broker.attach(f"t{number}")
            broker.detach(f"t{number}")
        await broker.publish("a", events("1"))


async def test_over_the_bound_in_bytes_the_topics_published_to_longest_ago_lose_theirs_first(
    make: Factory, pushed: Pushed, clock: Clock
) -> None:
    async with make(pushed, clock, max_bytes=5_000) as broker:
        await broker.publish("old", events("x" * 1_000))
        await broker.publish("busy", events("x" * 1_000))
        await broker.publish("new", events("x" * 1_000))
        await broker.publish("busy", events("x" * 1_000))
        await broker.publish("newest", events("x" * 1_000))
        assert await offsets(broker, "old") is None
        assert await offsets(broker, "new") == [3]
        assert await offsets(broker, "busy") == [2, 4]
        assert await offsets(broker, "newest") == [5]


async def test_over_the_bound_in_bytes_the_newest_events_are_kept_all_the_same(
    make: Factory, pushed: Pushed, clock: Clock
) -> None:
    async with make(pushed, clock, max_bytes=100) as broker:
        journal = await broker.attach("a")
        await broker.publish("a", events("x" * 1_000))
        await broker.publish("b", events("y" * 1_000))
        assert await offsets(broker, "b") == [2]
        assert journal.evicted == 1
        await broker.publish("a", events("x" * 1_000))
        assert journal.after(1) is not None
        broker.detach("a")
