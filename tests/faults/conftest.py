from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

import yeoul.app
from support.serving import serving
from support.settings import make_settings
from yeoul.hub import Hub


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that `yeoul serve` uses; other tests have asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Server:
    """The whole application, served in this process."""

    port: int
    hub: Hub
    direct: bool


@pytest.fixture(params=["direct", "portable"])
async def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """Over each outlet, with its hub to look into; settings by `@pytest.mark.settings(...)`."""
    hubs: list[Hub] = []

    def make(*args: Any, **kwargs: Any) -> Hub:
        hubs.append(Hub(*args, **kwargs))
        return hubs[-1]

    monkeypatch.setattr("yeoul.factories.Hub", make)
    marker = request.node.get_closest_marker("settings")
    app = yeoul.app.create_app(make_settings(**(marker.kwargs if marker else {})))
    direct = request.param == "direct"
    async with serving(app, direct=direct) as port:
        yield Server(port, hubs[0], direct)
