from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable

import pytest

from yeoul.server.turns import Turn, Turns, turns_of


def noting(done: list[str], what: str) -> Callable[[], None]:
    return lambda: done.append(what)


async def until_done(done: list[str], count: int) -> int:
    """How many turns of the event loop it took."""
    turns = 0
    while len(done) < count:
        await asyncio.sleep(0)
        turns += 1
        assert turns < 10_000
    return turns


async def test_what_is_alone_is_done_in_the_next_turn_of_the_loop() -> None:
    done: list[str] = []
    Turns().take(Turn.LEAVING, noting(done, "one"))
    assert done == []
    assert await until_done(done, 1) == 1


async def test_each_kind_is_done_in_the_order_in_which_it_came() -> None:
    turns, done = Turns(), list[str]()
    for number in range(50):
        turns.take(Turn.RETURNING_REQUEST, noting(done, str(number)))
    await until_done(done, 50)
    assert done == [str(number) for number in range(50)]


async def test_newcomers_pass_readers_that_come_back_and_those_pass_what_is_left_of_the_gone() -> None:
    turns, done = Turns(), list[str]()
    for kind in reversed(Turn):
        turns.take(kind, noting(done, kind.name))
    await until_done(done, len(Turn))
    assert done == ["LOOK", "REQUEST", "CONNECTION", "RETURNING_REQUEST", "RETURNING_CONNECTION", "LEAVING"]


async def test_a_new_reader_waits_for_one_turn_however_many_reconnect() -> None:
    turns, done = Turns(), list[str]()
    for _ in range(1_000):
        turns.take(Turn.RETURNING_REQUEST, noting(done, "back"))
        turns.take(Turn.LEAVING, noting(done, "gone"))
    await asyncio.sleep(0)
    before = len(done)
    assert before < 100
    turns.take(Turn.REQUEST, noting(done, "new"))
    await asyncio.sleep(0)
    assert done[before] == "new"
    await until_done(done, 2_001)


async def test_no_turn_waits_for_ever() -> None:
    turns, done = Turns(), list[str]()
    turns.take(Turn.LEAVING, noting(done, "gone"))
    turns.take(Turn.RETURNING_REQUEST, noting(done, "back"))
    for _ in range(1_000):
        turns.take(Turn.REQUEST, noting(done, "new"))
    await asyncio.sleep(0)
    assert {"gone", "back"} < set(done)
    await until_done(done, 1_002)


async def test_work_that_brings_more_work_is_done_too() -> None:
    turns, done = Turns(), list[str]()
    turns.take(Turn.CONNECTION, lambda: turns.take(Turn.REQUEST, noting(done, "request")))
    turns.take(Turn.LEAVING, lambda: turns.take(Turn.CONNECTION, noting(done, "connection")))
    await until_done(done, 2)
    assert done == ["request", "connection"]


async def test_work_that_fails_is_logged_and_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    turns, done = Turns(), list[str]()
    turns.take(Turn.REQUEST, fail)
    for _ in range(40):
        turns.take(Turn.REQUEST, noting(done, "after"))
    await until_done(done, 40)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_all_connections_of_a_loop_share_them() -> None:
    loop = asyncio.get_running_loop()
    assert turns_of(loop) is turns_of(loop)


def test_a_loop_that_is_over_is_let_go_of() -> None:
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        done: list[str] = []
        loop = asyncio.get_running_loop()
        turns_of(loop).take(Turn.REQUEST, noting(done, "one"))
        await until_done(done, 1)
        return weakref.ref(loop)

    ref = asyncio.run(use())
    gc.collect()
    assert ref() is None
