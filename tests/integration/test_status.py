"""The server's state over HTTP, over both outlets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.apps import received
from support.polling import eventually, metrics
from support.reader import ask, open_stream, publish
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from yeoul.app import create_app

often = pytest.mark.settings(status_interval_s=0.05)

# As a proxy marks a request that comes from another machine.
REMOTE = {"X-Forwarded-For": "192.0.2.1"}


def check(sample: dict[str, Any]) -> None:
    assert set(sample) == {"timestamp", "uptime", "seconds", "cpu", "memory", "eventLoop", "streams", "rates"}
    assert sample["timestamp"].endswith("Z")
    assert sample["uptime"] >= 0
    assert sample["seconds"] > 0
    cpu = sample["cpu"]
    assert set(cpu) == {"processPercent", "systemPercent", "cores", "load"}
    assert cpu["processPercent"] >= 0
    assert 0 <= cpu["systemPercent"] <= 100
    assert cpu["cores"] >= 1
    assert len(cpu["load"]) == 3
    assert 10_000_000 < sample["memory"]["processBytes"] < 2_000_000_000
    assert 0 < sample["memory"]["systemPercent"] < 100
    assert 0 <= sample["eventLoop"]["lagMs"] < 10_000
    assert set(sample["streams"]) == {"connections", "lagging", "topics"}
    assert set(sample["rates"]) == {"published", "delivered", "gaps"}


async def test_the_current_state_is_open_to_everyone(port: int) -> None:
    for headers in (REMOTE, bearer(demo_token())):
        answer = await ask(port, "/system/status", headers=headers)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        check(answer.json())


async def test_the_state_shows_what_is_open(port: int) -> None:
    assert (await ask(port, "/system/status")).json()["streams"]["connections"] == 0
    async with await open_stream(port, "/stream?topic=a&topic=b") as stream:
        await stream.take(1)

        async def shown() -> bool:
            streams = (await ask(port, "/system/status")).json()["streams"]
            return bool(streams == {"connections": 1, "lagging": 0, "topics": 2})

        await eventually(shown)


@often
async def test_a_reader_gets_a_sample_at_once_and_then_one_in_each_interval(port: int) -> None:
    async with await open_stream(port, "/system/status/stream", headers=REMOTE) as stream:
        assert stream.status == 200
        samples = await received(stream, 4)
        for sample in samples:
            check(sample)
            assert sample["streams"]["connections"] == 1
        assert all(sample["seconds"] >= 0.045 for sample in samples[1:])
        assert samples[-1]["uptime"] >= samples[0]["uptime"]
        assert {event.type for event in stream.events} == {"stream.hello", "message"}


@pytest.mark.settings(status_interval_s=600)
async def test_a_second_follower_has_the_newest_sample_at_once(port: int) -> None:
    async with await open_stream(port, "/system/status/stream") as first:
        (sample,) = await received(first, 1)
        async with await open_stream(port, "/system/status/stream") as second:
            assert await received(second, 1) == [sample]
        # Nobody's asking makes another one.
        assert (await ask(port, "/system/status")).json() == sample


async def test_rates_are_those_that_admins_see(port: int) -> None:
    async with await open_stream(port, "/topics/t"):
        for _ in range(20):
            await publish(port, "t", "x")
        rates = (await ask(port, "/system/status")).json()["rates"]
        assert rates["published"] >= 20 / 10
        assert rates["delivered"] >= 20 / 10
        overview = (await ask(port, "/admin/overview")).json()["rates"]
        assert overview["published"] >= 20 / 10


@often
async def test_a_reader_that_reconnects_late_does_not_get_the_missed_samples(port: int) -> None:
    async with await open_stream(port, "/system/status/stream") as first:
        await received(first, 1)
        async with await open_stream(port, "/system/status/stream") as other:
            await received(other, 12)
            position = first.events[1].id or ""
            async with await open_stream(port, "/system/status/stream", last_event_id=position) as back:
                await received(back, 2)
                offsets = [int((event.id or "").rpartition("-")[2]) for event in back.events[1:]]
                assert [event.type for event in back.events[:3]] == ["stream.hello", "message", "message"]
                assert offsets[0] >= int((other.events[-1].id or "").rpartition("-")[2])


@often
async def test_a_position_of_another_server_is_no_loss_here(port: int) -> None:
    async with await open_stream(port, "/system/status/stream", last_event_id="0000000000-7") as stream:
        await received(stream, 2)
        assert [event.type for event in stream.events[:3]] == ["stream.hello", "message", "message"]


@pytest.mark.parametrize(
    "path", ["/system/status/stream", "/topics/system/status", "/stream?topic=t&topic=system/status"]
)
async def test_samples_are_published_only_while_the_topic_has_readers_by_whatever_route(path: str) -> None:
    app = create_app(make_settings(status_interval_s=0.02))
    hub = app.state.hub
    async with serving(app) as port:
        assert (await metrics(port))["yeoul_published_events_total"] == 0
        for _ in range(2):
            async with await open_stream(port, path) as stream:
                await received(stream, 3)

            async def ended() -> bool:
                return not hub._tasks

            await eventually(ended)
            before = hub.stats.published
            assert (await ask(port, "/system/status")).status == 200
            assert hub.stats.published == before
            assert not hub._tasks


@one_outlet
@pytest.mark.settings(open_topics=[])
async def test_the_state_can_be_closed_to_those_who_are_unknown(port: int) -> None:
    for path in ("/system/status", "/system/status/stream"):
        assert (await ask(port, path, headers=REMOTE)).status == 401
        assert (await ask(port, path, headers=bearer(demo_token()))).status == 403
        admin = bearer(demo_token("root", "Root", roles="admin"))
        assert (await ask(port, path, method="HEAD" if "stream" in path else "GET", headers=admin)).status == 200


@one_outlet
async def test_only_admins_publish_to_it(port: int) -> None:
    body = json.dumps({"data": 1}).encode()
    headers = {**bearer(demo_token()), "Content-Type": "application/json"}
    answer = await ask(port, "/topics/system/status", method="POST", body=body, headers=headers)
    assert answer.status == 403


@often
async def test_a_server_that_shuts_down_ends_the_samples() -> None:
    app = create_app(make_settings(status_interval_s=0.02))
    async with serving(app) as port, await open_stream(port, "/system/status/stream") as stream:
        await received(stream, 2)
        await app.state.hub.close()
        await stream.rest()
        assert stream.events[-1].type == "stream.bye"
