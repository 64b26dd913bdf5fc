"""A relay in its hub: begun, held, stopped, let go of."""

from __future__ import annotations

import asyncio
import json

import pytest

from support.outlets import follow
from support.relayed import KEY, Says, hang
from support.upstream import Upstream
from yeoul.errors import HubClosed, TooMuchWork
from yeoul.hub import Hub
from yeoul.relay.relay import Relay
from yeoul.relay.relays import Relays
from yeoul.relay.route import EndMarker, Route
from yeoul.relay.route import Upstream as Target


async def start(relays: Relays, upstream: Upstream, **values: object) -> Relay:
    target = Target(url=f"http://127.0.0.1:{upstream.port}/s", body={}, end=(EndMarker(field="done"),))
    route = Route(path="/r", upstream=target)
    return await relays.start(route, route.build({}), **values)  # type: ignore[arg-type]


async def test_a_relay_is_read_from_its_beginning_to_its_end(hub: Hub) -> None:
    async with Upstream(Says()) as upstream:
        relay = await start(Relays(hub), upstream)
        _, outlet = await follow(hub, relay.topic, after=relay.origin, encoding=relay.encoding(), until_final=True)
        await outlet.until(lambda o: o.finished)
        assert len(outlet.events) == len(Says().pieces)
        await relay.ended()
        assert relay.failure is None
        assert await relay.head(0) is None


@pytest.mark.parametrize(("grace", "said"), [(0, "the server ended this stream"), (10, None)])
async def test_a_drain_gives_running_relays_their_grace(grace: float, said: str | None) -> None:
    hub, go_on = Hub(), asyncio.Event()
    async with Upstream(Says(hold=(2, go_on))) as upstream:
        relays = Relays(hub, grace_seconds=grace)
        relay = await start(relays, upstream)
        _, outlet = await follow(hub, relay.topic, after=relay.origin, encoding=relay.encoding(), until_final=True)
        await outlet.take(2)
        closing = asyncio.create_task(hub.close())
        if grace:
            go_on.set()
        await closing
        last = json.loads(outlet.data[-1])
        assert last == {"done": True} if said is None else said in last["error"]
        with pytest.raises(HubClosed):
            await start(relays, upstream)


async def test_only_so_many_run_at_once(hub: Hub) -> None:
    async with Upstream(Says(Says().pieces[:1], hang)) as upstream:
        relays = Relays(hub, max_running=1, grace_seconds=0)
        relay = await start(relays, upstream)
        with pytest.raises(TooMuchWork):
            await start(relays, upstream)
        relay.cancel()
        await relay.ended()
        await start(relays, upstream)
        await hub.close()


async def test_stopped_before_the_upstream_has_begun_it_says_so(hub: Hub) -> None:
    async with Upstream(Says(begin=asyncio.Event())) as upstream:
        relay = await start(Relays(hub), upstream)
        request = await upstream.request()
        waiting = asyncio.create_task(relay.head(10))
        relay.cancel()
        failure = await waiting
        assert failure is not None
        assert failure.message == "this stream was stopped"
        await request.closed.wait()


async def test_stopped_after_its_end_marker_it_is_done(hub: Hub) -> None:
    async with Upstream(Says(ending=hang)) as upstream:
        relay = await start(Relays(hub), upstream)
        _, outlet = await follow(hub, relay.topic, after=relay.origin, encoding=relay.encoding())
        await outlet.take(len(Says().pieces))
        relay.cancel()
        await relay.ended()
        assert relay.failure is None


async def test_what_it_says_of_itself_holds_no_secret(hub: Hub) -> None:
    async with Upstream(Says()) as upstream:
        relays = Relays(hub)
        relay = await start(relays, upstream, credential=KEY)
        await relay.ended()
        assert repr(relay).startswith("<Relay /r done ")
        assert "SECRET" not in repr(relay) + repr(relays) + repr(vars(relay)["_request"])
