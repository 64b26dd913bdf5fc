"""Jobs of an earlier process, from the events that a broker has kept; and jobs whose broker is away at their end."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from support.outlets import follow
from support.relayed import Says, hang
from support.upstream import Upstream
from yeoul.errors import BrokerUnavailable
from yeoul.hub import Hub, MemoryBroker, SqliteBroker
from yeoul.llm.generations import Generations
from yeoul.llm.items import Delta, Finish, Item, Note
from yeoul.llm.outcome import State
from yeoul.relay.relays import Relays
from yeoul.relay.route import Route
from yeoul.relay.route import Upstream as Target
from yeoul.sse import Event
from yeoul.stream import Cursor


def killed(path: Path) -> Path:
    """The file as it would be were the process that uses it killed now."""
    folder = path.parent / "killed"
    folder.mkdir()
    for file in path.parent.glob("broker.db*"):
        if not file.name.endswith((".lock", "-shm")):  # SQLite makes its index of the log anew
            shutil.copy(file, folder / file.name)
    return folder / path.name


async def answer(*items: Item, go_on: asyncio.Event) -> AsyncIterator[Item]:
    for item in items:
        yield item
    await go_on.wait()


async def test_an_answer_of_a_killed_process_is_interrupted_and_all_of_it_is_there(tmp_path: Path) -> None:
    path, go_on = tmp_path / "broker.db", asyncio.Event()
    items = (Delta("안녕 "), Note("n", {"a": 1}), Delta("여울"))
    async with Hub(SqliteBroker(path)) as hub:
        before = await Generations(hub).start(answer(*items, go_on=go_on), owner="ada", model="m", provider="p")
        while before.text != "안녕 여울":
            await asyncio.sleep(0)
        copy = killed(path)
        go_on.set()
    async with Hub(SqliteBroker(copy)) as hub:
        generations = Generations(hub)
        await generations.recover()
        after = generations.get(before.id)
        assert after is not None
        await after.ended()
        assert (after.text, after.owner, after.model, after.provider) == ("안녕 여울", "ada", "m", "p")
        assert [part.state for part in after.answer.parts] == [part.state for part in before.answer.parts]
        assert (after.outcome.state, after.outcome.retryable, after.tokens) == (State.INTERRUPTED, True, 2)
        assert after.created == before.created
        assert (after.origin, generations.running()) == (before.origin, [])
        assert generations.stats.ended == {("p", "interrupted"): 1}
        _, outlet = await follow(hub, after.topic, after=after.origin, until_final=True)
        await outlet.until(lambda o: o.finished)
        assert outlet.types[-3:] == ["finish", "end", "last"]
        await generations.recover()  # it has been
        assert generations.get(before.id) is after


async def test_an_answer_that_was_done_is_done_after_a_restart(tmp_path: Path) -> None:
    go_on = asyncio.Event()
    go_on.set()
    async with Hub(SqliteBroker(tmp_path / "broker.db")) as hub:
        before = await Generations(hub).start(answer(Delta("x"), Finish("length"), go_on=go_on))
        await before.ended()
    async with Hub(SqliteBroker(tmp_path / "broker.db")) as hub:
        generations = Generations(hub, keep_seconds=0.01)
        await generations.recover()
        after = generations.get(before.id)
        assert after is not None
        assert (after.text, after.outcome) == ("x", before.outcome)
        while generations.get(before.id) is not None:
            await asyncio.sleep(0.01)
        while before.topic in await hub.broker.topics(""):
            await asyncio.sleep(0.01)


async def test_what_cannot_be_read_back_is_deleted(tmp_path: Path) -> None:
    async with Hub(SqliteBroker(tmp_path / "broker.db")) as hub:
        await hub.publish("generations/a", Event("no JSON", "start"))
        await hub.publish("generations/b", Event("{}", "start"))
        await hub.publish("generations/c", Event("x", "text.0"))
        await hub.publish("relays/d", Event('{"path": "/gone", "owner": null, "created": 1}', "relay.start"))
        await hub.publish("others", Event("x"))
        await Generations(hub).recover()
        await Relays(hub).recover()
        assert await hub.broker.topics("") == ["others"]


async def test_a_relay_of_a_killed_process_is_read_on_to_an_honest_end(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    async with Upstream(Says(Says().pieces[:3], hang)) as upstream:
        route = Route(path="/r", upstream=Target(url=f"http://127.0.0.1:{upstream.port}/s", body={}))
        async with Hub(SqliteBroker(path)) as hub:
            relays = Relays(hub, grace_seconds=0)
            before = await relays.start(route, route.build({}), owner="ada")
            _, outlet = await follow(hub, before.topic, after=before.origin, encoding=before.encoding())
            seen = list(await outlet.take(3))
            copy = killed(path)
    async with Hub(SqliteBroker(copy)) as hub:
        relays = Relays(hub, routes=[route])
        await relays.recover()
        after = relays.get(before.id)
        assert after is not None
        assert (after.owner, after.running) == ("ada", False)
        assert await after.head(1) is None
        await after.ended()
        _, outlet = await follow(
            hub,
            after.topic,
            after=Cursor.parse(seen[0].id or ""),
            encoding=after.encoding(),
            until_final=True,
        )
        await outlet.until(lambda o: o.finished)
        assert [(e.id, e.data) for e in outlet.events[:2]] == [(e.id, e.data) for e in seen[1:3]]
        assert "the server ended this stream" in json.loads(outlet.data[-1])["error"]


class AwayBroker(MemoryBroker):
    away = False

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        if self.away:
            raise BrokerUnavailable("the disk is full")
        return await super().publish(topic, events, final=final)


async def test_the_end_of_an_answer_reaches_its_readers_when_the_broker_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yeoul.hub.job._END_PAUSE", 0.01)
    broker, go_on = AwayBroker(), asyncio.Event()
    async with Hub(broker) as hub:
        generations = Generations(hub)
        generation = await generations.start(answer(Delta("x"), go_on=go_on))
        _, outlet = await follow(hub, generation.topic, after=generation.origin, until_final=True)
        await outlet.until(lambda o: "x" in o.data)
        broker.away = True
        generation.cancel()
        await generation.ended()
        assert generation.outcome.state is State.CANCELLED
        assert generations.running() == []
        assert not outlet.finished
        broker.away = False
        await outlet.until(lambda o: o.finished)
        assert outlet.types[-3:] == ["finish", "end", "last"]


async def test_an_end_that_is_never_published_is_given_up_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yeoul.hub.job._END_PAUSE", 0.01)
    broker, go_on = AwayBroker(), asyncio.Event()
    async with Hub(broker) as hub:
        generation = await Generations(hub, keep_seconds=0.05).start(answer(go_on=go_on))
        broker.away = True
        generation.cancel()
        task = generation._task
        assert task is not None
        await asyncio.wait([task])
        assert generation.outcome.state is State.CANCELLED


async def test_a_token_that_was_being_written_when_its_answer_was_stopped_is_part_of_it(tmp_path: Path) -> None:
    path, tokens = tmp_path / "broker.db", asyncio.Queue[str]()

    async def source() -> AsyncIterator[Item]:
        while True:
            yield Delta(await tokens.get())

    async with Hub(SqliteBroker(path)) as hub:
        generation = await Generations(hub).start(source())
        tokens.put_nowait("first ")
        while generation.text != "first ":
            await asyncio.sleep(0)
        broker = hub.broker
        assert isinstance(broker, SqliteBroker)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tokens.put_nowait("second")
            while broker._flight is None:
                await asyncio.sleep(0)
            generation.cancel()
        await generation.ended()
        with await hub.hold(generation.topic) as held:
            published = [f.event.data for f in held.journal.kept() if f.event.type.startswith("text.")]
        assert published == ["first ", "second"]
        assert generation.text == "first second"
        assert generation.tokens == 2
