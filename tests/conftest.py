"""What every test has: a leak check, and a server with the whole application."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from support.serving import serving
from support.settings import make_settings
from yeoul.app import create_app


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests run last: a broken thing should show early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_collection_finish() -> None:
    """What was collected stays until the end: to walk it in each full collection was a quarter of the time that a
    server takes to start, and there are thousands of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """A task that outlives its test has no owner."""
    before = asyncio.all_tasks()
    yield
    left: set[asyncio.Task[object]] = set()
    for _ in range(50):
        left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
        if not left:
            return
        await asyncio.sleep(0)
    assert not left, f"left running: {left}"


@pytest.fixture(params=["direct", "portable"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The whole application on a free port, over each outlet; settings by `@pytest.mark.settings(...)`."""
    marker = request.node.get_closest_marker("settings")
    app = create_app(make_settings(**(marker.kwargs if marker else {})))
    async with serving(app, direct=request.param == "direct") as number:
        yield number
