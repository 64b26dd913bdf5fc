"""A source that runs while somebody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from support.outlets import MemoryOutlet
from yeoul.errors import InvalidTopic
from yeoul.hub import Hub
from yeoul.hub import producer as module
from yeoul.hub.producer import Producer
from yeoul.sse import Event
from yeoul.stream.retry import RetryPolicy


class Source:
    """Yields a number each time that it is let; counts its runs."""

    def __init__(self, fails: int = 0) -> None:
        self.runs = 0
        self.ended = 0
        self.fails = fails
        self.gate = asyncio.Semaphore(0)

    async def __call__(self) -> AsyncIterator[Event]:
        self.runs += 1
        try:
            if self.runs <= self.fails:
                raise OSError("no such sensor")
            number = 0
            while True:
                await self.gate.acquire()
                number += 1
                yield Event(f"{self.runs}.{number}")
        finally:
            self.ended += 1


@asynccontextmanager
async def reading(hub: Hub, topic: str) -> AsyncIterator[MemoryOutlet]:
    reader = await hub.subscribe([topic])
    outlet = MemoryOutlet()
    reader.start(outlet)
    yield outlet
    reader.end()


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.001)  # the run is a task of the hub's: what it has done is all that is seen of it


async def test_one_run_serves_all_readers_and_ends_after_the_last() -> None:
    source, idle = Source(), []
    async with Hub() as hub:
        Producer(hub, "a", source, linger=0, on_idle=lambda: idle.append(1))
        async with reading(hub, "a") as first, reading(hub, "a") as second:
            source.gate.release()
            await until(lambda: first.data == ["1.1"] and second.data == ["1.1"])
            assert source.runs == 1
        await until(lambda: source.ended == 1 and idle)


async def test_it_runs_only_while_it_has_readers_and_anew_for_the_next() -> None:
    source = Source()
    async with Hub() as hub:
        Producer(hub, "a", source, linger=0)
        assert source.runs == 0
        async with reading(hub, "a"):
            await until(lambda: source.runs == 1)
        await until(lambda: source.ended == 1)
        async with reading(hub, "a"):
            await until(lambda: source.runs == 2)


async def test_a_reader_that_comes_back_soon_finds_it_running() -> None:
    source = Source()
    async with Hub() as hub:
        Producer(hub, "a", source, linger=60)
        async with reading(hub, "a"):
            await until(lambda: source.runs == 1)
        async with reading(hub, "a") as again:
            source.gate.release()
            await until(lambda: again.data == ["1.1"])
        assert source.ended == 0
    assert source.ended == 1, "the hub ends what it runs"


async def test_a_source_that_fails_is_begun_anew(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    source = Source(fails=2)
    async with Hub() as hub:
        Producer(hub, "a", source)
        async with reading(hub, "a") as reader:
            source.gate.release()
            await until(lambda: reader.data == ["3.1"])
    assert caplog.text.count("failed: it is started again") == 2


async def test_a_source_that_has_worked_for_long_is_tried_again_soon(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRIES", RetryPolicy(attempts=8, base=0.001, cap=0.05))
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    runs = []

    async def source() -> AsyncIterator[Event]:
        runs.append(1)
        if len(runs) == 3:
            await asyncio.sleep(0.06)  # works for longer than it would ever be waited
        raise OSError("no such sensor")
        yield Event("never")

    async with Hub() as hub:
        Producer(hub, "a", source)
        async with reading(hub, "a"):
            await until(lambda: len(caplog.records) >= 4)
    waits = [record.args[1] for record in caplog.records[:4] if isinstance(record.args, tuple)]
    assert waits == [0.001, 0.002, 0.001, 0.002]


async def test_without_clients_it_is_idle() -> None:
    idle = asyncio.Event()
    async with Hub() as hub:
        Producer(hub, "a", Source(), linger=0, on_idle=idle.set)
        async with asyncio.timeout(20):
            await idle.wait()


async def test_after_its_end_it_looks_at_readers_no_more() -> None:
    source = Source()
    async with Hub() as hub:
        Producer(hub, "a", source).close()
        async with reading(hub, "a"):
            await asyncio.sleep(0)
        assert source.runs == 0


async def test_a_topic_that_cannot_be_is_refused() -> None:
    async with Hub() as hub:
        with pytest.raises(InvalidTopic):
            Producer(hub, "no such topic", Source())
