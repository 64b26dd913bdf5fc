"""For those who run it: alive, ready, and the numbers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI

from support.polling import eventually, generation, metrics
from support.reader import ask, open_stream, publish
from support.serving import one_outlet, serving
from support.upstream import TOKENS, Answer, Upstream, eof, error, stall
from yeoul.apps.operations.metrics import metrics as metrics_app
from yeoul.apps.operations.metrics import registry_of
from yeoul.apps.operations.probes import probes
from yeoul.hub import Hub
from yeoul.llm.generations import Generations

NAMES = {
    "yeoul_connections": "gauge",
    "yeoul_connections_opened": "counter",
    "yeoul_connections_closed": "counter",
    "yeoul_lagging_readers": "gauge",
    "yeoul_draining": "gauge",
    "yeoul_published_events": "counter",
    "yeoul_deliveries": "counter",
    "yeoul_delivered_bytes": "counter",
    "yeoul_gaps": "counter",
    "yeoul_heartbeats": "counter",
    "yeoul_publish_latency_seconds": "histogram",
    "yeoul_generations_running": "gauge",
    "yeoul_generations_started": "counter",
    "yeoul_generations_ended": "counter",
    "yeoul_generation_tokens": "counter",
    "yeoul_generation_tokens_undelivered": "counter",
    "yeoul_generation_first_token_seconds": "histogram",
    "yeoul_generation_token_gap_seconds": "histogram",
}


@one_outlet
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_running_server_is_alive_and_ready(port: int, path: str) -> None:
    answer = await ask(port, path)
    assert (answer.status, answer.body) == (200, b"ok\n")


async def test_a_server_that_shuts_down_is_alive_and_not_ready() -> None:
    hub = Hub()
    app = FastAPI()
    app.include_router(probes(hub))
    app.include_router(metrics_app(registry_of(hub, Generations(hub))))
    async with serving(app) as port:
        assert (await ask(port, "/readyz")).status == 200
        await hub.close()
        answer = await ask(port, "/readyz")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["detail"] == "this server is shutting down"
        assert (await ask(port, "/livez")).status == 200
        assert (await metrics(port))["yeoul_draining"] == 1


@one_outlet
async def test_every_metric_is_there_with_its_type(port: int) -> None:
    text = (await ask(port, "/metrics")).text
    for name, kind in NAMES.items():
        written = f"{name}_total" if kind == "counter" else name
        assert f"# TYPE {written} {kind}\n" in text
        assert f"# HELP {written} " in text
    assert (await ask(port, "/metrics")).headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "process_resident_memory_bytes" in text


async def test_streams_and_their_events_are_counted(port: int) -> None:
    async with await open_stream(port, "/topics/t") as first, await open_stream(port, "/stream?topic=t&topic=u") as _:
        await first.take(1)
        began = len(first.raw)
        id = await publish(port, "t", "안녕")
        await first.take(2)
        payload = len(first.raw) - began
        counted = await metrics(port)
        assert counted["yeoul_connections"] == 2
        assert counted["yeoul_connections_opened_total"] == 2
        assert counted["yeoul_published_events_total"] == 1
        assert counted["yeoul_deliveries_total"] == 2
        assert payload == len(f"data: 안녕\nid: {id}\n\n".encode())
        assert counted["yeoul_delivered_bytes_total"] >= 2 * payload
        assert counted["yeoul_publish_latency_seconds_count"] == 1
        assert counted["yeoul_publish_latency_seconds_sum"] > 0
        assert counted['yeoul_publish_latency_seconds_bucket{le="+Inf"}'] == 1

    async def left() -> dict[str, float] | None:
        counted = await metrics(port)
        return None if counted["yeoul_connections"] else counted

    assert (await eventually(left))['yeoul_connections_closed_total{reason="client"}'] == 2


async def test_gaps_are_counted(port: int) -> None:
    async with await open_stream(port, "/topics/t", last_event_id="0000000000-1") as stream:
        await stream.take(2)
        assert (await metrics(port))["yeoul_gaps_total"] == 1


async def test_a_reader_that_takes_less_than_is_sent_is_counted_as_lagging(port: int) -> None:
    async with await open_stream(port, "/topics/t") as stream:
        await stream.take(1)
        data = "x" * 250_000

        async def lags() -> bool:
            await publish(port, "t", data)
            return (await metrics(port))["yeoul_lagging_readers"] == 1

        await eventually(lags)
        reading = asyncio.create_task(stream.rest())  # and has caught up

        async def caught_up() -> bool:
            return (await metrics(port))["yeoul_lagging_readers"] == 0

        await eventually(caught_up)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


@pytest.mark.settings(heartbeat_s=0.05)
async def test_heartbeats_are_counted(port: int) -> None:
    async with await open_stream(port, "/topics/t") as stream:
        while b"keep-alive" not in stream.raw:
            await stream.read()
        assert (await metrics(port))["yeoul_heartbeats_total"] >= 1


@pytest.mark.settings(generations_keep_s=0.05)
async def test_answers_and_their_tokens_are_counted_by_state(port: int, upstream: Upstream) -> None:
    upstream.scripts = [
        Answer(),
        Answer(ending=error("no")),
        Answer(ending=eof),
        Answer(TOKENS[:2], ending=stall),
    ]

    async def ended(state: str) -> bool:
        return f'yeoul_generations_ended_total{{provider="up",state="{state}"}}' in await metrics(port)

    async with await open_stream(port, "/sse/chat") as stream:
        await stream.rest()
    for state in ("failed", "incomplete"):
        await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
        await eventually(partial(ended, state))  # it may be forgotten before it could be asked for
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})

    async def two_tokens() -> bool:
        return bool((await generation(port, answer.headers["location"]))["tokens"] == 2)

    await eventually(two_tokens)
    assert (await metrics(port))["yeoul_generations_running"] == 1
    await ask(port, answer.headers["location"], method="DELETE")

    async def forgotten() -> dict[str, float] | None:
        counted = await metrics(port)
        return counted if counted["yeoul_generation_tokens_undelivered_total"] >= 2 * len(TOKENS) + 2 else None

    counted = await eventually(forgotten)
    by_state = {key: value for key, value in counted.items() if key.startswith("yeoul_generations_ended_total")}
    assert by_state == {
        f'yeoul_generations_ended_total{{provider="up",state="{state}"}}': 1
        for state in ("done", "failed", "incomplete", "cancelled")
    }
    assert counted["yeoul_generations_running"] == 0
    assert counted["yeoul_generations_started_total"] == 4
    assert counted["yeoul_generation_tokens_total"] == 3 * len(TOKENS) + 2
    assert counted["yeoul_generation_tokens_undelivered_total"] == 2 * len(TOKENS) + 2
    assert counted["yeoul_generation_first_token_seconds_count"] == 4
    assert counted["yeoul_generation_token_gap_seconds_count"] == 3 * (len(TOKENS) - 1) + 1


async def test_buckets_are_cumulative(port: int) -> None:
    await publish(port, "t", "1")
    async with await open_stream(port, "/topics/t") as stream:
        await stream.take(1)
        for number in range(5):
            await publish(port, "t", str(number))
        await stream.take(6)  # what is published close together may be handed out together
        counted: dict[str, Any] = await metrics(port)
    buckets = [value for key, value in counted.items() if key.startswith("yeoul_publish_latency_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert 1 <= buckets[-1] == counted["yeoul_publish_latency_seconds_count"] <= 5
