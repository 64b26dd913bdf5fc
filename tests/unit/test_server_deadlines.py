from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest
import uvloop

from yeoul.server.deadlines import Deadlines


class Clock:
    """Stands in for the event loop: one timer, and time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.soon: list[Callable[[], None]] = []
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        self.armed += 1
        self.timers.append((when, callback))
        return callback

    def call_soon(self, callback: Callable[..., None], *arguments: object) -> None:
        self.soon.append(partial(callback, *arguments))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and min(self.timers, key=lambda timer: timer[0])[0] <= end:
            timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            timer[1]()
            while self.soon:
                self.soon.pop(0)()
        self.now = end


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def expired() -> list[str]:
    return []


@pytest.fixture
def deadlines(clock: Clock, expired: list[str]) -> Deadlines[str]:
    return Deadlines(clock, 10.0, expired.append)  # type: ignore[arg-type]


def test_each_item_expires_once_after_its_time(clock: Clock, deadlines: Deadlines[str], expired: list[str]) -> None:
    deadlines.start("a")
    clock.advance(4)
    deadlines.start("b")
    clock.advance(5.9)
    assert expired == []
    clock.advance(0.2)
    assert expired == ["a"]
    clock.advance(4)
    assert expired == ["a", "b"]
    clock.advance(100)
    assert expired == ["a", "b"]
    assert len(deadlines) == 0


def test_to_start_again_does_not_put_a_deadline_off(
    clock: Clock, deadlines: Deadlines[str], expired: list[str]
) -> None:
    deadlines.start("a")
    clock.advance(9)
    deadlines.start("a")
    clock.advance(1)
    assert expired == ["a"]


def test_a_cancelled_deadline_does_not_expire(clock: Clock, deadlines: Deadlines[str], expired: list[str]) -> None:
    deadlines.start("a")
    deadlines.start("b")
    deadlines.cancel("a")
    deadlines.cancel("unknown")
    clock.advance(11)
    assert expired == ["b"]


def test_a_deadline_that_is_started_anew_has_its_whole_time(
    clock: Clock, deadlines: Deadlines[str], expired: list[str]
) -> None:
    deadlines.start("a")
    clock.advance(9)
    deadlines.cancel("a")
    deadlines.start("a")
    clock.advance(9)
    assert expired == []
    clock.advance(1)
    assert expired == ["a"]


def test_any_number_of_deadlines_has_one_timer(clock: Clock, deadlines: Deadlines[str]) -> None:
    for number in range(1_000):
        deadlines.start(str(number))
        if number % 2:
            deadlines.cancel(str(number))
    assert len(clock.timers) == clock.armed == 1


def test_what_expires_may_start_another(clock: Clock) -> None:
    expired: list[str] = []

    def again(item: str) -> None:
        expired.append(item)
        if len(expired) < 3:
            deadlines.start(item)

    deadlines: Deadlines[str] = Deadlines(clock, 10.0, again)  # type: ignore[arg-type]
    deadlines.start("a")
    deadlines.start("b")
    clock.advance(10)
    assert expired == ["a", "b"]
    assert len(clock.timers) == 1
    clock.advance(10)
    assert expired == ["a", "b", "a", "b"]


def test_what_came_while_the_process_had_no_processor_is_not_late() -> None:
    """The client was in time; it was the server that did not look."""

    async def stalled() -> tuple[list[str], bytes]:
        loop = asyncio.get_running_loop()
        expired: list[str] = []
        deadlines: Deadlines[str] = Deadlines(loop, 0.05, expired.append)

        class Server(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                deadlines.cancel("connection")
                read.set_result(data)

        read: asyncio.Future[bytes] = loop.create_future()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        deadlines.start("connection")
        writer.write(b"hello")
        time.sleep(0.2)  # the stall
        data = await read
        await asyncio.sleep(0.1)  # nothing happens: the deadline is over
        writer.close()
        server.close()
        return expired, data

    for runner in (asyncio.run, uvloop.run):
        assert runner(stalled()) == ([], b"hello")


async def test_on_an_event_loop() -> None:
    done = asyncio.Event()
    deadlines: Deadlines[str] = Deadlines(asyncio.get_running_loop(), 0.01, lambda item: done.set())
    deadlines.start("a")
    async with asyncio.timeout(10):
        await done.wait()
