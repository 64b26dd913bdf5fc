"""What is the memory broker's own; the rest is in `contract/test_broker.py`."""

from __future__ import annotations

from yeoul.hub import MemoryBroker
from yeoul.sse import Event
from yeoul.stream import Retention
from yeoul.stream.retention import Retentions


async def test_topics_that_come_and_go_leave_nothing_behind() -> None:
    broker = MemoryBroker()
    for _ in range(5_000):
        await broker.attach("a")
        broker.detach("a")
    assert repr(broker) == "<MemoryBroker 0 topics, 0 bytes, head 0>"
    assert len(broker._journals._ring) == 0


async def test_a_topic_whose_readers_come_and_go_is_swept_once_a_round() -> None:
    now = [0.0]
    broker = MemoryBroker(Retentions(default=Retention(seconds=60)), clock=lambda: now[0])
    for _ in range(100):
        await broker.attach("a")
        broker.sweep()
        broker.detach("a")
    await broker.publish("a", [Event("x")])
    broker.sweep()
    assert len(broker._journals._ring) == 1


async def test_the_bytes_of_all_topics_are_counted_through_every_way_out() -> None:
    now = [0.0]
    broker = MemoryBroker(Retentions(default=Retention(events=3, seconds=60)), max_bytes=4_000, clock=lambda: now[0])
    for number in range(50):
        await broker.publish(f"t{number % 7}", [Event("x" * (number * 37 % 900))] * (1 + number % 4))
        now[0] += number % 11
        broker.sweep()
    now[0] += 1_000
    await broker.attach("t0")
    broker.sweep()
    broker.detach("t0")
    assert repr(broker) == "<MemoryBroker 0 topics, 0 bytes, head 123>"


async def test_sweeps_look_at_every_topic_in_turn() -> None:
    now = [0.0]
    broker = MemoryBroker(Retentions(default=Retention(seconds=60)), clock=lambda: now[0])
    for number in range(5_000):
        await broker.publish(f"t{number}", [Event("x")])
    now[0] += 61
    left = []
    for _ in range(3):
        broker.sweep()
        left.append(len(broker._journals._ring))
    assert left == [3_000, 1_000, 0]


async def test_of_more_topics_than_can_be_remembered_the_unknown_are_answered_by_a_gap() -> None:
    clock = [0.0]
    broker = MemoryBroker(lambda topic: Retention(seconds=1), max_topics=3, clock=lambda: clock[0])
    for number in range(5):
        await broker.publish(f"t{number}", [Event("x")])
        clock[0] += 2
        broker.sweep()
    assert len(broker._journals.last) == 3
    assert (await broker.history("never", 1, 100)) is None, "t0 and t1 are let go: it may be one of them"
    assert (await broker.history("never again", 2, 100)) is not None
