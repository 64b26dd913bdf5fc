from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from support.outlets import WAIT_S
from yeoul.hub.drain import before_signals


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    before = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, before)


async def test_the_ending_begins_and_the_handler_that_was_there_runs(number: signal.Signals) -> None:
    handled: list[int] = []
    began = asyncio.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        handled.append(number)

    async def ending() -> None:
        began.set()

    signal.signal(number, handle)
    with before_signals(asyncio.get_running_loop(), ending):
        os.kill(os.getpid(), number)
        async with asyncio.timeout(WAIT_S):
            await began.wait()
    assert handled == [number]
    assert signal.getsignal(number) is handle


async def test_a_second_signal_is_handed_on_but_begins_no_second_ending(number: signal.Signals) -> None:
    handled: list[int] = []
    endings: list[int] = []
    signal.signal(number, lambda number, frame: handled.append(number))

    async def ending() -> None:
        endings.append(1)

    with before_signals(asyncio.get_running_loop(), ending):
        for _ in range(2):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_S):
            while not endings or len(handled) < 2:
                await asyncio.sleep(0)
    assert (handled, endings) == ([number, number], [1])


@pytest.mark.parametrize("default", [signal.SIG_IGN, signal.SIG_DFL])
async def test_a_handler_that_is_no_function_is_put_back(number: signal.Signals, default: signal.Handlers) -> None:
    signal.signal(number, default)

    async def ending() -> None: ...

    with before_signals(asyncio.get_running_loop(), ending):
        assert signal.getsignal(number) is not default
    assert signal.getsignal(number) is default


async def test_a_handler_set_later_is_left_alone(number: signal.Signals) -> None:
    def later(number: int, frame: FrameType | None) -> None: ...

    async def ending() -> None: ...

    with before_signals(asyncio.get_running_loop(), ending):
        signal.signal(number, later)
    assert signal.getsignal(number) is later


async def test_outside_of_the_main_thread_nothing_is_touched(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    inside: list[object] = []

    async def ending() -> None: ...

    def run() -> None:
        loop = asyncio.new_event_loop()
        with before_signals(loop, ending):
            inside.append(signal.getsignal(number))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [before]
