from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from yeoul.hub.timer import TimerWheel


class Clockwork(asyncio.AbstractEventLoop):
    """Only what the wheel asks a loop for; time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timer: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self.timer = (self.now + delay, lambda: callback(*args))
        return asyncio.TimerHandle(self.now + delay, callback, args, self)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timer = None

    def get_debug(self) -> bool:
        return False

    def pass_to(self, now: float) -> None:
        while self.timer is not None and self.timer[0] <= now:
            self.now, turn = self.timer
            self.timer = None
            turn()
        self.now = now


class Item:
    due = place = 0

    def __init__(self, *answers: float | None) -> None:
        self.seen: list[float] = []
        self._answers = list(answers)

    def on_time(self, now: float) -> float | None:
        self.seen.append(now)
        return self._answers.pop(0) if self._answers else None


@pytest.fixture
def loop() -> Clockwork:
    return Clockwork()  # type: ignore[abstract]


@pytest.fixture
def wheel(loop: Clockwork) -> TimerWheel:
    made = TimerWheel(0.5)
    made.start(loop)
    return made


@pytest.mark.parametrize("when", [100.0, 100.1, 100.5, 100.75, 103.0, 160.25])
def test_nothing_is_early_and_nothing_is_later_than_two_ticks(loop: Clockwork, wheel: TimerWheel, when: float) -> None:
    item = Item()
    wheel.add(item, when)
    loop.pass_to(200.0)
    assert len(item.seen) == 1
    assert when <= item.seen[0] <= when + 1.0


def test_an_item_is_looked_at_again_when_it_says(loop: Clockwork, wheel: TimerWheel) -> None:
    item = Item(105.0, 110.0, None)
    wheel.add(item, 101.0)
    loop.pass_to(200.0)
    assert item.seen == [101.5, 105.5, 110.5]


def test_an_item_that_asks_for_the_past_is_looked_at_with_the_next_tick_not_for_ever(
    loop: Clockwork, wheel: TimerWheel
) -> None:
    item = Item(0.0, 0.0, None)
    wheel.add(item, 0.0)
    loop.pass_to(103.0)
    assert item.seen == [100.5, 101.0, 101.5]


def test_a_loop_that_was_held_up_misses_nothing(loop: Clockwork, wheel: TimerWheel) -> None:
    items = [Item() for _ in range(20)]
    for number, item in enumerate(items):
        wheel.add(item, 100.0 + number)
    loop.now = 500.0
    loop.pass_to(500.0)
    assert [len(item.seen) for item in items] == [1] * 20


def test_one_item_that_fails_stops_neither_the_others_nor_the_wheel(
    loop: Clockwork, wheel: TimerWheel, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        due = place = 0

        def on_time(self, now: float) -> float | None:
            raise RuntimeError("broken")

    other, later = Item(), Item()
    wheel.add(Broken(), 101.0)
    wheel.add(other, 101.0)
    wheel.add(later, 105.0)
    loop.pass_to(110.0)
    assert len(other.seen) == len(later.seen) == 1
    assert "broken" in caplog.text


def test_each_tick_is_told(loop: Clockwork) -> None:
    ticks: list[float] = []
    wheel = TimerWheel(0.5, lambda: ticks.append(loop.now))
    wheel.start(loop)
    wheel.start(loop)
    loop.pass_to(102.0)
    assert ticks == [100.5, 101.0, 101.5, 102.0]


def test_a_stopped_wheel_stands_still(loop: Clockwork, wheel: TimerWheel) -> None:
    item = Item()
    wheel.add(item, 101.0)
    wheel.stop()
    wheel.stop()
    loop.pass_to(200.0)
    assert item.seen == []
    assert loop.timer is None


def test_an_item_that_is_removed_is_not_looked_at_and_not_kept(loop: Clockwork, wheel: TimerWheel) -> None:
    items = [Item() for _ in range(5)]
    for item in items:
        wheel.add(item, 101.0)
    for item in (items[1], items[4], items[0]):
        wheel.remove(item)
        wheel.remove(item)
    loop.pass_to(110.0)
    assert [len(item.seen) for item in items] == [0, 0, 1, 1, 0]
    for item in items:
        wheel.add(item, 120.0)
        wheel.remove(item)
    assert not wheel._slots


def test_an_item_is_looked_at_once_at_the_earliest_of_its_times(loop: Clockwork, wheel: TimerWheel) -> None:
    item, other = Item(), Item()
    wheel.add(item, 150.0)
    wheel.add(other, 150.0)
    wheel.add(item, 120.0)
    wheel.add(item, 140.0)
    loop.pass_to(200.0)
    assert (len(item.seen), len(other.seen)) == (1, 1)
    assert 120.0 <= item.seen[0] <= 121.0
