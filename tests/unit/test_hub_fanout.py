from __future__ import annotations

import asyncio

import pytest

from support.outlets import follow, turns
from yeoul.hub import Encoding, Hub, MemoryBroker, delivery
from yeoul.hub import topic as topic_module
from yeoul.sse import Event
from yeoul.stream import Retention
from yeoul.stream.retention import Retentions


def events(*data: str) -> list[Event]:
    return [Event(text) for text in data]


async def test_readers_of_a_topic_share_the_same_bytes() -> None:
    async with Hub() as hub:
        outlets = [(await follow(hub, "a"))[1] for _ in range(5)]
        await hub.publish("a", Event("x"))
        for outlet in outlets:
            await outlet.take(1)
        first = outlets[0].payloads[0]
        assert all(outlet.payloads == [first] and outlet.payloads[0] is first for outlet in outlets)


async def test_readers_of_the_same_topics_share_the_same_bytes() -> None:
    async with Hub() as hub:
        outlets = [(await follow(hub, "a", "b"))[1] for _ in range(5)]
        await asyncio.gather(hub.publish("b", Event("1")), hub.publish("a", Event("2")))
        for outlet in outlets:
            await outlet.take(2)
        first = outlets[0].payloads[0]
        assert all(outlet.payloads == [first] and outlet.payloads[0] is first for outlet in outlets)


async def test_an_encoding_renders_a_frame_once_for_all_its_readers() -> None:
    rendered: list[int] = []

    def render(frame: object) -> bytes:
        rendered.append(1)
        return b"data: x\n\n"

    async with Hub() as hub:
        encoding = Encoding(render)
        outlets = [(await follow(hub, "a", encoding=encoding))[1] for _ in range(50)]
        await hub.publish("a", Event("x"))
        for outlet in outlets:
            await outlet.take(1)
    assert rendered == [1]


async def test_events_published_in_one_turn_of_the_loop_go_in_one_write() -> None:
    async with Hub() as hub:
        _, outlet = await follow(hub, "a")
        for number in range(5):
            await hub.publish("a", Event(str(number)))
        await outlet.take(5)
        assert outlet.data == ["0", "1", "2", "3", "4"]
        assert len(outlet.payloads) == 1


async def test_a_reader_of_several_topics_gets_them_in_the_order_of_publishing() -> None:
    async with Hub() as hub:
        _, outlet = await follow(hub, "b", "c", "a")
        for number in range(60):
            await hub.publish("abc"[number * 7 % 3], Event(str(number)))
            if number % 5 == 0:
                await turns(2)
        await outlet.take(60)
        assert outlet.data == [str(number) for number in range(60)]


async def test_a_round_over_many_readers_gives_the_loop_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_SLICE", 10)
    monkeypatch.setattr(topic_module, "_MAX_READERS", 10)
    order: list[str] = []
    async with Hub() as hub:
        for _ in range(35):
            await follow(hub, "a", on_write=lambda payload: order.append("write"))
        loop = asyncio.get_running_loop()

        def turn() -> None:
            order.append("turn")
            if order.count("write") < 35:
                loop.call_soon(turn)

        await hub.publish("a", Event("x"))
        loop.call_soon(turn)
        while order.count("write") < 35:
            await asyncio.sleep(0)
        runs = [len(run) for run in "".join("w" if entry == "write" else " " for entry in order).split()]
    assert runs == [10, 10, 10, 5]


async def test_what_is_published_during_a_round_keeps_its_order_for_readers_of_several_topics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Topic b comes last in the round: what it gets while the readers of a are written to must wait, like that of a."""
    monkeypatch.setattr(delivery, "_SLICE", 1)
    monkeypatch.setattr(topic_module, "_MAX_READERS", 1)
    async with Hub() as hub:
        _, both = await follow(hub, "a", "b")
        for _ in range(10):
            await follow(hub, "a")
        await hub.publish("a", Event("1"))
        await hub.publish("b", Event("2"))
        await turns(4)
        assert both.data == [], "the round is not over yet"
        await hub.publish("a", Event("3"))
        await hub.publish("b", Event("4"))
        await both.take(4)
        assert both.data == ["1", "2", "3", "4"]


async def test_a_reader_that_joins_in_the_middle_of_a_round_gets_each_event_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_SLICE", 1)
    monkeypatch.setattr(topic_module, "_MAX_READERS", 1)
    async with Hub() as hub:
        before = await hub.publish("b", Event("0"))
        for _ in range(10):
            await follow(hub, "a")
        for topic, data in [("a", "1"), ("b", "2"), ("a", "3")]:
            await hub.publish(topic, Event(data))
        await turns(4)
        _, one = await follow(hub, "a", after=before)
        _, both = await follow(hub, "b", "a", after=before)
        await hub.publish("b", Event("4"))
        await hub.publish("a", Event("5"))
        await one.take(3)
        await both.take(5)
        await turns(50)
        assert one.data == ["1", "3", "5"]
        assert both.data == ["1", "2", "3", "4", "5"]


async def test_a_reader_that_leaves_in_the_middle_of_a_round_is_not_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_SLICE", 1)
    monkeypatch.setattr(topic_module, "_MAX_READERS", 1)
    async with Hub() as hub:
        readers = [await follow(hub, "a") for _ in range(10)]
        await hub.publish("a", Event("x"))
        await turns(3)
        last, outlet = readers[-1]
        assert outlet.payloads == []
        last.end()
        await readers[-2][1].take(1)
        await turns(10)
        assert outlet.payloads == []


async def test_publishers_wait_while_much_is_waiting_to_be_handed_out() -> None:
    """However fast they are: what waits, and so what each reader is written in one go, has a bound."""
    async with Hub() as hub:
        _, outlet = await follow(hub, "a")
        for number in range(2_000):
            await hub.publish("a", Event(f"{number} " + "x" * 1_000))
        await outlet.take(2_000)
        assert [data.split()[0] for data in outlet.data] == [str(number) for number in range(2_000)]
        assert max(map(len, outlet.payloads)) < 2 * delivery._MAX_PENDING


async def test_a_publisher_that_never_waits_for_anything_else_leaves_the_loop_to_others() -> None:
    async with Hub() as hub:
        ran: list[int] = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        for _ in range(1_000):
            await hub.publish("nobody-reads-it", Event("x"))
        assert ran


async def test_a_publisher_cancelled_while_it_waits_has_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_SLICE", 1)
    monkeypatch.setattr(topic_module, "_MAX_READERS", 1)
    async with Hub() as hub:
        for _ in range(10):
            _, outlet = await follow(hub, "a")
        await hub.publish("a", Event("1"))
        await turns(3)
        await hub.publish("a", Event("2" * 200_000), Event("3" * 200_000))
        waiting, other = (asyncio.ensure_future(hub.publish("a", Event(data))) for data in ("4", "5"))
        await turns(2)
        assert not waiting.done()
        waiting.cancel()
        await other
        await outlet.take(4)
        assert [data[0] for data in outlet.data] == ["1", "2", "3", "5"]


async def test_all_that_is_published_before_the_hub_closes_is_delivered() -> None:
    hub = Hub()
    await hub.open()
    _, outlet = await follow(hub, "a")
    for number in range(10):
        await hub.publish("a", Event(str(number)))
    await hub.close()
    assert outlet.data[:-1] == [str(number) for number in range(10)]
    assert outlet.types[-1] == "stream.bye"
    assert outlet.finished


async def test_deliveries_are_counted() -> None:
    async with Hub() as hub:
        for _ in range(3):
            await follow(hub, "a")
        _, both = await follow(hub, "a", "b")
        await hub.publish("a", *events("1", "2"))
        await both.take(2)
        assert (hub.stats.published, hub.stats.deliveries) == (2, 8)
        assert hub.stats.delivered_bytes == 4 * len(both.payloads[0])
        assert hub.stats.publish_latency.count == 1


def broken(frame: object) -> bytes:
    raise RuntimeError("a dialect with a bug")


async def test_a_broken_encoding_ends_only_its_own_readers(caplog: pytest.LogCaptureFixture) -> None:
    async with Hub() as hub:
        encoding = Encoding(broken)
        ended = [(await follow(hub, "a", encoding=encoding)), (await follow(hub, "a", "b", encoding=encoding))]
        outlets = [(await follow(hub, "a"))[1], (await follow(hub, "a", "b"))[1]]
        await hub.publish("a", Event("x"))
        for outlet in outlets:
            assert (await outlet.take(1))[0].data == "x"
        assert all(reader.closed and outlet.aborted for reader, outlet in ended)
        late, outlet = await follow(hub, "a", encoding=encoding, newest=1)
        assert late.closed, "reading from the journal is no way around it"
        assert outlet.aborted
        assert hub.stats.closed == {"error": 3}
    assert "a dialect with a bug" in caplog.text


async def test_a_broken_control_encoding_ends_only_its_own_readers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub(MemoryBroker(Retentions(default=Retention(events=2))))
    encoding = Encoding(control=broken)
    _, ended = await follow(hub, "a", encoding=encoding)
    _, other = await follow(hub, "a")
    first = await hub.publish("b", Event("0"))
    await hub.publish("b", *events("1", "2", "3"))
    _, lost = await follow(hub, "b", after=first, encoding=encoding)
    await lost.until(lambda outlet: outlet.aborted)
    await hub.close()
    assert ended.aborted
    assert [event.type for event in other.events] == ["stream.bye"]
    assert "a dialect with a bug" in caplog.text


async def test_an_outlet_that_breaks_ends_only_its_own_reader() -> None:
    async with Hub() as hub:

        def burst(payload: bytes) -> None:
            raise OSError("gone")

        before = (await follow(hub, "a"))[1]
        reader, outlet = await follow(hub, "a", on_write=burst)
        other = (await follow(hub, "a"))[1]
        await hub.publish("a", Event("x"))
        assert (await other.take(1))[0].data == "x"
        assert before.data == ["x"]
        assert reader.closed
        assert outlet.aborted
        assert hub.stats.closed == {"error": 1}


async def test_an_outlet_that_breaks_when_its_stream_ends_does_not_hold_up_the_close() -> None:
    hub = Hub()
    _, outlet = await follow(hub, "a")
    _, other = await follow(hub, "a")

    def burst(payload: bytes) -> None:
        raise OSError("gone")

    outlet.on_write = burst
    await hub.close()
    assert other.types == ["stream.bye"]
