"""How much a reader that comes back is given. The other ways of reading on are in test_hub_subscription.py."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.outlets import MemoryOutlet, follow, publish, turns
from yeoul.hub import Hub, MemoryBroker
from yeoul.sse import Event
from yeoul.stream import Cursor, Frame, Retention
from yeoul.stream.retention import Retentions

# What an event of one character counts for, its type being "message".
ONE = Frame("", 1, 0, Event("x"), 0.0).size


def gap_of(outlet: MemoryOutlet) -> dict[str, str]:
    [gap] = [json.loads(event.data) for event in outlet.events if event.type == "stream.gap"]
    return dict(gap)


@pytest.mark.parametrize(("missed", "given"), [(4, 4), (5, 5), (6, 5), (9, 5)])
async def test_one_that_comes_back_to_more_than_the_bound_is_given_the_newest_that_fit(missed: int, given: int) -> None:
    async with Hub(max_replay_bytes=5 * ONE) as hub:
        first = await publish(hub, "a", "x")
        await publish(hub, "a", *map(str, range(missed)))
        reader, outlet = await follow(hub, "a", after=first)
        await publish(hub, "a", "!")
        await outlet.until(lambda outlet: outlet.data[-1] == "!")
        wanted = [*map(str, range(missed - given, missed)), "!"]
        if given == missed:
            assert outlet.data == wanted
            return
        assert outlet.types == ["stream.gap", *["message"] * (given + 1)]
        assert outlet.data[1:] == wanted
        oldest = 2 + missed - given
        assert gap_of(outlet) == {"requested": str(first), "oldest": f"{hub.epoch}-{oldest}", "reason": "budget"}
        assert outlet.events[0].id == f"{hub.epoch}-{oldest - 1}"
        assert reader.gaps == hub.stats.gaps == 1


async def test_a_reader_cut_right_after_such_a_gap_is_given_the_rest_without_another() -> None:
    async with Hub(max_replay_bytes=3 * ONE) as hub:
        first = await publish(hub, "a", "x")
        await publish(hub, "a", *"abcdef")
        _, outlet = await follow(hub, "a", after=first)
        told = Cursor.parse((await outlet.take(1))[0].id or "")
        _, again = await follow(hub, "a", after=told)
        await again.take(3)
        assert (again.types, again.data) == (["message"] * 3, ["d", "e", "f"])


async def test_where_not_even_the_newest_fits_it_goes_on_from_now() -> None:
    async with Hub(max_replay_bytes=ONE) as hub:
        first = await publish(hub, "a", "x")
        await publish(hub, "a", "y", "long " * 20)
        _, outlet = await follow(hub, "a", after=first)
        await publish(hub, "a", "z")
        await outlet.take(2)
        assert "oldest" in gap_of(outlet)
        assert gap_of(outlet)["oldest"] is None
        assert outlet.data[1:] == ["z"]


async def test_one_large_event_stands_between_the_newest_and_all_before_it() -> None:
    """What follows a gap has no hole: nothing older is given because it would fit."""
    async with Hub(max_replay_bytes=4 * ONE) as hub:
        first = await publish(hub, "a", "x")
        await publish(hub, "a", "small", "large " * 100)
        await publish(hub, "b", "1")
        await publish(hub, "a", "2")
        _, outlet = await follow(hub, "b", "a", after=first)
        await outlet.take(3)
        await turns()
        assert outlet.data[1:] == ["1", "2"]


@pytest.mark.parametrize("after", [Cursor("other", 1), None], ids=["epoch", "unknown"])
async def test_a_lost_position_with_too_much_after_it_is_one_gap(after: Cursor | None) -> None:
    async with Hub(max_replay_bytes=2 * ONE) as hub:
        await publish(hub, "a", *"abcdef")
        _, outlet = await follow(hub, "a", after=after or Cursor(hub.epoch, 1_000))
        await outlet.take(3)
        assert outlet.types == ["stream.gap", "message", "message"]
        assert outlet.data[1:] == ["e", "f"]
        assert gap_of(outlet)["reason"] == ("epoch" if after else "unknown")
        assert gap_of(outlet)["oldest"] == f"{hub.epoch}-5"


async def test_what_was_let_go_and_what_is_too_much_are_one_gap() -> None:
    async with Hub(MemoryBroker(Retentions(default=Retention(events=5))), max_replay_bytes=2 * ONE) as hub:
        first = await publish(hub, "a", "x")
        await publish(hub, "a", *"abcdefgh")
        _, outlet = await follow(hub, "a", after=first)
        await outlet.take(3)
        await turns()
        assert outlet.types == ["stream.gap", "message", "message"]
        assert gap_of(outlet)["reason"] == "budget"


async def test_an_answer_is_given_whole() -> None:
    async with Hub(max_replay_bytes=ONE) as hub:
        first = await publish(hub, "a", "x")
        await hub.publish("a", *[Event(text) for text in "abcdef"], final=True)
        _, outlet = await follow(hub, "a", after=first, until_final=True)
        await outlet.until(lambda outlet: outlet.finished)
        assert outlet.data == list("abcdef")


async def test_a_new_reader_is_given_the_newest_that_it_asks_for() -> None:
    async with Hub(max_replay_bytes=ONE) as hub:
        await publish(hub, "a", *"abcdef")
        _, outlet = await follow(hub, "a", newest=4)
        await outlet.take(4)
        assert outlet.data == list("cdef")


async def test_what_comes_while_it_reads_is_given_beside_what_it_missed() -> None:
    async with Hub(max_replay_bytes=3 * ONE) as hub:
        first = await publish(hub, "a", "x")
        await publish(hub, "a", *"abc")
        reader, outlet = await follow(hub, "a", after=first, full=True)
        for text in "defghi":
            await publish(hub, "a", text)
        outlet.full = False
        reader.resume()
        await outlet.take(9)
        assert outlet.data == list("abcdefghi")


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_bound_that_gives_nothing_is_a_mistake(wrong: int) -> None:
    with pytest.raises(ValueError, match="max_replay_bytes"):
        Hub(max_replay_bytes=wrong)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    published=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 40, 300])), max_size=25),
    followed=st.sets(st.sampled_from("abc"), min_size=1),
    kept=st.sampled_from([3, 100]),
    at=st.floats(0, 1),
    budget=st.integers(1, 2_000),
)
def test_it_is_exactly_the_newest_that_fit_over_all_topics_or_all(
    published: list[tuple[str, int]], followed: set[str], kept: int, at: float, budget: int
) -> None:
    async def run() -> None:
        broker = MemoryBroker(Retentions(default=Retention(events=kept)))
        async with Hub(broker, max_replay_bytes=budget) as hub:
            for topic, size in published:
                await hub.publish(topic, Event("x" * size))
            position = int(at * broker.head)
            journals = {name: broker._journals.of(name) for name in broker._journals}
            frames = [f for name in followed if name in journals for f in journals[name]._frames]
            missed = sorted((f for f in frames if f.offset > position and f.epoch), key=lambda f: f.offset)
            _, outlet = await follow(hub, *sorted(followed), after=Cursor(hub.epoch, position))
            await outlet.until(lambda outlet: next(iter(hub.readers())).live)
            given = [Cursor.parse(e.id or "").offset for e in outlet.events if e.type == "message"]
            gaps = [json.loads(e.data)["reason"] for e in outlet.events if e.type == "stream.gap"]
            if sum(f.size for f in missed) <= budget:
                assert given == [f.offset for f in missed]
                assert "budget" not in gaps
                return
            assert gaps == ["budget"]
            assert outlet.types[0] == "stream.gap"
            fitting = [f for f in missed if f.offset in given]
            assert given == [f.offset for f in missed[len(missed) - len(given) :]], "the newest, in order, each once"
            assert sum(f.size for f in fitting) <= budget
            assert sum(f.size for f in fitting) + missed[-len(given) - 1].size > budget, "one more would not have fit"

    asyncio.run(run())
