"""The generations of a hub: bounds, what is kept, what is forgotten, and who finds an orphan."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from test_llm_generation import Source, end, read, turns

from yeoul.errors import HubClosed, TooManyTopics, TooMuchWork
from yeoul.hub import Hub, MemoryBroker
from yeoul.llm.generations import Generations
from yeoul.llm.items import Delta, Finish
from yeoul.llm.outcome import State
from yeoul.stream import Journal

# --- bounds


async def test_more_than_may_run_are_refused_until_one_has_ended(hub: Hub) -> None:
    generations = Generations(hub, max_running=1, grace_seconds=0)
    first = await generations.start(Source(silent=True))
    with pytest.raises(TooMuchWork, match="1 answers"):
        await generations.start(Source())
    first.cancel()
    await end(first)
    await end(await generations.start(Source(Finish())))
    assert generations.stats.started == 2
    assert generations.stats.ended == {("app", "cancelled"): 1, ("app", "done"): 1}


async def test_one_that_could_not_begin_leaves_nothing_behind() -> None:
    async with Hub(MemoryBroker(max_topics=1)) as hub:
        generations = Generations(hub)
        await end(await generations.start(Source(Finish())))
        source = Source(Finish())
        with pytest.raises(TooManyTopics):
            await generations.start(source, request_key="q")
        assert generations.find_abandoned("q") is None
        assert generations.running() == []
        assert len(generations.running()) == 0
        assert source.closed.is_set()


async def test_one_whose_topic_cannot_be_held_lets_go_of_its_source(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(topic: str) -> Journal:
        raise RuntimeError("the broker is away")

    monkeypatch.setattr(hub.broker, "attach", away)
    generations, source = Generations(hub), Source(Finish())
    with pytest.raises(RuntimeError, match="away"):
        await generations.start(source)
    assert source.closed.is_set()
    assert generations.running() == []


async def test_after_its_time_one_is_forgotten_with_its_text(hub: Hub) -> None:
    generations = Generations(hub, keep_seconds=0.01)
    generation = await generations.start(Source(Delta("a" * 1_000), Finish()))
    await end(generation)
    assert generations.get(generation.id) is generation
    assert " 0 bytes" not in repr(hub.broker)
    async with asyncio.timeout(20):
        while generations.get(generation.id) is not None or " 0 bytes" not in repr(hub.broker):
            await asyncio.sleep(0.005)  # its text is deleted by a task, right after it


async def test_over_the_bound_the_oldest_are_forgotten_first(hub: Hub) -> None:
    generations = Generations(hub, max_kept=2)
    made = []
    for _ in range(3):
        made.append(await generations.start(Source(Delta("a"), Finish())))
        await end(made[-1])
    assert [generations.get(generation.id) for generation in made] == [None, *made[1:]]
    assert generations.stats.undelivered == 1


# --- orphans


async def test_a_running_answer_whose_reader_left_is_an_orphan(hub: Hub) -> None:
    generations = Generations(hub, grace_seconds=0)
    source = Source(Delta("a"), silent=True)
    generation = await generations.start(source, request_key="q")
    assert generations.find_abandoned("q") is None, "its reader is on the way to it"
    reader, _ = await read(hub, generation)
    assert generations.find_abandoned("q") is None, "it has a reader"
    reader.end()
    assert generations.find_abandoned("q") is generation
    assert generations.find_abandoned("another") is None
    generation.cancel()
    await end(generation)
    assert generations.find_abandoned("q") is None, "it is over"


async def test_the_same_question_of_two_people_has_two_answers_and_either_may_be_orphaned(hub: Hub) -> None:
    generations = Generations(hub, grace_seconds=0)
    first = await generations.start(Source(silent=True), request_key="q")
    second = await generations.start(Source(silent=True), request_key="q")
    one, _ = await read(hub, first)
    await read(hub, second)
    one.end()
    assert generations.find_abandoned("q") is first
    first.cancel()
    await end(first)
    assert generations.find_abandoned("q") is None


# --- the end


async def test_closing_gives_running_ones_their_grace_then_interrupts(hub: Hub) -> None:
    generations = Generations(hub, grace_seconds=0.02)
    quick = await generations.start(Source(Delta("a"), Finish()))
    slow = await generations.start(Source(silent=True))
    await generations.close()
    assert quick.outcome.state is State.DONE
    assert slow.outcome.state is State.INTERRUPTED
    assert generations.get(slow.id) is None
    with pytest.raises(HubClosed):
        await generations.start(Source())


async def test_one_that_has_just_begun_is_interrupted_too(hub: Hub) -> None:
    generations = Generations(hub, grace_seconds=0)
    generation = await generations.start(Source(silent=True))
    async with asyncio.timeout(20):
        await generations.close()
    assert generation.outcome.state is State.INTERRUPTED


async def test_a_draining_hub_takes_no_new_ones(hub: Hub) -> None:
    generations = Generations(hub)
    hub.draining = True
    with pytest.raises(HubClosed, match="shutting down: try again"):
        await generations.start(Source())


async def test_a_hub_has_one_set_of_generations(hub: Hub) -> None:
    assert Generations.of(hub) is Generations.of(hub)


async def test_a_set_made_with_bounds_is_the_hubs_own(hub: Hub) -> None:
    generations = Generations(hub, max_running=1)
    assert Generations.of(hub) is generations


async def test_a_hub_without_references_is_freed_with_its_generations() -> None:
    hub = Hub()
    await end(await Generations.of(hub).start(Source(Finish())))
    await hub.close()
    gone = weakref.ref(hub)
    del hub
    await turns()
    gc.collect()
    assert gone() is None


async def test_it_says_how_many_there_are(hub: Hub) -> None:
    generations = Generations(hub, grace_seconds=0)
    await generations.start(Source(silent=True))
    await end(await generations.start(Source(Finish())))
    assert repr(generations) == "<Generations 1 running, 1 kept>"
