from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.faulty_broker import FaultyBroker
from support.outlets import follow
from yeoul.errors import HubClosed
from yeoul.hub import Hub
from yeoul.hub.health import PROBE_TOPIC, Probe
from yeoul.sse import Event


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker()


@pytest.fixture
async def hub(broker: FaultyBroker) -> AsyncIterator[Hub]:
    async with Hub(broker, max_connections=1) as made:
        yield made


async def test_an_event_goes_the_whole_way(hub: Hub) -> None:
    assert await Probe(hub).ask() is None


async def test_a_hub_that_was_never_used_is_probed_too() -> None:
    hub = Hub()
    assert await Probe(hub).ask() is None
    await hub.close()


async def test_the_probe_takes_no_place_and_is_in_no_list(hub: Hub) -> None:
    reader, _ = await follow(hub, "a")
    assert await Probe(hub).ask() is None
    assert hub.readers() == [reader]
    assert (hub.stats.readers, hub.stats.opened, hub.stats.published, hub.stats.closed) == (1, 1, 0, {})
    reader.end()
    assert [topic.name for topic in hub.topics()] == []


async def test_an_outcome_is_shared_and_holds_for_a_while(hub: Hub, broker: FaultyBroker) -> None:
    probe = Probe(hub)
    assert await asyncio.gather(*(probe.ask() for _ in range(50))) == [None] * 50
    assert await probe.ask() is None
    assert broker.publishes == 1


async def test_one_that_is_old_is_not_used_again(hub: Hub, broker: FaultyBroker) -> None:
    probe = Probe(hub, fresh=0.0)
    for count in (1, 2, 3):
        assert await probe.ask() is None
        assert broker.publishes == count


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("lose", "an event that was published does not arrive at its reader, within 0.05 s"),
        ("hang", "the broker does not take an event, within 0.05 s"),
        ("hang attach", "the broker does not let this server follow a topic, within 0.05 s"),
        ("fail", "the broker does not take an event: ConnectionError"),
    ],
)
async def test_what_fails_is_said_without_the_errors_own_words(
    hub: Hub, broker: FaultyBroker, fault: str, said: str
) -> None:
    probe = Probe(hub, bound=0.05, fresh=0.0)
    broker.fault = fault  # type: ignore[assignment]
    assert await probe.ask() == said
    assert hub.stats.readers == 0
    broker.fault = None
    assert await probe.ask() is None


async def test_a_late_event_of_an_earlier_probe_does_not_count_for_the_next(hub: Hub, broker: FaultyBroker) -> None:
    probe = Probe(hub, bound=0.1, fresh=0.0)
    broker.fault = "lose"
    assert await probe.ask() is not None
    asking = asyncio.create_task(probe.ask())
    while broker.publishes < 2:
        await asyncio.sleep(0)
    broker.fault = None
    await broker.publish(PROBE_TOPIC, [Event("probe 1", PROBE_TOPIC)])
    assert await asking is not None


async def test_only_what_was_published_and_not_delivered_counts_as_stuck(hub: Hub, broker: FaultyBroker) -> None:
    probe = Probe(hub, bound=0.03, fresh=0.0)
    broker.fault = "hang"
    for _ in range(3):
        assert await probe.ask() is not None
    assert probe.stuck == 0.0
    broker.fault = "lose"
    assert await probe.ask() is not None
    assert probe.stuck == 0.0  # one alone says nothing of how long
    assert await probe.ask() is not None
    assert probe.stuck >= 0.03
    broker.fault = None
    assert await probe.ask() is None
    assert probe.stuck == 0.0


async def test_a_client_that_leaves_does_not_end_the_probe_of_others(hub: Hub, broker: FaultyBroker) -> None:
    probe = Probe(hub, bound=0.2)
    broker.fault = "lose"
    first, second = asyncio.create_task(probe.ask()), asyncio.create_task(probe.ask())
    while not broker.publishes:
        await asyncio.sleep(0)
    first.cancel()
    assert "does not arrive" in str(await second)


async def test_a_probe_that_ignores_its_cancellation_blocks_nothing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    over = asyncio.Event()

    async def stubborn(self: Probe) -> str | None:
        while not over.is_set():
            await over.wait()
        return None

    monkeypatch.setattr(Probe, "_probe", stubborn)
    probe = Probe(hub, bound=0.03)
    assert await probe.ask() == "a probe does not end, although it had 0.03 s for it"
    assert await probe.ask() == "a probe does not end, although it had 0.03 s for it"
    assert probe.stuck >= 0.08
    over.set()
    assert await probe.ask() is None
    assert probe.stuck == 0.0


async def test_a_hub_that_closes_ends_the_probe(hub: Hub, broker: FaultyBroker) -> None:
    probe = Probe(hub, bound=10.0)
    broker.fault = "lose"
    asking = asyncio.create_task(probe.ask())
    while not broker.publishes:
        await asyncio.sleep(0)
    await hub.close()
    assert await asking == "the probe was ended: this server is shutting down"
    with pytest.raises(HubClosed):
        await probe.begin()


async def test_probing_causes_no_gaps(hub: Hub) -> None:
    reader, outlet = await follow(hub, "quiet")
    cursor = reader.cursor
    reader.end()
    probe = Probe(hub, fresh=0.0)
    for _ in range(3):
        assert await probe.ask() is None
    hub.broker.sweep()
    reader, outlet = await follow(hub, "quiet", after=cursor)
    await hub.publish("quiet", Event("x"))
    assert (await outlet.take(1))[0].data == "x"
    reader.end()
