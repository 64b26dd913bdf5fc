"""Nothing lost, nothing twice: connections are cut at any byte, and readers come back as `EventSource` does.

Each test prints its seed where it fails; the whole file makes more than a thousand cuts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from urllib.parse import quote

import pytest

from faults.conftest import Server
from support.follower import Follower
from support.proxy import Fate, proxying
from support.reader import ask, open_stream
from yeoul.sse import Event
from yeoul.stream import Cursor, LastEventId

SEEDS = [1, 2, 3]
TOPICS = ["a", "b/c", "한국어"]


def fates(draw: Random, mean: int) -> Callable[[], Fate]:
    """Cuts at any byte, the head's and the first event's included, with a reset or an end."""

    def next_fate() -> Fate:
        return Fate(cut_after=draw.randrange(1, 2 * mean), how=draw.choice(["rst", "fin"]))

    return next_fate


@asynccontextmanager
async def following(*followers: Follower) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result


def stream_path(topics: list[str]) -> str:
    return "/stream?" + "&".join(f"topic={quote(topic, safe='')}" for topic in topics)


def has_ends(count: int, events: list[Event]) -> bool:
    return sum(event.type == "end" for event in events) == count


def offset_of(event: Event) -> int:
    return Cursor.parse(event.id or "").offset


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_event_of_every_topic_arrives_once_and_in_order(server: Server, seed: int) -> None:
    draw = Random(seed)
    followed = [["a"], TOPICS[1:], TOPICS, TOPICS[:2]]
    async with proxying(server.port, fates(draw, 900)) as proxy:
        followers = [Follower(proxy.port, stream_path(topics)) for topics in followed]
        async with following(*followers):
            for follower in followers:
                await follower.until(bool)
            published: list[tuple[int, str, str]] = []
            for number in range(250):
                topic = draw.choice(TOPICS)
                data = [
                    f"{number}-{part} " + "여울\n" * draw.randrange(0, 30) for part in range(draw.choice([1, 1, 3]))
                ]
                last = await server.hub.publish(topic, *map(Event, data))
                first = last.offset - len(data) + 1
                published += [(first + part, topic, text) for part, text in enumerate(data)]
                if draw.random() < 0.5:
                    await asyncio.sleep(0)
            for topic in TOPICS:
                await server.hub.publish(topic, Event("", "end"))
            for follower, topics in zip(followers, followed, strict=True):
                await follower.until(partial(has_ends, len(topics)))
    for follower, topics in zip(followers, followed, strict=True):
        got = [(offset_of(event), event.data) for event in follower.events if event.type == "message"]
        wanted = [(offset, data) for offset, topic, data in published if topic in topics]
        assert got == wanted, f"seed {seed}, topics {topics}"
        assert not any(event.type == "stream.gap" for event in follower.events), f"seed {seed}"
    assert proxy.cuts >= 100


@pytest.mark.settings(retention_events=20)
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_is_lost_is_told_and_only_that_is_lost(server: Server, seed: int) -> None:
    """Some readers stay away for longer than events are kept."""
    draw = Random(seed)
    advanced = asyncio.Condition()
    count = 0

    async def away_until(number: int) -> None:
        async with advanced:
            await advanced.wait_for(lambda: count >= number)

    def before_return() -> asyncio.Future[None] | None:
        away = draw.choice([0, 0, 0, 5, 40, 80])
        return asyncio.ensure_future(away_until(min(600, count + away))) if away else None

    async with proxying(server.port, fates(draw, 700)) as proxy:
        followers = [Follower(proxy.port, "/topics/a") for _ in range(4)]
        async with following(*followers):
            for follower in followers:
                await follower.until(bool)
                follower.before_return = before_return
            offsets = []
            for number in range(600):
                offsets.append((await server.hub.publish("a", Event(f"{number} " + "x" * draw.randrange(60)))).offset)
                async with advanced:
                    count = number + 1
                    advanced.notify_all()
                if number % 4 == 0:
                    await asyncio.sleep(0.001)  # a publisher with a pace: readers live in between
            for follower in followers:
                await follower.until(lambda events: any(offset_of(event) == offsets[-1] for event in events))
    gaps = 0
    for follower in followers:
        gaps += check_gaps(follower.events, offsets, f"seed {seed}")
    assert gaps > 0
    assert proxy.cuts >= 20


def check_gaps(events: list[Event], offsets: list[int], where: str) -> int:
    """Every event once and in order; where some are missing, a gap just before says from where to where."""
    position, gaps = offset_of(events[0]), 0
    excused = position
    for event in events:
        if event.type == "stream.gap":
            told = json.loads(event.data)
            assert told["reason"] == "evicted", where
            assert Cursor.parse(told["requested"]).offset == position, where
            excused = Cursor.parse(told["oldest"]).offset - 1
            assert offset_of(event) == excused, where
            position = excused  # a reader cut right after it comes back with this
            gaps += 1
        elif event.type == "message":
            offset = offset_of(event)
            missing = [other for other in offsets if max(position, excused) < other < offset]
            assert not missing, where
            assert offset > position, where
            position = offset
    assert position == offsets[-1], where
    return gaps


@pytest.mark.parametrize("dialect", ["plain", "json", "envelope", "openai"])
async def test_an_answer_is_the_same_however_often_it_is_cut(server: Server, dialect: str) -> None:
    draw = Random(dialect)
    created = await ask(
        server.port, "/generations", method="POST", json_body={"prompt": "안녕 여울", "provider": "demo"}
    )
    path = f"{created.headers['location']}/stream?dialect={dialect}"
    async with proxying(server.port, fates(draw, 800)) as proxy:
        followers = [Follower(proxy.port, path) for _ in range(5)]
        async with asyncio.timeout(20):
            await asyncio.gather(*(follower.run() for follower in followers))
    async with await open_stream(server.port, path) as whole:
        wanted = [(event.id, event.type, event.data) for event in await whole.rest()]
    assert len(wanted) > 60
    for follower in followers:
        got = [(event.id, event.type, event.data) for event in follower.events]
        assert got == wanted
        assert follower.statuses[-1] == 204
    assert proxy.cuts >= 20


@pytest.mark.parametrize("path", ["/sse/chat?message=hello&provider=demo", "/sse/fake-llm"])
async def test_an_answer_that_a_get_began_is_begun_once_by_each_reader(server: Server, path: str) -> None:
    draw = Random(path)
    # The first event names the work: until it has come a reader cannot say what it began.
    started = asyncio.Event()

    def next_fate() -> Fate:
        return Fate(cut_after=draw.randrange(500, 2_000) if not started.is_set() else draw.randrange(1, 1_500))

    async with proxying(server.port, next_fate) as proxy:
        follower = Follower(proxy.port, path)
        async with following(follower):
            await follower.until(bool)
            started.set()
            await follower.until(lambda events: events[-1].data == "[DONE]")
    works = {LastEventId.parse(event.id or "").work for event in follower.events}
    assert len(works) == 1
    text = "".join(event.data for event in follower.events[:-1])
    if "fake" in path:
        assert text == "안녕하세요! 저는 AI 어시스턴트입니다."
    else:
        shown = await ask(server.port, f"/generations/{works.pop()}")
        assert shown.json()["text"] == text
        assert shown.json()["state"] == "done"


async def test_bytes_that_come_one_at_a_time_make_the_same_events(server: Server) -> None:
    async with proxying(server.port, lambda: Fate(piece=1)) as proxy:
        follower = Follower(proxy.port, "/stream?topic=a&topic=b")
        async with following(follower):
            await follower.until(bool)
            data = [f"{number} 여울\n🌊" for number in range(20)]
            for number, text in enumerate(data):
                await server.hub.publish("ab"[number % 2], Event(text))
            await follower.until(lambda events: len(events) == 21)
    assert follower.data == data
    assert follower.connections == 1


@pytest.mark.settings(heartbeat_s=0.05)
async def test_a_connection_that_falls_silent_is_given_up_and_nothing_is_lost(server: Server) -> None:
    """Only the heartbeat tells a silent network from a silent topic."""
    draw = Random(5)
    async with proxying(server.port, lambda: Fate(stall_after=draw.randrange(400, 900))) as proxy:
        follower = Follower(proxy.port, "/topics/a", silence=0.25)
        async with following(follower):
            await follower.until(bool)
            for number in range(30):
                await server.hub.publish("a", Event(f"{number} " + "x" * 30))
            await follower.until(lambda events: events[-1].data.startswith("29 "))
    assert [data.split()[0] for data in follower.data] == [str(number) for number in range(30)]
    assert follower.connections >= 3


async def test_a_reader_whose_connection_is_being_closed_breaks_no_delivery(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """It sends what is no request while it reads: the server closes, and its transport takes nothing from then on."""
    readers = []
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"stream.hello")
        readers.append((reader, writer))
    readers[1][1].write(b"NOT A REQUEST\r\n\r\n")
    async with asyncio.timeout(20):
        for number in range(50):
            await server.hub.publish("a", Event(str(number)))
            await asyncio.sleep(0.002)  # in rounds of their own, before and after the server has read it
        for reader, _ in (readers[0], readers[2]):
            await reader.readuntil(b"data: 49\n")
        for _, writer in readers:
            writer.close()
        while server.hub.stats.readers:
            await asyncio.sleep(0)
    assert server.hub.stats.closed.get("error", 0) == 0
    assert "could not be written to" not in caplog.text
