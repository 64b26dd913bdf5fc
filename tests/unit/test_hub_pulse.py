from __future__ import annotations

import asyncio
import time

import pytest

from yeoul.hub import health as module
from yeoul.hub.health import Pulse
from yeoul.observe import HubStats


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.02)


async def beats(pulse: Pulse, count: int) -> None:
    while pulse.lag.count < count:
        await asyncio.sleep(0.005)


@pytest.mark.usefixtures("quick")
async def test_a_loop_that_was_held_up_is_seen() -> None:
    pulse = Pulse(HubStats())
    with pulse.beating():
        await beats(pulse, 2)
        time.sleep(0.3)
        assert pulse.worst >= 0.25  # before the late beat has come
        held = pulse.lag.count + 1
        await beats(pulse, held)
        assert pulse.worst >= 0.25
    assert sum(pulse.lag.counts[pulse.lag.bounds.index(0.1) + 1 :]) >= 1


@pytest.mark.usefixtures("quick")
async def test_rates_are_of_the_last_beats() -> None:
    stats = HubStats(published=1_000, deliveries=5)
    pulse = Pulse(stats)
    assert pulse.rates()["published"] == 0.0
    with pulse.beating():
        began = time.monotonic()
        stats.published += 100
        stats.closed["client"] = 10
        await beats(pulse, 3)
        rates, seconds = pulse.rates(), time.monotonic() - began
        assert 100 / seconds * 0.5 <= rates["published"] <= 100 / 0.02
        assert rates["closed"] == pytest.approx(rates["published"] / 10, rel=0.01)
        assert rates["deliveries"] == 0.0
        await beats(pulse, 30)
        assert pulse.rates()["published"] == 0.0  # that was longer ago


@pytest.mark.usefixtures("quick")
async def test_latency_is_of_the_last_beats() -> None:
    stats = HubStats()
    stats.publish_latency.observe(10.0)
    pulse = Pulse(stats)
    with pulse.beating():
        assert pulse.latency(0.99) is None
        for _ in range(99):
            stats.publish_latency.observe(0.002)
        stats.publish_latency.observe(0.2)
        median, slowest = pulse.latency(0.5), pulse.latency(1.0)
        assert median is not None
        assert 0.001 <= median <= 0.0025
        assert slowest == pytest.approx(0.25)
        await beats(pulse, 30)
        assert pulse.latency(0.5) is None


async def test_it_beats_no_more_than_it_should() -> None:
    pulse = Pulse(HubStats())
    with pulse.beating():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pulse.lag.count == 0
    assert pulse.worst == 0.0
