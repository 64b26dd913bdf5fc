"""The gateway in front of a scripted upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import deepcopy

import pytest

from support.relayed import KEY, MARKED, Says, route
from support.serving import serving
from support.settings import make_settings
from support.upstream import Upstream
from yeoul.app import create_app


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(Says()) as server:
        yield server


@pytest.fixture(params=["direct", "portable"])
async def port(
    request: pytest.FixtureRequest, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[int]:
    """`/relay` tells failures by statuses, `/told` by events. `@pytest.mark.settings(relay=…, told=…)` adds to them."""
    monkeypatch.setenv("UP_KEY", KEY)
    marker = request.node.get_closest_marker("settings")
    values = deepcopy(marker.kwargs) if marker else {}
    by_status, by_event = values.pop("relay", {}), values.pop("told", {})
    auth = {"auth": {"variable": "UP_KEY"}, **by_status.pop("target", {})}
    routes = [
        route(upstream, "/relay", methods=["GET", "POST"], target=auth, **by_status),
        route(upstream, "/told", errors="event", target={**MARKED, **by_event.pop("target", {})}, **by_event),
    ]
    values = {"drain_generations_s": 0, "ai_service_url": f"http://127.0.0.1:{upstream.port}", **values}
    app = create_app(make_settings(routes=routes, **values))
    async with serving(app, direct=request.param == "direct") as number:
        yield number
