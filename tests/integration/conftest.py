"""What the tests over HTTP share: the application in front of a scripted model server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.serving import serving
from support.settings import make_settings
from support.upstream import Answer, Upstream
from yeoul.app import create_app


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The model server behind the provider `up`; a test that wants another script than a good answer sets it."""
    async with Upstream(Answer()) as server:
        yield server


@pytest.fixture(params=["direct", "portable"])
async def port(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncIterator[int]:
    """As in the conftest above, with the provider `up`, which answers where a request names none."""
    marker = request.node.get_closest_marker("settings")
    up = {
        "kind": "openai-chat",
        "url": upstream.base_url,
        "model": "m",
        "models": ["m-2"],
        "key": "sk-test-SECRETSECRET",
    }
    # No grace for running answers: a test that leaves one behind is over.
    values = {"upstreams": {"up": up}, "provider": "up", "drain_generations_s": 0, **(marker.kwargs if marker else {})}
    async with serving(create_app(make_settings(**values)), direct=request.param == "direct") as number:
        yield number
