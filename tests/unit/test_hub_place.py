from __future__ import annotations

import pytest

from support.outlets import follow, turns
from yeoul.hub import Hub, MemoryBroker, SubscribeOptions
from yeoul.sse import Event
from yeoul.stream import Cursor, Retention
from yeoul.stream.retention import Retentions


async def filled(hub: Hub) -> dict[str, Cursor]:
    """Topics a, b and c with three events each, a1 b1 c1 a2 …; the positions of the last ones."""
    last = {}
    for number in (1, 2, 3):
        for name in "abc":
            last[name] = await hub.publish(name, Event(f"{name}{number}"))
    return last


async def test_a_new_reader_may_begin_with_other_numbers_of_events_in_each_topic() -> None:
    async with Hub() as hub:
        await filled(hub)
        _, outlet = await follow(hub, "a", "b", "c", newest={"a": 2, "b": 1, "x": 9})
        await hub.publish("c", Event("c4"))
        await outlet.take(4)
        assert outlet.data == ["a2", "a3", "b3", "c4"]
        assert hub.stats.gaps == 0


async def test_a_reader_cut_before_its_first_event_is_not_given_what_it_did_not_ask_for() -> None:
    """Its position is that of what it was to be given, not of the topic that has been silent for longest."""
    async with Hub() as hub:
        await hub.publish("silent", Event("long ago"))
        for number in range(5):
            await hub.publish("a", Event(str(number)))
        reader, _ = await follow(hub, "a", "silent", newest={"a": 2}, full=True)
        reader.end()
        began = await hub.subscribe(["a", "silent"], SubscribeOptions(newest={"a": 2}))
        _, again = await follow(hub, "a", "silent", after=began.cursor)
        await again.take(2)
        await turns()
        assert again.data == ["3", "4"]
        began.end()


async def test_where_there_is_nothing_for_it_a_reader_begins_at_the_head() -> None:
    async with Hub() as hub:
        last = await filled(hub)
        for newest in (0, {}, {"a": 0}, {"other": 5}):
            reader = await hub.subscribe(["a", "b"], SubscribeOptions(newest=newest))
            assert reader.cursor == last["c"]
            reader.end()
        reader = await hub.subscribe(["empty"], SubscribeOptions(newest=5))
        assert reader.cursor == last["c"]
        reader.end()


# --- topics in which one that comes back begins anew


async def test_one_that_comes_back_is_not_given_what_it_missed_of_a_topic_that_begins_afresh() -> None:
    async with Hub() as hub:
        first = await hub.publish("a", Event("a0"))
        await filled(hub)
        _, outlet = await follow(hub, "a", "b", after=first, always_new=["b"])
        await hub.publish("b", Event("b4"))
        await outlet.take(4)
        assert outlet.data == ["a1", "a2", "a3", "b4"]
        assert hub.stats.gaps == 0


async def test_it_begins_there_with_the_newest_and_has_nothing_twice() -> None:
    async with Hub() as hub:
        first = await hub.publish("a", Event("a0"))
        last = await filled(hub)
        _, outlet = await follow(hub, "a", "b", after=first, newest={"b": 1}, always_new=["b"])
        await outlet.take(4)
        assert outlet.data == ["a1", "a2", "a3", "b3"]
        _, again = await follow(hub, "b", after=last["b"], newest=1, always_new=["b"])
        await hub.publish("b", Event("b4"))
        await again.take(1)
        assert again.data == ["b4"]


async def test_what_is_let_go_of_a_topic_that_begins_afresh_is_no_gap() -> None:
    async with Hub(MemoryBroker(Retentions(default=Retention(events=2)))) as hub:
        first = await hub.publish("a", Event("a0"))
        for number in range(1, 10):
            await hub.publish("a", Event(f"a{number}"))
        _, outlet = await follow(hub, "a", after=first, newest=1, always_new=["a"])
        await outlet.take(1)
        assert (outlet.types, outlet.data) == (["message"], ["a9"])


@pytest.mark.parametrize("lost", [Cursor("other", 3), None], ids=["epoch", "unknown"])
async def test_a_lost_position_is_no_loss_where_all_begins_afresh(lost: Cursor | None) -> None:
    async with Hub() as hub:
        await filled(hub)
        after = lost or Cursor(hub.epoch, 1_000)
        _, outlet = await follow(hub, "a", after=after, newest=1, always_new=["a"])
        await outlet.take(1)
        assert outlet.data == ["a3"]
        assert hub.stats.gaps == 0


async def test_a_lost_position_is_one_where_something_does_not() -> None:
    async with Hub() as hub:
        await filled(hub)
        _, outlet = await follow(hub, "a", "b", after=Cursor("other", 3), newest={"b": 1}, always_new=["b"])
        await outlet.take(5)
        assert outlet.types == ["stream.gap", *["message"] * 4]
        assert outlet.data[1:] == ["a1", "a2", "a3", "b3"]
