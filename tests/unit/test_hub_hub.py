from __future__ import annotations

import asyncio
import json

import pytest

from support.outlets import MemoryOutlet, follow, turns
from yeoul.errors import EventTooLarge, HubClosed, InvalidTopic, TooManyTopics, TopicClosed
from yeoul.hub import Hub, MemoryBroker, Subscription
from yeoul.hub.reasons import CLIENT_LEFT, DRAIN, ERROR, EndReason
from yeoul.sse import Event

# --- publish


async def test_the_cursor_of_the_last_event_is_returned() -> None:
    async with Hub() as hub:
        assert (await hub.publish("a", Event("1"), Event("2"))).offset == 2
        assert hub.stats.published == 2


async def test_the_first_use_opens_it() -> None:
    hub = Hub()
    cursor = await hub.publish("a", Event("x"))
    assert cursor.epoch == hub.epoch
    await hub.close()


async def test_uses_that_come_at_once_open_it_once() -> None:
    opened = []

    class Slow(MemoryBroker):
        async def open(self, sink: object) -> None:
            opened.append(sink)
            await turns()
            await super().open(sink)  # type: ignore[arg-type]

    hub = Hub(Slow())
    await asyncio.gather(*(hub.publish("a", Event("x")) for _ in range(5)))
    assert len(opened) == 1
    await hub.close()


@pytest.mark.parametrize(
    ("topic", "events", "error"),
    [
        ("a b", [Event("x")], InvalidTopic),
        ("a", [], ValueError),
        ("a", [Event("x", id="1")], ValueError),
        ("a", [Event("x", "stream.bye")], ValueError),
        ("a", [Event("x" * 101)], EventTooLarge),
        ("a", [Event("여" * 34)], EventTooLarge),
    ],
)
async def test_what_may_not_be_published_is_refused_and_nothing_of_it_is(
    topic: str, events: list[Event], error: type[Exception]
) -> None:
    async with Hub(max_event_bytes=100) as hub:
        with pytest.raises(error):
            await hub.publish(topic, *([Event("before"), *events] if events else []))
        assert hub.broker.head == 0
        assert hub.stats.published == 0


async def test_an_event_of_the_largest_size_is_published() -> None:
    async with Hub(max_event_bytes=102) as hub:
        await hub.publish("a", Event("x" * 102))
        await hub.publish("a", Event("여" * 34))


async def test_nothing_follows_a_final_event() -> None:
    async with Hub() as hub:
        await hub.publish("a", Event("x"), final=True)
        with pytest.raises(TopicClosed):
            await hub.publish("a", Event("y"))


# --- subscribe


@pytest.mark.parametrize("topics", [[], [f"t{number}" for number in range(4)]])
async def test_a_stream_follows_at_least_one_topic_and_not_too_many(topics: list[str]) -> None:
    async with Hub(max_topics_per_reader=3) as hub:
        with pytest.raises(ValueError, match="1 to 3 topics"):
            await hub.subscribe(topics)


async def test_a_topic_named_twice_is_followed_once() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a", "a")
        assert len(reader.topics) == 1
        await hub.publish("a", Event("x"))
        await outlet.take(1)
        await turns()
        assert outlet.data == ["x"]


async def test_a_subscription_that_fails_half_way_holds_nothing() -> None:
    broker = MemoryBroker(max_topics=2)
    async with Hub(broker) as hub:
        with pytest.raises(TooManyTopics):
            await hub.subscribe(["a", "b", "c"])
        assert repr(hub) == "<Hub 0 readers, 0 topics, <MemoryBroker 0 topics, 0 bytes, head 0>>"
        (await hub.subscribe(["c", "d"])).end()


async def test_a_reader_that_never_began_is_given_back_by_close() -> None:
    async with Hub() as hub:
        reader = await hub.subscribe(["a"])
        assert hub.stats.readers == 1
        reader.end(ERROR)
        assert (hub.stats.readers, hub.stats.closed) == (0, {"error": 1})


async def test_a_watcher_is_told_of_readers_that_join_and_leave() -> None:
    async with Hub() as hub:
        told: list[tuple[str, Subscription, EndReason | None]] = []
        hub.watch("a", lambda *news: told.append(news))
        one, _ = await follow(hub, "b", "a")
        other, _ = await follow(hub, "b")
        one.end()
        other.end()
        assert told == [("a", one, None), ("a", one, CLIENT_LEFT)]
        hub.unwatch("a")
        (await follow(hub, "a"))[0].end(DRAIN)
        assert len(told) == 2


# --- close


async def test_endless_streams_end_first_then_what_was_asked_for_then_the_others() -> None:
    order: list[str] = []
    async with Hub() as hub:

        async def ending() -> None:
            order.append(f"ending, {hub.stats.readers} reader")
            await hub.publish("a", Event("the end"), final=True)

        hub.before_close(ending)
        _, endless = await follow(hub, "a")
        _, answer = await follow(hub, "a", until_final=True)
    assert order == ["ending, 1 reader"]
    assert endless.types == ["stream.bye"]
    assert answer.data == ["the end"]
    assert endless.finished
    assert answer.finished


async def test_a_reader_that_is_behind_is_given_everything_before_its_farewell() -> None:
    """An outlet that says after each write that it is full, as the portable one does."""
    hub = Hub()
    reader, outlet = await follow(hub, "a", full=True)
    _, answer = await follow(hub, "b", full=True, until_final=True)
    for number in range(5):
        await hub.publish("a", Event(str(number)))
    await turns()
    await hub.publish("a", Event("5"))

    async def end_the_answer() -> None:
        await hub.publish("b", Event("the end"), final=True)

    hub.before_close(end_the_answer)

    async def drain(outlet: MemoryOutlet, reader: Subscription) -> None:
        while not outlet.finished:
            await asyncio.sleep(0)
            reader.resume()

    drains = [asyncio.create_task(drain(outlet, reader))]
    drains.append(asyncio.create_task(drain(answer, next(r for r in hub._readers if r.until_final))))
    await hub.close()
    await asyncio.gather(*drains)
    assert outlet.data[:-1] == [str(number) for number in range(6)]
    assert json.loads(outlet.data[-1]) == {"reason": "drain", "reconnect": True}
    assert answer.data == ["the end"]


async def test_a_reader_that_takes_nothing_holds_up_the_close_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yeoul.hub.drain._GRACE", 0.01)
    hub = Hub()
    _, outlet = await follow(hub, "a")
    outlet.full = True
    await hub.publish("a", Event("0"))
    await turns()
    await hub.publish("a", Event("1"))
    await hub.close()
    assert outlet.types == ["message", "stream.bye"]
    assert outlet.events[-1].id == outlet.events[0].id, "it comes back with what it has"
    assert outlet.finished


async def test_a_response_that_was_being_begun_when_the_hub_closed_ends_at_once() -> None:
    hub = Hub()
    reader = await hub.subscribe(["a"])
    await hub.close()
    outlet = MemoryOutlet()
    reader.start(outlet, Event("{}", "stream.hello"))
    assert outlet.types == ["stream.bye"]
    assert outlet.finished


async def test_an_ending_that_fails_does_not_keep_the_others_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()
    ended: list[int] = []

    async def broken() -> None:
        raise RuntimeError("broken")

    async def other() -> None:
        ended.append(1)

    hub.before_close(broken)
    hub.before_close(other)
    _, outlet = await follow(hub, "a", until_final=True)
    await hub.close()
    assert ended == [1]
    assert outlet.finished
    assert "broken" in caplog.text


async def test_a_hub_that_closes_takes_no_reader_and_one_that_has_closed_no_event() -> None:
    hub = Hub()
    await hub.open()
    refused: list[type[Exception]] = []

    async def ending() -> None:
        with pytest.raises(HubClosed):
            await hub.subscribe(["a"])
        await hub.publish("a", Event("still possible"))
        refused.append(HubClosed)

    hub.before_close(ending)
    await hub.close()
    assert refused == [HubClosed]
    for use in (hub.publish("a", Event("x")), hub.subscribe(["a"]), hub.open()):
        with pytest.raises(HubClosed):
            await use


async def test_closing_twice_waits_for_the_first_and_survives_its_cancellation() -> None:
    hub = Hub()
    await hub.open()
    go_on = asyncio.Event()
    ended: list[int] = []

    async def ending() -> None:
        await go_on.wait()
        ended.append(1)

    hub.before_close(ending)
    first = asyncio.create_task(hub.close())
    await turns()
    first.cancel()
    second = asyncio.create_task(hub.close())
    await turns()
    assert not second.done()
    go_on.set()
    await second
    assert ended == [1]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_hub_that_was_never_used_closes() -> None:
    await Hub().close()


@pytest.mark.parametrize("name", ["heartbeat", "send_timeout", "max_lifetime"])
def test_times_are_above_0(name: str) -> None:
    with pytest.raises(ValueError, match="seconds above 0"):
        Hub(**{name: 0})  # type: ignore[arg-type]


async def test_old_events_are_let_go_while_time_passes() -> None:
    swept = asyncio.Event()

    class Broker(MemoryBroker):
        def sweep(self) -> None:
            super().sweep()
            swept.set()

    async with Hub(Broker(), heartbeat=0.1):
        async with asyncio.timeout(20):
            await swept.wait()
