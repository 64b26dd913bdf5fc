from __future__ import annotations

import asyncio
import time

import pytest

from yeoul.hub import health as module
from yeoul.hub.health import LoopMonitor
from yeoul.observe import HubStats


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.02)


async def beats(monitor: LoopMonitor, count: int) -> None:
    while monitor.lag.count < count:
        await asyncio.sleep(0.005)


@pytest.mark.usefixtures("quick")
async def test_a_loop_that_was_held_up_is_seen() -> None:
    monitor = LoopMonitor(HubStats())
    with monitor.running():
        await beats(monitor, 2)
        time.sleep(0.3)
        assert monitor.max_lag >= 0.25  # before the late beat has come
        held = monitor.lag.count + 1
        await beats(monitor, held)
        assert monitor.max_lag >= 0.25
    assert sum(monitor.lag.counts[monitor.lag.bounds.index(0.1) + 1 :]) >= 1


@pytest.mark.usefixtures("quick")
async def test_rates_are_of_the_last_beats() -> None:
    stats = HubStats(published=1_000, deliveries=5)
    monitor = LoopMonitor(stats)
    assert monitor.rates()["published"] == 0.0
    with monitor.running():
        began = time.monotonic()
        stats.published += 100
        stats.closed["client"] = 10
        await beats(monitor, 3)
        rates, seconds = monitor.rates(), time.monotonic() - began
        assert 100 / seconds * 0.5 <= rates["published"] <= 100 / 0.02
        assert rates["closed"] == pytest.approx(rates["published"] / 10, rel=0.01)
        assert rates["deliveries"] == 0.0
        await beats(monitor, 30)
        assert monitor.rates()["published"] == 0.0  # that was longer ago


@pytest.mark.usefixtures("quick")
async def test_latency_is_of_the_last_beats() -> None:
    stats = HubStats()
    stats.publish_latency.observe(10.0)
    monitor = LoopMonitor(stats)
    with monitor.running():
        assert monitor.latency(0.99) is None
        for _ in range(99):
            stats.publish_latency.observe(0.002)
        stats.publish_latency.observe(0.2)
        median, slowest = monitor.latency(0.5), monitor.latency(1.0)
        assert median is not None
        assert 0.001 <= median <= 0.0025
        assert slowest == pytest.approx(0.25)
        await beats(monitor, 30)
        assert monitor.latency(0.5) is None


async def test_it_beats_no_more_than_it_should() -> None:
    monitor = LoopMonitor(HubStats())
    with monitor.running():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert monitor.lag.count == 0
    assert monitor.max_lag == 0.0
