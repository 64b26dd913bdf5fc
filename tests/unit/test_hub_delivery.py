"""Whatever happens in whatever order: each event once and in order, or a gap that covers it.

The whole hub, without sockets, against a list of what was published. Time and the event loop's turns are the test's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.outlets import MemoryOutlet
from yeoul.hub import Encoding, Hub, MemoryBroker, SubscribeOptions, Subscription, delivery, subscription
from yeoul.hub import topic as topic_module
from yeoul.sse import Decoder, Event, encode
from yeoul.stream import Cursor, Frame, Retention
from yeoul.stream.retention import Retentions

TOPICS = ["a", "b", "c"]
KEPT = 6

T = TypeVar("T")


class Loop(asyncio.SelectorEventLoop):
    """Its clock goes on only when it is told to."""

    now = 0.0

    def time(self) -> float:
        return self.now


def shout(frame: Frame) -> bytes:
    return encode(Event(frame.event.data.upper(), frame.event.type), id=f"{frame.epoch}-{frame.offset}")


ENCODINGS = [Encoding(), Encoding(shout)]


@dataclass
class Client:
    """What one browser has, over all its connections, and what it was told is lost."""

    topics: list[str]
    encoding: Encoding
    full_after_each: bool  # as the portable outlet is
    position: int
    last_event_id: str = ""
    excused: dict[str, int] = field(default_factory=dict)  # by topic, up to which offset
    reader: Subscription | None = None
    outlet: MemoryOutlet = field(default_factory=MemoryOutlet)
    written: list[Event] = field(default_factory=list)  # in this connection
    seen: int = 0  # those of them that were looked at
    lost_at_gap: list[dict[str, int]] = field(default_factory=list)


class Delivery(RuleBasedStateMachine):
    @initialize(
        slice=st.sampled_from([1, 2, 256]),
        group=st.sampled_from([1, 2, 3, 256]),
        catch_up=st.sampled_from([1, 300, 65_536]),
        budget=st.sampled_from([None, 250, 600]),
    )
    def begin(self, slice: int, group: int, catch_up: int, budget: int | None) -> None:
        self.saved = delivery._SLICE, topic_module._MAX_READERS, subscription._SLICE_BYTES
        delivery._SLICE, topic_module._MAX_READERS, subscription._SLICE_BYTES = slice, group, catch_up
        self.loop = Loop()
        self.broker = MemoryBroker(Retentions(default=Retention(events=KEPT, seconds=60)), clock=lambda: self.loop.now)
        self.hub = Hub(self.broker, max_replay_bytes=budget)
        self.run(self.hub.open())
        self.published: list[tuple[int, str]] = []
        self.clients: list[Client] = []
        for topics in (["a"], ["a"], ["a", "b"], ["b"]):
            self.join(topics, ENCODINGS[0], full=False, newest=0)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            self.loop.now += 0.01  # longer than a round of delivery waits for others to join it
            await asyncio.sleep(0)

    # --- what happens

    @rule(topic=st.sampled_from(TOPICS), count=st.integers(1, 4), size=st.sampled_from([1, 1, 200]))
    def publish(self, topic: str, count: int, size: int) -> None:
        events = [Event("x" * size) for _ in range(count)]
        last = self.run(self.hub.publish(topic, *events)).offset
        self.published += [(offset, topic) for offset in range(last - count + 1, last + 1)]

    @rule(burst=st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(0, 3)), min_size=2, max_size=8))
    def publish_while_the_loop_turns(self, burst: list[tuple[str, int]]) -> None:
        """What rounds of delivery that go in slices have to get right."""

        async def publish() -> None:
            for topic, turns in burst:
                cursor = await self.hub.publish(topic, Event("x"))
                self.published.append((cursor.offset, topic))
                await self.turns(turns)

        self.run(publish())

    @rule(
        topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3, unique=True),
        encoding=st.sampled_from(ENCODINGS),
        full=st.booleans(),
        newest=st.sampled_from([0, 0, 2]),
    )
    def join(self, topics: list[str], encoding: Encoding, full: bool, newest: int) -> None:
        client = Client(topics, encoding, full, self.broker.head)
        self.clients.append(client)
        self.connect(client, newest)
        if newest:
            assert client.reader is not None
            client.position = 0
            for followed in client.reader.topics:
                # It did not ask for what was before, nor for what was no longer kept.
                before = [offset for offset, name in self.published if name == followed.name][:-newest]
                client.excused[followed.name] = max([followed.journal.evicted, *before[-1:]])

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """The connection drops; of what was written in it the last events may not have arrived."""
        client = data.draw(st.sampled_from(self.clients))
        if client.reader is None:
            return
        client.reader.end()
        client.reader = None
        arrived = data.draw(st.integers(client.seen, len(client.written)))
        self.look(client, arrived)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        if client.reader is None:
            self.connect_again(client)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def stall(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.clients)).outlet.full = True

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.drain(data.draw(st.sampled_from(self.clients)))

    @rule(seconds=st.sampled_from([0.001, 1.0, 25.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.broker.sweep()

    @rule(count=st.integers(1, 6))
    def the_loop_turns(self, count: int) -> None:
        self.run(self.turns(count))

    # --- what must hold

    @rule()
    def all_that_can_be_read_has_been_read(self) -> None:
        for client in self.clients:
            if client.reader is not None:
                self.settle(client)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.all_come_back_and_leave()
        finally:
            self.run(self.hub.close())
            self.loop.close()
            delivery._SLICE, topic_module._MAX_READERS, subscription._SLICE_BYTES = self.saved

    def all_come_back_and_leave(self) -> None:
        for client in self.clients:
            if client.reader is None:
                self.connect_again(client)
            self.settle(client)
            assert client.reader is not None
            client.reader.end()
        assert self.hub.stats.readers == self.hub.stats.lagging == 0
        assert not self.hub._topics
        assert not self.broker._journals._held

    def connect_again(self, client: Client) -> None:
        if not client.last_event_id:
            # It never had a position: for the server it is a new one.
            client.position, client.excused = self.broker.head, {}
        self.connect(client, 0)

    def connect(self, client: Client, newest: int) -> None:
        after = Cursor.parse(client.last_event_id) if client.last_event_id else None
        client.written, client.seen = [], 0
        client.lost_at_gap = []

        def note(payload: bytes) -> None:
            events = Decoder().feed(payload)
            client.written += events
            for event in events:
                if event.type == "stream.gap":
                    assert client.reader is not None
                    client.lost_at_gap.append(self.lost(client.reader, event))
            if client.full_after_each:
                client.outlet.full = True

        client.outlet = MemoryOutlet(on_write=note)
        client.reader = self.run(
            self.hub.subscribe(client.topics, SubscribeOptions(after=after, newest=newest, encoding=client.encoding))
        )
        client.outlet.reader = client.reader
        client.reader.start(client.outlet)

    def lost(self, reader: Subscription, gap: Event) -> dict[str, int]:
        """By topic, up to which offset a gap that is told now says that events are lost."""
        evicted = {topic.name: topic.journal.evicted for topic in reader.topics}
        budget = self.hub.max_replay_bytes
        if json.loads(gap.data)["reason"] != "budget" or budget is None:
            return evicted
        # Where it goes on: the newest that fit come after it, and with one more they would not.
        beyond = Cursor.parse(gap.id or "").offset
        kept = [frame for topic in reader.topics for frame in topic.journal.newest_first(0)]
        given = sum(frame.size for frame in kept if frame.offset > beyond)
        dropped = max((frame for frame in kept if frame.offset <= beyond), key=lambda frame: frame.offset)
        assert given <= budget < given + dropped.size
        return {name: max(beyond, offset) for name, offset in evicted.items()}

    def drain(self, client: Client) -> None:
        client.outlet.full = False
        if client.reader is not None:
            client.reader.resume()

    def settle(self, client: Client) -> None:
        """It reads on until it has everything."""
        for _ in range(400):
            assert client.reader is not None
            if client.reader.closed:  # it had taken nothing for too long
                self.look(client, len(client.written))
                self.connect_again(client)
            self.drain(client)
            self.run(self.turns(3))
            self.look(client, len(client.written))
            if self.missing(client, self.broker.head + 1) == []:
                return
        raise AssertionError(f"{client} did not get {self.missing(client, self.broker.head + 1)}")

    def look(self, client: Client, arrived: int) -> None:
        for event in client.written[client.seen : arrived]:
            offset = Cursor.parse(event.id or "").offset
            if event.type == "stream.gap":
                for topic, lost in client.lost_at_gap.pop(0).items():
                    client.excused[topic] = max(client.excused.get(topic, 0), lost)
            else:
                assert offset > client.position, "twice, or out of order"
                assert self.missing(client, offset) == [], f"lost before {offset}"
                client.position = offset
            client.last_event_id = event.id or ""
        client.seen = arrived

    def missing(self, client: Client, before: int) -> list[int]:
        return [
            offset
            for offset, topic in self.published
            if topic in client.topics and max(client.position, client.excused.get(topic, 0)) < offset < before
        ]


TestDelivery = pytest.mark.slow(Delivery.TestCase)
TestDelivery.settings = settings(deadline=None, derandomize=True, max_examples=400, stateful_step_count=40)
