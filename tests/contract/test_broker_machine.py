"""Any sequence of calls, on every broker, against a model of what it must keep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from yeoul.errors import TopicClosed
from yeoul.hub import MemoryBroker, SqliteBroker
from yeoul.sse import Event
from yeoul.stream import Frame, Journal, Retention
from yeoul.stream.retention import Retentions

_T = TypeVar("_T")

KEPT, SECONDS = 4, 60.0
RETENTION = Retentions(default=Retention(events=KEPT, seconds=SECONDS))
TOPICS = st.sampled_from(["a", "b", "generations/c"])


@dataclass
class Model:
    """What must be kept of a topic. `evicted`: the offset of the last event that was let go."""

    frames: list[tuple[int, str, float]] = field(default_factory=list)
    evicted: int = 0
    closed: bool = False

    def publish(self, offset: int, data: str, now: float) -> None:
        self.frames.append((offset, data, now))
        while len(self.frames) > KEPT:
            self.evicted = self.frames.pop(0)[0]
        self.expire(now, keep=1)

    def expire(self, now: float, keep: int = 0) -> None:
        while len(self.frames) > keep and now - self.frames[0][2] > SECONDS:
            self.evicted = self.frames.pop(0)[0]

    def forget(self) -> None:
        while self.frames:
            self.evicted = self.frames.pop(0)[0]

    def after(self, offset: int) -> list[tuple[int, str]] | None:
        return None if offset < self.evicted else [(at, data) for at, data, _ in self.frames if at > offset]


class BrokerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.loop = asyncio.new_event_loop()
        self.models: dict[str, Model] = {}
        self.journals: dict[str, Journal] = {}
        self.pushed: list[tuple[str, int]] = []
        self.due: list[tuple[str, int]] = []
        self.count = 0
        self.broker = self.make()
        self.run(self.broker.open(self.sink))

    def make(self) -> MemoryBroker | SqliteBroker:
        return MemoryBroker(RETENTION, clock=lambda: self.now)

    def run(self, work: Awaitable[_T]) -> _T:
        async def awaited() -> _T:
            return await work

        return self.loop.run_until_complete(awaited())

    def sink(self, topic: str, frames: Sequence[Frame]) -> None:
        assert self.journals[topic].last == frames[-1].offset
        self.pushed += [(topic, frame.offset) for frame in frames]

    def model(self, topic: str) -> Model:
        return self.models.setdefault(topic, Model())

    @rule(calls=st.lists(st.tuples(TOPICS, st.integers(1, 3)), min_size=1, max_size=4))
    def publish(self, calls: list[tuple[str, int]]) -> None:
        """All at once."""
        calls = [(topic, many) for topic, many in calls if not self.model(topic).closed]
        texts = [[f"{self.count + at}.{part}" for part in range(many)] for at, (_, many) in enumerate(calls)]
        self.count += len(calls)
        head = self.broker.head

        async def all_at_once() -> list[int]:
            publishes = (
                self.broker.publish(topic, [Event(text) for text in said])
                for (topic, _), said in zip(calls, texts, strict=True)
            )
            return [cursor.offset for cursor in await asyncio.gather(*publishes)]

        for (topic, _), said, last in zip(calls, texts, self.run(all_at_once()), strict=True):
            for text in said:
                head += 1
                self.model(topic).publish(head, text, self.now)
                if topic in self.journals:
                    self.due.append((topic, head))
            assert head == last

    @rule(topic=TOPICS)
    def close(self, topic: str) -> None:
        model = self.model(topic)
        if model.closed:
            if model.frames:
                with pytest.raises(TopicClosed):
                    self.run(self.broker.publish(topic, [Event("late")]))
            return
        offset = self.run(self.broker.publish(topic, [Event("end")], final=True)).offset
        model.publish(offset, "end", self.now)
        model.closed = True
        if topic in self.journals:
            self.due.append((topic, offset))

    @rule(topic=TOPICS)
    def attach_or_detach(self, topic: str) -> None:
        if topic in self.journals:
            del self.journals[topic]
            self.broker.detach(topic)
        else:
            self.journals[topic] = self.run(self.broker.attach(topic))
            self.model(topic).expire(self.now)

    @rule(topic=TOPICS)
    def forget(self, topic: str) -> None:
        self.run(self.broker.forget(topic))
        self.model(topic).forget()

    @rule(seconds=st.sampled_from([1.0, 25.0, 61.0]))
    def sweep(self, seconds: float) -> None:
        self.now += seconds
        self.broker.sweep()
        for model in self.models.values():
            model.expire(self.now)

    @invariant()
    def everything_that_must_be_kept_is_there_and_nothing_else(self) -> None:
        assert self.pushed == self.due
        for topic, model in self.models.items():
            for offset in {0, model.evicted, model.evicted - 1, *(at for at, _, _ in model.frames), self.broker.head}:
                if offset >= 0:
                    found = self.run(self.broker.history(topic, offset, 1 << 40))
                    got = None if found is None else [(frame.offset, frame.event.data) for frame in found.frames]
                    assert got == model.after(offset), (topic, offset)

    def teardown(self) -> None:
        self.run(self.broker.close())
        self.loop.close()


class SqliteMachine(BrokerMachine):
    def __init__(self) -> None:
        self.folder = TemporaryDirectory(dir=None)
        super().__init__()

    def make(self) -> SqliteBroker:
        path = Path(self.folder.name) / "broker.db"
        return SqliteBroker(path, RETENTION, clock=lambda: self.now, wall=lambda: self.now)

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        epoch, head = self.broker.epoch, self.broker.head
        if killed:
            assert isinstance(self.broker, SqliteBroker)
            assert self.broker._thread is not None
            self.broker._thread.shutdown()
            self.broker._file.close()
            self.broker._lock.release()
        else:
            self.run(self.broker.close())
        self.journals.clear()
        self.broker = self.make()
        self.run(self.broker.open(self.sink))
        assert self.broker.epoch == epoch
        assert self.broker.head >= head if killed else self.broker.head == head

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


@pytest.mark.parametrize("machine", [BrokerMachine, SqliteMachine])
def test_any_sequence_of_calls_keeps_what_it_must(machine: Callable[[], RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
