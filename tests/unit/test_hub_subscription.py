from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import pytest

from support.outlets import MemoryOutlet, follow, publish, turns
from yeoul.hub import Hub, MemoryBroker, SubscribeOptions, subscription
from yeoul.hub.broker import Sink
from yeoul.hub.limits import Principal
from yeoul.hub.reasons import LIFETIME
from yeoul.sse import Event
from yeoul.stream import Cursor, Frame, Journal, Retention, Slice
from yeoul.stream.retention import Retentions


def small(events: int = 5) -> MemoryBroker:
    return MemoryBroker(Retentions(default=Retention(events=events)))


def numbers(start: int, stop: int) -> list[str]:
    return [str(number) for number in range(start, stop)]


# --- slow readers


async def test_a_reader_whose_outlet_is_full_is_only_its_cursor_and_catches_up() -> None:
    async with Hub() as hub:
        slow, outlet = await follow(hub, "a")
        _, fast = await follow(hub, "a")
        outlet.full = True
        for number in range(100):
            await publish(hub, "a", str(number))
            await turns(2)
        await fast.take(100)
        assert len(outlet.payloads) == 1
        assert slow.lagging
        assert hub.stats.lagging == 1
        outlet.full = False
        slow.resume()
        await outlet.take(100)
        assert outlet.data == numbers(0, 100)
        assert slow.live
        assert hub.stats.lagging == 0
        await publish(hub, "a", "100")
        await outlet.take(101)
        assert outlet.data == numbers(0, 101)


async def test_catching_up_goes_in_bounded_pieces_and_gives_the_loop_its_turn() -> None:
    async with Hub(MemoryBroker(Retentions(default=Retention(events=10_000, bytes=1 << 30)))) as hub:
        slow, outlet = await follow(hub, "a")
        outlet.full = True
        for number in range(500):
            await publish(hub, "a", f"{number} " + "x" * 2_000)
            await turns(1)
        outlet.full = False
        slow.resume()
        await outlet.take(500)
        assert len(outlet.payloads) > 10
        assert max(map(len, outlet.payloads)) <= 64 * 1024 + 2_100


async def test_a_slow_reader_of_several_topics_keeps_their_order() -> None:
    async with Hub(MemoryBroker(Retentions(default=Retention(events=10_000, bytes=1 << 30)))) as hub:
        slow, outlet = await follow(hub, "a", "b", "c")
        outlet.full = True
        for number in range(300):
            # One topic has far larger events than the others, so that its pieces end earlier.
            await publish(hub, "abc"[number % 3], f"{number} " + "x" * (3_000 if number % 3 == 0 else 10))
        outlet.full = False
        slow.resume()
        await outlet.take(300)
        assert [data.split()[0] for data in outlet.data] == numbers(0, 300)


async def test_a_reader_that_was_left_behind_for_too_long_is_told() -> None:
    async with Hub(small(5)) as hub:
        slow, outlet = await follow(hub, "a")
        outlet.full = True
        await publish(hub, "a", "0")
        await turns()
        for number in range(1, 20):
            await publish(hub, "a", str(number))
            await turns(2)
        outlet.full = False
        slow.resume()
        await outlet.take(7)
        assert outlet.types == ["message", "stream.gap", *["message"] * 5]
        assert outlet.data[0] == "0"
        assert json.loads(outlet.data[1]) == {
            "requested": f"{hub.epoch}-1",
            "oldest": f"{hub.epoch}-16",
            "reason": "evicted",
        }
        assert outlet.data[2:] == numbers(15, 20)
        assert hub.stats.gaps == 1


# --- gaps


async def test_a_position_that_is_no_longer_kept_gets_one_gap_and_the_rest() -> None:
    async with Hub(small(3)) as hub:
        first = await publish(hub, "a", "0")
        await publish(hub, "a", *numbers(1, 10))
        _, outlet = await follow(hub, "a", after=first)
        await outlet.take(4)
        gap = outlet.events[0]
        assert (gap.type, json.loads(gap.data)) == (
            "stream.gap",
            {"requested": str(first), "oldest": f"{hub.epoch}-8", "reason": "evicted"},
        )
        assert outlet.data[1:] == ["7", "8", "9"]


async def test_a_reader_cut_right_after_a_gap_loses_nothing() -> None:
    async with Hub(small(3)) as hub:
        first = await publish(hub, "a", "0")
        await publish(hub, "a", *numbers(1, 10))
        _, outlet = await follow(hub, "a", after=first)
        told = Cursor.parse((await outlet.take(1))[0].id or "")
        _, again = await follow(hub, "a", after=told)
        await again.take(3)
        assert again.data == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("position", "reason"), [(Cursor("other", 2), "epoch"), (None, "unknown")], ids=["epoch", "unknown"]
)
async def test_a_position_of_another_order_gets_a_gap_and_all_that_is_kept(
    position: Cursor | None, reason: str
) -> None:
    async with Hub() as hub:
        await publish(hub, "a", *numbers(0, 4))
        _, outlet = await follow(hub, "a", after=position or Cursor(hub.epoch, 1_000))
        await outlet.take(5)
        told = json.loads(outlet.data[0])
        assert (told["reason"], told["oldest"]) == (reason, f"{hub.epoch}-1")
        assert outlet.data[1:] == numbers(0, 4)


async def test_a_gap_where_nothing_is_kept_goes_on_from_now() -> None:
    async with Hub() as hub:
        await publish(hub, "other", "x")
        _, outlet = await follow(hub, "a", after=Cursor("other", 2))
        [gap] = await outlet.take(1)
        assert json.loads(gap.data)["oldest"] is None
        assert gap.id == f"{hub.epoch}-1"
        await publish(hub, "a", "y")
        assert (await outlet.take(2))[1].data == "y"


async def test_a_gap_in_one_of_several_topics_is_told_once_and_the_others_are_given_in_full() -> None:
    async with Hub(small(5)) as hub:
        start = await publish(hub, "a", "a0")
        await publish(hub, "b", "b0", "b1")
        await publish(hub, "a", *(f"a{number}" for number in range(1, 20)))
        _, outlet = await follow(hub, "a", "b", after=start)
        await outlet.take(8)
        await turns(20)
        assert outlet.types == ["stream.gap", *["message"] * 7]
        assert outlet.data[1:] == ["b0", "b1", *(f"a{number}" for number in range(15, 20))]


async def test_a_gap_of_one_topic_does_not_hide_a_later_one_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the gap the reader stands far below what topic a let go; what topic b lets go in between is told too."""
    monkeypatch.setattr(subscription, "_SLICE_BYTES", 1)
    async with Hub(small(5)) as hub:
        start = await publish(hub, "a", "a0")
        await publish(hub, "b", *(f"b{number}" for number in range(5)))
        await publish(hub, "a", *(f"a{number}" for number in range(1, 20)))
        _, outlet = await follow(hub, "a", "b", after=start, full=True)
        await outlet.take(1)
        assert outlet.types == ["stream.gap", "message"]
        reader = next(iter(hub._readers))
        await publish(hub, "b", *(f"b{number}" for number in range(5, 8)))
        outlet.full = False
        reader.resume()
        await outlet.until(lambda outlet: outlet.data[-1] == "b7")
        assert outlet.types == ["stream.gap", "message", "stream.gap", *["message"] * 10]
        assert (outlet.data[1], outlet.data[3:]) == (
            "b0",
            ["b3", "b4", *(f"a{number}" for number in range(15, 20)), "b5", "b6", "b7"],
        )


async def test_what_is_let_go_between_subscribing_and_the_first_byte_is_in_the_gap() -> None:
    async with Hub(small(3)) as hub:
        await publish(hub, "a", *numbers(0, 3))
        reader = await hub.subscribe(["a"], SubscribeOptions(after=Cursor("other", 1)))
        await publish(hub, "a", *numbers(3, 6))
        outlet = MemoryOutlet()
        reader.start(outlet)
        await outlet.take(4)
        assert json.loads(outlet.data[0])["oldest"] == f"{hub.epoch}-4"
        assert outlet.data[1:] == numbers(3, 6)


# --- where a new reader begins


async def test_a_new_reader_begins_with_what_comes() -> None:
    async with Hub() as hub:
        await publish(hub, "a", "before")
        _, outlet = await follow(hub, "a")
        await publish(hub, "a", "after")
        assert [event.data for event in await outlet.take(1)] == ["after"]


async def test_a_new_reader_may_begin_with_the_newest_of_each_topic() -> None:
    async with Hub(small(10)) as hub:
        await publish(hub, "a", *(f"a{number}" for number in range(40)))
        await publish(hub, "b", *(f"b{number}" for number in range(4)))
        _, outlet = await follow(hub, "a", "empty", "b", newest=2)
        await publish(hub, "a", "a40")
        await outlet.take(5)
        assert outlet.data == ["a38", "a39", "b2", "b3", "a40"]
        assert hub.stats.gaps == 0


async def test_what_a_new_reader_did_not_ask_for_is_no_gap_but_what_it_asked_for_is() -> None:
    async with Hub(small(10)) as hub:
        await publish(hub, "a", *(f"a{number}" for number in range(40)))
        await publish(hub, "b", "b0")
        reader = await hub.subscribe(["a", "b"], SubscribeOptions(newest=2))
        await publish(hub, "a", *(f"a{number}" for number in range(40, 51)))
        outlet = MemoryOutlet()
        reader.start(outlet)
        await outlet.take(12)
        assert outlet.types == ["stream.gap", *["message"] * 11]
        assert outlet.data[1:] == ["b0", *(f"a{number}" for number in range(41, 51))]


# --- ends


async def test_the_final_event_ends_a_stream_that_ends_with_it() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a", until_final=True)
        _, endless = await follow(hub, "a")
        await hub.publish("a", Event("1"), Event("2"), final=True)
        await outlet.until(lambda outlet: outlet.finished)
        assert outlet.data == ["1", "2"]
        assert reader.closed
        await endless.take(2)
        assert not endless.finished
        assert hub.stats.closed == {"final": 1}


async def test_a_reader_that_comes_late_gets_the_rest_and_the_end() -> None:
    async with Hub() as hub:
        first = await publish(hub, "a", "0")
        await hub.publish("a", Event("1"), final=True)
        _, outlet = await follow(hub, "a", after=first, until_final=True)
        assert outlet.data == ["1"]
        assert outlet.finished


async def test_a_slow_reader_gets_the_end_when_it_has_caught_up() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a", until_final=True)
        outlet.full = True
        await publish(hub, "a", "0")
        await outlet.take(1)
        await hub.publish("a", Event("1"), final=True)
        await turns()
        assert not outlet.finished
        outlet.full = False
        reader.resume()
        await outlet.until(lambda outlet: outlet.finished)
        assert outlet.data == ["0", "1"]


async def test_a_stream_of_a_topic_that_is_over_and_has_nothing_left_ends_at_once() -> None:
    async with Hub(MemoryBroker(max_bytes=2_000)) as hub:
        _, kept = await follow(hub, "a")
        first = await hub.publish("a", Event("0"))
        await hub.publish("a", Event("1"), final=True)
        _, outlet = await follow(hub, "a", until_final=True)
        assert (outlet.data, outlet.finished) == ([], True)
        await publish(hub, "b", "x" * 3_000)
        _, late = await follow(hub, "a", after=Cursor(hub.epoch, first.offset - 1), until_final=True)
        await late.until(lambda outlet: outlet.finished)
        assert late.types == ["stream.gap"]
        assert not kept.finished


async def test_a_position_at_the_end_is_exhausted_one_before_is_not() -> None:
    async with Hub() as hub:
        first = await publish(hub, "a", "0")
        assert not (await hub.subscribe(["a"], SubscribeOptions(after=first, until_final=True))).exhausted
        last = await hub.publish("a", Event("1"), final=True)
        assert not (await hub.subscribe(["a"], SubscribeOptions(after=first, until_final=True))).exhausted
        assert (await hub.subscribe(["a"], SubscribeOptions(after=last, until_final=True))).exhausted
        assert not (await hub.subscribe(["a"], SubscribeOptions(after=Cursor("other", 1), until_final=True))).exhausted


async def test_the_farewell_says_why_and_spreads_those_who_come_back() -> None:
    async with Hub(retry_ms=1_000) as hub:
        waits = set()
        for _ in range(10):
            reader, outlet = await follow(hub, "a")
            reader.end(LIFETIME)
            [bye] = outlet.events
            assert (bye.type, json.loads(bye.data)) == ("stream.bye", {"reason": "lifetime", "reconnect": True})
            assert outlet.finished
            retry = int(outlet.payloads[0].split(b"retry: ")[1].split(b"\n")[0])
            assert 200 <= retry <= 1_000
            waits.add(retry)
        assert len(waits) > 1


async def test_closing_gives_everything_back_once() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a", "b")
        outlet.full = True
        await publish(hub, "a", "x")
        await turns()
        for _ in range(2):
            reader.end()
        assert (hub.stats.readers, hub.stats.lagging, hub.stats.closed) == (0, 0, {"client": 1})
        assert repr(hub).startswith("<Hub 0 readers, 0 topics")
        reader.resume()
        reader.end(LIFETIME)
        await publish(hub, "a", "y")
        await turns()
        assert len(outlet.payloads) == 1


# --- time


async def test_a_silent_group_gets_a_heartbeat_and_traffic_puts_it_off() -> None:
    async with Hub(heartbeat=10) as hub:
        reader, outlet = await follow(hub, "a")
        [group] = reader.topics[0].all_groups()
        began = reader.touched
        assert group.on_time(began + 9) == began + 10
        assert outlet.payloads == []
        assert group.on_time(began + 10) == began + 20
        assert outlet.payloads == [b": keep-alive\n"]
        group.deliver([Frame(hub.epoch, 1, 0, Event("x"), 0.0)], b"data: x\n\n", began + 15)
        assert group.on_time(began + 20) == began + 25
        assert outlet.payloads == [b": keep-alive\n", b"data: x\n\n"]
        assert hub.stats.heartbeats == 1


async def test_the_heartbeat_of_a_group_comes_in_time_for_the_reader_that_was_written_to_longest_ago() -> None:
    async with Hub(heartbeat=10) as hub:
        one, first = await follow(hub, "a")
        first.full = True
        await publish(hub, "a", "1")
        await first.take(1)
        wrote = one.touched
        other, second = await follow(hub, "a")
        await publish(hub, "a", "2")
        await second.take(1)
        first.full = False
        one.resume()
        await first.take(2)
        assert one.live
        [group] = one.topics[0].all_groups()
        assert group.touched >= wrote
        assert group.on_time(group.touched + 10) is not None
        assert (first.payloads[-1], second.payloads[-1]) == (b": keep-alive\n", b": keep-alive\n")
        other.end()


async def test_a_reader_that_lags_for_a_while_has_its_heartbeat_as_soon_as_it_is_up_to_date() -> None:
    async with Hub(heartbeat=10, send_timeout=60) as hub:
        reader, outlet = await follow(hub, "a")
        outlet.full = True
        await publish(hub, "a", "1")
        await outlet.take(1)
        wrote = reader.touched
        assert reader.lagging
        outlet.full = False
        reader.resume()
        [group] = reader.topics[0].all_groups()
        assert group.on_time(wrote + 10) == wrote + 20
        assert hub.stats.heartbeats == 1


async def test_a_heartbeat_is_a_chunk_of_its_own_on_a_socket() -> None:
    async with Hub(heartbeat=10) as hub:
        reader, outlet = await follow(hub, "a", chunked=True)
        [group] = reader.topics[0].all_groups()
        group.on_time(reader.touched + 10)
        assert outlet.payloads == [b"d\r\n: keep-alive\n\r\n"]


async def test_a_reader_that_takes_nothing_for_too_long_is_let_go() -> None:
    async with Hub(send_timeout=30) as hub:
        reader, outlet = await follow(hub, "a")
        outlet.full = True
        await publish(hub, "a", "x")
        await turns()
        since = hub.loop.time()
        again = reader.on_time(since + 1)
        assert again is not None
        assert again <= since + 30
        assert not outlet.aborted
        assert reader.on_time(since + 31) is None
        assert outlet.aborted
        assert reader.closed
        assert hub.stats.closed == {"send timeout": 1}


async def test_a_reader_that_takes_something_now_and_then_is_kept() -> None:
    async with Hub(send_timeout=30) as hub:
        reader, outlet = await follow(hub, "a", full=True)
        for number in range(5):
            await publish(hub, "a", str(number))
            await turns()
            reader.on_time(hub.loop.time() + 29)
            reader.resume()
        assert not reader.closed
        assert outlet.data == numbers(0, 5)


async def test_a_response_has_a_longest_life_shortened_at_random() -> None:
    async with Hub(heartbeat=1e6, max_lifetime=100) as hub:
        ends = set()
        for _ in range(20):
            reader, outlet = await follow(hub, "a")
            when = reader.on_time(hub.loop.time())
            assert when is not None
            assert 80 <= when - reader.touched <= 100.1
            ends.add(round(when - reader.touched, 3))
            assert reader.on_time(when) is None
            assert json.loads(outlet.data[-1])["reason"] == "lifetime"
            assert outlet.finished
        assert len(ends) > 1


async def test_a_closed_reader_has_no_deadline() -> None:
    async with Hub() as hub:
        reader, _ = await follow(hub, "a")
        reader.end()
        assert reader.on_time(1e12) is None


# --- a broker that keeps more than the journals


class DeepBroker:
    """Keeps everything, and small journals: what a broker with a store of its own looks like. `reading` holds its
    history back."""

    def __init__(self, window: int) -> None:
        self._inner = MemoryBroker(Retentions(default=Retention(events=window)))
        self._store: dict[str, Journal] = {}
        self.reading = asyncio.Event()
        self.reading.set()
        self.reads: list[tuple[str, int]] = []
        self.broken = False

    @property
    def epoch(self) -> str:
        return self._inner.epoch

    @property
    def head(self) -> int:
        return self._inner.head

    async def open(self, sink: Sink) -> None:
        await self._inner.open(sink)

    async def close(self) -> None:
        await self._inner.close()

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        cursor = await self._inner.publish(topic, events, final=final)
        store = self._store.setdefault(topic, Journal(Retention(events=10**6, bytes=1 << 30)))
        found = self._inner._journals.of(topic).after(cursor.offset - len(events))
        assert found is not None
        for frame in found.frames:
            store.append(frame)
        return cursor

    async def attach(self, topic: str) -> Journal:
        return await self._inner.attach(topic)

    def detach(self, topic: str) -> None:
        self._inner.detach(topic)

    async def history(self, topic: str, after: int, max_bytes: int) -> Slice | None:
        self.reads.append((topic, after))
        await self.reading.wait()
        if self.broken:
            raise ConnectionError("the store is away")
        store = self._store.get(topic)
        return None if store is None else store.after(after, min(max_bytes, 500))

    async def topics(self, prefix: str) -> Sequence[str]:
        return await self._inner.topics(prefix)

    async def forget(self, topic: str) -> None:
        self._store.pop(topic, None)

    async def newest(self) -> int:
        return self.head

    def stats(self) -> None:
        return None

    def sweep(self) -> None:
        self._inner.sweep()


@pytest.fixture
def deep() -> DeepBroker:
    return DeepBroker(window=5)


async def test_what_the_journal_let_go_is_read_from_the_brokers_history(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 50):
            await publish(hub, "a", str(number))
        _, outlet = await follow(hub, "a", after=first)
        await outlet.take(49)
        await publish(hub, "a", "50")
        await outlet.take(50)
        assert outlet.data == numbers(1, 51)
        assert hub.stats.gaps == 0


async def test_several_topics_are_read_from_history_in_one_order(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 60):
            await publish(hub, "abc"[number * number % 3], str(number))
        _, outlet = await follow(hub, "c", "b", "a", after=first)
        await outlet.take(59)
        assert outlet.data == numbers(1, 60)


async def test_history_is_read_once_at_a_time(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 20):
            await publish(hub, "a", str(number))
        deep.reading.clear()
        reader, outlet = await follow(hub, "a", after=first)
        for _ in range(3):
            await turns()
            reader.resume()
        assert deep.reads == [("a", 1)]
        deep.reading.set()
        await outlet.take(19)
        await turns(50)
        assert outlet.data == numbers(1, 20)


async def test_what_another_topic_lets_go_while_history_is_read_is_not_skipped(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 10):
            await publish(hub, "a", str(number))
        await publish(hub, "b", "10")
        deep.reading.clear()
        _, outlet = await follow(hub, "a", "b", after=first)
        await turns()
        for number in range(11, 30):
            await publish(hub, "b", str(number))
        deep.reading.set()
        await outlet.take(29)
        assert outlet.data == numbers(1, 30)


async def test_a_reader_that_leaves_while_history_is_read_is_not_written_to(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        await publish(hub, "a", "1")
        for number in range(2, 20):
            await publish(hub, "a", str(number))
        deep.reading.clear()
        reader, outlet = await follow(hub, "a", after=first)
        await turns()
        reader.end()
        deep.reading.set()
        await turns()
        assert outlet.payloads == []


async def test_one_that_is_full_when_history_has_been_read_is_given_it_when_it_has_room(deep: DeepBroker) -> None:
    async with Hub(deep, heartbeat=1e6) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 20):
            await publish(hub, "a", str(number))
        deep.reading.clear()
        principal = Principal("ann", expires=time.time() + 600)
        reader, outlet = await follow(hub, "a", after=first, principal=principal)
        await turns()
        outlet.full = True
        reader.on_time(hub.loop.time() + 545)  # the word about its token fills it
        deep.reading.set()
        await turns(50)
        assert outlet.types == ["stream.reauth"]
        outlet.full = False
        reader.resume()
        await outlet.take(20)
        assert outlet.data[1:] == numbers(1, 20)


async def test_history_counts_for_what_a_returning_reader_is_given(deep: DeepBroker) -> None:
    """It is read from the oldest on, and its length known only then: past the bound a gap leads to what is here."""
    async with Hub(deep, max_replay_bytes=3_000) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 60):
            await publish(hub, "a", f"{number} " + "x" * 100)
        _, outlet = await follow(hub, "a", after=first)
        await outlet.until(lambda outlet: outlet.data and outlet.data[-1].startswith("59 "))
        kinds = outlet.types
        assert kinds.count("stream.gap") == 1
        gap = kinds.index("stream.gap")
        assert json.loads(outlet.data[gap])["reason"] == "budget"
        given = [int(data.split()[0]) for data in outlet.data if not data.startswith("{")]
        assert given[:gap] == list(range(1, gap + 1))
        assert given[gap:] == list(range(55, 60))
        assert sum(map(len, outlet.payloads)) < 3_500


async def test_a_store_that_is_away_sends_its_reader_away_with_its_position(
    deep: DeepBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 20):
            await publish(hub, "a", str(number))
        deep.broken = True
        _, outlet = await follow(hub, "a", after=first)
        await outlet.until(lambda outlet: outlet.finished)
        [bye] = outlet.events
        assert (bye.type, bye.id, json.loads(bye.data)["reason"]) == ("stream.bye", str(first), "broker")
        assert "the store is away" in caplog.text


async def test_what_history_has_not_either_is_a_gap(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        await publish(hub, "b", "b")
        for number in range(1, 20):
            await publish(hub, "a", str(number))
        await deep.forget("a")
        _, outlet = await follow(hub, "a", "b", after=first)
        await outlet.take(7)
        assert outlet.types == ["stream.gap", *["message"] * 6]
        assert outlet.data[1:] == ["b", *numbers(15, 20)]


async def test_a_history_that_says_nothing_where_something_was_let_go_does_not_loop(deep: DeepBroker) -> None:
    async with Hub(deep) as hub:
        first = await publish(hub, "a", "0")
        for number in range(1, 20):
            await publish(hub, "a", str(number))
        deep._store["a"] = Journal(Retention())
        _, outlet = await follow(hub, "a", after=first)
        await outlet.take(6)
        assert len(deep.reads) == 1
        assert outlet.types[0] == "stream.gap"


async def test_opening_events_carry_the_position_and_come_first() -> None:
    async with Hub() as hub:
        cursor = await publish(hub, "a", "0")
        _, outlet = await follow(hub, "a", opening=[Event("{}", "stream.hello"), Event("so far")])
        assert [(event.type, event.data, event.id) for event in outlet.events] == [
            ("stream.hello", "{}", str(cursor)),
            ("message", "so far", str(cursor)),
        ]


def test_what_a_reader_says_of_itself() -> None:
    async def run() -> list[str]:
        async with Hub() as hub:
            reader, outlet = await follow(hub, "a")
            said = [repr(reader)]
            outlet.full = True
            await publish(hub, "a", "x")
            await turns()
            said.append(repr(reader))
            reader.end()
            return [*said, repr(reader)]

    assert asyncio.run(run()) == [
        "<Subscription ['a'] at 0 live>",
        "<Subscription ['a'] at 1 lagging>",
        "<Subscription ['a'] at 1 closed>",
    ]
