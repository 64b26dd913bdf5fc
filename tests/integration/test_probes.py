"""/livez and /readyz: what an orchestrator decides by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from support.faulty_broker import FaultyBroker
from support.polling import eventually, metrics
from support.reader import ask, open_stream, publish
from support.serving import one_outlet, serving
from support.settings import make_settings
from yeoul.app import create_app
from yeoul.apps.operations import probes as probes_module
from yeoul.apps.operations.probes import probes
from yeoul.hub import Hub
from yeoul.hub.health import PROBE_TOPIC, Probe


@asynccontextmanager
async def probed(broker: FaultyBroker) -> AsyncIterator[tuple[int, Hub]]:
    hub = Hub(broker)
    app = FastAPI(lifespan=hub.lifespan)
    app.include_router(probes(hub, probe=Probe(hub, bound=0.05, fresh=0.0)))
    async with serving(app) as port:
        yield port, hub


async def _ready(port: int) -> bool:
    return (await ask(port, "/readyz")).status == 200


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("lose", "an event that was published does not arrive at its reader, within 0.05 s"),
        ("hang", "the broker does not take an event, within 0.05 s"),
        ("fail", "the broker does not take an event: ConnectionError"),
    ],
)
async def test_a_server_whose_events_do_not_arrive_is_not_ready_and_says_why(fault: str, said: str) -> None:
    broker = FaultyBroker()
    async with probed(broker) as (port, _):
        assert (await ask(port, "/readyz")).status == 200
        broker.fault = fault  # type: ignore[assignment]
        answer = await ask(port, "/readyz")
        assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
        assert (answer.json()["detail"], answer.headers["retry-after"]) == (said, "2")
        assert (await ask(port, "/livez")).status == 200
        broker.fault = None
        await eventually(lambda: _ready(port))


async def test_a_server_that_has_delivered_nothing_for_long_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_module, "_STUCK_S", 0.1)
    broker = FaultyBroker()
    async with probed(broker) as (port, _):
        broker.fault = "lose"
        began = time.monotonic()
        while (await ask(port, "/livez")).status == 200:
            await asyncio.sleep(0.02)  # as an orchestrator asks
        assert time.monotonic() - began >= 0.1
        answer = await ask(port, "/livez")
        assert "nothing has been delivered for" in answer.json()["detail"]
        broker.fault = None
        await eventually(lambda: _ready(port))
        assert (await ask(port, "/livez")).status == 200


async def test_a_broker_that_is_away_is_no_reason_to_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_module, "_STUCK_S", 0.02)
    broker = FaultyBroker()
    async with probed(broker) as (port, _):
        broker.fault = "fail"
        for _ in range(5):
            assert (await ask(port, "/readyz")).status == 503
            assert (await ask(port, "/livez")).status == 200


async def test_a_loop_that_stood_still_is_alive_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that was paused, a machine that was: to restart it then would end streams for nothing."""
    monkeypatch.setattr(probes_module, "_STUCK_S", 0.5)
    app = create_app(make_settings())
    async with serving(app) as port:
        assert (await ask(port, "/readyz")).status == 200
        time.sleep(1.2)
        assert (await ask(port, "/livez")).status == 200


async def test_a_server_that_drains_is_alive_and_not_ready_although_events_arrive() -> None:
    async with probed(FaultyBroker()) as (port, hub):
        hub.draining = True
        answer = await ask(port, "/readyz")
        assert (answer.status, answer.json()["detail"]) == (503, "this server is shutting down")
        assert (await ask(port, "/livez")).status == 200


@one_outlet
async def test_a_storm_of_probes_costs_one(port: int) -> None:
    answers = await asyncio.gather(*(ask(port, "/readyz") for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
    counted = await metrics(port)
    assert counted["yeoul_publish_latency_seconds_count"] <= 2
    assert counted["yeoul_connections_opened_total"] == 0
    assert counted["yeoul_published_events_total"] == 0


@pytest.mark.settings(max_connections=1)
async def test_a_server_that_is_full_is_ready(port: int) -> None:
    async with await open_stream(port, "/topics/a") as stream:
        await stream.take(1)
        assert (await ask(port, "/topics/b")).status == 429
        assert (await ask(port, "/readyz")).status == 200


@one_outlet
@pytest.mark.parametrize("path", [f"/topics/{PROBE_TOPIC}", f"/stream?topic=a&topic={PROBE_TOPIC}"])
async def test_probes_cannot_be_followed(port: int, path: str) -> None:
    assert (await ask(port, path)).status == 422


@one_outlet
async def test_probes_cannot_be_published(port: int) -> None:
    answer = await ask(port, f"/topics/{PROBE_TOPIC}", method="POST", json_body={"data": "probe 1"})
    assert answer.status == 422
    assert (await ask(port, "/readyz")).status == 200
    await publish(port, "a", "x")
